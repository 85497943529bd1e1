# HTTP/1.1 in a worker: what clients, upstream connections and exchanges are made of.
#
#     accepted -> TLS? -> IDLE -> HEAD -> PARKED -> REACHING -> FLOWING -> IDLE ...
#                          |       |        |          |           |
#                          +-------+--------+----------+-----------+--> TUNNEL, LINGER
#
# IDLE       nothing of a request is here
# HEAD       some of its head is
# PARKED     Python thinks about it
# REACHING   connecting to an upstream, on which the request has not been sent
# FLOWING    request and response move, each as far as it can
# TUNNEL     upgraded: bytes both ways
# LINGER     the last response was sent, our side shut; what the client says is lost
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.slab cimport slab_t, slot_t
from fastpath.base.spill cimport SCRATCH_BYTES, spill_t
from fastpath.base.timer cimport timer_t
from fastpath.http.key cimport mask_t
from fastpath.http.verdict cimport epochs_t, memory_t, verdict_t
from fastpath.http1.chunks cimport chunks_t
from fastpath.http1.framing cimport head_t
from fastpath.table.registry cimport backend_state_t, vip_state_t
from fastpath.tls.buffers cimport buffers_t
from fastpath.tls.transport cimport transport_t

cdef enum:
    WEB_TURN_BYTES = 1048576  # moved at most for one exchange before others
    OUT_BYTES = 131072 + SCRATCH_BYTES  # head of 64 KiB, as much of edits, and body
    LINGER_MS = 2000
    LINGER_BYTES = 1048576
    TRIES_MOST = 4            # MAX_TRIES of spec.py
    INFORMATIONAL_MOST = 32   # 1xx of one response
    RECORD_METHOD = 32        # bytes kept of a method
    RECORD_PATH = 256         # and of a path
    RECORDS_MOST = 2048       # on their way to Python; questions need room, too

cdef enum EXCHANGE:
    EX_HANDSHAKE              # TLS with the client
    EX_IDLE
    EX_HEAD
    EX_PARKED
    EX_REACHING
    EX_FLOWING
    EX_TUNNEL
    EX_LINGER

cdef enum SERVER:
    SV_CONNECTING
    SV_HANDSHAKE
    SV_BUSY                   # an exchange has it
    SV_IDLE                   # in its keepalive set

# One body on its way.
cdef struct body_t:
    uint64_t  left            # BODY_SIZED
    uint64_t  bytes           # moved so far
    chunks_t  chunks          # BODY_CHUNKED
    uint8_t   kind            # BODY
    uint8_t   done
    uint8_t   unchunk         # its framing is not sent on (to HTTP/1.0)

# Bytes that one transport did not take yet, oldest first.
cdef struct pending_t:
    spill_t*  first           # owned list; NULL = none
    spill_t*  last

# What an access log says of one exchange: no query, no header, for those hold secrets.
cdef struct record_t:
    uint32_t  vip
    uint16_t  status
    addr_t    client
    uint64_t  took_us
    uint64_t  bytes[2]        # of bodies: up, down
    uint32_t  method_size
    uint32_t  path_size
    char      text[320]       # method, then path, cut if they are longer

cdef struct exchange_t

# A connection to an upstream.
cdef struct server_t:
    slot_t            slot        # first
    timer_t           timer
    transport_t       link
    exchange_t*       exchange    # borrowed; NULL = none
    backend_state_t*  backend     # borrowed
    vip_state_t*      upstream    # borrowed
    uint64_t          stamp       # of the uplink that it was made for
    addr_t            address     # that it was made to; family 0 = a unix socket
    uint8_t           addressed   # by a verdict, not by the pool: backend is NULL
    uint64_t          began_us    # to connect
    uint64_t          idle_ms     # since when, SV_IDLE
    spill_t*          input       # owned; a response head that is not whole yet
    uint32_t          scanned     # of it
    uint32_t          older       # in the keepalive set: the one used before this
    uint32_t          newer
    uint8_t           state       # SERVER
    uint8_t           used        # has carried an exchange before
    uint8_t           keep        # may be used again after this exchange

# A client's connection, and the exchange that is under way on it.
cdef struct exchange_t:
    slot_t        slot            # first
    timer_t       timer
    transport_t   down
    addr_t        client
    vip_state_t*  vip             # borrowed
    uint64_t      source          # hash of the client's address
    uint64_t      deadline_ms     # of the state; 0 = none
    spill_t*      input           # owned; what the client sent and nobody took yet
    pending_t     to_down
    pending_t     to_up
    server_t*     up              # borrowed; NULL = none
    verdict_t*    verdict         # held; NULL = none
    record_t*     record          # owned; NULL = not wanted
    uint64_t      began_us
    body_t        request
    body_t        response
    uint32_t      held            # bytes of input that are this request's, sent or not
    uint32_t      scanned         # bytes of input looked at for the head's end
    uint32_t      asks            # questions so far: an answer names its own
    uint32_t      lingered
    uint32_t      next            # run queue
    uint32_t      tried[TRIES_MOST]
    uint16_t      status          # of the response; 0 = none yet
    uint8_t       state           # EXCHANGE
    uint8_t       verb            # VERB
    uint8_t       minor           # HTTP/1.minor of the client
    uint8_t       keep            # the client's connection stays, as far as we know
    uint8_t       is_head
    uint8_t       upgrade         # asked for and allowed
    uint8_t       idempotent
    uint8_t       informed        # 1xx passed on
    uint8_t       answering       # response head was sent, to the client
    uint8_t       expects         # 100, before it sends the body; none was passed on
    uint8_t       deaf            # the upstream takes no more of the request
    uint8_t       asked_on        # Python was asked about a status already
    uint8_t       replayed
    uint8_t       tries           # dials
    uint8_t       by_source
    uint8_t       queued
    uint8_t       polled_out
    uint8_t       gone            # FIN of the client seen
    uint8_t       retiring        # the vip drains: close after this exchange

# Idle connections of one upstream, the last used first.
cdef struct keepset_t:
    uint32_t newest
    uint32_t oldest
    uint32_t count

# All of HTTP in one worker.
cdef struct web_t:
    context_t*   c                # borrowed
    mailbox_t*   questions        # borrowed; to Python
    const epochs_t* epochs        # borrowed; what Python has withdrawn
    uint32_t     run_first        # exchanges that had their turn and are not finished
    uint32_t     run_last
    slab_t       exchanges
    slab_t       servers
    keepset_t*   keepsets         # owned; by slot of the upstream
    uint32_t     keepset_room
    memory_t     memory
    buffers_t    buffers          # OpenSSL's
    head_t       head             # of the request or response at hand
    exchange_t*  head_of          # whose request it is; NULL = none
    char*        out              # owned; OUT_BYTES
    char         why[256]         # text of the last failure of an upstream

# A question on its way to Python; the letter owns it.
cdef struct question_t:
    uint32_t  worker
    uint32_t  index
    uint32_t  generation
    uint32_t  asks
    uint32_t  vip
    uint16_t  refused
    addr_t    client
    uint32_t  size
    uint32_t  certificate_size    # of the client's, in DER, behind the head; 0 = none
    char      head[1]

# Python's answer on its way to a worker; the letter owns it.
cdef struct answer_t:
    verdict_t* verdict            # held
    uint64_t   moment             # of the answer; what was withdrawn later is void
    uint64_t   ttl_ms             # 0 = only this once
    uint32_t   index
    uint32_t   generation
    uint32_t   asks
    uint32_t   tag                # its slot; 0 = none
    mask_t     mask
    uint8_t    stale              # withdrawn between the question and this: ask anew
