# Getting an exchange its upstream connection: a kept one, or a new one.
from fastpath.http.state cimport conns_t, exchange_t, upconn_t
from fastpath.table.table cimport vip_t

cdef enum REACH:
    REACH_READY           # x.up can take a request
    REACH_WAIT            # connecting; the poller or a timer will tell
    REACH_FAILED          # web.why says why; no byte of the request has moved
    REACH_NO_BACKEND      # the pool has none that is usable
    REACH_TIMEOUT
    REACH_GONE            # the table does not have that upstream any more

# The upstream that the exchange's verdict means, or NULL if the table has another now.
cdef vip_t* upstream_of(conns_t* w, const exchange_t* x) noexcept nogil

# Whether the request can be sent once more, if a kept connection turns out to have
# ended: all of it is still here, and twice does no more than once.
cdef inline bint upstream_repeats(const exchange_t* x) noexcept nogil:
    return x.idempotent and x.verdict.replay and not x.replayed and (
        x.held > 0 and x.request.done and not x.upgrade
    )

# Get the exchange a connection: a kept one, unless `fresh`, or a new one.
cdef REACH upconn_reach(conns_t* w, exchange_t* x, bint fresh) noexcept nogil

# Go on with a connection that is being made: the poller reported something.
cdef REACH upconn_go_on(conns_t* w, upconn_t* s) noexcept nogil

# Its time to connect is over: go on with another backend.
cdef REACH upconn_late(conns_t* w, upconn_t* s) noexcept nogil
