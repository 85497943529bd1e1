# What Python is shown of a request, its way there, and its withdrawal.
from fastpath.http.state cimport conn_t, conns_t, exchange_t, parked_t, question_t

# A question about the request at the front of the client's input, from malloc; NULL if
# there is no memory.
cdef question_t* asking_new(conns_t* w, exchange_t* x) noexcept nogil

# Ask; `q` is taken. False if too many requests wait: nothing was asked.
cdef bint asking_send(conns_t* w, exchange_t* x, question_t* q) noexcept nogil

# The question of this client, if one waits, was answered; or nobody wants the answer
# any more, which Python is told.
cdef void asking_settle(conns_t* w, conn_t* conn) noexcept nogil
cdef void asking_withdraw(conns_t* w, conn_t* conn) noexcept nogil
