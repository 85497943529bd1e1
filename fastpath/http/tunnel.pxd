# Exchanges that were upgraded.
from fastpath.http.conn cimport STEP
from fastpath.http.state cimport conns_t, exchange_t

# 101 was sent: from now on it is a tunnel.
cdef STEP exchange_tunnel(conns_t* w, exchange_t* x) noexcept nogil

# Move what can be moved, both ways.
cdef STEP tunnel_run(conns_t* w, exchange_t* x) noexcept nogil
