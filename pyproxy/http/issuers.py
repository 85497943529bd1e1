"""Which of two authorities vouches for a client's certificate.

A handshake verifies it against all of them at once. An authority of front proxies must
not make users, nor one of users front proxies: where both are trusted, the certificate
is verified against each, with the intermediates that the client sent along.
"""

from functools import lru_cache

from pyproxy.dataplane import Certificate, is_vouched_for

KEPT = 4096  # certificates of which it is known
# (roots, certificate in DER) that was found to lead to them. A session that a client
# resumes does not tell the intermediates that its handshake saw.
_good: dict[tuple[bytes, bytes], None] = {}
_verified = lru_cache(KEPT)(is_vouched_for)


class TwoIssuers:
    """The authorities of users and of front proxies; PEM, None = there is none."""

    def __init__(
        self, client: bytes | None, front: bytes | None, names: tuple[str, ...] = ()
    ) -> None:
        """`names` are those that front proxies may have; none = any."""
        self._client, self._front = client, front
        self._names = names

    def is_client(self, certificate: Certificate) -> bool:
        """Whether it names a user."""
        if not self._client:
            return False
        return not self._front or _vouches(self._client, certificate)

    def is_front_proxy(self, certificate: Certificate) -> bool:
        """Whether it is that of a front proxy."""
        if not self._front:
            return False
        if self._names and certificate.common_name not in self._names:
            return False
        return not self._client or _vouches(self._front, certificate)


def _vouches(roots: bytes, certificate: Certificate) -> bool:
    key = (roots, certificate.der)
    if key in _good:
        return True
    if not _verified(certificate.der, certificate.chain, roots):
        return False
    if len(_good) >= KEPT:
        del _good[next(iter(_good))]
    _good[key] = None
    return True
