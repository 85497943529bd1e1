# One connected endpoint: a plain descriptor, or one with TLS on it. One convention for
# both, so that code that moves bytes need not know which it is.
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t

from fastpath.base.end cimport end_t
from fastpath.base.linux.socket cimport MSG_NOSIGNAL, recv, send
from fastpath.tls.buffers cimport buffers_t
from fastpath.tls.openssl cimport SSL, SSL_CTX, SSL_SESSION

cdef struct transport_t:
    end_t    end            # a call found it dry or full: its flags say so
    SSL*     ssl            # owned; NULL = plain
    buffers_t* buffers      # borrowed, its worker's; where there is TLS
    uint8_t  handshaking    # TLS handshake under way
    uint8_t  eof            # the peer has ended its side: close_notify or FIN
    uint8_t  truncated      # by a FIN without close_notify
    uint8_t  shut           # we have ended ours; SHUT_LATER = the socket was full
    uint32_t place          # in `buffers`
    int      failed         # -errno that ended it for good; 0 = none
    unsigned long error     # OpenSSL's word for why; 0 = none

cdef enum:
    SHUT_LATER = 2  # call transport_shut again when there is room

# A transport on the connected (or connecting) socket `fd`, which it owns from now on.
cdef void transport_open(transport_t* t, int fd) noexcept nogil

# Speak TLS from now on. `name` is for SNI and verification, NULL = neither; `session`
# may be NULL, is borrowed; `buffers` are those of the worker. The handshake runs in
# transport_handshake.
# Return 0 or -ENOMEM.
cdef int transport_start_client(
    transport_t* t, SSL_CTX* context, buffers_t* buffers, const char* name,
    SSL_SESSION* session
) noexcept nogil
cdef int transport_start_server(
    transport_t* t, SSL_CTX* context, buffers_t* buffers
) noexcept nogil

# Whether the client has begun to speak: 1; 0 = it has ended; or -errno, -EAGAIN = wait
# for the poller. Only then does transport_start_server make the SSL object, of 38 KB.
cdef int transport_met(transport_t* t) noexcept nogil

# Go on with the handshake. 1 = done, -EAGAIN = wait for the poller (any event),
# -EPROTO = refused: see transport_why; another -errno from the socket. The first bytes
# may have come with the end of the handshake: read before waiting for an event.
cdef int transport_handshake(transport_t* t) noexcept nogil

# Instead of a ServerHello the peer may write a plain-text reason, as a tunnel does that
# found no way: the handshake then fails with -EBADMSG, and transport_read_plaintext
# reads the reason.
cdef void transport_expect_plaintext(transport_t* t) noexcept nogil
cdef void transport_read_plaintext(
    transport_t* t, char* into, size_t size
) noexcept nogil

# Whether it failed because the client speaks HTTP without TLS.
cdef bint transport_met_http(const transport_t* t) noexcept nogil

# transport_read and transport_write where there is TLS.
cdef ssize_t transport_read_tls(transport_t* t, void* into, size_t size) noexcept nogil
cdef ssize_t transport_write_tls(
    transport_t* t, const void* data, size_t size
) noexcept nogil

# Read up to `size` bytes. Return them, 0 at the end of the peer's side, or -errno:
# -EAGAIN = none now. Read until that, or until `readable` is cleared: the poller tells
# of what comes after. With -EAGAIN and `readable` set TLS has to write first (a key
# update): read again when there is room.
cdef inline ssize_t transport_read(
    transport_t* t, void* into, size_t size
) noexcept nogil:
    cdef ssize_t n

    if t.ssl != NULL:
        return transport_read_tls(t, into, size)
    while True:
        n = recv(t.end.fd, into, size, 0)
        if n > 0:
            # Less than was asked for is all there is (epoll(7)), but for a FIN that the
            # poller has told of already.
            if <size_t>n < size and not t.end.rdhup_seen:
                t.end.readable = 0
            return n
        if n == 0:
            t.eof = 1
            t.end.readable = 0
            return 0
        if errno == EAGAIN:
            t.end.readable = 0
            return -EAGAIN
        if errno != EINTR:
            return -errno

# Write up to `size` bytes. Return those taken (maybe fewer), 0 if full, or -errno. With
# TLS the bytes not taken must be offered again, and no fewer of them (they may stand
# elsewhere in memory), unless nothing more is written.
cdef inline ssize_t transport_write(
    transport_t* t, const void* data, size_t size
) noexcept nogil:
    cdef ssize_t n

    if t.ssl != NULL:
        return transport_write_tls(t, data, size)
    while True:
        n = send(t.end.fd, data, size, MSG_NOSIGNAL)
        if n >= 0:
            # The kernel takes part only of what does not fit.
            if <size_t>n < size:
                t.end.writable = 0
            return n
        if errno == EAGAIN:
            t.end.writable = 0
            return 0
        if errno != EINTR:
            return -errno

# End our side: close_notify and FIN. The other direction stays open. If the socket has
# no room for the first, `shut` is SHUT_LATER.
cdef void transport_shut(transport_t* t) noexcept nogil

# Whether an idle transport may be used again: no byte, no end, no error waits. Tickets
# and other records that are no data are consumed.
cdef bint transport_idle_ok(transport_t* t) noexcept nogil

# Close; with `reset` the peer gets an RST instead of a FIN (and no close_notify).
# Without, a close_notify is tried once if TLS is up. Accepts a closed one.
cdef void transport_close(transport_t* t, bint reset) noexcept nogil

# Text of why the last handshake or TLS read or write failed: `into` gets at most
# `size` bytes with NUL: "certificate has expired", "hostname mismatch", "self-signed
# certificate", "wrong version number (the server does not speak TLS)" ...
cdef void transport_why(transport_t* t, char* into, size_t size) noexcept nogil

# Whether the handshake resumed a session.
cdef bint transport_resumed(transport_t* t) noexcept nogil
