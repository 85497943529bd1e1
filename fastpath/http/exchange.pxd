# The life of an exchange.
from fastpath.http.state cimport conns_t, exchange_t

# Something may have changed: go on as far as it goes. The exchange may be no more then.
cdef void exchange_run(conns_t* w, exchange_t* x) noexcept nogil
