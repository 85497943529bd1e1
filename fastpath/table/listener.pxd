# Sockets that accept: one per worker and vip, side by side with SO_REUSEPORT; or, where
# they were given to us, shared by the workers.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.addr cimport addr_t

cdef struct listener_t:
    int       fd                # owned; -1 = none
    uint32_t  vip               # slot
    uint32_t  batch             # accepts to try at the next wake
    uint64_t  paused_until_ms   # 0 = taking

# What children inherit: so accept4 costs no setsockopt.
cdef struct listen_options_t:
    int keepalive_s             # 0 = no keepalive
    int user_timeout_ms
    bint client_first           # the protocol begins with the client's bytes
    int backlog

# Bind and listen on `at`; port 0 takes a free one and writes it back. `beside` those of
# this user that listen there already; otherwise they are in the way, as anybody is.
# Return the fd, which is the caller's, or -errno.
cdef int listener_open(
    addr_t* at, const listen_options_t* options, bint beside
) noexcept nogil

# Set what can be changed on a live listener. Return 0 or -errno.
cdef int listener_set(int fd, const listen_options_t* options) noexcept nogil

# Take one client. Return its fd, which is the caller's, or -errno.
cdef int listener_accept(int fd, addr_t* client) noexcept nogil
