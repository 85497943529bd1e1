# Pages of HTML in an exchange: which responses are rewritten, and their bodies on the
# way from an upstream to a client.
from fastpath.http.state cimport STEP, conns_t, exchange_t
from fastpath.http1.compose cimport out_t

# The head w.answer is that of a page, or it is not: then x.rewrite stays NULL, and the
# body goes as it came. Else its framing becomes ours.
cdef void rewrite_begin(conns_t* w, exchange_t* x, const char* bytes) noexcept nogil

# Put what becomes of `size` bytes of the body behind what is in `o`, as a chunk, and
# the body's end if it has ended. What has no room waits. STEP_ON; STEP_FAULT: its
# framing or coding is wrong, see w.why; STEP_NO_MEMORY.
cdef STEP rewrite_some(
    conns_t* w, exchange_t* x, out_t* o, const char* bytes, size_t size
) noexcept nogil

# As body_move; x.response.done once all was rewritten.
cdef STEP rewrite_move(conns_t* w, exchange_t* x) noexcept nogil
