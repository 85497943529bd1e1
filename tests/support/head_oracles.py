"""Two other parsers of HTTP/1.1, asked about what ours has accepted.

llhttp (in httptools, with its strict defaults) and h11. Whatever we accept, both of
them must accept, and must understand as we do: otherwise there is a message that we
read in one way and an upstream reads in another, which is how requests are smuggled.
"""

from dataclasses import dataclass, field

import h11
import httptools

from fastpath.http1.chunks import Chunks
from fastpath.http1.head import (
    HeadError,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
)

# llhttp knows methods by name, we pass on any token.
LLHTTP_METHODS = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND"
    b" PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE"
    b" M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK".split()
)
# It reads a body behind any other 1xx; RFC 9112, 6.3 has none.
LLHTTP_INTERIM = (b"100", b"101", b"102", b"103")
FRAMING = (b"content-length", b"transfer-encoding")
BODY_MOST = 1 << 16  # longer ones are compared by their heads only
Headers = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """What a parser understood."""

    first: tuple[bytes, ...]  # method and target, or status and reason
    minor: int
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    complete: bool = False
    kept: bool = False


class Llhttp:
    """Calls of httptools, kept."""

    def __init__(self, data: bytes, request: bool) -> None:
        self.message = Message((b"",), -1, [])
        self.ended = 0  # messages
        self.head = False
        kind = httptools.HttpRequestParser if request else httptools.HttpResponseParser
        self.parser = kind(self)
        self.request = request
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if upgrade.args[0] != len(data):
                raise AssertionError("llhttp sees less of a body") from upgrade
        except httptools.HttpParserError as error:
            if self.ended != 1 or "Pause on CONNECT/Upgrade" not in str(error):
                raise  # so it ends a 101

    def on_url(self, url: bytes) -> None:
        self.message.first = (*self.message.first[:-1], self.message.first[-1] + url)

    on_status = on_url

    def on_header(self, name: bytes, value: bytes) -> None:
        into = self.message.trailers if self.head else self.message.headers
        into.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head = True
        self.message.minor = int(self.parser.get_http_version()[2:])
        self.message.kept = self.parser.should_keep_alive()
        if isinstance(self.parser, httptools.HttpRequestParser):
            first = self.parser.get_method()
        else:
            first = b"%d" % self.parser.get_status_code()
        self.message.first = (first, *self.message.first)

    def on_body(self, data: bytes) -> None:
        self.message.body += data

    def on_message_complete(self) -> None:
        self.message.complete = True
        self.ended += 1


def llhttp_message(data: bytes, request: bool) -> Message:
    """What llhttp makes of `data`, which is one message.

    Raises:
        HttpParserError: it refuses.
    """
    empty, data = empty_lines(data)
    start, method = len(b"HTTP/1.x "), data.split(b" ", 1)[0]
    first = method if request else data[start : start + 3]
    if request and method not in LLHTTP_METHODS:
        data = b"POST" + data[len(method) :]
    elif not request and first.startswith(b"1") and first not in LLHTTP_INTERIM:
        data = data[:start] + LLHTTP_INTERIM[-1] + data[start + 3 :]
    llhttp = Llhttp(empty + data, request)
    assert llhttp.head, "llhttp wants more"
    assert llhttp.ended <= 1, "llhttp sees several messages"
    llhttp.message.first = (first, *llhttp.message.first[1:])
    return llhttp.message


def h11_message(data: bytes, request: bool) -> Message:
    """What h11 makes of `data`, which is one message.

    Raises:
        RemoteProtocolError: it refuses.
    """
    most = len(data) + 1
    role = h11.SERVER if request else h11.CLIENT
    connection = h11.Connection(role, max_incomplete_event_size=most)
    if not request:
        asked = [("host", "a"), ("connection", "upgrade"), ("upgrade", "x")]
        connection.send(h11.Request(method="GET", target="/", headers=asked))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    event = connection.next_event()
    if isinstance(event, h11.Request):
        first = (event.method, event.target)
    else:
        assert isinstance(event, h11.Response | h11.InformationalResponse), event
        first = (b"%d" % event.status_code, event.reason)
    minor = int(event.http_version[2:])
    message = Message(first, minor, list(event.headers))
    if isinstance(event, h11.InformationalResponse):
        message.complete = True
        return message
    while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(event, h11.Data):
            message.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            message.trailers = list(event.headers)
            message.complete = True
    return message


@dataclass
class Body:
    """What we say about the bytes behind a head."""

    raw: bytes
    data: bytes
    complete: bool
    trailers: Headers = field(default_factory=list)


def unchunked(raw: bytes) -> Body | None:
    """The chunked body that `raw` begins with; None = we refuse it."""
    chunks, data, trailers, at = Chunks(), b"", b"", 0
    try:
        while at < len(raw) and not chunks.done:
            piece = raw[at : at + max(chunks.left, 1)]
            data += piece if chunks.left else b""
            trailers += piece if chunks.trailing else b""
            at += chunks.walk(piece)
    except HeadError:
        return None
    lines = trailers.split(b"\r\n")[:-2] if chunks.done else []
    pairs = [line.partition(b":") for line in lines]
    fields = [(name, value.strip(b" \t")) for name, _, value in pairs]
    return Body(raw[:at], data, chunks.done, fields)


def body_of(head: RequestHead | ResponseHead, rest: bytes) -> Body | None:
    """The body in `rest`, made whole if it is sized; None = we refuse it."""
    if head.body == "none":
        return Body(b"", b"", True)
    if head.body == "to_eof":
        return Body(rest, rest, False)
    if head.body == "chunked":
        return unchunked(rest)
    if head.length > BODY_MOST:
        return Body(b"", b"", False)
    data = (rest + b"x" * head.length)[: head.length]
    return Body(data, data, True)


def ask(data: bytes, request: bool, ours: Message) -> None:
    """Fail unless both oracles read `data` as we did.

    Raises:
        HttpParserError: llhttp refuses it.
        RemoteProtocolError: h11 does.
    """
    theirs = llhttp_message(data, request)
    # It takes Proxy-Connection for Connection.
    proxied = any(name.lower() == b"proxy-connection" for name, _ in ours.headers)
    assert theirs.kept or proxied or not ours.kept, "llhttp would close"
    theirs.kept = ours.kept
    if not ours.complete:
        theirs.trailers = []  # it tells them one by one, we when all are there
    assert theirs == ours, f"{theirs} but {ours}"
    theirs = h11_message(empty_lines(data)[1], request)  # it wants none of them
    theirs.kept = ours.kept
    ours.headers, ours.trailers = lowered(ours.headers), lowered(ours.trailers)
    assert theirs == ours, f"{theirs} but {ours}"


def lowered(headers: Headers) -> Headers:
    """`headers` as h11 gives them."""
    coding = b"transfer-encoding"
    pairs = [(name.lower(), value) for name, value in headers]
    return [(name, value.lower() if name == coding else value) for name, value in pairs]


def empty_lines(data: bytes) -> tuple[bytes, bytes]:
    """The empty lines that `data` begins with, and the rest."""
    at = 0
    while data.startswith(b"\r\n", at):
        at += 2
    return data[:at], data[at:]


def is_bodiless(status: int) -> bool:
    """Whether responses of this status end with their head."""
    return status < 200 or status in (204, 304)


def without_framing(head: bytes) -> bytes:
    """`head` without the lines that speak of a body."""
    lines = head.split(b"\r\n")
    kept = [line for line in lines if line.split(b":")[0].lower() not in FRAMING]
    return b"\r\n".join(kept)


def agree(data: bytes, request: bool) -> bool:
    """Whether we accept the message that `data` begins with.

    Raises:
        AssertionError: an oracle understands it in another way.
    """
    try:
        head = parse_request(data) if request else parse_response(data)
    except HeadError:
        return False
    if head is None:
        return False
    body = body_of(head, data[head.size :])
    if body is None:
        return False
    if isinstance(head, RequestHead):
        first: tuple[bytes, ...] = head.method, head.target
    else:
        first = b"%d" % head.status, head.reason
    ours = Message(
        first,
        head.minor,
        [(name, value) for name, value, _ in head.headers],
        body.data,
        body.trailers,
        body.complete,
        head.keep_alive,
    )
    whole = data[: head.size] + body.raw
    if isinstance(head, ResponseHead) and is_bodiless(head.status):
        # They may refuse what such a head says of a body, or wait for it; RFC 9112, 6.3
        # has us ignore it, and none of it is passed on.
        whole = without_framing(whole)
        ours.headers = [pair for pair in ours.headers if pair[0].lower() not in FRAMING]
    if body.complete and whole[head.size :]:
        assert not llhttp_message(whole[:-1], request).complete, "it ends too early"
    ask(whole, request, ours)
    return True
