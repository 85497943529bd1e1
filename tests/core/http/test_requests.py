"""Requests through the core: order, heads as they are sent on, what is refused.

Sources: RFC 9112 9, RFC 9110 7.6.1, CVE-2021-33197 and CVE-2022-32148 (Connection that
names what a proxy vouches for).
"""

import pytest

from fastpath import Forward
from fastpath.api.policy import Question
from tests.support.web_rig import Peer, Verdict, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serve(upstream: Peer, body: bytes) -> str:
    """Answer one request; its first line."""
    first, _ = upstream.sized()
    upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    return first


def test_requests_on_one_connection_share_one_upstream_connection() -> None:
    with Web() as web:
        client, upstream = web.exchange(GET, OK)
        for number in range(5):
            client.say(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            assert serve(upstream, b"%d" % number) == f"GET /{number} HTTP/1.1"
            assert client.sized() == ("HTTP/1.1 200 OK", b"%d" % number)
        assert web.upstreams.nobody_waits()


@pytest.mark.parametrize("cut", [1, 13, 10_000], ids=lambda size: f"by {size}")
def test_pipelined_requests_are_answered_in_order(cut: int) -> None:
    requests = b"".join(
        b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d" % (n, n)
        for n in range(6)
    )
    with Web() as web:
        client = web.client()
        for at in range(0, len(requests), cut):
            client.say(requests[at : at + cut])
        upstream = web.upstreams.accept()
        for number in range(6):
            assert upstream.sized() == (f"POST /{number} HTTP/1.1", b"%03d" % number)
            assert upstream.silent()  # the next waits for its turn
            upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
            assert client.sized() == ("HTTP/1.1 200 OK", b"%d" % number)


@pytest.mark.parametrize(
    ("version", "headers", "stays"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_client_says_whether_its_connection_stays(
    version: bytes, headers: bytes, stays: bool
) -> None:
    request = b"GET /x HTTP/" + version + b"\r\nHost: a\r\n" + headers + b"\r\n"
    with Web() as web:
        client = web.client(request)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(OK)
        _, sent = client.head()
        assert client.exactly(2) == b"ok"
        if stays:
            assert sent.get("connection") == (
                "keep-alive" if version == b"1.0" else None
            )
            client.say(request)
            assert upstream.head()[0] == "GET /x HTTP/1.1"
        else:
            assert sent["connection"] == "close"
            assert client.rest() == b""


def test_absolute_target_is_sent_on_as_a_path_and_its_host_counts() -> None:
    with Web() as web:
        web.client(b"GET http://b:81/x?y=%3D HTTP/1.1\r\nHost: a\r\n\r\n")
        first, headers = web.upstreams.accept().head()
        assert first == "GET /x?y=%3D HTTP/1.1"
        assert headers["host"] == "b:81"
        assert web.asked[0].host == "b:81"


def test_hop_by_hop_headers_stay_on_their_hop() -> None:
    hops = (
        b"Connection: X-Private, Keep-Alive\r\nX-Private: 1\r\nKeep-Alive: 5\r\n"
        b"Proxy-Connection: x\r\nProxy-Authorization: x\r\nTE: gzip\r\nTrailer: x\r\n"
    )
    with Web() as web:
        client = web.client(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\n" + hops + b"\r\n"
        )
        upstream = web.upstreams.accept()
        _, headers = upstream.head()
        assert headers == {"host": "a", "x-kept": "1"}
        upstream.say(
            b"HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n"
            b"X-Kept: 2\r\nContent-Length: 0\r\n\r\n"
        )
        assert client.head()[1] == {"x-kept": "2", "content-length": "0"}


def test_connection_cannot_name_away_what_the_proxy_vouches_for() -> None:
    def decide(_: Question) -> Verdict:
        return Forward("up", set=(("X-Who", "alice"),), forwarded_for=True)

    with Web(decide) as web:
        web.client(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Who: mallory\r\n"
            b"X-Forwarded-For: 1.2.3.4\r\n"
            b"Authorization: Bearer mine\r\n"
            b"Connection: X-Who, X-Forwarded-For, Authorization\r\n\r\n"
        )
        _, headers = web.upstreams.accept().head()
        assert headers["x-who"] == "alice"
        assert headers["x-forwarded-for"].endswith("127.0.0.1")
        assert headers["authorization"] == "Bearer mine"


def test_verdict_edits_headers_and_the_path() -> None:
    def decide(_: Question) -> Verdict:
        return Forward(
            "up",
            host="kube:6443",
            strip=len("/outer"),
            prefix="/base",
            remove=("cookie",),
            set=(("X-Set", "ours"),),
            default=(("X-Default", "ours"), ("X-Absent", "ours"), ("X-Empty", "o")),
        )

    with Web(decide) as web:
        web.client(
            b"GET /outer/x%2Fy?q=%20 HTTP/1.1\r\nHost: a\r\nCookie: c\r\n"
            b"x-set: theirs\r\n"
            b"x-default: theirs\r\nx-empty: \r\nX-Other: o\r\n\r\n"
        )
        first, headers = web.upstreams.accept().head()
        assert first == "GET /base/x%2Fy?q=%20 HTTP/1.1"
        assert headers == {
            "host": "kube:6443",
            "x-set": "ours",
            "x-default": "theirs",
            "x-absent": "ours",
            "x-empty": "o",  # an empty header counts as absent
            "x-other": "o",
        }


def test_several_forwarded_for_become_one_list_with_the_client_last() -> None:
    with Web(lambda _: Forward("up", forwarded_for=True)) as web:
        web.client(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n"
            b"X-Forwarded-For: 2.2.2.2, 3.3.3.3\r\n\r\n"
        )
        _, headers = web.upstreams.accept().head()
        assert headers["x-forwarded-for"] == "1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"


HOST = b"GET / HTTP/1.1\r\nHost: a\r\n"
CODED = HOST + b"Transfer-Encoding: "
LONG = b"X: " + b"y" * 9000 + b"\r\n"
MALFORMED = {
    "CL and TE": (CODED + b"chunked\r\nContent-Length: 3\r\n\r\n", 400),
    "two CL": (HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    "odd TE": (CODED + b"xchunked\r\n\r\n", 501),
    "space before colon": (HOST + b"X : y\r\n\r\n", 400),
    "obs-fold": (HOST + b"X: a\r\n folded\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "NUL": (HOST + b"X: a\0b\r\n\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    "long target": (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "many headers": (HOST + b"X: y\r\n" * 200 + b"\r\n", 431),
    "large head": (HOST + LONG * 9 + b"\r\n", 431),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
}


@pytest.mark.parametrize(
    ("request_bytes", "status"), MALFORMED.values(), ids=MALFORMED.keys()
)
def test_what_is_no_plain_request_is_refused_and_nothing_goes_on(
    request_bytes: bytes, status: int
) -> None:
    with Web() as web:
        client = web.client(request_bytes + GET)
        first, headers = client.head()
        assert int(first.split()[1]) == status
        assert headers["connection"] == "close"
        client.exactly(int(headers["content-length"]))
        assert client.rest() == b""
        assert web.asked == []
        assert web.upstreams.nobody_waits()


def test_answers_are_counted_by_method_and_status() -> None:
    with Web() as web:
        client, upstream = web.exchange(GET, OK)
        client.say(b"DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream.head()
        upstream.say(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
        client.sized()
        client.say(GET)  # answered only when those before were counted
        upstream.head()
        assert web.stats.codes == {("GET", 200): 1, ("DELETE", 409): 1}
        assert web.stats.took.counts.count(0) < len(web.stats.took.counts)
