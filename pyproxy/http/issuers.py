"""Which of two authorities vouches for a client's certificate.

A handshake verifies it against all of them at once. An authority of front proxies must
not make users, nor one of users front proxies: where both are trusted, the issuer of
the certificate tells. It must be one of the authorities of the files then, directly.
"""

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pyproxy.dataplane import Certificate

KEPT = 1024  # certificates of which it is known


class TwoIssuers:
    """The authorities of users and of front proxies; PEM, None = there is none."""

    def __init__(
        self, client: bytes | None, front: bytes | None, names: tuple[str, ...] = ()
    ) -> None:
        """`names` are those that front proxies may have; none = any.

        Raises:
            ValueError: it is no PEM of certificates.
        """
        self._client = _read(client)
        self._front = _read(front)
        self._names = names
        self._knows = lru_cache(KEPT)(self._look)

    def is_client(self, certificate: Certificate) -> bool:
        """Whether it names a user."""
        if not self._client:
            return False
        return not self._front or self._knows(certificate.der)[0]

    def is_front_proxy(self, certificate: Certificate) -> bool:
        """Whether it is that of a front proxy."""
        if not self._front:
            return False
        if self._names and certificate.common_name not in self._names:
            return False
        return not self._client or self._knows(certificate.der)[1]

    def _look(self, der: bytes) -> tuple[bool, bool]:
        shown = x509.load_der_x509_certificate(der)
        return _issued(shown, self._client), _issued(shown, self._front)


def _read(pem: bytes | None) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(pem)) if pem else ()


def _issued(shown: x509.Certificate, by: tuple[x509.Certificate, ...]) -> bool:
    for authority in by:
        try:
            shown.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
