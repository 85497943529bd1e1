"""PEM as strangers have it: one table for kubectl, our Python and the core.

Expectations: each row was put to kubectl 1.37.1 and is again where it is installed;
Go's encoding/pem reads lines, `x509.AppendCertsFromPEM` skips what is broken, and
`tls.X509KeyPair` looks at the DER of a key.
"""

import base64
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fastpath.api.tlsspec import ClientTls as CoreTls
from fastpath.tls.context import ClientContext
from pyproxy.errors import ConfigError
from pyproxy.kube.config import AccessError, ClientFlags, load
from pyproxy.kube.config.pem import client_context
from pyproxy.pem import pair, roots
from pyproxy.sandbox.certificates import Authority, Pair
from pyproxy.tls import ClientTls, TlsSettings
from tests.fakes.apiserver import authority
from tests.fakes.kubectl import Recorder, ask, environment, one_context, write
from tests.support.waiting import scaled

pytestmark = pytest.mark.live

TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8
BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
NOT_BASE64 = b"-----BEGIN CERTIFICATE-----\nA!\n-----END CERTIFICATE-----\n"
OPEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n"
BEGIN, END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----"


def relabel(pem: bytes, label: str) -> bytes:
    """Write other words behind BEGIN and END."""
    return re.sub(rb"(BEGIN|END) [A-Z0-9 ]+-", rb"\1 " + label.encode() + b"-", pem)


def in_one_line(pem: bytes) -> bytes:
    """Write base64 without line breaks."""
    body = pem.removeprefix(BEGIN).partition(END)[0]
    return BEGIN + body.replace(b"\n", b"") + b"\n" + END + b"\n"


# A bundle made of a good certificate, and whether somebody is trusted by it.
BUNDLES: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "plain": (lambda ca: ca, True),
    "comment with an accent": (lambda ca: "# é\n".encode() + ca, True),
    "comment in latin-1": (lambda ca: b"# \xe9\n" + ca, True),
    "comment with NUL": (lambda ca: b"# \0\n" + ca, True),
    "comment says ENCRYPTED": (lambda ca: b"# ENCRYPTED PRIVATE KEY\n" + ca, True),
    "comment with dashes": (lambda ca: b"----- mine -----\n" + ca, True),
    "comment begins as a block": (lambda ca: b"-----BEGIN of the list\n" + ca, True),
    "comment behind": (lambda ca: ca + "é".encode(), True),
    "output of openssl x509 -text": (
        lambda ca: b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + ca,
        True,
    ),
    "CRLF": (lambda ca: ca.replace(b"\n", b"\r\n"), True),
    "spaces at the ends": (lambda ca: ca.replace(b"\n", b" \t\n"), True),
    "tabs in base64": (lambda ca: ca.replace(b"\nM", b"\n\tM"), True),
    "empty lines inside": (lambda ca: ca.replace(b"\n", b"\n\n"), True),
    "no newline last": (lambda ca: ca.rstrip(), True),
    "one line": (in_one_line, True),
    "indented": (lambda ca: ca.replace(b"-----BEGIN", b" -----BEGIN"), False),
    "text before BEGIN": (lambda ca: b"x" + ca, False),
    "text behind END": (lambda ca: ca.rstrip() + b" x\n", False),
    "broken one before": (lambda ca: BROKEN + ca, True),
    "broken one behind": (lambda ca: ca + BROKEN, True),
    "no base64 before": (lambda ca: NOT_BASE64 + ca, True),
    "no END before": (lambda ca: OPEN + ca, True),
    "only a broken one": (lambda _: BROKEN, False),
    "only an open one": (lambda _: OPEN, False),
    "nothing but text": (lambda _: b"nothing", False),
    "DER": (lambda ca: base64.b64decode(in_one_line(ca).split(b"\n")[1]), False),
    "header": (lambda ca: ca.replace(BEGIN, BEGIN + b"a: b\n\n"), False),
    "header, and one without": (
        lambda ca: ca.replace(BEGIN, BEGIN + b"a: b\n\n") + ca,
        True,
    ),
    "label of old": (lambda ca: relabel(ca, "X509 CERTIFICATE"), False),
    "label of OpenSSL": (lambda ca: relabel(ca, "TRUSTED CERTIFICATE"), False),
    "label in small letters": (lambda ca: relabel(ca, "certificate"), False),
    "twice": (lambda ca: ca + ca, True),
    "labels differ": (lambda ca: ca.replace(b"END CERT", b"END PERT"), False),
}


class Desk:
    """A server that asks for certificates, and a kubeconfig."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.signer = authority(directory / "pki")
        self.pair = self.signer.issue("server", ["127.0.0.1"])
        self.server = Recorder(self.pair, self.signer.certificate)

    @property
    def ca(self) -> bytes:
        """Who is to be trusted."""
        return self.signer.certificate.read_bytes()

    def environment(
        self, ca: bytes, shown: tuple[bytes, bytes] | None
    ) -> dict[str, str]:
        """Write a kubeconfig with these."""
        cluster = {
            "server": self.server.url,
            "certificate-authority-data": base64.b64encode(ca).decode(),
        }
        user = {"token": "t"}
        if shown:
            names = ("client-certificate-data", "client-key-data")
            encoded = (base64.b64encode(each).decode() for each in shown)
            user = dict(zip(names, encoded, strict=True))
        file = write(self.directory / "config", one_context(cluster, user))
        return environment(self.directory, KUBECONFIG=str(file))

    def kubectl(self, ca: bytes, shown: tuple[bytes, bytes] | None = None) -> str:
        """Ask as kubectl; return who the server saw, "" = the request failed."""
        self.server.subjects.clear()
        env = self.environment(ca, shown)
        code, _, _ = ask("get", "--raw=/", env=env)
        return "" if code else (self.server.subjects[-1] or "nobody")

    def ours(self, ca: bytes, shown: tuple[bytes, bytes] | None = None) -> str:
        """Ask as Python does; the core must take the same."""
        self.server.subjects.clear()
        try:
            tls = load(ClientFlags(), self.environment(ca, shown)).tls
        except AccessError:
            return ""
        assert tls is not None
        ClientContext(CoreTls(tls.ca, tls.certificate, tls.key, "127.0.0.1"))
        where = ("127.0.0.1", self.server.address.port)
        with (
            socket.create_connection(where, scaled(10.0)) as plain,
            client_context(tls).wrap_socket(
                plain, server_hostname="127.0.0.1"
            ) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert secure.recv(9) == b"HTTP/1.1 "
        return self.server.subjects[-1] or "nobody"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """One at work."""
    made = Desk(tmp_path)
    with made.server:
        yield made


@pytest.mark.parametrize("row", BUNDLES)
def test_bundle_is_read_as_kubectl_reads_it(desk: Desk, row: str) -> None:
    make, trusts = BUNDLES[row]
    assert desk.ours(make(desk.ca)) == ("nobody" if trusts else "")


@pytest.mark.slow
def test_kubectl_reads_the_bundles_so(desk: Desk) -> None:
    seen = {
        row: bool(desk.kubectl(make(desk.ca))) for row, (make, _) in BUNDLES.items()
    }
    assert seen == {row: trusts for row, (_, trusts) in BUNDLES.items()}


@pytest.mark.parametrize("row", BUNDLES)
def test_bundle_of_a_check_is_read_alike(tmp_path: Path, row: str) -> None:
    make, trusts = BUNDLES[row]
    file = tmp_path / "bundle"
    file.write_bytes(make(authority(tmp_path).certificate.read_bytes()))
    if trusts:
        context = ClientTls(TlsSettings(ca=str(file))).context()
        assert context.cert_store_stats()["x509"] == 1
        return
    with pytest.raises(ConfigError, match="no usable CA certificate in this file"):
        ClientTls(TlsSettings(ca=str(file)))


def test_byte_order_mark_is_no_part_of_a_certificate(desk: Desk) -> None:
    # Beyond kubectl, which loses the first certificate behind it: Notepad writes one.
    assert desk.ours(b"\xef\xbb\xbf" + desk.ca) == "nobody"


def test_broken_certificate_is_said_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.ours(BROKEN + desk.ca + BROKEN)
    said = [r for r in caplog.records if "broken certificates" in r.message]
    assert [vars(record)["count"] for record in said] == [2]


# ------------------------------------------------------------------ keys


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def written(
    key: Key, form: serialization.PrivateFormat = PKCS8, secret: bytes = b""
) -> bytes:
    """Return a key as PEM."""
    lock = serialization.NoEncryption() if not secret else None
    return key.private_bytes(
        serialization.Encoding.PEM,
        form,
        lock or serialization.BestAvailableEncryption(secret),
    )


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
CURVE = (
    b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
)

# A key in some clothes, and whether Go takes it.
KEYS: dict[str, tuple[Key, bytes, bool]] = {
    "PKCS#8": (RSA, written(RSA), True),
    "PKCS#1": (RSA, written(RSA, TRADITIONAL), True),
    "PKCS#1 as PRIVATE KEY": (
        RSA,
        relabel(written(RSA, TRADITIONAL), "PRIVATE KEY"),
        True,
    ),
    "PKCS#8 as RSA": (RSA, relabel(written(RSA), "RSA PRIVATE KEY"), True),
    "PKCS#1 as EC": (RSA, relabel(written(RSA, TRADITIONAL), "EC PRIVATE KEY"), True),
    "any PRIVATE KEY": (RSA, relabel(written(RSA), "MY PRIVATE KEY"), True),
    "no PRIVATE KEY": (RSA, relabel(written(RSA), "PRIVATE KEYS"), False),
    "XPRIVATE KEY": (RSA, relabel(written(RSA), "XPRIVATE KEY"), False),
    "SEC 1": (EC, written(EC, TRADITIONAL), True),
    "SEC 1 as PRIVATE KEY": (
        EC,
        relabel(written(EC, TRADITIONAL), "PRIVATE KEY"),
        True,
    ),
    "SEC 1 as RSA": (EC, relabel(written(EC, TRADITIONAL), "RSA PRIVATE KEY"), True),
    "PKCS#8 as EC": (EC, relabel(written(EC), "EC PRIVATE KEY"), True),
    "behind its parameters": (EC, CURVE + written(EC, TRADITIONAL), True),
    "comment says ENCRYPTED": (EC, b"# not ENCRYPTED, \xe9\n" + written(EC), True),
    "locked": (EC, written(EC, secret=b"s"), False),
    "locked of old": (RSA, written(RSA, TRADITIONAL, b"s"), False),
    "another one": (EC, written(RSA), False),
    "another one first": (EC, written(RSA) + written(EC), False),
    "another one behind": (EC, written(EC) + written(RSA), True),
    "a public key": (
        EC,
        EC.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        ),
        False,
    ),
    "rubbish": (EC, relabel(BROKEN, "PRIVATE KEY"), False),
    "empty sequence": (
        EC,
        b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
        False,
    ),
    "nothing": (EC, b"", False),
}


def signed(signer: Authority, key: Key) -> bytes:
    """Return a certificate of `ann` for a key."""
    pair = signer.issue("ann", ["ann"], key=key)
    return pair.certificate.read_bytes()


def clothed(signer: Authority, row: str) -> tuple[bytes, bytes]:
    """Return certificate and key of a row."""
    key, pem, _ = KEYS[row]
    return signed(signer, key), pem


@pytest.mark.parametrize("row", KEYS)
def test_key_is_read_as_kubectl_reads_it(desk: Desk, row: str) -> None:
    shown = clothed(desk.signer, row)
    assert desk.ours(desk.ca, shown) == ("ann" if KEYS[row][2] else "")


@pytest.mark.slow
def test_kubectl_reads_the_keys_so(desk: Desk) -> None:
    seen = {row: desk.kubectl(desk.ca, clothed(desk.signer, row)) for row in KEYS}
    assert seen == {row: "ann" if fine else "" for row, (_, _, fine) in KEYS.items()}


@pytest.mark.parametrize("row", KEYS)
def test_key_of_a_check_is_read_alike(tmp_path: Path, row: str) -> None:
    files = Pair(tmp_path / "a.crt", tmp_path / "a.key")
    certificate, key = clothed(authority(tmp_path), row)
    files.certificate.write_bytes(certificate)
    files.key.write_bytes(key)
    settings = TlsSettings(certificate=str(files.certificate), key=str(files.key))
    fine = KEYS[row][2]
    refused = pytest.raises(ConfigError, match=str(files.key))
    with contextlib.nullcontext() if fine else refused:
        ClientTls(settings)


# ------------------------------------------------------------------ certificates


CHAINS: dict[str, tuple[Callable[[bytes, bytes], bytes], bool]] = {
    "alone": (lambda leaf, _: leaf, True),
    "with its issuer": (lambda leaf, ca: leaf + ca, True),
    "comment": (lambda leaf, _: b"# \xe9 ENCRYPTED\n" + leaf, True),
    "behind its key": (lambda leaf, _: written(EC) + leaf, True),
    "broken one before": (lambda leaf, _: BROKEN + leaf, False),
    "header": (lambda leaf, _: leaf.replace(BEGIN, BEGIN + b"a: b\n\n"), True),
    "issuer first": (lambda leaf, ca: ca + leaf, False),
    "the key instead": (lambda *_: written(EC), False),
    "label of old": (lambda leaf, _: relabel(leaf, "X509 CERTIFICATE"), False),
    "nothing": (lambda *_: b"x", False),
}


def chain(desk: Desk, row: str) -> tuple[bytes, bytes]:
    """Return certificates and key of a row."""
    return CHAINS[row][0](signed(desk.signer, EC), desk.ca), written(EC)


@pytest.mark.parametrize("row", CHAINS)
def test_certificate_is_read_as_kubectl_reads_it(desk: Desk, row: str) -> None:
    shown = chain(desk, row)
    assert desk.ours(desk.ca, shown) == ("ann" if CHAINS[row][1] else "")


@pytest.mark.slow
def test_kubectl_reads_the_certificates_so(desk: Desk) -> None:
    seen = {row: desk.kubectl(desk.ca, chain(desk, row)) for row in CHAINS}
    assert seen == {row: "ann" if fine else "" for row, (_, fine) in CHAINS.items()}


def test_broken_certificate_behind_ours_is_not_sent(desk: Desk) -> None:
    # kubectl sends it, and the server ends the handshake.
    leaf = signed(desk.signer, EC)
    assert desk.ours(desk.ca, (leaf + BROKEN, written(EC))) == "ann"


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        (b"", written(EC), "tls: failed to find any PEM data in certificate input"),
        (
            written(EC),
            written(EC),
            "tls: failed to find certificate PEM data in certificate input",
        ),
        (BROKEN, written(EC), "tls: failed to parse certificate"),
    ],
)
def test_pair_is_refused_in_gos_words(certificate: bytes, key: bytes, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        pair(certificate, key)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "unable to parse bytes as PEM block"),
        (BROKEN, "failed to parse certificate"),
        (written(EC), "no valid certificate authority data seen"),
    ],
)
def test_bundle_is_refused_in_gos_words(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        roots(raw)
    assert str(caught.value) == why


def test_what_is_written_is_what_openssl_reads(tmp_path: Path) -> None:
    ca = authority(tmp_path).certificate.read_bytes()
    assert roots(ca).pem == ca
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=roots(ca + ca).pem.decode())
