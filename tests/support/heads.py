"""Heads for tests: requests to write, and what became of them."""

from fastpath.http1.head import HeadError, RequestHead, parse_request

LINE_MOST = 32768  # bytes of a line, see fastpath/framing.pxd
HEAD_MOST = 65536
HEADERS_MOST = 128
HOST = b"Host: a\r\n"


def request(
    *lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST
) -> bytes:
    """A request with one Host line, and `lines` behind it."""
    return line + b"\r\n" + host + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


def outcome(data: bytes, seen: int = 0) -> RequestHead | str | None:
    """What became of `data`: a head, nothing yet, or the name of a fault."""
    try:
        return parse_request(data, seen)
    except HeadError as error:
        return error.fault
