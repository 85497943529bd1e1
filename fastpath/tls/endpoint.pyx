"""A transport, and the buffers of a worker, as objects for tests."""

import os

from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t

from fastpath.tls.buffers cimport (
    BUFFERS_BYTES, buffers_age, buffers_fini, buffers_init, buffers_t,
)
from fastpath.tls.context cimport ClientContext, ServerContext, tls_session
from fastpath.tls.openssl cimport (
    SSL_CTX, X509, OPENSSL_free, SSL_get0_alpn_selected, SSL_get1_peer_certificate,
    SSL_get_version, X509_free, i2d_X509,
)
from fastpath.tls.transport cimport (
    SHUT_LATER, transport_close, transport_handshake, transport_idle_ok, transport_open,
    transport_read, transport_resumed, transport_shut, transport_start_client,
    transport_start_server, transport_t, transport_why, transport_write,
)

cdef enum:
    WHY_BYTES = 512  # of a text


cdef class Buffers:
    """What a worker's connections share."""

    cdef buffers_t b

    def __cinit__(self, int places=64):
        buffers_init(&self.b, <uint64_t>places * BUFFERS_BYTES)

    def __dealloc__(self):
        buffers_fini(&self.b)

    def age(self):
        """As a worker does every few seconds."""
        buffers_age(&self.b, 0)


cdef class Transport:
    """A transport on the descriptor `fd`, which is its own from now on."""

    cdef transport_t t
    cdef Buffers buffers

    def __cinit__(self, int fd, Buffers buffers=None):
        transport_open(&self.t, fd)
        self.buffers = buffers if buffers is not None else Buffers()

    def __init__(self, int fd, Buffers buffers=None):
        os.set_blocking(fd, False)

    def __dealloc__(self):
        transport_close(&self.t, False)

    def start_client(self, ClientContext context, str name=None, int worker=0):
        cdef SSL_CTX* c = context.contexts[worker]
        cdef bytes other = b"" if name is None else name.encode()
        cdef const char* verified = context.name

        if name is not None:
            verified = other
        if transport_start_client(
            &self.t, c, &self.buffers.b, verified, tls_session(c)
        ) < 0:
            raise MemoryError

    def start_server(self, ServerContext context, int worker=0):
        if transport_start_server(
            &self.t, context.contexts[worker], &self.buffers.b
        ) < 0:
            raise MemoryError

    def handshake(self):
        return self._result(transport_handshake(&self.t)) is not None

    def read(self, size_t size):
        buffer = bytearray(size)
        n = self._result(transport_read(&self.t, <char*>buffer, size))
        return None if n is None else bytes(buffer[:n])

    def write(self, const unsigned char[::1] data):
        if len(data) == 0:
            return 0
        return self._result(transport_write(&self.t, &data[0], len(data)))

    def event(self, bint fin=False):
        """As when the poller tells of bytes, or also of a FIN."""
        self.t.end.readable = 1
        self.t.end.writable = 1
        self.t.end.rdhup_seen |= fin

    def shut(self):
        transport_shut(&self.t)

    def idle_ok(self):
        return transport_idle_ok(&self.t)

    def close(self, bint reset=False):
        transport_close(&self.t, reset)

    def fileno(self):
        return self.t.end.fd

    @property
    def why(self):
        cdef char text[WHY_BYTES]

        transport_why(&self.t, text, WHY_BYTES)
        return text.decode("ascii", "replace")

    @property
    def resumed(self):
        return transport_resumed(&self.t)

    @property
    def flags(self):
        """Names of the flags that are up."""
        up = {
            "handshaking": self.t.handshaking,
            "readable": self.t.end.readable,
            "writable": self.t.end.writable,
            "eof": self.t.eof,
            "truncated": self.t.truncated,
            "shut": self.t.shut == 1,
            "shut later": self.t.shut == SHUT_LATER,
        }
        return {name for name, is_up in up.items() if is_up}

    @property
    def version(self):
        return SSL_get_version(self.t.ssl).decode() if self.t.ssl != NULL else ""

    @property
    def alpn(self):
        cdef const unsigned char* name = NULL
        cdef unsigned int size = 0

        if self.t.ssl != NULL:
            SSL_get0_alpn_selected(self.t.ssl, &name, &size)
        return name[:size].decode() if size > 0 else ""

    def peer_certificate(self):
        cdef X509* certificate = NULL
        cdef unsigned char* der = NULL
        cdef int size

        if self.t.ssl != NULL:
            certificate = SSL_get1_peer_certificate(self.t.ssl)
        if certificate == NULL:
            return None
        size = i2d_X509(certificate, &der)
        X509_free(certificate)
        try:
            return der[:size]
        finally:
            OPENSSL_free(der)

    cdef _result(self, ssize_t n):
        if n == -EAGAIN:
            return None
        if n < 0:
            raise OSError(-n, self.why or os.strerror(-n))
        return n
