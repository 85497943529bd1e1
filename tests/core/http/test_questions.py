"""Questions: what they say, and that a verdict is not shared beyond what was read."""

import hashlib
import ssl
from pathlib import Path

import pytest

from fastpath import Certificate, Forward, Reply, ServerTls
from fastpath.api.policy import Question
from pyproxy.sandbox.certificates import Authority
from tests.core.http.test_tls import dialled, pem, secured, trusting
from tests.core.http.test_verdicts import request, served
from tests.support.asking import ask
from tests.support.web_rig import Web

READ = {
    ":source": lambda q: q.source,
    ":method": lambda q: q.method,
    ":target": lambda q: q.target,
    ":path": lambda q: q.path,
    ":path/3": lambda q: q.path_to(3),
    ":query": lambda q: q.query,
    ":host": lambda q: q.host,
    ":minor": lambda q: q.minor,
    ":upgrade": lambda q: q.upgrade,
    ":body": lambda q: q.body,
    ":headers": lambda q: q.headers,
    ":certificate": lambda q: q.certificate,
    "x-who": lambda q: q.header("X-Who"),
    "origin": lambda q: q.headers_all("Origin"),
}


@pytest.mark.parametrize("part", READ)
def test_part_that_is_read_is_noted(part: str) -> None:
    question = ask("/a/b")
    assert question.read == frozenset()
    READ[part](question.aside)
    assert question.read == frozenset()
    READ[part](question)
    assert question.read == {part}
    assert question.unnamed(["x-other"]) == [part]
    assert question.unnamed([part]) == []
    assert question.again().read == frozenset()


@pytest.mark.parametrize(
    ("key", "named"),
    [(":path", True), (":path/3", True), (":path/2", True), (":segment", False)],
)
def test_longer_stretch_of_the_path_says_what_a_shorter_one_says(
    key: str, named: bool
) -> None:
    question = ask("/a/b")
    question.path_to(2)
    assert (question.unnamed([key]) == []) == named
    question.path  # noqa: B018
    assert (question.unnamed([key]) == []) == (key == ":path")


def test_question_does_not_tell_secrets() -> None:
    question = ask("/a?token=s3cret", "GET", "h", "Authorization: Bearer s3cret")
    assert "s3cret" not in repr(question)
    assert "/a" in repr(question)


@pytest.mark.parametrize("n", [0, 16])
def test_segment_that_no_key_can_name_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="not in 1-15"):
        ask("/a/b").path_to(n)


def test_verdict_by_a_part_that_its_key_does_not_name_is_refused() -> None:
    with Web(lambda _: None) as web:
        client = web.client(request())
        question = web.question()
        assert question.method == "GET"
        assert question.host == "a"
        with pytest.raises(ValueError, match="does not name :host, which was read"):
            web.engine.answer(question, Reply(200), ttl_s=1.0, key=(":method",))
        with pytest.raises(ValueError, match="needs a key"):
            web.engine.answer(question, Reply(200), ttl_s=1.0)
        web.engine.answer(question, Reply(200, b"once"))
        assert client.sized()[1] == b"once"


def test_all_lines_of_a_header_are_read() -> None:
    with Web(lambda _: None) as web:
        web.client(request(X_A="1", x_a="2", X_a=""))
        question = web.question()
        assert question.headers_all("x-A") == ("1", "2", "")
        assert question.header("X-a") == "1, 2, "
        assert question.header("x-b") is None
        assert question.headers_all("x-b") == ()


def test_all_lines_of_upgrade_are_judged() -> None:
    # Once the first line was judged, and all of them were sent on.
    both = request(Connection="upgrade", Upgrade="websocket", upgrade="h2c")
    with Web(lambda _: None, parts=(":upgrade",)) as web:
        web.client(both)
        question = web.question()
        assert question.upgrade == "websocket, h2c"
        web.engine.answer(question, Forward("up", upgrades=("websocket",)))
        assert "upgrade" not in web.upstreams.accept().head()[1]


def test_answer_to_a_question_without_certificate_has_none(issuer: Authority) -> None:
    with secured(server(issuer, "optional"), lambda _: None) as web:
        with dialled(web, trusting(issuer)) as client:
            client.say(request())
            assert web.question().certificate is None


def server(issuer: Authority, auth: str) -> ServerTls:
    """TLS that asks clients for certificates."""
    return ServerTls(
        (pem(issuer.issue("server", ["localhost"])),),
        client_ca=Path(issuer.certificate).read_bytes(),
        client_auth="optional" if auth == "optional" else "required",
    )


def known(issuer: Authority, name: str, *groups: str) -> tuple[ssl.SSLContext, bytes]:
    """A client with a certificate: (context, the certificate in DER)."""
    pair = issuer.issue(name, [name], groups=groups)
    context = trusting(issuer)
    context.load_cert_chain(pair.certificate, pair.key)
    return context, ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


@pytest.mark.parametrize("resumed", [False, True])
def test_question_has_the_certificate_that_the_client_proved(
    issuer: Authority, resumed: bool
) -> None:
    context, der = known(issuer, "ann", "dev", "ops")
    session = None

    def decide(question: Question) -> Reply:
        mine = question.certificate
        assert mine is not None
        assert isinstance(mine, Certificate)
        return Reply(200, f"{mine.subject}|{mine.common_name}".encode())

    with secured(server(issuer, "required"), decide, ttl_s=0.0) as web:
        for _ in range(1 + resumed):
            with dialled(web, context, session=session) as client:
                client.say(request())
                assert client.sized()[1] == b"O=ops,O=dev,CN=ann|ann"
                session = client.socket.session  # type: ignore[attr-defined]
        mine = web.asked[-1].certificate
        assert web.stats.resumed == resumed
        assert mine is not None
        assert (mine.organizations, mine.der) == (("dev", "ops"), der)


def test_clients_share_no_verdict_that_hangs_on_their_certificates(
    issuer: Authority,
) -> None:
    contexts = [known(issuer, name)[0] for name in ("ann", "bob")]
    contexts.append(trusting(issuer))

    def decide(question: Question) -> Reply:
        mine = question.certificate
        return Reply(200, mine.common_name.encode() if mine else b"nobody")

    with secured(
        server(issuer, "optional"),
        decide,
        key=(":certificate",),
        parts=(":certificate",),
    ) as web:
        for _ in range(2):
            for context, name in zip(contexts, ("ann", "bob", "nobody"), strict=True):
                with dialled(web, context) as client:
                    for _ in range(2):
                        client.say(request())
                        assert client.sized()[1] == name.encode()
        assert len(web.asked) == 3


def test_plain_clients_are_those_without_certificate() -> None:
    with Web(
        lambda _: Reply(200), key=(":certificate",), parts=(":certificate",)
    ) as web:
        served(web.client(), request(), request())
        assert len(web.asked) == 1
        assert web.asked[0].certificate is None


def test_certificate_key_is_a_fingerprint_and_no_name(issuer: Authority) -> None:
    # Two certificates of one user are two clients to a verdict: one may be revoked.
    with secured(
        server(issuer, "required"),
        lambda _: Reply(200),
        key=(":certificate",),
        parts=(":certificate",),
    ) as web:
        prints = set()
        for _ in range(2):
            context, der = known(issuer, "ann")
            prints.add(hashlib.sha256(der).hexdigest())
            with dialled(web, context) as client:
                served(client, request())
        assert len(web.asked) == len(prints) == 2


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        (["websocket", "h2c"], "websocket, h2c"),
        (["", "h2c"], ", h2c"),
        (["h2c", ""], "h2c, "),
    ],
)
def test_all_lines_of_upgrade_are_asked_about(lines: list[str], seen: str) -> None:
    # The first was judged, and all were sent on: h2c passed a refusal.
    head = "".join(f"Upgrade: {line}\r\n" for line in lines)
    with Web(lambda _: Reply(403)) as web:
        text = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{head}\r\n"
        web.client(text.encode()).sized()
        assert web.asked[0].upgrade == seen
