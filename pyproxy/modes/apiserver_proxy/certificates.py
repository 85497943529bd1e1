"""Every certificate that the mode needs, read from files, and read again on change."""

import datetime
import ipaddress
import logging
import socket
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from pyproxy import pem
from pyproxy.dataplane import ClientTls, ServerTls
from pyproxy.errors import ConfigError
from pyproxy.http.issuers import TwoIssuers
from pyproxy.modes.apiserver_proxy.config import ApiserverProxy
from pyproxy.stamp import stamps
from pyproxy.tls import read_file

logger = logging.getLogger(__name__)

Pair = tuple[bytes, bytes]
LIFE = datetime.timedelta(days=365)
SLACK = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Held:
    """What the files hold."""

    server: ServerTls
    issuers: TwoIssuers
    kubelet_ca: bytes | None
    kubelet: Pair | None
    front: Pair | None

    def kubelet_tls(self, host: str) -> ClientTls:
        """Return how to speak with the kubelet of a host; "" = with any."""
        certificate, key = self.kubelet or (None, None)
        verifies = self.kubelet_ca is not None and host != ""
        return ClientTls(
            ca=self.kubelet_ca if verifies else b"",
            certificate=certificate,
            key=key,
            server_name=host if verifies else "",
            verify=verifies,
        )


class Certificates:
    """The files of a configuration."""

    def __init__(self, config: ApiserverProxy, own: Pair | None = None) -> None:
        """Read everything. Raise ConfigError that names the bad file.

        `own` is the certificate that was made before, if one was.
        """
        self._config = config
        self.own = own
        self._files = [name for name in _files(config) if name]
        self._stamps = stamps(self._files)
        self.held = self._read()

    def poll(self) -> bool:
        """Look at files; return whether there is something else in them.

        What is broken is reported once, and what was read before it stays.
        """
        found = stamps(self._files)
        if found == self._stamps:
            return False
        self._stamps = found
        try:
            held = self._read()
        except ConfigError as error:
            logger.warning("certificates not reloaded", extra={"why": str(error)})
            return False
        self.held = held
        logger.info("certificates reloaded")
        return True

    def _read(self) -> Held:
        config = self._config
        users = _roots(config.client_ca_file)
        fronts = _roots(config.request_header.client_ca_file)
        own = _pair(config.tls_cert_file, config.tls_private_key_file)
        trusted = b"\n".join(filter(None, (users, fronts)))
        kubelet = config.kubelet
        return Held(
            server=ServerTls(
                certificates=(own or self._made(),),
                client_ca=trusted or None,
                client_auth="optional" if trusted else "none",
            ),
            issuers=TwoIssuers(users, fronts, config.request_header.allowed_names),
            kubelet_ca=_roots(kubelet.certificate_authority),
            kubelet=_pair(kubelet.client_certificate, kubelet.client_key),
            front=_pair(config.proxy_client_cert_file, config.proxy_client_key_file),
        )

    def _made(self) -> Pair:
        """Return a certificate of our own, the same for as long as we run."""
        if self.own is None:
            self.own = self_signed(self._config.bind_address)
        return self.own


def _files(config: ApiserverProxy) -> tuple[str, ...]:
    kubelet = config.kubelet
    return (
        *(config.tls_cert_file, config.tls_private_key_file, config.client_ca_file),
        *(config.request_header.client_ca_file, kubelet.certificate_authority),
        *(kubelet.client_certificate, kubelet.client_key),
        *(config.proxy_client_cert_file, config.proxy_client_key_file),
    )


def _roots(file: str) -> bytes | None:
    if not file:
        return None
    try:
        return pem.roots(read_file(file, "CA file")).pem
    except ValueError as error:
        complaint = f"{file}: no usable CA certificate in this file: {error}"
        raise ConfigError(complaint) from error


def _pair(certificate: str, key: str) -> Pair | None:
    if not certificate:
        return None
    read = read_file(certificate, "certificate"), read_file(key, "private key")
    try:
        return pem.pair(*read)
    except pem.PairError as error:
        file = key if error.about_key else certificate
        raise ConfigError(f"{file}: {error.why}") from error


def self_signed(address: str) -> Pair:
    """Make a certificate for this machine, and its key; PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pyproxy, self-signed")])
    hosts = [x509.DNSName(h) for h in dict.fromkeys(("localhost", _hostname()))]
    listening = ipaddress.ip_address(address)
    addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    if not listening.is_unspecified and listening not in addresses:
        addresses.append(listening)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + LIFE)
        .add_extension(
            x509.SubjectAlternativeName([*hosts, *map(x509.IPAddress, addresses)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return (
        made.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def fingerprint(pair: Pair) -> str:
    """Return the SHA-256 of a certificate, as `openssl x509 -fingerprint` prints it."""
    shown = x509.load_pem_x509_certificate(pair[0])
    digest = sha256(shown.public_bytes(Encoding.DER)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _hostname() -> str:
    name = socket.gethostname()
    return name if name.isascii() and name else "localhost"
