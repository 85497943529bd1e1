"""Sessions that are taken up again, and contexts that take another one's place."""

import dataclasses
import os
import ssl

import pytest

from fastpath.tls.context import ClientContext, ServerContext
from tests.support.servers import send_reset
from tests.support.tls_tools import (
    Certificates,
    Peer,
    our_client,
    our_server,
    pem,
    read,
    send,
    shake,
    spin,
    tcp_pair,
)

pytestmark = pytest.mark.live


def visit(
    client: ClientContext, judge: ssl.SSLContext, worker: int = 0, reset: bool = False
) -> bool:
    """Connect, move a byte each way, close; return whether it resumed a session."""
    one, other = tcp_pair()
    ours, peer = our_client(one, client, worker), Peer(other, judge)
    shake(ours, peer)
    assert send(ours, peer, b"q") == b"q"
    assert send(peer, ours, b"a") == b"a"
    assert ours.resumed == peer.tls.session_reused
    resumed = ours.resumed
    ours.close(reset)
    peer.tls.close()
    return resumed


def visit_server(
    server: ServerContext,
    judge: ssl.SSLContext,
    session: ssl.SSLSession | None,
    worker: int = 0,
) -> tuple[bool, ssl.SSLSession | None]:
    """Have Python's client come by; return whether it resumed, and its new session."""
    one, other = tcp_pair()
    ours = our_server(one, server, worker)
    peer = Peer(other, judge, "localhost", session)
    shake(ours, peer)
    assert send(ours, peer, b"a") == b"a"
    resumed, session = ours.resumed, peer.tls.session
    ours.close()
    peer.tls.close()
    return resumed, session


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_comes_back_with_its_newest_session(
    certificates: Certificates, version: str
) -> None:
    judge = certificates.judge_server(version)
    client = ClientContext(certificates.client_tls())
    assert [visit(client, judge) for _ in range(4)] == [False, True, True, True]


def test_workers_have_sessions_of_their_own(certificates: Certificates) -> None:
    judge = certificates.judge_server()
    client = ClientContext(certificates.client_tls(), workers=2)
    came_back = [visit(client, judge, worker) for worker in (0, 1, 0, 1)]
    assert came_back == [False, False, True, True]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_session_survives_an_unclean_end(
    certificates: Certificates, version: str
) -> None:
    # OpenSSL never offers the session of such a connection again; a copy it does.
    judge = certificates.judge_server(version)
    client = ClientContext(certificates.client_tls())
    visit(client, judge, reset=True)
    assert visit(client, judge, reset=True)
    one, other = tcp_pair()
    ours, peer = our_client(one, client), Peer(other, judge)
    shake(ours, peer)
    send_reset(peer.tls)
    with pytest.raises(ConnectionResetError):
        spin(lambda: ours.read(1) is None and False)
    ours.close()
    assert visit(client, judge)


def test_session_of_another_server_is_no_harm(certificates: Certificates) -> None:
    # As behind a balancer: it cannot decrypt the ticket, and goes on without.
    client = ClientContext(certificates.client_tls())
    visit(client, certificates.judge_server())
    assert not visit(client, certificates.judge_server())


def test_session_is_forgotten_when_a_handshake_fails(
    certificates: Certificates,
) -> None:
    # Else one that a server chokes on would be offered for ever.
    client = ClientContext(certificates.client_tls())
    judge = certificates.judge_server()
    visit(client, judge)
    one, other = tcp_pair()
    ours = our_client(one, client)
    assert not ours.handshake()
    other.send(b"\x15\x03\x03\x00\x02\x02\x33")  # alert: decrypt error
    with pytest.raises(OSError, match="alert from the server: decrypt error"):
        spin(ours.handshake)
    ours.close()
    other.close()
    assert not visit(client, judge)


def test_session_survives_a_server_that_is_away(certificates: Certificates) -> None:
    client = ClientContext(certificates.client_tls())
    judge = certificates.judge_server()
    visit(client, judge)
    one, other = tcp_pair()
    ours = our_client(one, client)
    assert not ours.handshake()
    send_reset(other)
    with pytest.raises(ConnectionResetError):
        spin(ours.handshake)
    ours.close()
    assert visit(client, judge)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_server_knows_its_clients_again_on_any_worker(
    certificates: Certificates, version: str
) -> None:
    server = ServerContext(certificates.server_tls(), workers=3)
    judge = certificates.judge_client(version)
    resumed, session = visit_server(server, judge, None)
    assert not resumed
    for worker in (0, 1, 2):
        resumed, session = visit_server(server, judge, session, worker)
        assert resumed


def test_server_knows_who_came_with_a_session(certificates: Certificates) -> None:
    # The certificate is in the ticket: it is sent and verified once only.
    mine = certificates.authority.issue("me", ["me.example"])
    tls = dataclasses.replace(
        certificates.server_tls(), client_ca=certificates.ca, client_auth="required"
    )
    server = ServerContext(tls)
    judge = certificates.judge_client()
    judge.load_cert_chain(mine.certificate, mine.key)
    session = None
    for visits in range(2):
        one, other = tcp_pair()
        ours = our_server(one, server)
        peer = Peer(other, judge, "localhost", session)
        shake(ours, peer)
        send(ours, peer, b"a")
        assert ours.resumed == bool(visits)
        sent = ssl.PEM_cert_to_DER_cert(mine.certificate.read_text())
        assert ours.peer_certificate() == sent
        session = peer.tls.session
        ours.close()
        peer.tls.close()


def test_session_is_of_no_use_under_other_rules(certificates: Certificates) -> None:
    # A client that a new context does not trust must not get in with an old ticket.
    tls = certificates.server_tls()
    judge = certificates.judge_client()
    _, session = visit_server(ServerContext(tls), judge, None)
    assert session is not None
    resumed, _ = visit_server(ServerContext(tls), judge, session)
    assert not resumed


def test_contexts_are_replaced_under_live_connections(
    certificates: Certificates,
) -> None:
    # A reload: old connections go on, with what they still learn about sessions; new
    # ones meet the new certificate.
    renewed = certificates.authority.issue("renewed", ["localhost"])
    old_server = ServerContext(certificates.server_tls())
    tls = dataclasses.replace(certificates.server_tls(), certificates=(pem(renewed),))
    client = ClientContext(certificates.client_tls())
    servers = [old_server, ServerContext(tls)]
    ends = [tcp_pair(), tcp_pair()]
    pairs = [
        (our_client(one, client), our_server(other, server))
        for (one, other), server in zip(ends, servers, strict=True)
    ]
    shake(*pairs[0])
    # Gone for Python, while one handshake of each is under way or its tickets are.
    servers.clear()
    del old_server, client
    shake(*pairs[1])
    shown = [ours.peer_certificate() for ours, _ in pairs]
    files = (certificates.server.certificate, renewed.certificate)
    assert shown == [ssl.PEM_cert_to_DER_cert(file.read_text()) for file in files]
    message = os.urandom(50_000)
    for ours, theirs in pairs:
        assert send(ours, theirs, message) == message
        assert send(theirs, ours, message) == message
        ours.shut()
        assert read(theirs) == b""
        ours.close()
        theirs.close()
