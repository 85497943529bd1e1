# Which verdict a request gets: a remembered one, or the answer of Python.
from fastpath.base.mailbox cimport letter_t
from fastpath.http.state cimport STEP, conn_t, conns_t, exchange_t

# Find the verdict for the request with the head x.head, and obey it: STEP_FORWARD, or
# its reply. STEP_UNKNOWN: none is remembered.
cdef STEP question_decide(conns_t* w, exchange_t* x) noexcept nogil

# Ask Python, also about the status in x.refused: STEP_PARKED, or a reply that says
# why not.
cdef STEP question_ask(conns_t* w, exchange_t* x) noexcept nogil

# The upstream said a status that the verdict wants Python to see: ask once more. Its
# response waits meanwhile.
cdef STEP question_ask_on(conns_t* w, exchange_t* x) noexcept nogil

# Python answered; the letter's load is ours now. The client that waited for it, or
# NULL; `step` is what the answer means to its exchange.
cdef conn_t* question_answered(
    conns_t* w, const letter_t* letter, STEP* step
) noexcept nogil

# Python took too long.
cdef STEP question_expired(conns_t* w, exchange_t* x) noexcept nogil

# Free the load of a letter that will not be read, and close its fd.
cdef void letter_burn(letter_t* letter) noexcept nogil
