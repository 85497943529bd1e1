"""TLS of our own clients: what to trust, what to show, and both re-read on change.

Certificates are rotated under a running proxy. A context is rebuilt when one of its
files changed; a broken new file leaves the last good context in use.
"""

import hashlib
import logging
import ssl
from dataclasses import dataclass, field

from pyproxy import pem
from pyproxy.errors import ConfigError
from pyproxy.stamp import stamps

logger = logging.getLogger(__name__)

MAX_PEM_BYTES = 4 << 20
MAX_TOKEN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a client trusts and shows. No CA and no pin: it trusts any certificate."""

    ca: str | None = None
    pins: frozenset[str] = field(default_factory=frozenset)  # hex SHA-256 of the DER
    certificate: str | None = None
    key: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that a context is made of."""
        return tuple(f for f in (self.ca, self.certificate, self.key) if f is not None)


class ClientTls:
    """The current SSL context for some settings."""

    def __init__(self, settings: TlsSettings) -> None:
        """Load everything at once. Raise ConfigError that names the bad file."""
        self._settings = settings
        self._stamps = stamps(settings.files)
        self._context = build_context(settings)

    def context(self) -> ssl.SSLContext:
        """Return the context, rebuilt when a file changed since the last call."""
        found = stamps(self._settings.files)
        if found != self._stamps:
            self._stamps = found  # also when it fails: say so once, not at each probe
            try:
                self._context = build_context(self._settings)
                logger.info("certificates reloaded", extra={"files": _join(self)})
            except ConfigError as error:
                logger.warning("certificates not reloaded", extra={"why": str(error)})
        return self._context

    def refuses(self, certificate: bytes | None) -> str:
        """Say why a server's certificate (DER) is not a pinned one; empty = it is."""
        if not self._settings.pins:
            return ""
        seen = hashlib.sha256(certificate or b"").hexdigest()
        if seen in self._settings.pins:
            return ""
        return f"certificate {seen} is not pinned"

    @property
    def settings(self) -> TlsSettings:
        """What the context is made of."""
        return self._settings


def new_client_context() -> ssl.SSLContext:
    """Make a context that trusts nobody yet, with the rules of the core's clients.

    They are Go's: the subject is no name of a host, and a certificate that is trusted
    need not be self-signed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def shown_name(name: str) -> str:
    """Return a server's name for SNI and verification, which know no root.

    Source: RFC 6066 3.
    """
    return name.removesuffix(".")


def build_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make a client context. Raise ConfigError that names the bad file."""
    context = new_client_context()
    if settings.ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_ca(context, settings.ca)
    if settings.certificate is not None and settings.key is not None:
        _load_pair(context, settings.certificate, settings.key)
    return context


def _load_ca(context: ssl.SSLContext, file: str) -> None:
    raw = read_file(file, "CA file")
    try:
        found = pem.roots(raw)
    except ValueError as error:
        complaint = f"{file}: no usable CA certificate in this file: {error}"
        raise ConfigError(complaint) from error
    if found.broken:
        extra = {"file": file, "count": found.broken}
        logger.warning("broken certificates of authorities skipped", extra=extra)
    context.load_verify_locations(cadata=found.pem.decode("ascii"))


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    shown = read_file(certificate, "certificate"), read_file(key, "private key")
    try:
        pem.load_pair(context, *pem.pair(*shown))
    except pem.PairError as error:
        file = key if error.about_key else certificate
        raise ConfigError(f"{file}: {error.why}") from error


def read_file(file: str, what: str, limit: int = MAX_PEM_BYTES) -> bytes:
    """Return the bytes of a small file. Raise ConfigError that names it."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {what}: {error.strerror}") from error
    if len(content) > limit:
        raise ConfigError(f"{file}: {what}: larger than {limit >> 10} KiB")
    return content


def read_token(file: str) -> str:
    """Return a bearer token. Raise ConfigError, which never quotes it."""
    raw = read_file(file, "token", MAX_TOKEN_BYTES).strip()
    if not raw:
        raise ConfigError(f"{file}: token: the file is empty")
    if not all(0x21 <= byte <= 0x7E for byte in raw):
        raise ConfigError(f"{file}: token: characters that no token has")
    return raw.decode("ascii")


def _join(tls: ClientTls) -> str:
    return " ".join(tls.settings.files)
