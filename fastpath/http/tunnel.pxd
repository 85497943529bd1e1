# Exchanges that were upgraded.
from fastpath.http.client cimport STEP
from fastpath.http.web cimport exchange_t, web_t

# 101 was sent: from now on it is a tunnel.
cdef STEP exchange_tunnel(web_t* w, exchange_t* x) noexcept nogil

# Move what can be moved, both ways.
cdef STEP tunnel_run(web_t* w, exchange_t* x) noexcept nogil
