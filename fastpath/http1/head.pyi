from typing import Literal, NamedTuple

from fastpath.http1.framing import HeadError

__all__ = [
    "HeadError",
    "Header",
    "RequestHead",
    "ResponseHead",
    "parse_request",
    "parse_response",
]

BODY_NAMES: tuple[str, ...]

class Header(NamedTuple):
    name: bytes
    value: bytes
    hop: bool

class RequestHead(NamedTuple):
    size: int
    minor: int
    method: bytes
    target: bytes
    path: bytes
    query: bytes
    host: bytes
    absolute: bool
    headers: tuple[Header, ...]
    body: Literal["none", "sized", "chunked", "to_eof"]
    length: int
    keep_alive: bool
    upgrade: bool
    expects: bool

class ResponseHead(NamedTuple):
    size: int
    minor: int
    status: int
    reason: bytes
    headers: tuple[Header, ...]
    body: Literal["none", "sized", "chunked", "to_eof"]
    length: int
    keep_alive: bool
    upgrade: bool

def parse_request(data: bytes, seen: int = 0) -> RequestHead | None: ...
def parse_response(
    data: bytes, to_head: bool = False, seen: int = 0
) -> ResponseHead | None: ...
