# Upgraded exchanges.
from fastpath.http.state cimport STEP, conns_t, exchange_t

# 101 was sent: bytes both ways from now on. STEP_ON, or why it ended at once.
cdef STEP tunnel_begin(conns_t* w, exchange_t* x) noexcept nogil
cdef STEP tunnel_move(conns_t* w, exchange_t* x) noexcept nogil

# It is not idle: the time that it may be begins anew.
cdef void tunnel_until(conns_t* w, exchange_t* x) noexcept nogil
