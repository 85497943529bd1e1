"""Certificates by name: 1,024 of them, and what an unknown name costs.

Issue 11, item 3: an unknown name had been compared with every certificate, 8.3 ms.
"""

import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from fastpath.api.tlsspec import ServerTls
from fastpath.tls.context import ServerContext
from tests.support.hellos import client_hello
from tests.support.tls_tools import Certificates, Peer, our_server, shake, tcp_pair

KEY = ec.generate_private_key(ec.SECP256R1())
MOST = 1024


def issued(number: int, names: list[str], common: str = "") -> tuple[bytes, bytes]:
    """A certificate with its number as serial, and the key of all."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
    )
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .public_key(KEY.public_key())
        .serial_number(number + 1)
        .not_valid_before(day)
        .not_valid_after(day + datetime.timedelta(days=36_500))
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
        builder = builder.add_extension(alternatives, critical=False)
    certificate = builder.sign(KEY, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM), KEY.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def chosen(context: ServerContext, certificates: Certificates, name: str) -> int:
    """Number of the certificate that a client is shown."""
    judge = certificates.judge_client()
    judge.check_hostname = False
    judge.verify_mode = 0  # type: ignore[assignment]
    one, other = tcp_pair()
    ours, peer = our_server(one, context), Peer(other, judge, name)
    shake(ours, peer)
    der = peer.tls.getpeercert(binary_form=True)
    assert der is not None
    ours.close()
    peer.tls.close()
    return x509.load_der_x509_certificate(der).serial_number - 1


def cost(context: ServerContext, name: str) -> float:
    """CPU seconds of our server's first flight for a client of `name`."""
    took = []
    for _ in range(40):
        one, other = tcp_pair()
        ours = our_server(one, context)
        other.sendall(client_hello(name=name))
        began = time.thread_time()
        ours.handshake()
        took.append(time.thread_time() - began)
        ours.close()
        other.close()
    return min(took)


@pytest.mark.slow
def test_many_certificates_are_told_apart_at_no_cost(
    certificates: Certificates,
) -> None:
    names = [[f"host-{n}.example.org", f"*.zone-{n}.example.org"] for n in range(MOST)]
    pairs = tuple(issued(n, each) for n, each in enumerate(names))
    context = ServerContext(ServerTls(pairs))
    for number in (0, 1, 2, 511, 512, 1022, 1023):
        name = f"host-{number}.example.org"
        assert chosen(context, certificates, name) == number
        name = f"Any.ZONE-{number}.example.org"
        assert chosen(context, certificates, name) == number
    assert chosen(context, certificates, "unknown.example.org") == 0
    few = ServerContext(ServerTls(pairs[:2]))
    for name in ("unknown.example.org", "host-700.example.org", "a" * 240 + ".org"):
        assert cost(context, name) < 1.5 * cost(few, "unknown.example.org")


CHOSEN = {
    "first.example.org": 1,  # of two with that name the first
    "b.a.example.org": 2,  # the name itself, though a wildcard stands before it
    "c.a.example.org": 1,
    "c.b.a.example.org": 0,  # a star stands for one label
    "a.example.org": 0,
    "common.example.org": 4,  # names no host elsewhere
    "hidden.example.org": 0,  # names others elsewhere
    "x.local": 0,  # *.local is no wildcard
    "par-x.example.org": 0,  # nor is par*
}


@pytest.mark.parametrize("name", CHOSEN)
def test_name_is_found(certificates: Certificates, name: str) -> None:
    pairs = (
        issued(0, ["zero.example.org"], "hidden.example.org"),
        issued(1, ["first.example.org", "*.a.example.org", "*.local"]),
        issued(2, ["b.a.example.org", "first.example.org"]),
        issued(3, ["par*.example.org", "*"]),
        issued(4, [], "common.example.org"),
    )
    context = ServerContext(ServerTls(pairs))
    assert chosen(context, certificates, name) == CHOSEN[name]


def test_certificate_is_chosen_after_a_second_hello(
    certificates: Certificates,
) -> None:
    # A client whose share is not of our groups is asked for another one.
    pairs = (issued(0, ["zero.example.org"]), issued(1, ["one.example.org"]))
    context = ServerContext(ServerTls(pairs, groups="P-256"))
    assert chosen(context, certificates, "one.example.org") == 1
