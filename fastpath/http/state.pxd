# HTTP/1.1 in a worker: what its connections and exchanges are made of, the states that
# they pass through, and the results that move them from each to the next.
#
#  accepted -> HANDSHAKE -> IDLE -> HEAD -> DECIDING -> REACHING -> SENDING -> FLOWING
#                            ^               |    ^        ^                    | |  |
#                            |               v    |        +---- LOST ----------+ |  |
#                            |              PARKED <------- REFUSED, PASSED --------+  |
#                            +---------------------- KEPT ---------------------------+
#                                                        LINGER, TUNNEL <------------+
#
# Any state of an exchange may go to FLOWING with a reply of our own (ANSWERED), and any
# state at all may end the connection.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.base.half cimport half_t
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.slab cimport slab_t, slot_t
from fastpath.base.spill cimport SCRATCH_BYTES, spill_t
from fastpath.base.timer cimport timer_t
from fastpath.http.key cimport mask_t
from fastpath.http.page cimport page_t
from fastpath.http.quota cimport quota_t
from fastpath.http.verdict cimport epochs_t, memory_t, verdict_t
from fastpath.http1.chunks cimport chunks_t
from fastpath.http1.framing cimport head_t
from fastpath.table.dialler cimport WHY_BYTES, dial_t
from fastpath.table.registry cimport backend_state_t, upstream_state_t, vip_state_t
from fastpath.table.table cimport LOGGED_MOST, http_t, table_vip, vip_t
from fastpath.tls.buffers cimport buffers_t
from fastpath.tls.transport cimport transport_t

cdef enum:
    OUT_BYTES = 131072 + SCRATCH_BYTES  # head of 64 KiB, as much of edits, and body
    OUT_BYTES_MOST = 4194304   # of a head that has a buffer of its own
    LINGER_MS = 2000
    LINGER_BYTES = 1048576
    INFORMATIONAL_MOST = 32   # 1xx of one response
    RECORD_METHOD = 32        # bytes kept of a method
    RECORD_PATH = 256         # and of a path, if its query is not wanted
    RECORD_HEADER = 512       # and of each header
    RECORD_ABSENT = 0xffff
    RECORDS_MOST = 2048       # on their way to Python; questions need room, too
    HEADS_KEPT = 16           # parsed heads that a worker keeps for the next request

# What a client's connection does. The module that does it stands behind each.
cdef enum CONN:
    CONN_HANDSHAKE            # TLS with the client                    conn
    CONN_IDLE                 # no byte of a request is here           request
    CONN_HEAD                 # some of its head is                    request
    CONN_DECIDING             # a head is whole: which verdict?        question
    CONN_PARKED               # Python was asked                       -
    CONN_REACHING             # the upstream gets a connection         upconn
    CONN_SENDING              # which takes the head                   request
    CONN_FLOWING              # request and response move              request, response
    CONN_TUNNEL               # upgraded: bytes both ways              tunnel
    CONN_LINGER               # the last response was sent, our side   conn
                              # shut; what the client sends is dropped

# What a step did, or what has happened meanwhile. exchange_next acts on it.
cdef enum STEP:
    STEP_WAIT                 # nothing can go on before an event, a timer or a letter
    STEP_TURN                 # had its turn; the run queue goes on
    STEP_ON                   # go on at once, in the state that it is in
    STEP_SECURED              # TLS stands                              -> IDLE
    STEP_PARTIAL              # a head has begun                        -> HEAD
    STEP_PARSED               # a head is whole                         -> DECIDING
    STEP_UNKNOWN              # no verdict, or one of another table     -> ask, PARKED
    STEP_PARKED               # the question is on its way              -> PARKED
    STEP_FORWARD              # the verdict names an upstream           -> REACHING
    STEP_CONNECTED            # x.up can take a request                 -> SENDING
    STEP_SENT                 # the head was sent                       -> FLOWING
    STEP_PASSED               # Python lets the refused status pass     -> FLOWING
    STEP_ANSWERED             # a reply of ours is on its way           -> FLOWING
    STEP_LOST                 # x.up ended before a byte of a response  -> REACHING, or
                              # a reply, if the request may not be sent again
    STEP_REFUSED              # a status that Python wants to see       -> ask, PARKED
    STEP_UPGRADED             # 101 was sent                            -> TUNNEL
    STEP_DONE                 # the client's socket took the response   -> next two
    STEP_KEPT                 # the exchange is over, the conn stays    -> IDLE
    STEP_LINGER               # or it has to be read to its end         -> LINGER
    STEP_CLOSED               # both sides have ended                   -> dropped,
    STEP_CLIENT_FAILED        # the client's socket failed or ended        as all
    STEP_UPSTREAM_FAILED      # the upstream's did, in a response          that follow
    STEP_TLS_FAILED           # no TLS with the client came about
    STEP_NO_MEMORY
    STEP_FAULT                # of a body: its framing is wrong; the module that moves
                              # it says what that means
    STEP_UNREACHED            # of a dial: this backend did not answer; upconn tries on

cdef enum UPCONN:
    UPCONN_CONNECTING
    UPCONN_HANDSHAKE
    UPCONN_BUSY               # an exchange has it
    UPCONN_IDLE               # in the idle set of its upstream

# One body on its way.
cdef struct body_t:
    uint64_t  left            # BODY_SIZED
    uint64_t  bytes           # moved so far
    chunks_t  chunks          # BODY_CHUNKED
    uint8_t   kind            # BODY
    uint8_t   done
    uint8_t   unchunk         # its framing is not sent on (to HTTP/1.0)
    uint8_t   is_request      # its source is the client

# Bytes that one transport did not take yet, oldest first.
cdef struct pending_t:
    spill_t*  first           # owned list; NULL = none
    spill_t*  last

# A page of HTML on its way to the client, see http/rewrite.
cdef struct rewrite_t:
    page_t    page
    body_t    source          # its framing, as it comes
    spill_t*  input           # owned; bytes that wait for room; NULL = none
    uint8_t   chunked         # as it goes; else it ends with the connection
    uint8_t   busy            # more is to come of what was taken

# What a log says of one exchange. Headers are those that the vip names for its log.
cdef struct record_t:
    uint32_t  vip
    uint32_t  path_size
    uint32_t  query_size          # behind the path
    uint16_t  status
    uint8_t   method_size
    uint8_t   is_over             # 0 = a tunnel has begun; it has another record
    uint8_t   is_cut              # path and query are not all there
    uint8_t   header_count
    uint16_t  header_sizes[LOGGED_MOST]   # behind the query; RECORD_ABSENT = no line
    addr_t    client
    uint64_t  id                  # of the exchange, in this engine
    uint64_t  label               # of its verdict; 0 = none
    uint64_t  began_us
    uint64_t  took_us
    uint64_t  bytes[2]            # of bodies: up, down
    char      text[1]

# Requests that wait for Python, over all workers of an engine.
cdef struct parked_t:
    uint32_t  most            # of them
    uint32_t  count           # atomic; all workers write
    uint64_t  most_bytes      # of what Python is shown of them
    uint64_t  bytes           # atomic; likewise

cdef struct exchange_t
cdef struct question_t
cdef struct upconn_t

# A client's connection.
cdef struct conn_t:
    slot_t        slot            # first
    timer_t       timer           # second, see slot_of_timer
    transport_t   down
    addr_t        client
    vip_state_t*  vip             # borrowed
    uint64_t      source          # hash of the client's address
    uint64_t      deadline_ms     # of the state; 0 = none
    spill_t*      input           # owned; sent by the client, not yet taken
    pending_t     to_down
    exchange_t*   exchange        # owned; NULL = no request is in work
    uint32_t      scanned         # bytes of input looked at for the head's end
    uint32_t      asks            # questions so far: an answer names its own
    uint32_t      asked_bytes     # of the question that waits, see parked_t; 0 = none
    uint32_t      lingered        # bytes read and lost
    uint8_t       state           # CONN
    uint8_t       keep            # it stays after this exchange, as far as we know
    uint8_t       by_source       # see vip_admit
    uint8_t       empty_lines     # before the request that comes
    uint8_t       vip_drains      # it ends after this exchange

# A connection to an upstream.
cdef struct upconn_t:
    slot_t            slot        # first
    timer_t           timer       # second
    transport_t       link
    exchange_t*       exchange    # borrowed; NULL = none
    backend_state_t*  backend     # borrowed
    upstream_state_t* upstream    # borrowed
    uint64_t          stamp       # of the upstream that it was made for
    addr_t            address     # that it was made to; family 0 = a unix socket
    uint64_t          idle_ms     # since when, UPCONN_IDLE
    spill_t*          input       # owned; a response head that is not whole yet
    upconn_t*         older       # borrowed; in the idle set: the one used before this
    upconn_t*         newer
    uint32_t          scanned     # bytes of input
    uint32_t          head_bytes  # of a response's head, at most
    uint16_t          head_lines
    uint8_t           doubtful    # a 1xx announced a body: not used after this exchange
    uint8_t           state       # UPCONN
    uint8_t           used        # has had an exchange before
    uint8_t           keep        # may be used again after this exchange
    uint8_t           connect_timed_out
    uint8_t           addressed   # by a verdict, not by the pool: backend is NULL

# A request and its response. It exists from the last byte of the head to the last byte
# of the response, or of the tunnel that the response opened.
cdef struct exchange_t:
    slot_t        slot            # first
    conn_t*       conn            # borrowed; the client's, which owns this
    upconn_t*     up              # owned while it has it; NULL = none
    head_t*       head            # lent from parsing to sending, but for PARKED
    verdict_t*    verdict         # held; NULL = none
    record_t*     record          # owned; NULL = not wanted
    quota_t*      quota           # held, and a place in it; NULL = none
    question_t*   question        # owned; what to ask once the request was given back
    rewrite_t*    rewrite         # owned; NULL = the response is passed on as it comes
    pending_t     to_up
    uint64_t      began_us        # 0 = counted
    body_t        request
    body_t        response
    half_t        half[2]         # of a tunnel between plain sockets: up, down
    uint32_t      head_size       # bytes, at the front of conn.input
    uint32_t      held            # bytes of conn.input that are this request's, kept to
                                  # be sent, or sent once more; 0 = given back
    dial_t        dial
    uint16_t      status          # of the response; 0 = none yet
    uint16_t      refused         # status that Python is asked about; its response
                                  # waits in up.input; 0 = none
    uint8_t       verb            # VERB
    uint8_t       minor           # HTTP/1.minor of the client
    uint8_t       is_head
    uint8_t       upgrade         # asked for and allowed
    uint8_t       idempotent
    uint8_t       informed        # 1xx passed on
    uint8_t       answering       # response head was sent, to the client
    uint8_t       expects         # 100, before it sends the body; none was passed on
    uint8_t       request_abandoned   # the upstream takes no more of it
    uint8_t       asked_on        # Python was asked about a status already
    uint8_t       passed          # the response in up.input goes to the client now
    uint8_t       replayed        # because a kept connection had ended: once
    uint8_t       paused          # over the rate of its quota; the timer of x.up runs
    uint8_t       not_upgraded    # the upstream answered an upgrade with 2xx or 3xx
    uint8_t       rescue          # a backend died with it: it goes to another
    uint8_t       idle_ended      # of an upstream: the next connection is a new one

# Idle connections of one upstream, the last used first.
cdef struct idle_set_t:
    upconn_t* newest              # borrowed
    upconn_t* oldest
    uint32_t  count

# All of HTTP in one worker.
cdef struct conns_t:
    context_t*   c                # borrowed
    mailbox_t*   questions        # borrowed; to Python
    parked_t*    parked           # borrowed; all workers'
    const epochs_t* epochs        # borrowed; what Python has withdrawn
    slab_t       conns
    slab_t       exchanges
    slab_t       upconns
    idle_set_t*  idle_sets        # owned; by slot of the upstream
    uint32_t     idle_room
    uint32_t     head_count
    uint64_t     recorded         # records begun
    head_t*      heads[HEADS_KEPT]    # owned; unused ones
    uint32_t     rewrites         # pages that are rewritten now
    memory_t     memory
    buffers_t    buffers          # OpenSSL's
    head_t       answer           # head of the response at hand, within one call; its
                                  # headers are owned: ANSWER_LINES_MOST
    char*        out              # owned; OUT_BYTES
    char         why[WHY_BYTES]   # text of the last failure of an upstream

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
    uint64_t   label              # for records
    uint8_t    stale              # withdrawn between the question and this: ask anew

# ---- Small readers of these structs.

cdef inline char* input_bytes(const conn_t* conn) noexcept nogil:
    return conn.input.bytes + conn.input.first

cdef inline vip_t* vip_of(conns_t* w, const conn_t* conn) noexcept nogil:
    return table_vip(w.c, conn.vip.slot)

# The settings of the vip, or NULL if it is gone or speaks no HTTP any more.
cdef inline http_t* http_of(conns_t* w, const conn_t* conn) noexcept nogil:
    cdef vip_t* v = vip_of(w, conn)
    return v.http if v != NULL else NULL

# All that was moved of its bodies, both ways, or through its tunnel.
cdef inline uint64_t exchange_bytes(const exchange_t* x) noexcept nogil:
    return x.request.bytes + x.response.bytes + x.half[0].bytes + x.half[1].bytes
