# The life of an exchange.
from fastpath.http.web cimport exchange_t, web_t

# Something may have changed: go on as far as it goes. The exchange may be no more then.
cdef void exchange_run(web_t* w, exchange_t* x) noexcept nogil
