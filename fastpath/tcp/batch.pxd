# Small messages that arrive in one turn: all are read, then all are sent.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.tcp.relay cimport relays_t

cdef enum:
    BATCH_MOST = 64         # messages
    BATCH_SMALL = 4096      # more than that is sent at once

# Bytes in the scratch buffer, behind those of the message before.
cdef struct message_t:
    uint32_t index          # of the relay
    uint32_t generation
    uint32_t source         # side
    uint32_t size

cdef struct batch_t:
    uint32_t   count
    uint32_t   used         # bytes of the scratch buffer
    message_t  messages[BATCH_MOST]

# Read for an event that reports input and nothing else, for a relay that copies. Return
# False for any other event: call batch_send first, as the scratch buffer is shared.
cdef bint batch_read(
    batch_t* b, relays_t* rs, uint64_t tag, uint32_t events
) noexcept nogil

# Send what was read.
cdef void batch_send(batch_t* b, relays_t* rs) noexcept nogil
