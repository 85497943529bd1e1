# The way back: heads of responses, and bodies behind them.
from fastpath.http.state cimport STEP, conns_t, exchange_t

# Move the response on. STEP_DONE: all of it was taken by the client's socket.
# STEP_UPGRADED: 101 was sent, what follows is not HTTP. STEP_REFUSED: its status is one
# that the verdict wants Python to see, in x.refused. STEP_STALE: an idle connection had
# ended, and no byte of a response came. STEP_ANSWERED: there is none, a reply says why.
cdef STEP response_move(conns_t* w, exchange_t* x) noexcept nogil
