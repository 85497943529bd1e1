"""ClientTls, ServerTls and the contexts made of them: which PEM is bad, and why."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fastpath import TableError
from fastpath.api.tlsspec import ClientTls, ServerTls
from fastpath.tls.context import ClientContext, ServerContext
from pyproxy.sandbox.certificates import Pair
from tests.support.tls_tools import (
    Certificates,
    our_client,
    our_server,
    pem,
    shake,
    tcp_pair,
)

PAIR = (b"certificate", b"key")
BROKEN = b"-----BEGIN %s-----\nAAAA\n-----END %s-----\n"


@pytest.fixture(scope="module")
def other(certificates: Certificates) -> Pair:
    return certificates.authority.issue("other", ["other.example"])


def client(**changes: Any) -> ClientTls:
    """Return a client's TLS with something changed."""
    return ClientTls(**{"server_name": "localhost", **changes})


def server(**changes: Any) -> ServerTls:
    """Return a server's TLS with something changed."""
    return ServerTls(**{"certificates": (PAIR,), **changes})


# (what makes it, field, value, what is said about it)
BAD: list[tuple[Callable[..., object], str, object, str]] = [
    (client, "ca", "text", "ca is not PEM in bytes but a str"),
    (client, "certificate", 1, "certificate is not PEM in bytes but a int"),
    (client, "key", b"k", "client key without a certificate"),
    (client, "certificate", b"c", "client certificate without its key"),
    (client, "server_name", "", "needs a server name"),
    (client, "server_name", None, "server name None is not a string"),
    (client, "server_name", "a b", "neither a DNS name nor an IP address"),
    (client, "server_name", "a\0b", "neither a DNS name nor an IP address"),
    (client, "server_name", "-a", "neither a DNS name nor an IP address"),
    (client, "server_name", "a..b", "neither a DNS name nor an IP address"),
    (client, "server_name", ".", "neither a DNS name nor an IP address"),
    (client, "server_name", "*.example", "neither a DNS name nor an IP address"),
    (client, "server_name", "10.0.0.256", "neither a DNS name nor an IP address"),
    (client, "server_name", "[::1]", "neither a DNS name nor an IP address"),
    (client, "server_name", "fe80::1%eth0", "neither a DNS name nor an IP address"),
    (client, "server_name", "é", "neither a DNS name nor an IP address"),
    (client, "server_name", "a" * 64, "neither a DNS name nor an IP address"),
    (client, "server_name", "a." * 127, "neither a DNS name nor an IP address"),
    (client, "verify", 1, "verify 1 is not True or False"),
    (client, "alpn", ["h2"], "is not a tuple"),
    (client, "alpn", ("",), "is not 1-255 ASCII"),
    (client, "alpn", ("x" * 256,), "is not 1-255 ASCII"),
    (client, "alpn", ("é",), "is not 1-255 ASCII"),
    (client, "alpn", (1,), "1 is not a string"),
    (client, "alpn", ("x" * 200,) * 6, "alpn of more than 1024 bytes"),
    (server, "certificates", [PAIR], "certificates are a list, no tuple"),
    (server, "certificates", (), "0 certificates are not 1-"),
    (server, "certificates", (PAIR, b"x"), "certificate 2 is not a pair"),
    (server, "certificates", (PAIR, (b"x", "y")), "key of certificate 2 is not PEM"),
    (server, "certificates", ((None, b"x"),), "certificate 1 is not PEM in bytes"),
    (server, "client_auth", "maybe", "client auth 'maybe' is none of"),
    (server, "client_auth", "optional", "client auth without a client CA"),
    (server, "client_ca", b"x", "client CA, but client auth is 'none'"),
    (server, "client_ca", "x", "client CA is not PEM in bytes but a str"),
    (server, "alpn", "h2", "is not a tuple"),
]


@pytest.mark.parametrize(("make", "field", "value", "complaint"), BAD)
def test_bad_value_is_named(
    make: Callable[..., object], field: str, value: object, complaint: str
) -> None:
    with pytest.raises(TableError) as caught:
        make(**{field: value})
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a", "a.b.example", "a.example.", "under_score", "10.0.0.1", "::1", "1a.b"]
)
def test_names_that_certificates_are_made_for_are_fine(name: str) -> None:
    assert client(server_name=name).server_name == name


def test_nameless_server_is_fine_if_nobody_looks() -> None:
    assert ClientTls(verify=False).server_name == ""


def test_equal_content_is_equal_and_no_key_is_shown() -> None:
    one = client(certificate=b"my certificate", key=b"my secret", ca=b"my ca")
    assert one == client(certificate=b"my certificate", key=b"my secret", ca=b"my ca")
    assert hash(one) == hash(dataclasses.replace(one))
    assert one != dataclasses.replace(one, key=b"another")
    two = server(certificates=((b"my certificate", b"my secret"),))
    assert two == dataclasses.replace(two)
    assert "my" not in repr(one) + repr(two)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.key = b"x"  # type: ignore[misc]


@pytest.fixture(scope="module")
def bad_pem(certificates: Certificates, other: Pair) -> dict[str, bytes]:
    """Return what files may hold that is not what they should."""
    rsa_key = rsa.generate_private_key(65537, 2048)
    locked = rsa_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass"),
    )
    old_locked = rsa_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"pass"),
    )
    plain = rsa_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate, key = pem(certificates.server)
    return {
        "nothing": b"",
        "garbage": bytes(range(256)),
        "a certificate": certificate,
        "a key": key,
        "another's key": pem(other)[1],
        "an RSA key": plain,
        "a locked key": locked,
        "an old locked key": old_locked,
        "a broken certificate": BROKEN % ((b"CERTIFICATE",) * 2),
        "a broken key": BROKEN % ((b"PRIVATE KEY",) * 2),
        "a broken chain": certificate + BROKEN % ((b"CERTIFICATE",) * 2),
        "half a certificate": certificate[: len(certificate) // 2],
    }


IN_CHAIN = [
    ("nothing", "{0}: no PEM certificate in it"),
    ("garbage", "{0}: no PEM certificate in it"),
    ("a key", "{0}: no PEM certificate in it"),
    ("a broken certificate", "{0}: a certificate in it is broken: "),
    ("a broken chain", "{0}: a certificate in it is broken: "),
    ("half a certificate", "{0}: a certificate in it is broken: "),
]
IN_KEY = [
    ("nothing", "{1}: no PEM private key in it"),
    ("garbage", "{1}: no PEM private key in it"),
    ("a certificate", "{1}: no PEM private key in it"),
    ("a broken key", "{1} is broken: "),
    ("a locked key", "{1} is protected by a pass phrase"),
    ("an old locked key", "{1} is protected by a pass phrase"),
    ("another's key", "{1} does not match the {0}"),
    ("an RSA key", "{1} does not match the {0}"),
]


def refused(make: Callable[[], object], complaint: str, secrets: list[bytes]) -> None:
    """Expect a TableError that begins with `complaint` and quotes no PEM."""
    with pytest.raises(TableError) as caught:
        make()
    text = str(caught.value)
    assert text.startswith(complaint)
    lines = [line for pem in secrets for line in pem.splitlines() if len(line) > 8]
    assert not any(line.decode("latin-1") in text for line in lines)


@pytest.mark.parametrize(("what", "complaint"), IN_CHAIN + IN_KEY)
def test_bad_certificate_or_key_is_named(
    certificates: Certificates, bad_pem: dict[str, bytes], what: str, complaint: str
) -> None:
    good = pem(certificates.server)
    bad = bad_pem[what]
    pair = (bad, good[1]) if "{0}:" in complaint else (good[0], bad)
    mine = ClientTls(
        ca=certificates.ca, server_name="a", certificate=pair[0], key=pair[1]
    )
    words = ("client certificate", "client key")
    refused(lambda: ClientContext(mine), complaint.format(*words), [bad, good[1]])
    words = ("server certificate", "server key")
    first = ServerTls((pair, good))
    refused(lambda: ServerContext(first), complaint.format(*words), [bad, good[1]])
    words = ("server certificate 2", "server key 2")
    second = ServerTls((good, pair))
    refused(lambda: ServerContext(second), complaint.format(*words), [bad, good[1]])


@pytest.mark.parametrize(("what", "complaint"), IN_CHAIN)
def test_bad_bundle_is_named(
    certificates: Certificates, bad_pem: dict[str, bytes], what: str, complaint: str
) -> None:
    bad = bad_pem[what]
    theirs = ClientTls(ca=bad, server_name="a")
    if bad:  # nobody at all is somebody's wish
        words = complaint.format("CA of the server")
        refused(lambda: ClientContext(theirs), words, [bad])
    asked = ServerTls((pem(certificates.server),), bad, "required")
    refused(lambda: ServerContext(asked), complaint.format("CA of clients"), [bad])


def test_context_is_made_of_its_own_kind_for_at_least_one_worker() -> None:
    with pytest.raises(TableError, match="ClientTls is not a ServerTls"):
        ServerContext(client())  # type: ignore[arg-type]
    with pytest.raises(TableError, match="ServerTls is not a ClientTls"):
        ClientContext(server())  # type: ignore[arg-type]
    with pytest.raises(TableError, match="TLS for 0 workers"):
        ClientContext(client(verify=False), 0)


def test_context_says_what_it_was_made_of(certificates: Certificates) -> None:
    context = ClientContext(certificates.client_tls(), 3)
    assert context.spec == certificates.client_tls()
    assert context.workers == 3


def test_certificate_and_key_may_stand_in_one_file(certificates: Certificates) -> None:
    # As kubeconfigs and `kubeadm` have it; also with words between the blocks.
    certificate, key = pem(certificates.server)
    both = b"subject=me\n" + key + b"issuer=you\n" + certificate
    ServerContext(ServerTls(((both, both),)))


def test_bundle_may_name_a_root_twice(certificates: Certificates) -> None:
    ClientContext(ClientTls(ca=certificates.ca * 2, server_name="a"))


def test_without_a_bundle_the_system_is_believed(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # SSL_CERT_FILE is OpenSSL's word for where that is.
    bundle = tmp_path / "bundle"
    bundle.write_bytes(certificates.ca)
    server = ServerContext(certificates.server_tls())
    for file, believed in ((bundle, True), (tmp_path / "none", False)):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        one, other = tcp_pair()
        ours = our_client(one, ClientContext(ClientTls(server_name="localhost")))
        theirs = our_server(other, server)
        if believed:
            shake(ours, theirs)
        else:
            with pytest.raises(OSError, match=r"local issuer|self-signed"):
                shake(ours, theirs)
        ours.close()
        theirs.close()


@pytest.mark.slow
def test_contexts_come_and_go_without_a_trace(certificates: Certificates) -> None:
    # A session, other certificates and protocols hang on a context and go with it.
    other = certificates.authority.issue("second", ["second.example"])
    for _ in range(50):
        client = ClientContext(certificates.client_tls(mine=certificates.server), 2)
        server = ServerContext(certificates.server_tls(other), 2)
        one, two = tcp_pair()
        ours, theirs = our_client(one, client), our_server(two, server)
        shake(ours, theirs)
        del client, server
        theirs.write(b"still there")
        got: list[bytes | None] = []
        while not got or got[-1] is None:
            got.append(ours.read(100))
        assert got[-1] == b"still there"
        ours.close()
        theirs.close()
