"""Requests that are refused, each for its reason; and that cuts change no outcome.

References are to sections of RFC 9112 unless they name another one.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.http1.head import HeadError, parse_request
from tests.support.heads import (
    HEAD_MOST,
    HEADERS_MOST,
    LINE_MOST,
    outcome,
    request,
)

CONTROLS = [byte for byte in [*range(32), 127] if byte not in b"\t\r\n"]
NOT_TOKEN = b'"(),/;<=>?@[\\]{}\x7f\x80\xff\x00\x1f'

# 3 and 3.1: one space between, a token first
LINES = {
    "line feed before it": b"\nGET / HTTP/1.1",
    "more empty lines before it than anybody sends": b"\r\n" * 9 + b"GET / HTTP/1.1",
    "carriage return before it": b"\rGET / HTTP/1.1",
    "empty line but for a space": b" \r\nGET / HTTP/1.1",
    "space before it": b" GET / HTTP/1.1",
    "no method": b" / HTTP/1.1",
    "tab behind the method": b"GET\t/ HTTP/1.1",
    "method and nothing else": b"GET",
    "method of two lines": b"GE\rT / HTTP/1.1",
    "colon in the method": b"Host: a",
    "no slash in the version": b"GET / HTTP1.1",
    "version in small letters": b"GET / http/1.1",
    "version with a space": b"GET / HTTP/ 1.1",
    "version with two digits": b"GET / HTTP/1.11",
    "version without minor": b"GET / HTTP/1",
    "another protocol": b"GET / ICY/1.1",
    "something behind the version": b"GET / HTTP/1.1 x",
    "space behind the version": b"GET / HTTP/1.1 ",
    "carriage return behind the version": b"GET / HTTP/1.1\r",
    "no version, two spaces": b"GET /  ",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
VERSIONS = {
    "0.9": b"GET / HTTP/0.9",
    "1.2": b"GET / HTTP/1.2",
    "2.0": b"GET / HTTP/2.0",
    "9.9": b"GET / HTTP/9.9",
}
# 3.2; RFC 3986
TARGETS = {
    "none": b"GET  HTTP/1.1",
    "two spaces": b"GET  / HTTP/1.1",
    "no version": b"GET /",
    "fragment": b"GET /a#b HTTP/1.1",
    "tab": b"GET /a\tb HTTP/1.1",
    "NUL": b"GET /a\0b HTTP/1.1",
    "DEL": b"GET /a\x7fb HTTP/1.1",
    "not ASCII": b"GET /\xc3\xa4 HTTP/1.1",
    "highest byte": b"GET /\xff HTTP/1.1",
    "carriage return": b"GET /\rb HTTP/1.1",
    "no slash": b"GET a HTTP/1.1",
    "query alone": b"GET ?a HTTP/1.1",
    "asterisk not of OPTIONS": b"GET * HTTP/1.1",
    "asterisk of options": b"options * HTTP/1.1",
    "asterisk and more": b"OPTIONS */a HTTP/1.1",
    "HTTP/2": b"PRI * HTTP/2.0",
    "another scheme": b"GET ftp://a/ HTTP/1.1",
    "no scheme": b"GET ://a/ HTTP/1.1",
    "one slash": b"GET http:/a/ HTTP/1.1",
    "no authority": b"GET http:// HTTP/1.1",
    "empty authority": b"GET http:///a HTTP/1.1",
    "empty authority, query": b"GET https://?a HTTP/1.1",
    "user": b"GET http://u@a/ HTTP/1.1",
    "user and password": b"GET http://u:p@a/ HTTP/1.1",
    "odd port": b"GET http://a:b/ HTTP/1.1",
    "backslash": b"GET http://a\\b/ HTTP/1.1",
    "authority not of CONNECT": b"GET a:80 HTTP/1.1",
    "CONNECT to a path": b"CONNECT /a HTTP/1.1",
    "CONNECT to a URL": b"CONNECT http://a/ HTTP/1.1",
    "CONNECT without port": b"CONNECT a HTTP/1.1",
    "CONNECT without host": b"CONNECT :80 HTTP/1.1",
    "CONNECT with a query": b"CONNECT a:80?b HTTP/1.1",
    "CONNECT to an asterisk": b"CONNECT * HTTP/1.1",
}
FIRST_LINES = (
    [("line", name, line) for name, line in LINES.items()]
    + [("version", name, line) for name, line in VERSIONS.items()]
    + [("target", name, line) for name, line in TARGETS.items()]
)


@pytest.mark.parametrize(
    ("fault", "line"),
    [(fault, line) for fault, _, line in FIRST_LINES],
    ids=[f"{fault}: {name}" for fault, name, _ in FIRST_LINES],
)
def test_request_line_is_refused(fault: str, line: bytes) -> None:
    assert outcome(request(line=line)) == fault


# Lines behind the request line and Host, and why they are refused.
HEADERS = {
    "space before the colon (5.1)": ("name", b"A : b"),
    "tab before the colon": ("name", b"A\t: b"),
    "no name": ("name", b": b"),
    "no colon": ("name", b"abc"),
    "space in the name": ("name", b"A b: c"),
    "carriage return in the name": ("name", b"A\rb: c"),
    "carriage return first": ("name", b"\rA: b"),
    "folded (5.2)": ("fold", b"A: b\r\n c: d"),
    "folded with tab": ("fold", b"A: b\r\n\tc"),
    "folded, white space only": ("fold", b"A: b\r\n "),
    "bare LF in a name (2.2)": ("eol", b"A\nB: c"),
    "bare LF in a value": ("eol", b"A: b\nC: d"),
    "bare LF first": ("eol", b"\nA: b"),
    "LF CR": ("eol", b"A: b\n\r"),
    "bare CR in a value": ("value", b"A: b\rC: d"),
    "two CR": ("value", b"A: b\r"),
    "length: empty (6.2)": ("length", b"Content-Length:"),
    "length: plus": ("length", b"Content-Length: +1"),
    "length: minus": ("length", b"Content-Length: -1"),
    "length: space": ("length", b"Content-Length: 1 2"),
    "length: tab behind": ("length", b"Content-Length: 1 \t"),
    "length: list": ("length", b"Content-Length: 1, 1"),
    "length: comma": ("length", b"Content-Length: 1,"),
    "length: hexadecimal": ("length", b"Content-Length: 0x1"),
    "length: fraction": ("length", b"Content-Length: 1.0"),
    "length: underscore": ("length", b"Content-Length: 1_0"),
    "length: other digits": ("length", b"Content-Length: \xb2"),
    "length: letter": ("length", b"Content-Length: 1a"),
    "length: 2^63": ("length", b"Content-Length: 9223372036854775808"),
    "length: 2^64": ("length", b"Content-Length: 18446744073709551616"),
    "length: 20 digits": ("length", b"Content-Length: 00000000000000000001"),
    "length: 300 digits": ("length", b"Content-Length: " + b"1" * 300),
    "length: two that differ": ("length", b"Content-Length: 1\r\nContent-Length: 2"),
    "length: two equal ones": ("length", b"Content-Length: 1\r\ncontent-length: 1"),
    "length: two zeros": ("length", b"Content-Length: 0\r\nContent-Length: 0"),
    "length, then chunked (6.3)": (
        "both",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
    ),
    "chunked, then length": (
        "both",
        b"Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 1",
    ),
    "length of 0 and chunked": (
        "both",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
    ),
    "coding: another (6.1)": ("coding", b"Transfer-Encoding: gzip"),
    "coding: much like it": ("coding", b"Transfer-Encoding: xchunked"),
    "coding: empty": ("codings", b"Transfer-Encoding:"),
    "coding: identity": ("codings", b"Transfer-Encoding: identity"),
    "coding: twice": ("codings", b"Transfer-Encoding: chunked, chunked"),
    "coding: tab behind": ("codings", b"Transfer-Encoding: chunked\t "),
    "coding: list": ("codings", b"Transfer-Encoding: gzip, chunked"),
    "coding: comma": ("codings", b"Transfer-Encoding: chunked,"),
    "coding: comma first": ("codings", b"Transfer-Encoding: ,chunked"),
    "coding: parameter": ("codings", b"Transfer-Encoding: chunked;a=b"),
    "coding: quoted": ("codings", b'Transfer-Encoding: "chunked"'),
    "coding: two lines": (
        "codings",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ),
    "coding: two lines, empty one": (
        "codings",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    ),
    "host: two": ("host", b"Host: a"),
    "host: two, empty one": ("host", b"host:"),
    "connection: more names than anybody needs": (
        "options",
        b"Connection: " + b"a," * 33,
    ),
    "connection: too many in two lines": (
        "options",
        b"Connection: " + b"a," * 16 + b"\r\nConnection: " + b"b," * 17,
    ),
}


@pytest.mark.parametrize(("fault", "line"), HEADERS.values(), ids=HEADERS)
def test_header_is_refused(fault: str, line: bytes) -> None:
    assert outcome(request(line)) == fault
    assert outcome(request(line, b"Accept: x")) == fault


@pytest.mark.parametrize("byte", CONTROLS)
@pytest.mark.parametrize("before", range(0, 17))
def test_control_character_in_a_value_is_refused(byte: int, before: int) -> None:
    # 5.5 of RFC 9110. At every place of the eight bytes that are looked at at once, and
    # beside characters of which one bit differs.
    value = b" \x80\x7e!\xa0\xff\t  "[: before % 9] + b"x" * (before // 9 * 8)
    data = request(b"A: x" + value + bytes([byte]) + b"yyyyyyyyyyyyyyyy")
    assert outcome(data) == "value"


@pytest.mark.parametrize("byte", NOT_TOKEN)
def test_name_and_method_of_other_than_token_are_refused(byte: int) -> None:
    # 5.6.2 of RFC 9110
    odd = b"A" + bytes([byte]) + b"b"
    assert outcome(request(odd + b": c")) == "name"
    assert outcome(request(line=odd + b" / HTTP/1.1")) == "line"


def test_every_byte_that_is_neither_control_nor_blank_may_be_in_a_value() -> None:
    value = bytes(b for b in range(256) if b not in CONTROLS and b not in b"\r\n")
    head = parse_request(request(b"A: x" + value + b"x"))
    assert head is not None
    assert head.headers[-1].value == b"x" + value + b"x"


HOSTS = {
    "list": b"a, b",
    "comma": b"a,b",
    "space": b"a b",
    "slash": b"a/b",
    "user": b"u@a",
    "query": b"a?b",
    "fragment": b"a#b",
    "backslash": b"a\\b",
    "quote": b'"a"',
    "not ASCII": b"\xc3\xa4",
    "URL": b"http://a",
    "port without name": b":80",
    "empty port": b"a:",
    "odd port": b"a:b",
    "port with sign": b"a:+80",
    "long port": b"a:000080",
    "two ports": b"a:80:80",
    "ipv6 without brackets": b"::1",
    "open bracket": b"[::1",
    "close bracket": b"::1]",
    "empty brackets": b"[]",
    "name behind brackets": b"[::1]a",
    "odd port behind brackets": b"[::1]:a",
    "brackets in brackets": b"[[::1]]",
    "name before brackets": b"a[::1]",
    "tab": b"a\tb",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_odd_host_is_refused(host: bytes) -> None:
    # 3.2: one host, and a valid one
    for version in (b"1.0", b"1.1"):
        data = request(line=b"GET / HTTP/" + version, host=b"Host: " + host + b"\r\n")
        assert outcome(data) == "host"
    target = b"GET http://" + host + b"/ HTTP/1.1"
    if host not in (b"a/b", b"a?b"):
        assert outcome(request(line=target)) in ("target", "line")


def test_http_1_1_without_host_is_refused() -> None:
    for line in (b"GET / HTTP/1.1", b"GET http://a/ HTTP/1.1", b"OPTIONS * HTTP/1.1"):
        assert outcome(request(b"Hos: a", b"Hostt: b", line=line, host=b"")) == "host"


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    # 6.1
    line = b"POST / HTTP/1.0"
    assert outcome(request(b"Transfer-Encoding: chunked", line=line)) == "codings"


UPGRADES = {
    "sized": (b"POST / HTTP/1.1", [b"Upgrade: h2c", b"Content-Length: 1"], "upgrade"),
    "chunked": (
        b"GET / HTTP/1.1",
        [b"Transfer-Encoding: chunked", b"Upgrade: websocket"],
        "upgrade",
    ),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1", [b"Content-Length: 1"], "upgrade"),
    "of no bytes": (b"GET / HTTP/1.1", [b"Upgrade: x", b"Content-Length: 0"], None),
    "old": (b"GET / HTTP/1.0", [b"Upgrade: x", b"Content-Length: 1"], "upgrade"),
    "no upgrade": (b"GET / HTTP/1.1", [b"Content-Length: 1"], None),
}


@pytest.mark.parametrize(("line", "lines", "fault"), UPGRADES.values(), ids=UPGRADES)
def test_upgrade_with_a_body_is_refused(
    line: bytes, lines: list[bytes], fault: str | None
) -> None:
    # Facts B15. llhttp takes such a body for bytes of the new protocol.
    became = outcome(request(*lines, line=line))
    assert became == fault or (fault is None and isinstance(became, tuple))


STATUSES = [
    (request(b"A : b"), 400),
    (request(line=b"GET / HTTP/1.2"), 505),
    (request(b"Transfer-Encoding: gzip"), 501),
    (request(b"Transfer-Encoding: identity"), 400),
    (request(line=b"GET /" + b"a" * LINE_MOST + b" HTTP/1.1"), 414),
    (request(b"A: " + b"b" * LINE_MOST), 431),
    (request(*[b"A: " + b"b" * 1000] * 66), 431),
    (request(*[b"A: b"] * HEADERS_MOST), 431),
]


LIMITS = {
    "too_long": (LINE_MOST, request(b"A: " + b"b" * LINE_MOST)),
    "long_target": (LINE_MOST, request(line=b"GET /" + b"a" * LINE_MOST)),
    "too_large": (HEAD_MOST, request(*[b"A: " + b"b" * 1000] * 66)),
    "too_many": (HEADERS_MOST, request(*[b"A: b"] * HEADERS_MOST)),
    "options": (32, request(b"Connection: " + b"a," * 33)),
}


@pytest.mark.parametrize("fault", LIMITS)
def test_fault_of_size_says_what_the_limit_is(fault: str) -> None:
    limit, data = LIMITS[fault]
    with pytest.raises(HeadError, match=rf"more than {limit} ") as caught:
        parse_request(data)
    assert caught.value.fault == fault


@pytest.mark.parametrize(("data", "status"), STATUSES, ids=range(len(STATUSES)))
def test_fault_has_its_status_and_says_what_it_is(data: bytes, status: int) -> None:
    with pytest.raises(HeadError, match=r"\w+ \w+") as caught:
        parse_request(data)
    assert caught.value.status == status


def padded(name: bytes, size: int) -> bytes:
    """A header line of `size` bytes, CRLF included, without it."""
    return name + b": " + b"x" * (size - len(name) - 4)


def test_line_of_the_most_bytes_is_read_and_one_more_is_too_long() -> None:
    path = b"/" * (LINE_MOST - len(b"GET  HTTP/1.1\r\n"))
    assert parse_request(request(line=b"GET " + path + b" HTTP/1.1"))
    assert outcome(request(line=b"GET /" + path + b" HTTP/1.1")) == "long_target"
    assert parse_request(request(padded(b"A", LINE_MOST)))
    assert outcome(request(padded(b"A", LINE_MOST + 1))) == "too_long"
    assert outcome(request(b"A" * LINE_MOST)) == "too_long"


def test_head_of_the_most_bytes_is_read_and_one_more_is_too_large() -> None:
    rest = HEAD_MOST - len(request()) - LINE_MOST
    most = request(padded(b"A", LINE_MOST), padded(b"B", rest))
    assert len(most) == HEAD_MOST
    assert parse_request(most)
    assert parse_request(most + b"x" * HEAD_MOST)
    more = request(padded(b"A", LINE_MOST), padded(b"B", rest + 1))
    assert outcome(more) == "too_large"
    assert outcome(more[:HEAD_MOST]) == "too_large"
    assert outcome(more[: HEAD_MOST - 1]) is None


def test_headers_are_so_many_and_not_one_more() -> None:
    assert parse_request(request(*[b"A: b"] * (HEADERS_MOST - 1)))
    assert outcome(request(*[b"A: b"] * HEADERS_MOST)) == "too_many"


SAMPLES = [
    request(),
    b"\r\n\r\n" + request(),
    b"\r\n" * 8 + request(),
    request(line=b"GET http://b/c?d HTTP/1.0"),
    request(b"Content-Length: 5", b"X: y", b"Connection: close, x"),
    *[request(line=line) for _, _, line in FIRST_LINES],
    *[request(line, b"Accept: x") for _, line in HEADERS.values()],
]


@pytest.mark.parametrize("data", SAMPLES, ids=range(len(SAMPLES)))
def test_cut_anywhere_the_outcome_is_the_same(data: bytes) -> None:
    whole = outcome(data)
    ended = None
    for size in range(len(data) + 1):  # a byte more each time
        ended = ended or outcome(data[:size], max(size - 1, 0))
        # What a first look says of a beginning is never taken back.
        first = outcome(data[:size])
        assert first in (None, whole)
        assert first or outcome(data, size) == whole
    assert ended == whole


ENDS = [b"\0\r\nB", b"\r\r\nB", b"x\nBB", b"x\r\n B", b"x\r\n\r\n"]


@given(data=st.data())
def test_large_head_in_pieces_has_the_same_outcome(data: st.DataObject) -> None:
    # Around the limits, where what is refused depends on how much is looked at.
    near = st.sampled_from([-3, -2, -1, 0, 1, 2, 3])
    rest = HEAD_MOST - len(request()) - LINE_MOST
    first, second = LINE_MOST + data.draw(near), rest + data.draw(near)
    end = data.draw(st.sampled_from([b"", b"\0", b"\n", b"\r"]))
    whole = request(padded(b"A", first), padded(b"B", second)) + end
    if data.draw(st.booleans()):
        whole = whole.replace(b"x\r\nB", data.draw(st.sampled_from(ENDS)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    ended, seen = None, 0
    for size in [*cuts, len(whole)]:
        ended = ended or outcome(whole[:size], seen)
        seen = size
    assert ended == outcome(whole)
