# What an exchange takes of its quota: a place while it lives, and bytes.
from libc.stdint cimport uint64_t
from fastpath.http.quota cimport quota_t
from fastpath.http.state cimport conns_t, exchange_t

# Have a place in `q`, and none in another quota; NULL = in none. False = all are taken.
# A place that it has already is kept.
cdef bint meter_enter(exchange_t* x, quota_t* q) noexcept nogil

# Give the place back, if it has one.
cdef void meter_leave(exchange_t* x) noexcept nogil

# Around what moves bytes of an exchange that has a quota. False = it has to pause, and
# nothing is to be read: the timer of x.up makes it go on. Otherwise w.c.mover.turn is
# what may be moved, until meter_close puts it back and charges what was.
cdef bint meter_open(conns_t* w, exchange_t* x) noexcept nogil
cdef void meter_close(conns_t* w, exchange_t* x, uint64_t bytes) noexcept nogil

# Charge bytes that are moved in any case, as those of heads.
cdef void meter_charge(conns_t* w, exchange_t* x, uint64_t bytes) noexcept nogil
