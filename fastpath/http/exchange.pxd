# The life of an exchange, and of the client's connection around it.
from fastpath.http.state cimport STEP, conn_t, conns_t

# Go on as far as possible. `step` is what has happened: STEP_ON where an event may have
# changed something. The connection may be dropped by this.
cdef void exchange_run(conns_t* w, conn_t* conn, STEP step) noexcept nogil
