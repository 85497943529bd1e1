"""Kept connections of clients whose authority is trusted no more, or still is.

As a kube-apiserver does it: a certificate is verified for each request, not only when
the connection is made.
"""

import contextlib
import dataclasses
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastpath import Delta, Failure, Reply, ServerTls
from fastpath.api.policy import Question
from pyproxy.sandbox.certificates import Authority, Pair
from tests.core.http.test_tls import GET, dialled, pem, secured, trusting
from tests.support.web_rig import Peer, Web

REFUSED = (
    "HTTP/1.1 401 Unauthorized",
    b"the client certificate is not trusted any more\n",
)


def decide(question: Question) -> Reply:
    """Say who it is."""
    shown = question.certificate
    return Reply(200, shown.common_name.encode() if shown is not None else b"nobody")


@pytest.fixture(scope="module")
def authorities(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Authority]:
    """Two that sign for users."""
    made = {}
    for name in ("old", "new"):
        directory = tmp_path_factory.mktemp(name)
        made[name] = Authority(directory, f"the {name} one")
    return made


def asking(server: Pair, *trusted: Authority) -> ServerTls:
    """Ask clients for certificates of these; without any, for none."""
    ca = b"".join(Path(each.certificate).read_bytes() for each in trusted)
    if not ca:
        return ServerTls((pem(server),))
    return ServerTls((pem(server),), client_ca=ca, client_auth="optional")


class Rotation:
    """A vip whose authorities change, and clients of it."""

    def __init__(self, web: Web, issuer: Authority, server: Pair) -> None:
        self.web, self._issuer, self._server = web, issuer, server

    def trust(self, *trusted: Authority) -> None:
        """From now on these sign for users."""
        tls = asking(self._server, *trusted)
        vip = dataclasses.replace(self.web.vip, tls=tls)
        self.web.engine.update(Delta(vips=[vip]), wait_s=5.0)

    @contextlib.contextmanager
    def client(self, pair: Pair | None = None) -> Iterator[Peer]:
        """A connection, with a certificate or without."""
        context: ssl.SSLContext = trusting(self._issuer)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        with dialled(self.web, context) as client:
            yield client


@contextlib.contextmanager
def rotation(
    issuer: Authority, *trusted: Authority, untrusted: Failure | None = None
) -> Iterator[Rotation]:
    """A vip that asks for certificates of these."""
    server = issuer.issue("server", ["localhost"])
    parts = (":certificate",)
    with secured(
        asking(server, *trusted), decide, key=parts, parts=parts, untrusted=untrusted
    ) as web:
        yield Rotation(web, issuer, server)


def said(client: Peer) -> tuple[str, bytes]:
    """What it is answered."""
    client.say(GET)
    return client.sized()


def test_authority_that_went_names_nobody_on_connections_that_stand(
    issuer: Authority, authorities: dict[str, Authority]
) -> None:
    old, new = authorities["old"], authorities["new"]
    ann, bob = old.issue("ann", []), new.issue("bob", [])
    with rotation(issuer, old, new) as at, contextlib.ExitStack() as stack:
        first, second, third, nobody = (
            stack.enter_context(at.client(pair)) for pair in (ann, bob, ann, None)
        )
        assert said(first)[1] == said(third)[1] == b"ann"
        assert said(second)[1] == b"bob"
        assert said(nobody)[1] == b"nobody"
        at.trust(new)
        assert said(first) == REFUSED  # though its verdict is remembered
        assert first.ended()
        for _ in range(3):
            assert said(second)[1] == b"bob"  # on the connection that it had
        assert said(nobody)[1] == b"nobody"
        at.trust(old, new)
        assert said(third)[1] == b"ann"  # it holds by what is in force now
        assert said(second)[1] == b"bob"


def test_vip_that_asks_for_none_any_more_knows_nobody(
    issuer: Authority, authorities: dict[str, Authority]
) -> None:
    ann = authorities["old"].issue("ann", [])
    with rotation(issuer, authorities["old"]) as at, at.client(ann) as client:
        assert said(client)[1] == b"ann"
        at.trust()
        assert said(client) == REFUSED


def test_vip_says_in_its_own_words_that_a_certificate_is_good_no_more(
    issuer: Authority, authorities: dict[str, Authority]
) -> None:
    ann = authorities["old"].issue("ann", [])
    words = Failure(401, (("Content-Type", "a/b"),), '{"why":"', '"}')
    with (
        rotation(issuer, authorities["old"], untrusted=words) as at,
        at.client(ann) as client,
    ):
        assert said(client)[1] == b"ann"
        at.trust(authorities["new"])
        client.say(GET)
        status, headers = client.head()
        assert status == REFUSED[0]
        assert headers["content-type"] == "a/b"
        said_so = client.exactly(int(headers["content-length"]))
        assert said_so == b'{"why":"the client certificate is not trusted any more"}'
        assert client.ended()


def test_resumed_session_is_that_of_an_authority_in_force(
    issuer: Authority, authorities: dict[str, Authority]
) -> None:
    old, new = authorities["old"], authorities["new"]
    ann = old.issue("ann", [])
    with rotation(issuer, old) as at:
        context = trusting(issuer)
        context.load_cert_chain(ann.certificate, ann.key)
        with dialled(at.web, context) as client:
            assert said(client)[1] == b"ann"
            session = client.socket.session  # type: ignore[attr-defined]
        with dialled(at.web, context, session=session) as client:
            assert said(client)[1] == b"ann"
            at.trust(new)
            assert said(client) == REFUSED
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            # In TLS 1.3 the client is told after its handshake.
            with dialled(at.web, context, session=session) as client:
                said(client)


def test_question_that_waits_is_not_answered_in_an_old_name(
    issuer: Authority, authorities: dict[str, Authority]
) -> None:
    ann = authorities["old"].issue("ann", [])
    server = issuer.issue("server", ["localhost"])
    waits: list[Question] = []

    def later(question: Question) -> None:
        waits.append(question)

    tls = asking(server, authorities["old"])
    with secured(tls, later) as web:
        at = Rotation(web, issuer, server)
        with at.client(ann) as client:
            client.say(GET)
            question = web.question()
            at.trust(authorities["new"])
            web.engine.answer(question, Reply(200, b"ann"))
            assert client.sized() == REFUSED


def test_renewed_certificate_of_the_server_costs_no_client_its_name(
    issuer: Authority, authorities: dict[str, Authority]
) -> None:
    old = authorities["old"]
    ann = old.issue("ann", [])
    with rotation(issuer, old) as at, at.client(ann) as client:
        for _ in range(4):
            at.trust(old)
            assert said(client)[1] == b"ann"
