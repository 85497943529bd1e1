"""What both ends agree upon: certificate by name, protocol by ALPN."""

import dataclasses
import ssl

import pytest

from fastpath.tls.context import ServerContext
from tests.support.tls_tools import (
    Certificates,
    Peer,
    facing,
    our_server,
    shake,
    tcp_pair,
    why,
)

CERTIFICATE_OF = [
    ("localhost", "server"),
    (None, "server"),
    ("unknown.example", "server"),
    ("a.example.org", "star"),
    ("b.example.org", "exact"),
    ("B.EXAMPLE.org", "exact"),
    ("a.b.example.org", "server"),
    ("example.org", "server"),
    ("127.0.0.1", "server"),
]


@pytest.mark.parametrize(("name", "chosen"), CERTIFICATE_OF)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_server_chooses_its_certificate_by_name(
    certificates: Certificates, name: str | None, chosen: str, version: str
) -> None:
    star = certificates.authority.issue("star", ["*.example.org"])
    exact = certificates.authority.issue("exact", ["b.example.org"])
    pairs = {"server": certificates.server, "star": star, "exact": exact}
    context = ServerContext(certificates.server_tls(star, exact))
    judge = certificates.judge_client(version)
    judge.check_hostname = False
    judge.set_alpn_protocols(["h2", "http/1.1"])
    one, other = tcp_pair()
    ours, peer = our_server(one, context), Peer(other, judge, name)
    shake(ours, peer)
    sent = ssl.PEM_cert_to_DER_cert(pairs[chosen].certificate.read_text())
    assert peer.tls.getpeercert(binary_form=True) == sent
    assert peer.tls.selected_alpn_protocol() == ours.alpn == "http/1.1"
    ours.close()
    peer.tls.close()


@pytest.mark.parametrize(
    ("ours_say", "they_say", "agreed"),
    [
        (("http/1.1",), ["http/1.1"], "http/1.1"),
        (("h2", "http/1.1"), ["http/1.1", "h2"], "h2 or http/1.1"),
        (("http/1.1",), [], ""),
        ((), ["http/1.1"], ""),
        (("http/1.1",), ["h2"], "no application protocol"),
    ],
)
def test_protocol_is_one_that_both_speak(
    certificates: Certificates,
    ours_say: tuple[str, ...],
    they_say: list[str],
    agreed: str,
) -> None:
    server = dataclasses.replace(certificates.server_tls(), alpn=ours_say)
    judge = certificates.judge_client()
    if they_say:
        judge.set_alpn_protocols(they_say)
    one, other = tcp_pair()
    ours, peer = our_server(one, ServerContext(server)), Peer(other, judge, "localhost")
    if agreed.startswith("no "):
        # RFC 7301 3.2
        assert agreed in why(ours, peer)
        return
    shake(ours, peer)
    assert ours.alpn == (peer.tls.selected_alpn_protocol() or "")
    assert ours.alpn in agreed.split(" or ")
    if " or " in agreed:
        assert ours.alpn == "h2", "the server's preference"
    ours.close()
    peer.tls.close()


def test_client_offers_its_protocols(certificates: Certificates) -> None:
    judge = certificates.judge_server()
    judge.set_alpn_protocols(["other", "http/1.1"])
    ours, peer = facing(certificates.client_tls(), judge)
    shake(ours, peer)
    assert ours.alpn == "http/1.1"
    ours.close()
    peer.tls.close()
