from fastpath.tls.openssl cimport SSL

# Text of why `ssl` failed with `error`, in the handshake or after it: `into` gets
# at most `size` bytes with NUL. Names out of certificates are made printable.
cdef void refusal_say(
    SSL* ssl, unsigned long error, bint handshaking, char* into, size_t size
) noexcept nogil
