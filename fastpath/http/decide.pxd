# From a whole request head to a request that was sent.
from libc.stdint cimport uint16_t
from fastpath.base.mailbox cimport letter_t
from fastpath.http.conn cimport STEP
from fastpath.http.state cimport conns_t, exchange_t
from fastpath.http.upconn cimport REACH

# Find the verdict for the request whose head is w.head and carry it out, or ask Python.
# `refused` is the status that the upstream gave under the last verdict; 0 = none.
cdef STEP exchange_decide(conns_t* w, exchange_t* x, uint16_t refused) noexcept nogil

# The upstream said a status that the verdict wants Python to see: ask once more.
cdef STEP exchange_ask_on(conns_t* w, exchange_t* x) noexcept nogil

# Python answered; the letter's load is ours now. The exchange that can go on, or NULL.
cdef exchange_t* decide_answered(conns_t* w, const letter_t* letter) noexcept nogil

# How reaching an upstream went: send the request, wait, or say why not.
cdef STEP exchange_reached(conns_t* w, exchange_t* x, REACH reach) noexcept nogil

# A kept connection had ended: send the request once more, on a new one, if it may be.
cdef STEP exchange_replay(conns_t* w, exchange_t* x) noexcept nogil

# End a letter that nobody will read, and what it carries.
cdef void letter_burn(letter_t* letter) noexcept nogil
