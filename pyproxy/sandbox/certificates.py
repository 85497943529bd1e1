"""A certificate authority for one afternoon."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CLOCK_SLACK = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a directory; `ca.crt` there is what to trust."""

    def __init__(
        self,
        directory: Path,
        name: str = "pyproxy sandbox CA",
        *,
        above: "Authority | None" = None,
        below: int = 0,
    ) -> None:
        """`above` signs for it, else it is a root; `below` is how many may follow."""
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        signer = above or self
        constraints = x509.BasicConstraints(ca=True, path_length=below)
        certificate = (
            signer._builder(self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .sign(signer._key, hashes.SHA256())
        )
        self.certificate = directory / "ca.crt"
        self.certificate.write_bytes(certificate.public_bytes(_PEM))

    def issue(
        self,
        name: str,
        hosts: Sequence[str],
        *,
        days: float = 7,
        groups: Sequence[str] = (),
        key: PrivateKey | None = None,
    ) -> Pair:
        """Make `NAME.crt` and `NAME.key` for DNS names and IP addresses.

        An API server takes the name for a user's, and `groups` for that user's groups.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        certificate = (
            self._builder(_name(name, groups), key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(map(_host, hosts)), False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(_PEM))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(
            key.private_bytes(
                _PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def _builder(
        self, subject: x509.Name, public: PublicKey, days: float = 7
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        end = now + datetime.timedelta(days=days)
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, end) - CLOCK_SLACK)
            .not_valid_after(end)
            .add_extension(identifier, critical=False)
        )


_PEM = serialization.Encoding.PEM


def _name(common: str, organizations: Sequence[str] = ()) -> x509.Name:
    parts = [(NameOID.COMMON_NAME, common)]
    parts += [(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
