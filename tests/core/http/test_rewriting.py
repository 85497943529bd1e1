"""Pages on their way from an upstream to a client: heads and framing."""

from collections.abc import Iterator

import pytest

from fastpath import Forward, ResponseEdits
from tests.core.http.test_verdicts import request
from tests.support.page_rig import (
    AFTER,
    HTML,
    PAGE,
    asked,
    body,
    counted,
    head,
    page_web,
)
from tests.support.pages import PREFIX
from tests.support.web_rig import Web


@pytest.fixture
def web() -> Iterator[Web]:
    with page_web() as web:
        yield web


def test_head_of_a_page_says_nothing_of_the_bytes_that_it_had(web: Web) -> None:
    client, upstream = asked(web)
    gone = ("Accept-Ranges: bytes", "Content-MD5: a", "Digest: b", "Repr-Digest: c")
    upstream.say(
        head(HTML, *gone, "Content-Digest: d", 'ETag: "e"', "content-length: 57") + PAGE
    )
    first, headers = client.head()
    assert first == "HTTP/1.1 200 OK"
    assert headers == {
        "content-type": "text/html",
        "etag": 'W/"e"',
        "transfer-encoding": "chunked",
    }
    assert body(client) == AFTER
    assert counted(web, "rewritten")


def test_weak_etag_stays(web: Web) -> None:
    client, upstream = asked(web)
    upstream.say(head(HTML, 'ETag: W/"e"', "Content-Length: 57") + PAGE)
    assert client.head()[1]["etag"] == 'W/"e"'


@pytest.mark.parametrize("kind", ["text/html", "TEXT/HTML;charset=x", "text/html ; a"])
def test_media_type_counts_without_parameters_and_case(web: Web, kind: str) -> None:
    client, upstream = asked(web)
    upstream.say(head(f"Content-Type: {kind}", "Content-Length: 57") + PAGE)
    client.head()
    assert body(client) == AFTER


def test_connections_go_on_after_a_page(web: Web) -> None:
    client, upstream = asked(web, request(), request())
    for _ in range(3):
        upstream.say(head(HTML, "Content-Length: 57") + PAGE)
        client.head()
        assert body(client) == AFTER
        client.say(request())
        upstream.head()
    assert web.upstreams.nobody_waits()


@pytest.mark.parametrize(
    "status",
    ["201 Created", "300 Multiple Choices", "404 Not Found", "503 Service Unavailable"],
)
def test_page_is_one_whatever_its_status(web: Web, status: str) -> None:
    client, upstream = asked(web)
    upstream.say(head(HTML, "Content-Length: 57", status=status) + PAGE)
    assert client.head()[0] == f"HTTP/1.1 {status}"
    assert body(client) == AFTER
    assert counted(web, "rewritten")


UNTOUCHED = {
    "part": ("206 Partial Content", [HTML, "Content-Range: bytes 0-56/99"], "part"),
    "created": ("201 Created", [HTML, "Location: /x"], "location"),
    "brotli": ("200 OK", [HTML, "Content-Encoding: br"], "encoding"),
    "two": ("200 OK", [HTML, "Content-Encoding: gzip, gzip"], "encoding"),
    "two lines": ("200 OK", [HTML, *["Content-Encoding: gzip"] * 2], "encoding"),
    "text": ("200 OK", ["Content-Type: text/plain"], ""),
    "other": ("200 OK", ["Content-Type: text/htmlx"], ""),
    "xhtml": ("200 OK", ["Content-Type: application/xhtml+xml"], ""),
    "two types": ("200 OK", [HTML, "Content-Type: text/plain"], ""),
    "none": ("200 OK", [], ""),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_other_response_is_passed_on_as_it_came(web: Web, name: str) -> None:
    status, lines, why = UNTOUCHED[name]
    client, upstream = asked(web)
    upstream.say(head(*lines, 'ETag: "e"', "Content-Length: 57", status=status) + PAGE)
    _, headers = client.head()
    assert (headers["etag"], headers["content-length"]) == ('"e"', "57")
    assert client.exactly(57) == PAGE
    assert counted(web, why) if why else not any(web.stats.pages.values())


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [
        ("HEAD", "200 OK", "57"),
        ("GET", "204 No Content", ""),
        ("GET", "304 Not Modified", "57"),
        ("HEAD", "404 Not Found", "57"),
        ("GET", "200 OK", "0"),
    ],
)
def test_response_without_a_body_keeps_its_head(
    web: Web, method: str, status: str, length: str
) -> None:
    client, upstream = asked(web, request(method=method))
    lines = [HTML, 'ETag: "e"', "Content-Encoding: gzip"]
    lines += [f"Content-Length: {length}"] if length else []
    upstream.say(head(*lines, status=status))
    first, headers = client.head()
    assert first.endswith(status)
    assert headers.get("content-length", "") == length
    assert headers["etag"] == '"e"'
    assert "transfer-encoding" not in headers
    assert not any(web.stats.pages.values())


def test_without_html_in_the_verdict_pages_are_bodies_like_others() -> None:
    edits = ResponseEdits(location=(("/", PREFIX),))
    with Web(lambda _: Forward("up", response=edits)) as web:
        client, upstream = asked(web)
        upstream.say(head(HTML, "Content-Length: 57") + PAGE)
        assert client.sized() == ("HTTP/1.1 200 OK", PAGE)


# ---- Framing.


def test_client_of_http_1_0_gets_a_page_that_ends_with_the_connection(web: Web) -> None:
    client, upstream = asked(
        web, b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    )
    upstream.say(head(HTML, "Content-Length: 57") + PAGE)
    _, headers = client.head()
    assert "transfer-encoding" not in headers
    assert "content-length" not in headers
    assert client.rest() == AFTER


def test_chunked_page_is_framed_anew_and_loses_its_trailers(web: Web) -> None:
    client, upstream = asked(web)
    lines = ("Transfer-Encoding: chunked", "Trailer: Digest")
    upstream.say(head(HTML, *lines))
    for at in range(0, len(PAGE), 5):
        upstream.say(b"%x;a=b\r\n%s\r\n" % (len(PAGE[at : at + 5]), PAGE[at : at + 5]))
    upstream.say(b"0\r\nX-Sum: a\r\n\r\n")
    assert "trailer" not in client.head()[1]
    assert body(client) == AFTER
    client.say(request())
    assert upstream.head()[0]


def test_page_without_a_length_ends_with_the_upstreams_connection(web: Web) -> None:
    client, upstream = asked(web)
    upstream.say(head(HTML), PAGE)
    upstream.close()
    assert client.head()[1]["transfer-encoding"] == "chunked"
    assert body(client) == AFTER
    client.say(request())
    web.upstreams.accept().head()


@pytest.mark.parametrize("how", ["cut", "chunk"])
def test_page_whose_framing_is_wrong_resets_the_client(web: Web, how: str) -> None:
    client, upstream = asked(web)
    if how == "cut":
        upstream.say(head(HTML, "Content-Length: 58") + PAGE)
        upstream.close()
    else:
        upstream.say(head(HTML, "Transfer-Encoding: chunked"))
        client.head()
        upstream.say(b"1\r\nab\r\n")
    with pytest.raises(ConnectionResetError):
        client.rest()
    web.wait_dropped("reset_by_backend")


def test_bytes_behind_a_page_are_nobodys(web: Web) -> None:
    client, upstream = asked(web)
    upstream.say(head(HTML, "Content-Length: 57") + PAGE + b"HTTP/1.1 200 OK\r\n")
    client.head()
    assert body(client) == AFTER
    client.say(request())
    web.upstreams.accept().head()
