"""OpenSSL's buffers, for the connections that use them.

A connection that waits, as a watch does for hours, should hold none; a busy one should
not allocate two of them for every record. Recency decides: a record of a connection
without buffers takes the place of the one that has had its place longest. OpenSSL's
SSL_MODE_RELEASE_BUFFERS knows only always and never, and since 3.2 the handshake fixes
the choice for the write buffer.
"""

from fastpath.tls.openssl cimport SSL_free_buffers


cdef void buffers_keep(buffers_t* b, SSL* ssl, uint8_t* place) noexcept nogil:
    cdef SSL* other = b.holders[b.next]

    if other != NULL:
        SSL_free_buffers(other)  # unless bytes wait in them: its next turn is near
    b.holders[b.next] = ssl
    place[0] = b.next
    b.next = (b.next + 1) % BUFFERS_MOST


cdef void buffers_leave(buffers_t* b, const SSL* ssl, uint8_t place) noexcept nogil:
    if buffers_held(b, ssl, place):
        b.holders[place] = NULL
