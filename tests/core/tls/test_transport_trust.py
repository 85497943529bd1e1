"""What we trust, and what is said about what we do not; both roles."""

import contextlib
import dataclasses
import ssl
import warnings
from pathlib import Path

import pytest

from fastpath.api.tlsspec import ClientTls, ServerTls
from fastpath.tls.context import ClientContext, ServerContext
from pyproxy.sandbox.certificates import Authority, Pair
from tests.fakes.apiserver import authority
from tests.support.tls_tools import (
    Certificates,
    Peer,
    believed,
    facing,
    make_pair,
    our_client,
    our_server,
    pem,
    shake,
    spin,
    tcp_pair,
    why,
)

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Nobody believes this one."""
    return authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.mark.parametrize("name", ["localhost", "localhost.", "127.0.0.1", "::1"])
def test_server_that_is_who_it_says_is_believed(
    certificates: Certificates, name: str
) -> None:
    names: list[str | None] = []
    judge = certificates.judge_server()
    judge.sni_callback = lambda _tls, name, _context: names.append(name)
    believed(*facing(certificates.client_tls(name), judge))
    # No SNI for an address, no dot at the end: RFC 6066 3.
    assert names == ["localhost" if name.startswith("local") else None]


def test_wrong_host_is_told_with_the_names_that_were_found(
    certificates: Certificates,
) -> None:
    for name, problem in (
        ("other.example", "hostname mismatch"),
        ("sub.localhost", "hostname mismatch"),
        ("127.0.0.2", "IP address mismatch"),
        ("::2", "IP address mismatch"),
    ):
        text = why(*facing(certificates.client_tls(name), certificates.judge_server()))
        assert f"{problem}, certificate is for localhost, 127.0.0.1, ::1" in text


def test_names_of_strangers_cannot_spoil_a_log(certificates: Certificates) -> None:
    odd = certificates.authority.issue("odd", ["a b\x1b[31m" + "x" * 200] * 5)
    judge = certificates.judge_server(pair=odd)
    text = why(*facing(certificates.client_tls(), judge))
    assert "certificate is for a?b?[31mxxx" in text
    assert len(text) < 600


def test_certificate_without_names_is_for_no_host(certificates: Certificates) -> None:
    # A common name does not count, as with Go.
    nameless = certificates.authority.issue("localhost", [])
    judge = certificates.judge_server(pair=nameless)
    text = why(*facing(certificates.client_tls(), judge))
    assert "hostname mismatch, certificate names no host" in text


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", False),
        ("*.example.org", "example.org", False),
        ("a*.example.org", "ab.example.org", False),
        ("EXAMPLE.org", "example.ORG", True),
    ],
)
def test_star_is_one_label(
    certificates: Certificates, pattern: str, name: str, fits: bool
) -> None:
    pair = certificates.authority.issue("star", [pattern])
    ours, peer = facing(
        certificates.client_tls(name), certificates.judge_server(pair=pair)
    )
    if fits:
        believed(ours, peer)
    else:
        assert f"certificate is for {pattern}" in why(ours, peer)


def test_expired_certificate_is_told(certificates: Certificates) -> None:
    old = certificates.authority.issue("old", ["localhost"], days=-1)
    judge = certificates.judge_server(pair=old)
    text = why(*facing(certificates.client_tls(), judge))
    assert "certificate has expired" in text


def test_self_signed_certificate_is_told_and_may_be_a_root(
    certificates: Certificates, tmp_path: Path
) -> None:
    alone, _ = make_pair(tmp_path, "alone", ["localhost"])
    judge = certificates.judge_server(pair=alone)
    text = why(*facing(certificates.client_tls(), judge))
    assert "self-signed certificate" in text
    tls = dataclasses.replace(certificates.client_tls(), ca=pem(alone)[0])
    believed(*facing(tls, judge))


def test_unknown_authority_is_told(
    certificates: Certificates, stranger: Authority
) -> None:
    pair = stranger.issue("localhost", ["localhost"])
    judge = certificates.judge_server(pair=pair)
    text = why(*facing(certificates.client_tls(), judge))
    assert "unable to get local issuer certificate" in text
    tls = ClientTls(server_name="localhost", verify=False)
    believed(*facing(tls, judge))


def test_empty_bundle_believes_nobody(certificates: Certificates) -> None:
    tls = dataclasses.replace(certificates.client_tls(), ca=b"")
    text = why(*facing(tls, certificates.judge_server()))
    assert "certificate" in text


def test_chain_is_sent_and_any_link_of_it_may_be_the_root(tmp_path: Path) -> None:
    root, root_signs = make_pair(tmp_path, "root")
    middle, middle_signs = make_pair(tmp_path, "middle", issuer=root_signs)
    leaf, _ = make_pair(tmp_path, "leaf", ["localhost"], middle_signs)
    chain = pem(leaf)[0] + pem(middle)[0]
    for trusted in (root, middle, leaf):
        server = ServerContext(ServerTls(((chain, pem(leaf)[1]),)))
        client = ClientContext(ClientTls(pem(trusted)[0], server_name="localhost"))
        one, other = tcp_pair()
        ours, theirs = our_client(one, client), our_server(other, server)
        shake(ours, theirs)
        ours.close()
        theirs.close()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificate_is_sent_when_asked_for(
    certificates: Certificates, version: str
) -> None:
    mine = certificates.authority.issue("me", ["me.example"])
    judge = certificates.judge_server(version)
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.load_verify_locations(certificates.authority.certificate)
    ours, peer = facing(certificates.client_tls(mine=mine), judge)
    shake(ours, peer)
    sent = ssl.PEM_cert_to_DER_cert(mine.certificate.read_text())
    assert peer.tls.getpeercert(binary_form=True) == sent
    ours.close()
    peer.tls.close()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_missing_client_certificate_is_told(
    certificates: Certificates, version: str
) -> None:
    # In TLS 1.3 the refusal comes after our handshake, with the first read.
    judge = certificates.judge_server(version)
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.load_verify_locations(certificates.authority.certificate)
    ours, peer = facing(certificates.client_tls(), judge)
    text = ""

    def step() -> bool:
        nonlocal text
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            peer.handshake()
        try:
            if ours.handshake():
                ours.read(1)
        except OSError as error:
            text = str(error)
        return bool(text)

    spin(step)
    alert = {"1.2": "handshake failure", "1.3": "certificate required"}[version]
    assert f"alert from the server: {alert}" in text
    assert text.startswith("[Errno 71] handshake: ") == (version == "1.2")
    ours.close()
    peer.tls.close()


def test_server_asks_for_certificates_as_it_is_told(
    certificates: Certificates, stranger: Authority
) -> None:
    mine = certificates.authority.issue("me", ["me.example"])
    theirs = stranger.issue("them", ["me.example"])
    old = certificates.authority.issue("then", ["me.example"], days=-1)
    outcomes: dict[tuple[str, str], str] = {}
    for auth in ("none", "optional", "required"):
        ca = None if auth == "none" else certificates.ca
        tls = dataclasses.replace(
            certificates.server_tls(),
            client_ca=ca,
            client_auth=auth,
        )
        context = ServerContext(tls)
        for who, pair in (("me", mine), ("them", theirs), ("old", old), ("", None)):
            outcomes[auth, who] = asked(certificates, context, pair)
    assert outcomes == {
        ("none", "me"): "nobody",
        ("none", "them"): "nobody",
        ("none", "old"): "nobody",
        ("none", ""): "nobody",
        ("optional", "me"): "me",
        ("optional", "them"): "unable to get local issuer certificate",
        ("optional", "old"): "certificate has expired",
        ("optional", ""): "nobody",
        ("required", "me"): "me",
        ("required", "them"): "unable to get local issuer certificate",
        ("required", "old"): "certificate has expired",
        ("required", ""): "handshake: peer did not return a certificate",
    }


def asked(certificates: Certificates, context: ServerContext, pair: Pair | None) -> str:
    """Return who a server of ours takes the client with `pair` for."""
    judge = certificates.judge_client()
    if pair is not None:
        judge.load_cert_chain(pair.certificate, pair.key)
    one, other = tcp_pair()
    ours, peer = our_server(one, context), Peer(other, judge, "localhost")
    try:
        shake(ours, peer)
        return "nobody" if ours.peer_certificate() is None else "me"
    except OSError as error:
        return (error.strerror or "").removeprefix("[Errno 71] ")
    finally:
        ours.close()
        peer.tls.close()


def test_old_version_is_refused_and_told(certificates: Certificates) -> None:
    judge = certificates.judge_server("1.2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        judge.minimum_version = judge.maximum_version = ssl.TLSVersion.TLSv1_1
    judge.set_ciphers("ALL:@SECLEVEL=0")
    text = why(*facing(certificates.client_tls(), judge))
    assert "handshake: " in text
    assert "version" in text
