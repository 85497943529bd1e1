"""The words for TLS between Python and the core: ClientTls, ServerTls.

Frozen values, compared by content, so that what did not change keeps its contexts and
sessions. They hold PEM, not names of files: the code that reads files also watches
them. What is in the PEM is looked at when a context is made of it (fastpath.tls).
Nothing of the key material is ever part of a message or of a repr.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from fastpath.api.checks import check, check_text, check_word
from fastpath.api.errors import TableError

ClientAuth = Literal["none", "optional", "required"]
TlsVersion = Literal["TLSv1.2", "TLSv1.3"]

# Letters, digits, hyphens and, as in many a private zone, underscores.
LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
MAX_NAME = 253
MAX_PROTOCOL = 255  # bytes, RFC 7301 3.1
MAX_PROTOCOLS_BYTES = 1024
MAX_CERTIFICATES = 1024
MAX_LIST = 1024  # characters, of groups or ciphers


def _check_pem(what: str, value: object) -> None:
    # Not the value itself: it may be a key.
    kind = type(value).__name__
    check(isinstance(value, bytes), f"{what} is not PEM in bytes but a {kind}")


def _is_address(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # No certificate is for an address in a zone.
    return isinstance(address, ipaddress.IPv4Address) or address.scope_id is None


def _check_name(name: str) -> None:
    check_text("server name", name)
    if _is_address(name):
        return
    labels = name.removesuffix(".").split(".")
    named = len(name) <= MAX_NAME and all(map(LABEL.fullmatch, labels))
    # With a number last it is a mistyped address (WHATWG URL, 3.5).
    named = named and not labels[-1].isdigit()
    check(named, f"server name {name!r} is neither a DNS name nor an IP address")


def _check_alpn(protocols: object) -> None:
    if not isinstance(protocols, tuple):
        raise TableError(f"alpn {protocols!r} is not a tuple")
    for name in protocols:
        check_text("alpn protocol", name)
        fits = name.isascii() and 0 < len(name) <= MAX_PROTOCOL
        check(fits, f"alpn protocol {name!r} is not 1-{MAX_PROTOCOL} ASCII characters")
    size = sum(1 + len(name) for name in protocols)
    check(size <= MAX_PROTOCOLS_BYTES, f"alpn of more than {MAX_PROTOCOLS_BYTES} bytes")


def _check_strength(tls: "ClientTls | ServerTls") -> None:
    # Whether OpenSSL knows them shows when a context is made.
    for what in ("groups", "ciphers"):
        value = getattr(tls, what)
        check_text(f"TLS {what}", value)
        fits = value.isascii() and value.isprintable() and len(value) <= MAX_LIST
        check(fits, f"TLS {what} {value!r} is not a list in ASCII")
    check_word("TLS min version", tls.min_version, get_args(TlsVersion))


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to speak TLS with an upstream, and which certificates to trust."""

    # None = the system's roots, b"" = none
    ca: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)  # ours, then its chain
    key: bytes | None = field(default=None, repr=False)
    server_name: str = ""  # verified, and sent as SNI unless it is an IP address
    verify: bool = True
    alpn: tuple[str, ...] = ("http/1.1",)
    # As OpenSSL writes them: "X25519:P-256"; suites of TLS 1.2. Empty = OpenSSL's, for
    # old servers, less DHE.
    groups: str = ""
    ciphers: str = ""
    min_version: TlsVersion = "TLSv1.2"

    def __post_init__(self) -> None:
        _check_strength(self)
        for what in ("ca", "certificate", "key"):
            if (pem := getattr(self, what)) is not None:
                _check_pem(f"client TLS: {what}", pem)
        check(
            self.key is None or self.certificate is not None,
            "client key without a certificate",
        )
        check(
            self.certificate is None or self.key is not None,
            "client certificate without its key",
        )
        if self.server_name != "":
            _check_name(self.server_name)
        strange = f"verify {self.verify!r} is not True or False"
        check(isinstance(self.verify, bool), strange)
        nameless = "a server that is to be verified needs a server name"
        check(not self.verify or self.server_name != "", nameless)
        _check_alpn(self.alpn)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How to speak TLS with clients."""

    # (certificate and its chain, key). The first is for clients that name no host, or
    # one that none of them is for.
    certificates: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    client_ca: bytes | None = field(default=None, repr=False)
    client_auth: ClientAuth = "none"  # "optional": a bad one is refused, none is fine
    alpn: tuple[str, ...] = ("http/1.1",)  # by preference
    # As OpenSSL writes them: "X25519:P-256"; suites of TLS 1.2. Empty = those two, and
    # forward secrecy with AEAD. A client may ask for the dearest of them: with P-384,
    # a handshake of 0.3 ms takes 2.9. Keys of clients of TLS 1.2 are of these, too.
    groups: str = ""
    ciphers: str = ""
    min_version: TlsVersion = "TLSv1.2"

    def __post_init__(self) -> None:
        _check_strength(self)
        self._check_certificates()
        check_word("client auth", self.client_auth, get_args(ClientAuth))
        if self.client_ca is not None:
            _check_pem("client CA", self.client_ca)
        asked = self.client_auth != "none"
        check(
            not asked or self.client_ca is not None, "client auth without a client CA"
        )
        check(asked or self.client_ca is None, "client CA, but client auth is 'none'")
        _check_alpn(self.alpn)

    def _check_certificates(self) -> None:
        kind = type(self.certificates).__name__
        check(
            isinstance(self.certificates, tuple), f"certificates are a {kind}, no tuple"
        )
        count = len(self.certificates)
        strange = f"{count} certificates are not 1-{MAX_CERTIFICATES}"
        check(1 <= count <= MAX_CERTIFICATES, strange)
        for number, pair in enumerate(self.certificates, 1):
            paired = isinstance(pair, tuple) and len(pair) == 2
            check(paired, f"certificate {number} is not a pair with its key")
            _check_pem(f"certificate {number}", pair[0])
            _check_pem(f"key of certificate {number}", pair[1])


__all__ = ["ClientAuth", "ClientTls", "ServerTls", "TlsVersion"]
