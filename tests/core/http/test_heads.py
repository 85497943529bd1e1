"""Heads through the core: empty lines before them, interim ones, and large ones.

Sources: RFC 9112 2.2 and 6.3; issue 11, items 9, 25 and 26.
"""

import itertools

import pytest

from fastpath import Forward, ResponseEdits, TableError, Upstream
from tests.support.waiting import wait_until
from tests.support.web_rig import VIP, Peer, Web

GET = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BYTES_MOST = 262_144
LINES_MOST = 1024


def pieces(data: bytes, size: int) -> list[bytes]:
    """`data` in pieces of `size` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def buffers(web: Web) -> int:
    """How many are held."""
    return sum(worker.spills for worker in web.engine.stats().workers)


def served(upstream: Peer, client: Peer) -> str:
    """Answer one request; its first line."""
    first, _ = upstream.sized()
    upstream.say(OK)
    assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
    return first


# ---- Empty lines before a request.


@pytest.mark.parametrize("cut", [1, 3, 10_000])
@pytest.mark.parametrize("lines", [1, 2, 8])
def test_empty_lines_before_a_request_are_ignored(lines: int, cut: int) -> None:
    empty = b"\r\n" * lines
    with Web() as web:
        client = web.client(*pieces(empty + POST + empty + GET + empty + GET, cut))
        upstream = web.upstreams.accept()
        assert served(upstream, client) == "POST /a HTTP/1.1"
        assert served(upstream, client) == "GET /b HTTP/1.1"
        assert served(upstream, client) == "GET /b HTTP/1.1"
        assert web.asked[0].method == "POST"


def test_client_that_ends_a_body_with_an_empty_line_is_idle() -> None:
    # It has the time of a client between two requests, not that of half a head.
    with Web(header_timeout_s=0.2) as web:
        client = web.client(POST + b"\r\n")
        upstream = web.upstreams.accept()
        served(upstream, client)
        wait_until(lambda: buffers(web) == 0, what="no buffer is held")
        for _ in range(8):
            assert client.silent()  # 50 ms each
        client.say(GET)
        assert served(upstream, client) == "GET /b HTTP/1.1"


@pytest.mark.parametrize(
    "before",
    [b"\r\n" * 9, b"\n", b"\r", b" \r\n", b"\r\n\n", b"\r\n\r"],
    ids=["too many", "LF", "CR", "space", "CRLF LF", "CRLF CR"],
)
@pytest.mark.parametrize("cut", [1, 10_000])
def test_other_than_a_few_empty_lines_is_refused(before: bytes, cut: int) -> None:
    with Web() as web:
        client = web.client()
        try:
            client.say(*pieces(before + GET, cut))
        except OSError:
            pass  # refused before all of it was there
        assert client.head()[0] == "HTTP/1.1 400 Bad Request"
        assert web.asked == []


# ---- Interim responses.


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: many\r\n",
    ],
)
def test_interim_response_ends_with_its_head(lines: bytes) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 103 Hints\r\nLink: x\r\n" + lines + b"\r\n" + OK)
        assert client.head() == ("HTTP/1.1 103 Hints", {"link": "x"})
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
        # What was announced may still come: it is no part of the next response.
        client.say(GET)
        assert served(web.upstreams.accept(), client) == "GET /b HTTP/1.1"


def test_interim_response_that_announces_nothing_costs_no_connection() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 103 Hints\r\nContent-Length: 0\r\n\r\n" + OK)
        assert client.head() == ("HTTP/1.1 103 Hints", {})
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
        client.say(GET)
        assert served(upstream, client) == "GET /b HTTP/1.1"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_response_without_a_body_ends_with_its_head(status: bytes) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        odd = b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
        upstream.say(b"HTTP/1.1 " + status + odd)
        assert client.head() == (f"HTTP/1.1 {status.decode()}", {"x": "y"})
        client.say(GET)
        assert served(web.upstreams.accept(), client) == "GET /b HTTP/1.1"


# ---- Large heads.


def head_of(size: int = 0, lines: int = 0) -> bytes:
    """The head of a response with so many bytes, or so many header lines."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    if lines:
        return first + b"Warning: 299 - x\r\n" * (lines - 1) + b"\r\n"
    whole = b"X-Large: " + b"x" * 32_000 + b"\r\n"
    count, rest = divmod(size - len(first) - 2 - 20, len(whole))
    return first + whole * count + b"X-Rest: " + b"x" * (rest + 10) + b"\r\n\r\n"


HEADS = {
    "120 warnings": (head_of(lines=121), True),
    "most lines": (head_of(lines=LINES_MOST), True),
    "one line more": (head_of(lines=LINES_MOST + 1), False),
    "65 KB": (head_of(65 << 10), True),
    "255 KB": (head_of(255 << 10), True),
    "most bytes": (head_of(BYTES_MOST), True),
    "one byte more": (head_of(BYTES_MOST + 1), False),
    "257 KB": (head_of(257 << 10), False),
    "one line of 200 KB": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        True,
    ),
}
EDITS = ResponseEdits(set=(("X-Set", "1"),), remove=("x-rest",))


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize(("head", "passes"), HEADS.values(), ids=HEADS)
def test_head_is_passed_on_up_to_a_size(
    head: bytes, passes: bool, edited: bool
) -> None:
    verdict = Forward("up", response=EDITS if edited else None)
    with Web(lambda _: verdict) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(head + b"ok")
        first, headers = client.head()
        if passes:
            sent = [
                line.split(b":")[0].decode().lower() for line in head.split(b"\r\n")[1:]
            ]
            sent = sent[:-2]
            if edited:
                sent = [name for name in sent if name != "x-rest"] + ["x-set"]
            assert client.names == sent
            assert client.exactly(2) == b"ok"
            client.say(GET)
            assert served(upstream, client) == "GET /b HTTP/1.1"
        else:
            assert first == "HTTP/1.1 502 Bad Gateway"
            said = client.exactly(int(headers["content-length"]))
            assert said == b"response head is too large\n"
        wait_until(lambda: buffers(web) == 0, what="no buffer is held")


@pytest.mark.parametrize("name", ["120 warnings", "one line more", "65 KB", "257 KB"])
def test_large_head_may_come_in_any_pieces(name: str) -> None:
    head, passes = HEADS[name]
    # Byte by byte where it counts: around the ends of buffers, and at the end.
    cuts = [*range(65_500, 65_600), *range(131_000, 131_100), *range(262_100, 262_200)]
    cuts = [0, *[cut for cut in cuts if cut < len(head)], len(head)]
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        if len(head) < 30_000:
            cuts = [*range(len(head)), len(head)]
        try:
            for start, stop in itertools.pairwise(cuts):
                upstream.say(head[start:stop])
            upstream.say(b"ok")
        except OSError:
            assert not passes  # it was refused before its end
        first, headers = client.head()
        assert first == ("HTTP/1.1 200 OK" if passes else "HTTP/1.1 502 Bad Gateway")
        client.exactly(int(headers["content-length"]))


def test_large_interim_response_is_followed_by_a_large_one() -> None:
    head = head_of(200 << 10)
    interim = head.replace(b"200 OK\r\nContent-Length: 2", b"103 Hints")
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(interim + head + b"ok")
        assert client.head()[0] == "HTTP/1.1 103 Hints"
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
        client.say(GET)
        assert served(upstream, client) == "GET /b HTTP/1.1"


def test_edits_may_make_a_head_much_larger() -> None:
    edits = ResponseEdits(cookie_path="/" + "p" * 900)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"Set-Cookie: a=b\r\n" * 1000
    with Web(lambda _: Forward("up", response=edits)) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(head + b"\r\nok")
        _, headers = client.head()
        assert client.names.count("set-cookie") == 1000
        assert headers["set-cookie"] == "a=b; Path=/" + "p" * 900
        assert client.exactly(2) == b"ok"


def test_upstream_has_limits_of_its_own() -> None:
    limits = {"response_head_bytes": 1024, "response_head_lines": 3}
    for head in (head_of(1025), head_of(lines=4)):
        with Web(uplink=limits) as web:
            client = web.client(GET)
            upstream = web.upstreams.accept()
            upstream.head()
            upstream.say(head + b"ok")
            said = client.sized()
            assert said == ("HTTP/1.1 502 Bad Gateway", b"response head is too large\n")
    with Web(uplink={"response_head_bytes": 1 << 20, "response_head_lines": 4096}) as w:
        client = w.client(GET)
        upstream = w.upstreams.accept()
        for head in (head_of(1 << 20), head_of(lines=4096)):
            upstream.head()
            upstream.say(head + b"ok")
            assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
            client.say(GET)


@pytest.mark.parametrize(
    "limit",
    [
        {"response_head_bytes": 1023},
        {"response_head_bytes": (1 << 20) + 1},
        {"response_head_lines": 0},
        {"response_head_lines": 4097},
        {"response_head_lines": True},
    ],
)
def test_odd_limit_is_refused(limit: dict[str, int]) -> None:
    with pytest.raises(TableError, match="upstream up: response head"):
        Upstream("up", "pool", **limit)  # type: ignore[arg-type]


def test_what_broke_is_still_called_malformed() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n")
        assert client.sized()[1] == b"malformed HTTP response\n"
        assert web.engine.stats().vips[VIP].active == 1
