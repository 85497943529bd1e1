"""A page on its way: an upstream that says it, and a client that reads it."""

from fastpath import Forward, ResponseEdits
from tests.core.http.test_verdicts import request
from tests.support.pages import PREFIX, rewritten
from tests.support.web_rig import Peer, Web

EDITS = ResponseEdits(location=(("/", PREFIX),), html=True)
HTML = "Content-Type: text/html"
PAGE = b'<!doctype html><a href="/x">x</a><script src=/y></script>'
AFTER = rewritten(PAGE)


def page_web() -> Web:
    """An engine whose verdict is to map pages."""
    return Web(lambda _: Forward("up", response=EDITS))


def head(*lines: str, status: str = "200 OK") -> bytes:
    """A head of these lines."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def chunk(client: Peer) -> bytes:
    """The next chunk of a body; b"" = the last one, and no trailer behind it."""
    while b"\r\n" not in client.left:
        more = client.socket.recv(65536)
        assert more, "ended in a body"
        client.left += more
    size, _, client.left = client.left.partition(b"\r\n")
    data = client.exactly(int(size, 16))
    assert client.exactly(2) == b"\r\n"
    return data


def body(client: Peer) -> bytes:
    """A chunked body."""
    return b"".join(iter(lambda: chunk(client), b""))


def asked(web: Web, *lines: bytes) -> tuple[Peer, Peer]:
    """A client and an upstream that has its request."""
    client = web.client(*(lines or [request()]))
    upstream = web.upstreams.accept()
    upstream.head()
    return client, upstream


def counted(web: Web, outcome: str, count: int = 1) -> bool:
    """Whether this became of so many pages, and nothing of others."""
    return {k: n for k, n in web.stats.pages.items() if n} == {outcome: count}
