"""What the certificate of a client says, as the `cryptography` package reads it."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from fastpath.tls import peer

KEY = ec.generate_private_key(ec.SECP256R1())
END = datetime.datetime(2049, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
KINDS = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME)
# OpenSSL escapes no value of one character.
TEXTS = st.text(st.sampled_from('aZ09 ,+"\\<>;=#/:-_.@*é日'), min_size=2, max_size=20)
NAMES = st.lists(st.tuples(st.sampled_from(KINDS), TEXTS), max_size=6)
Name = list[tuple[x509.ObjectIdentifier, str]]


def made(name: x509.Name) -> bytes:
    """A certificate with this subject, in DER."""
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(END)
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


@given(NAMES)
@example([])
@example([(NameOID.COMMON_NAME, " #")])
@example([(NameOID.COMMON_NAME, "#a"), (NameOID.COMMON_NAME, "system:node:b")])
def test_subject_is_read_as_others_read_it(parts: Name) -> None:
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
    der = made(name)
    subject, common, organizations, end, size = peer.read_certificate(der + b"more")
    assert size == len(der)
    assert subject == name.rfc4514_string()
    commons = [text for kind, text in parts if kind == KINDS[0]]
    assert common == (commons[-1] if commons else "")
    assert organizations == tuple(text for kind, text in parts if kind == KINDS[1])
    assert end == END.timestamp()


def test_parts_that_stand_together_are_read_in_order() -> None:
    # Source: Go, crypto/x509/pkix.Name.FillFromRDNSequence.
    together = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b"),
        x509.NameAttribute(NameOID.COMMON_NAME, "ann"),
    ]
    one = x509.RelativeDistinguishedName(together)
    other = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a")]
    )
    _, common, organizations, *_ = peer.read_certificate(made(x509.Name([one, other])))
    assert (common, organizations) == ("ann", ("b", "a"))


@given(st.binary(max_size=64))
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        peer.read_certificate(der)
