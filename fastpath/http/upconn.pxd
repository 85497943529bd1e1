# Getting an exchange its upstream connection: an idle one, or a new one.
from fastpath.http.idle cimport upstream_in
from fastpath.http.state cimport STEP, conns_t, exchange_t
from fastpath.table.table cimport upstream_t

# The upstream that the exchange's verdict means, or NULL if the table has another now.
cdef inline upstream_t* upstream_of(conns_t* w, const exchange_t* x) noexcept nogil:
    return upstream_in(w, x.verdict.upstream, x.verdict.stamp)

# Whether the request can be sent once more, if its connection ends without an answer:
# all that came of it is still here, and it is idempotent.
cdef inline bint exchange_repeats(const exchange_t* x) noexcept nogil:
    return x.idempotent and x.verdict.replay and x.held > 0 and not x.upgrade

# Get the exchange a connection, or go on with one that is being made. STEP_CONNECTED;
# STEP_WAIT: for the poller or the timer of x.up; STEP_UNKNOWN: the table does not
# have that upstream any more; or a reply that says why there is none.
cdef STEP upconn_reach(conns_t* w, exchange_t* x) noexcept nogil

# The backend of x.up did not answer: count it, remember not to try it again, and leave
# it.
cdef void upconn_failed(conns_t* w, exchange_t* x) noexcept nogil
