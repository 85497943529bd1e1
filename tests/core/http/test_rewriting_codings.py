"""Pages on their way from an upstream to a client: moments, codings, bounds."""

import gzip
import socket
import zlib
from collections.abc import Iterator

import pytest

from tests.core.http.test_verdicts import request
from tests.support.page_rig import AFTER, HTML, PAGE, asked, body, chunk, head, page_web
from tests.support.pages import PREFIX, rewritten
from tests.support.waiting import wait_until
from tests.support.web_rig import Web

MIB = 1 << 20


@pytest.fixture
def web() -> Iterator[Web]:
    with page_web() as web:
        yield web


# ---- Moments.


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
def test_page_that_comes_slowly_is_seen_as_it_comes(web: Web, coding: str) -> None:
    client, upstream = asked(web)
    encoding = [f"Content-Encoding: {coding}"] if coding else []
    upstream.say(head(HTML, *encoding, "Transfer-Encoding: chunked"))
    assert client.head()[1].get("content-encoding", "") == coding
    bits = {"": 0, "gzip": 31, "deflate": 15}[coding]
    source = zlib.compressobj(wbits=bits) if bits else None
    reader = zlib.decompressobj(wbits=bits) if bits else None
    for number in range(4):
        data = f"<p><a href=/{number}>".encode()
        expected = rewritten(data)
        if source:
            data = source.compress(data) + source.flush(zlib.Z_SYNC_FLUSH)
        upstream.say(b"%x\r\n%s\r\n" % (len(data), data))
        seen = b""
        while seen != expected:
            piece = chunk(client)
            seen += reader.decompress(piece) if reader else piece
            assert expected.startswith(seen)
    data = source.flush() if source else b"."
    upstream.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
    end = body(client)
    assert (reader.decompress(end) if reader else end) in (b"", b".")
    assert reader is None or reader.eof


def test_page_is_read_no_faster_than_its_client_takes_it(web: Web) -> None:
    client = web.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.say(request())
    upstream = web.upstreams.accept()
    upstream.head()
    part = b'<a href="/x">' * 8000
    upstream.say(head(HTML, f"Content-Length: {200 * len(part)}"))
    upstream.socket.setblocking(False)
    sent = 0
    whole = part * 200

    def is_full() -> bool:
        nonlocal sent
        try:
            sent += upstream.socket.send(whole[sent : sent + MIB])
        except BlockingIOError:
            return web.engine.stats().workers[0].turns == turns
        return False

    turns = web.engine.stats().workers[0].turns
    while not is_full():
        turns = web.engine.stats().workers[0].turns
        assert sent < len(whole), "nobody has read a byte of it"
    # What it became of one read, and that read.
    assert web.engine.stats().workers[0].spills <= 4
    upstream.socket.setblocking(True)
    client.head()
    got = 0
    while got < len(rewritten(part)) * 200:
        if sent < len(whole):
            upstream.socket.setblocking(False)
            try:
                sent += upstream.socket.send(whole[sent : sent + MIB])
            except BlockingIOError:
                pass
        got += len(chunk(client))
    assert chunk(client) == b""


def test_bomb_costs_little_while_its_client_reads_nothing(web: Web) -> None:
    page = b"<a href=/x>" * MIB
    bomb = gzip.compress(page)
    client, upstream = asked(web)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    length = f"Content-Length: {len(bomb)}"
    upstream.say(head(HTML, "Content-Encoding: gzip", length) + bomb)
    # Others are served meanwhile.
    for _ in range(20):
        other = web.client(request(path="/other"))
        second = web.upstreams.accept()
        second.head()
        second.say(head("Content-Length: 2") + b"ok")
        assert other.sized()[1] == b"ok"
        other.close()
        second.close()
    assert web.engine.stats().workers[0].spills <= 4
    assert client.head()[1]["content-encoding"] == "gzip"
    assert gzip.decompress(body(client)) == page.replace(b"/x", f"{PREFIX}/x".encode())


# ---- Codings.


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw", "identity"])
def test_coded_page_is_rewritten_and_coded_again(web: Web, coding: str) -> None:
    raw = zlib.compressobj(wbits=-15)
    coded = {
        "deflate": zlib.compress(PAGE),
        "raw": raw.compress(PAGE) + raw.flush(),
        "identity": PAGE,
    }.get(coding, gzip.compress(PAGE))
    name = "deflate" if coding == "raw" else coding
    client, upstream = asked(web)
    length = f"Content-Length: {len(coded)}"
    upstream.say(head(HTML, f"Content-Encoding: {name}", length) + coded)
    assert client.head()[1]["content-encoding"] == name
    got = body(client)
    if coding != "identity":
        got = zlib.decompress(got) if name == "deflate" else gzip.decompress(got)
    assert got == AFTER


def test_page_that_is_not_what_its_coding_says_resets_the_client(web: Web) -> None:
    coded = gzip.compress(bytes(range(256)) * 100)
    client, upstream = asked(web)
    lines = (HTML, "Content-Encoding: gzip", f"Content-Length: {len(coded)}")
    upstream.say(head(*lines) + coded[:20])
    client.head()
    upstream.say(b"x" * (len(coded) - 20))
    with pytest.raises(ConnectionResetError):
        client.rest()
    web.wait_dropped("reset_by_backend")
    assert web.stats.pages["broken"] == 1


def test_page_of_which_nothing_is_what_its_coding_says_is_an_error(web: Web) -> None:
    client, upstream = asked(web)
    upstream.say(head(HTML, "Content-Encoding: gzip", "Content-Length: 57") + PAGE)
    first, text = client.sized()
    assert first == "HTTP/1.1 502 Bad Gateway"
    assert b"Content-Encoding" in text
    assert web.stats.pages["broken"] == 1


def test_coded_page_that_was_cut_resets_the_client(web: Web) -> None:
    coded = gzip.compress(PAGE * 100)[:-3]
    client, upstream = asked(web)
    upstream.say(head(HTML, "Content-Encoding: gzip"))
    client.head()
    upstream.say(coded)
    upstream.close()
    with pytest.raises(ConnectionResetError):
        client.rest()
    assert web.stats.pages["broken"] == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("gzip", "gzip"),
        ("gzip,deflate, br;q=1.0, *;q=0.1", "gzip, deflate"),
        ("br, zstd", "identity"),
        ("", "identity"),
        ("identity;q=0.5, X-GZIP ; q=1,gzipx", "identity;q=0.5, X-GZIP ; q=1"),
        (None, None),
    ],
)
def test_upstream_is_asked_for_codings_that_we_understand(
    web: Web, method: str, before: str | None, after: str | None
) -> None:
    more = {} if before is None else {"Accept-Encoding": before}
    web.client(request(method=method, **more))
    assert web.upstreams.accept().head()[1].get("accept-encoding") == after


def test_without_html_in_the_verdict_any_coding_is_asked_for() -> None:
    with Web() as web:
        web.client(request(**{"Accept-Encoding": "br"}))
        assert web.upstreams.accept().head()[1]["accept-encoding"] == "br"


# ---- Bounds.


def test_pages_beyond_the_bound_are_passed_on_as_they_came(web: Web) -> None:
    begun = []
    for number in range(129):
        client = web.client(request(path=f"/{number}"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(head(HTML, "Content-Length: 57") + PAGE[:-1])
        lengths = client.head()[1]
        begun.append((client, upstream))
    assert lengths["content-length"] == "57"
    assert client.exactly(56) == PAGE[:-1]
    assert web.stats.pages["too_many"] == 1
    client, upstream = begun[0]
    upstream.say(PAGE[-1:])
    assert body(client) == AFTER
    client.say(request(path="/again"))
    upstream.head()
    upstream.say(head(HTML, "Content-Length: 57") + PAGE)
    client.head()
    assert body(client) == AFTER


def test_client_that_leaves_gives_all_back(web: Web) -> None:
    client, upstream = asked(web)
    upstream.say(head(HTML, "Content-Encoding: gzip"), gzip.compress(PAGE * 9000)[:99])
    client.head()
    client.reset()
    wait_until(lambda: web.engine.stats().relays_active == 0, what="it has left")
    assert web.engine.stats().workers[0].spills == 0


def test_values_that_are_too_long_are_counted(web: Web) -> None:
    client, upstream = asked(web)
    page = b'<a href="/' + b"a" * 9000 + b'">'
    upstream.say(head(HTML, f"Content-Length: {len(page)}") + page)
    client.head()
    assert body(client) == page
    wait_until(lambda: web.stats.values_untouched == 1, what="counted")
