"""Request heads: what is read, what is refused, and that cuts change nothing.

References are to sections of RFC 9112 unless they name another one.
"""

import pytest

from fastpath.http1.head import Header, RequestHead, parse_request
from tests.support.heads import request


def parsed(data: bytes) -> RequestHead:
    """The head of `data`, which is a whole and a good one."""
    head = parse_request(data)
    assert head is not None
    return head


def hops(data: bytes) -> list[bytes]:
    """Names of the headers that are hop-by-hop, in order."""
    return [header.name for header in parsed(data).headers if header.hop]


def test_request_of_every_part_is_read_as_sent() -> None:
    head = parsed(
        b"POST /api/v1/pods?watch=1&x=%3D HTTP/1.1\r\n"
        b"Host: localhost:8001\r\naCCept:\t text/plain ,\t*/* \t\r\nX-Empty:\r\n"
        b"X-High: \xe4\xff\r\nContent-Length: 12\r\n\r\nbody"
    )
    assert head == RequestHead(
        size=137,
        minor=1,
        method=b"POST",
        target=b"/api/v1/pods?watch=1&x=%3D",
        path=b"/api/v1/pods",
        query=b"?watch=1&x=%3D",
        host=b"localhost:8001",
        absolute=False,
        headers=(
            Header(b"Host", b"localhost:8001", False),
            Header(b"aCCept", b"text/plain ,\t*/*", False),
            Header(b"X-Empty", b"", False),
            Header(b"X-High", b"\xe4\xff", False),
            Header(b"Content-Length", b"12", False),
        ),
        body="sized",
        length=12,
        keep_alive=True,
        upgrade=False,
        expects=False,
    )


# line, path, query, host, absolute
TARGETS = {
    "root": (b"GET / HTTP/1.1", b"/", b"", b"a", False),
    "query without path segment": (b"GET /? HTTP/1.1", b"/", b"?", b"a", False),
    "second mark belongs to the query": (
        b"GET /a?b?c HTTP/1.1",
        b"/a",
        b"?b?c",
        b"a",
        False,
    ),
    "path like an authority": (b"GET //b/c HTTP/1.1", b"//b/c", b"", b"a", False),
    "nothing is decoded": (b"GET /%2e%2E%00 HTTP/1.1", b"/%2e%2E%00", b"", b"a", False),
    "every other byte": (
        b"GET /!\"$%&'()*+,-.:;<=>@[\\]^_`{|}~ HTTP/1.1",
        b"/!\"$%&'()*+,-.:;<=>@[\\]^_`{|}~",
        b"",
        b"a",
        False,
    ),
    "absolute": (b"GET http://b:80/c?d HTTP/1.1", b"/c", b"?d", b"b:80", True),
    "absolute in capitals": (b"GET HTTPS://B/ HTTP/1.1", b"/", b"", b"B", True),
    "absolute without path": (b"GET http://b HTTP/1.1", b"", b"", b"b", True),
    "absolute with query only": (
        b"GET http://b?c/d HTTP/1.1",
        b"",
        b"?c/d",
        b"b",
        True,
    ),
    "absolute with ipv6": (
        b"GET http://[::1]:9/ HTTP/1.1",
        b"/",
        b"",
        b"[::1]:9",
        True,
    ),
    "asterisk": (b"OPTIONS * HTTP/1.1", b"*", b"", b"a", False),
    "authority": (b"CONNECT b:443 HTTP/1.1", b"", b"", b"a", False),
}


@pytest.mark.parametrize(
    ("line", "path", "query", "host", "absolute"), TARGETS.values(), ids=TARGETS
)
def test_target_is_split(
    line: bytes, path: bytes, query: bytes, host: bytes, absolute: bool
) -> None:
    # 3.2; an absolute target's authority wins over Host (3.2.2).
    head = parsed(request(line=line))
    assert head.target == line.split(b" ")[1]
    assert (head.path, head.query, head.host) == (path, query, host)
    assert head.absolute is absolute


METHODS = [b"GET", b"get", b"PATCH", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"X" * 100]


@pytest.mark.parametrize("method", METHODS)
def test_method_is_any_token(method: bytes) -> None:
    # Facts E: kubectl's proxy passes `get` on; RFC 9110, 9.1.
    assert parsed(request(line=method + b" / HTTP/1.1")).method == method


HOSTS = [
    b"a",
    b"a-b.c_d~e",
    b"127.0.0.1:8001",
    b"[::1]",
    b"[fe80::1%25eth0]:65535",
    b"xn--bcher-kva.example",
    b"a%20b",
    b"!$&'()*+;=",
    b"",
]


@pytest.mark.parametrize("host", HOSTS)
def test_host_is_a_name_with_or_without_port_or_empty(host: bytes) -> None:
    # 3.2: empty where the target has no authority; the rest is RFC 3986, 3.2.2.
    assert parsed(request(host=b"Host: " + host + b"\r\n")).host == host


def test_http_1_0_needs_no_host() -> None:
    assert parsed(request(line=b"GET / HTTP/1.0", host=b"")).host == b""


LENGTHS = [
    (b"0", "none", 0),
    (b"1", "sized", 1),
    (b"007", "sized", 7),
    (b"9223372036854775807", "sized", 2**63 - 1),
]


@pytest.mark.parametrize(("value", "body", "length"), LENGTHS)
def test_content_length_sizes_the_body(value: bytes, body: str, length: int) -> None:
    head = parsed(request(b"Content-Length: " + value))
    assert (head.body, head.length) == (body, length)


@pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b"\t Chunked  "])
def test_transfer_encoding_chunked_chunks_the_body(value: bytes) -> None:
    assert parsed(request(b"Transfer-Encoding:" + value)).body == "chunked"


def test_request_without_framing_has_no_body() -> None:
    assert parsed(request()).body == "none"


# version, Connection lines, whether it is kept
KEPT = [
    (b"1.1", [], True),
    (b"1.1", [b"close"], False),
    (b"1.1", [b"ClOsE"], False),
    (b"1.1", [b"x, close ,y"], False),
    (b"1.1", [b"x", b",,close"], False),
    (b"1.1", [b"keep-alive, close"], False),
    (b"1.1", [b"closed, not-close, close-"], True),
    (b"1.0", [], False),
    (b"1.0", [b"Keep-Alive"], True),
    (b"1.0", [b"keep-alive, close"], False),
]


@pytest.mark.parametrize(("version", "connection", "kept"), KEPT)
def test_connection_is_kept(
    version: bytes, connection: list[bytes], kept: bool
) -> None:
    # 9.3
    lines = [b"Connection: " + value for value in connection]
    assert parsed(request(*lines, line=b"GET / HTTP/" + version)).keep_alive is kept


UPGRADES = [
    (b"1.1", [b"Connection: Upgrade", b"Upgrade: websocket"], True),
    (b"1.1", [b"Upgrade: x", b"Connection: keep-alive, UPGRADE"], True),
    (b"1.1", [b"Upgrade: websocket"], False),
    (b"1.1", [b"Connection: Upgrade"], False),
    (b"1.1", [b"Connection: upgrades", b"Upgrade: x"], False),
    (b"1.0", [b"Connection: Upgrade", b"Upgrade: websocket"], False),
]


@pytest.mark.parametrize(("version", "lines", "upgrade"), UPGRADES)
def test_upgrade_takes_two_headers_and_http_1_1(
    version: bytes, lines: list[bytes], upgrade: bool
) -> None:
    # RFC 9110, 7.8
    assert parsed(request(*lines, line=b"GET / HTTP/" + version)).upgrade is upgrade


@pytest.mark.parametrize(
    ("version", "value", "expects"),
    [
        (b"1.1", b"100-continue", True),
        (b"1.1", b"100-Continue", True),
        (b"1.1", b"200-ok", False),
        (b"1.0", b"100-continue", False),
    ],
)
def test_expectation_is_100_continue_on_http_1_1(
    version: bytes, value: bytes, expects: bool
) -> None:
    # RFC 9110, 10.1.1
    data = request(b"Expect: " + value, line=b"PUT / HTTP/" + version)
    assert parsed(data).expects is expects


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"KEEP-ALIVE",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"TE",
        b"trailer",
        b"Upgrade",
    ],
)
def test_header_is_hop_by_hop_by_its_name(name: bytes) -> None:
    # Facts A6; RFC 9110, 7.6.1
    assert hops(request(b"Accept: x", name + b": x")) == [name]


def test_transfer_encoding_is_hop_by_hop() -> None:
    assert hops(request(b"Transfer-Encoding: chunked")) == [b"Transfer-Encoding"]


def test_connection_names_headers_that_are_hop_by_hop() -> None:
    # Before it and behind it, in any case, each of several lines, commas and spaces.
    data = request(
        b"x-a: 1",
        b"Connection: X-A ,,\tx-b",
        b"Connection: x-c",
        b"X-B: 2",
        b"X-b: 3",
        b"X-C: 4",
        b"X-AB: 5",
        b"X: 6",
    )
    connection = b"Connection"
    assert hops(data) == [b"x-a", connection, connection, b"X-B", b"X-b", b"X-C"]


GUARDED = [
    b"Host: b",
    b"Authorization: Bearer x",
    b"Cookie: x",
    b"Content-Length: 4",
    b"Expect: 100-continue",
    b"Origin: x",
    b"Forwarded: for=x",
    b"X-Real-IP: x",
    b"X-Forwarded-For: 10.0.0.1",
    b"X-Forwarded-Anything: x",
    b"X-Remote-User: x",
    b"Impersonate-User: x",
    b"TE: trailers",
]


@pytest.mark.parametrize("line", GUARDED)
def test_connection_cannot_take_away_what_others_decide_by(line: bytes) -> None:
    # CVE-2022-32148 and its like.
    data = request(line, b"Connection: " + line.split(b":")[0].lower(), host=b"")
    line_1 = b"GET / HTTP/1.0"
    assert hops(data.replace(b"GET / HTTP/1.1", line_1)) == [b"Connection"]


@pytest.mark.parametrize(
    ("value", "hop"),
    [(b"trailers", False), (b"Trailers", False), (b"trailers, x", True), (b"", True)],
)
def test_te_is_end_to_end_if_it_is_trailers_and_nothing_else(
    value: bytes, hop: bool
) -> None:
    # Facts A6: kept by kubectl's proxy, although Connection must name it.
    names = hops(request(b"TE: " + value, b"Connection: TE"))
    assert (b"TE" in names) is hop
