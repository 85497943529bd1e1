# One connected socket, as everything that moves bytes sees it: a relay has two of them,
# a transport of TLS or HTTP has one. Flags say what the poller and the last calls told.
from libc.stdint cimport uint8_t

from fastpath.base.linux.file cimport close
from fastpath.base.socket cimport socket_reset

# Values of end_t.writable. Data may be sent before connect(2) completes; a FIN may not:
# shutdown(2) would abort the connection that is being made.
cdef enum:
    END_FULL = 0
    END_WRITABLE = 1
    END_NO_FIN = 2          # takes data: connecting on this host, or to be reset

# Values of end_t.readable.
cdef enum:
    END_DRY = 0
    END_READABLE = 1        # may have bytes or a FIN for us
    END_SPLICED = 2         # and splice(2) has moved some: its EAGAIN counts

# Bits of end_t.flags.
cdef enum END_FLAG:
    END_POLLED = 1          # registered with the poller
    END_POLLED_OUT = 2      # and for EPOLLOUT
    END_NODELAY = 4         # Nagle is off
    END_KEPT_ALIVE = 8      # keepalive and user timeout are set

cdef struct end_t:
    int      fd             # owned; -1 = none
    uint8_t  readable       # END_DRY, END_READABLE or END_SPLICED
    uint8_t  writable       # END_FULL, END_WRITABLE or END_NO_FIN
    uint8_t  rdhup_seen     # or urgent data: a short read does not imply EAGAIN
    uint8_t  flags          # END_FLAG

# Close it, if it is open. With `reset` its peer gets an RST instead of a FIN.
cdef inline void end_close(end_t* e, bint reset) noexcept nogil:
    if e.fd == -1:
        return
    if reset:
        socket_reset(e.fd)
    else:
        close(e.fd)
    e.fd = -1
