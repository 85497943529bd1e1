"""How much work a peer can give us before it is known.

A ClientHello of a kilobyte may ask for a key exchange that costs a worker 170 ms
(ffdhe8192), where X25519 costs 0.06: of OpenSSL's groups a server offers those that are
cheap. A peer that has shaken hands can send key updates or tickets without end: each
costs as much as a small request, and they are read in one go, so that they are counted
as in Go's crypto/tls.
"""

from fastpath.tls.bio cimport wire_count
from fastpath.tls.openssl cimport (
    SSL, SSL3_RT_HEADER, SSL_CTX, ERR_clear_error, SSL_CTX_set1_groups_list,
    SSL_CTX_set_cipher_list, SSL_CTX_set_min_proto_version, SSL_CTX_set_msg_callback,
    SSL_RECEIVED_SHUTDOWN, SSL_get_rbio, SSL_in_init, SSL_set_shutdown, TLS1_2_VERSION,
    TLS1_3_VERSION,
)

from fastpath.api.errors import TableError

# Unless told otherwise. Post-quantum where OpenSSL has it (3.5): last, so that it is
# for clients that offer no other share. P-384 is not among the server's: with OpenSSL
# 3.0 a handshake of 0.27 ms takes 2.9, and clients must have P-256 (RFC 8446, 9.1).
POST_QUANTUM = ":X25519MLKEM768"
SERVER_GROUPS = "X25519:P-256"
CLIENT_GROUPS = "X25519:P-256:P-384:P-521"
# Forward secrecy and AEAD: what every client since 2014 has.
SERVER_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# An old apiserver, or what stands before it, may have none of these. Never DHE, whose
# group the server would choose: Go has none of it either.
CLIENT_CIPHERS = "DEFAULT:!kDHE:!PSK:!SRP"
VERSIONS = {"TLSv1.2": TLS1_2_VERSION, "TLSv1.3": TLS1_3_VERSION}


cdef bint try_groups(SSL_CTX* c, str names):
    cdef bint fine = SSL_CTX_set1_groups_list(c, names.encode()) == 1

    ERR_clear_error()
    return fine


cdef int strength_set(SSL_CTX* c, object spec, bint is_server) except -1:
    cdef str groups = SERVER_GROUPS if is_server else CLIENT_GROUPS
    cdef bytes ciphers = (
        spec.ciphers or (SERVER_CIPHERS if is_server else CLIENT_CIPHERS)
    ).encode()

    if spec.groups:
        if not try_groups(c, spec.groups):
            raise TableError(f"TLS groups {spec.groups!r}: OpenSSL knows no such list")
    elif not try_groups(c, groups + POST_QUANTUM) and not try_groups(c, groups):
        raise TableError(f"TLS groups {groups!r}: OpenSSL knows no such list")
    if SSL_CTX_set_cipher_list(c, ciphers) != 1:
        ERR_clear_error()
        raise TableError(f"TLS ciphers {ciphers.decode()!r}: OpenSSL knows none")
    if SSL_CTX_set_min_proto_version(c, VERSIONS[spec.min_version]) != 1:
        ERR_clear_error()
        raise TableError(f"TLS min version {spec.min_version}: OpenSSL refuses it")
    return 0


cdef void on_record(
    int written, int version, int kind, const void* bytes, size_t size, SSL* ssl,
    void* p,
) noexcept nogil:
    if written or kind != SSL3_RT_HEADER or SSL_in_init(ssl):
        return
    if wire_count(SSL_get_rbio(ssl)):
        # The one way to stop OpenSSL amid what it has read ahead: nothing more of the
        # peer is looked at.
        SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN)


cdef void strength_watch(SSL_CTX* c) noexcept nogil:
    SSL_CTX_set_msg_callback(c, on_record)
