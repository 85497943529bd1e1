"""Response heads: what is read, what is refused, and how long the body is.

References are to sections of RFC 9112 unless they name another one.
"""

import pytest

from fastpath.http1.head import Header, HeadError, ResponseHead, parse_response

OK = b"HTTP/1.1 200 OK"
LINES_MOST = 1024  # unless an upstream says otherwise
BYTES_MOST = 262_144


def response(*lines: bytes, line: bytes = OK) -> bytes:
    """A response head of `lines`."""
    return b"\r\n".join([line, *lines, b"", b""])


def parsed(data: bytes, to_head: bool = False) -> ResponseHead:
    """The head of `data`, which is a whole and a good one."""
    head = parse_response(data, to_head)
    assert head is not None
    return head


def outcome(data: bytes, seen: int = 0) -> ResponseHead | str | None:
    """What became of `data`: a head, nothing yet, or the name of a fault."""
    try:
        return parse_response(data, False, seen)
    except HeadError as error:
        return error.fault


def test_response_of_every_part_is_read_as_sent() -> None:
    head = parsed(response(b"A:b", b"Connection: A", b"Content-Length: 3") + b"abc")
    assert head == ResponseHead(
        size=58,
        minor=1,
        status=200,
        reason=b"OK",
        headers=(
            Header(b"A", b"b", True),
            Header(b"Connection", b"A", True),
            Header(b"Content-Length", b"3", False),
        ),
        body="sized",
        length=3,
        keep_alive=True,
        upgrade=False,
    )


LINES = {
    "reason": (b"HTTP/1.1 404 Not  Found", 404, b"Not  Found"),
    "no reason": (b"HTTP/1.1 200 ", 200, b""),
    "no reason and no space, as many servers send it": (b"HTTP/1.1 200", 200, b""),
    "reason beyond ASCII": (b"HTTP/1.1 500 \xc3\xa4\t!", 500, b"\xc3\xa4\t!"),
    "least": (b"HTTP/1.1 100 Continue", 100, b"Continue"),
    "most": (b"HTTP/1.1 999 ?", 999, b"?"),
    "old": (b"HTTP/1.0 200 OK", 200, b"OK"),
}


@pytest.mark.parametrize(("line", "status", "reason"), LINES.values(), ids=LINES)
def test_status_line_is_read(line: bytes, status: int, reason: bytes) -> None:
    head = parsed(response(line=line))
    assert (head.status, head.reason) == (status, reason)
    assert head.minor == line[7] - ord("0")


ODD_LINES = {
    "request": ("line", b"GET / HTTP/1.1"),
    "empty line before it": ("line", b"\r\nHTTP/1.1 200 OK"),
    "space before it": ("line", b" HTTP/1.1 200 OK"),
    "another protocol": ("line", b"ICY 200 OK"),
    "small letters": ("line", b"http/1.1 200 OK"),
    "no version": ("line", b"HTTP 200 OK"),
    "HTTP/2": ("line", b"HTTP/2 200 OK"),
    "0.9": ("version", b"HTTP/0.9 200 OK"),
    "1.2": ("version", b"HTTP/1.2 200 OK"),
    "2.0": ("version", b"HTTP/2.0 200 OK"),
    "two spaces": ("line", b"HTTP/1.1  200 OK"),
    "tab": ("line", b"HTTP/1.1\t200 OK"),
    "no status": ("line", b"HTTP/1.1"),
    "no status but a space": ("line", b"HTTP/1.1 "),
    "two digits": ("line", b"HTTP/1.1 20 OK"),
    "four digits": ("line", b"HTTP/1.1 2000 OK"),
    "zero first": ("line", b"HTTP/1.1 099 OK"),
    "letter": ("line", b"HTTP/1.1 2x0 OK"),
    "sign": ("line", b"HTTP/1.1 +20 OK"),
    "tab behind the status": ("line", b"HTTP/1.1 200\tOK"),
    "no space": ("line", b"HTTP/1.1 200OK"),
    "NUL in the reason": ("line", b"HTTP/1.1 200 O\0K"),
    "CR in the reason": ("line", b"HTTP/1.1 200 O\rK"),
    "bare LF": ("eol", b"HTTP/1.1 200 OK\nA: b"),
    "bare LF behind the status": ("eol", b"HTTP/1.1 200\nA: b"),
    "too large": ("too_large", b"HTTP/1.1 200 " + b"a" * BYTES_MOST),
}


@pytest.mark.parametrize(("fault", "line"), ODD_LINES.values(), ids=ODD_LINES)
def test_status_line_is_refused(fault: str, line: bytes) -> None:
    assert outcome(response(line=line)) == fault


# status line, headers, whether it answers a HEAD, body, length
BODIES = {
    "sized": (OK, [b"Content-Length: 7"], False, "sized", 7),
    "of no bytes": (OK, [b"Content-Length: 0"], False, "none", 0),
    "chunked": (OK, [b"transfer-encoding: Chunked"], False, "chunked", 0),
    "to the end": (OK, [], False, "to_eof", 0),
    "old, to the end": (b"HTTP/1.0 200 OK", [], False, "to_eof", 0),
    "old, sized": (b"HTTP/1.0 200 OK", [b"Content-Length: 7"], False, "sized", 7),
    "HEAD": (OK, [], True, "none", 0),
    "HEAD, sized": (OK, [b"Content-Length: 7"], True, "none", 7),
    "HEAD, chunked": (OK, [b"Transfer-Encoding: chunked"], True, "none", 0),
    "100": (b"HTTP/1.1 100 Continue", [], False, "none", 0),
    "101": (b"HTTP/1.1 101 X", [], False, "none", 0),
    "103": (b"HTTP/1.1 103 Early Hints", [b"Link: x"], False, "none", 0),
    "199": (b"HTTP/1.1 199 X", [b"Content-Length: 0"], False, "none", 0),
    "204": (b"HTTP/1.1 204 X", [], False, "none", 0),
    "204, sized": (b"HTTP/1.1 204 X", [b"Content-Length: 0"], False, "none", 0),
    "204, chunked": (
        b"HTTP/1.1 204 X",
        [b"Transfer-Encoding: chunked"],
        False,
        "none",
        0,
    ),
    "304": (b"HTTP/1.1 304 X", [], False, "none", 0),
    "304, sized": (b"HTTP/1.1 304 X", [b"Content-Length: 7"], False, "none", 7),
    "205": (b"HTTP/1.1 205 X", [], False, "to_eof", 0),
    "404, sized": (b"HTTP/1.1 404 X", [b"Content-Length: 7"], False, "sized", 7),
}


@pytest.mark.parametrize(
    ("line", "lines", "to_head", "body", "length"), BODIES.values(), ids=BODIES
)
def test_body_is_so_long(
    line: bytes, lines: list[bytes], to_head: bool, body: str, length: int
) -> None:
    # 6.3
    head = parsed(response(*lines, line=line), to_head)
    assert (head.body, head.length) == (body, length)


SIZED = b"Content-Length: 1"
CHUNKED = b"Transfer-Encoding: chunked"
KEPT = {
    "new": (OK, [SIZED], True),
    "new, close": (OK, [SIZED, b"Connection: x, Close"], False),
    "new, to the end": (OK, [b"Connection: keep-alive"], False),
    "old": (b"HTTP/1.0 200 OK", [SIZED], False),
    "old, keep-alive": (b"HTTP/1.0 200 OK", [SIZED, b"Connection: keep-alive"], True),
    "old, keep-alive, to the end": (
        b"HTTP/1.0 200 OK",
        [b"Connection: keep-alive"],
        False,
    ),
    "no body": (b"HTTP/1.1 204 X", [], True),
    "no body, of no bytes": (b"HTTP/1.1 204 X", [b"Content-Length: 0"], True),
    "no body that may come all the same": (b"HTTP/1.1 204 X", [SIZED], False),
    "no body, chunked": (b"HTTP/1.1 204 X", [CHUNKED], False),
    "not modified": (b"HTTP/1.1 304 X", [SIZED], True),
}


@pytest.mark.parametrize(("line", "lines", "kept"), KEPT.values(), ids=KEPT)
def test_connection_is_kept(line: bytes, lines: list[bytes], kept: bool) -> None:
    # 9.3
    assert parsed(response(*lines, line=line)).keep_alive is kept


def test_upgrade_is_seen_in_a_101() -> None:
    lines = [b"Connection: upgrade", b"Upgrade: SPDY/3.1"]
    head = parsed(response(*lines, line=b"HTTP/1.1 101 Switching Protocols"))
    assert head.upgrade
    assert not parsed(response(*lines[:1])).upgrade


REFUSED = {
    "length twice": ("length", [b"Content-Length: 1", b"Content-Length: 1"]),
    "odd length": ("length", [b"Content-Length: 1,1"]),
    "length and chunked": ("both", [SIZED, b"Transfer-Encoding: chunked"]),
    "other coding": ("coding", [b"Transfer-Encoding: gzip"]),
    "list of codings": ("codings", [b"Transfer-Encoding: gzip, chunked"]),
    "folded": ("fold", [b"A: b", b" c"]),
    "space before the colon": ("name", [b"A : b"]),
    "NUL": ("value", [b"A: \0"]),
    "bare LF": ("eol", [b"A: b\nC: d"]),
    "too many": ("too_many", [b"A: b"] * (LINES_MOST + 1)),
    "too large a line": ("too_large", [b"A: " + b"b" * BYTES_MOST]),
    "too large": ("too_large", [b"A: " + b"b" * 30000] * 9),
}


@pytest.mark.parametrize(("fault", "lines"), REFUSED.values(), ids=REFUSED)
def test_header_is_refused(fault: str, lines: list[bytes]) -> None:
    assert outcome(response(*lines)) == fault


LARGE = {
    "lines": [b"A: b"] * LINES_MOST,
    "a line": [b"A: " + b"b" * (BYTES_MOST - 40)],
    "bytes": [b"A: " + b"b" * 32_000] * 8,
}


@pytest.mark.parametrize("lines", LARGE.values(), ids=LARGE)
def test_large_head_is_read(lines: list[bytes]) -> None:
    # Issue 11, 9 and 25: 120 Warning lines were one too many.
    head = parsed(response(*lines))
    assert [header.value for header in head.headers] == [line[3:] for line in lines]


def test_ambiguous_framing_is_refused_even_in_the_response_to_a_head() -> None:
    # Whoever reads it next may not know what was asked.
    for fault in ("length", "both", "coding", "codings"):
        with pytest.raises(HeadError) as refused:
            parsed(response(*dict(REFUSED.values())[fault]), to_head=True)
        assert refused.value.fault == fault


@pytest.mark.parametrize("status", [b"100", b"103", b"199", b"204", b"304"])
@pytest.mark.parametrize("fault", ["length", "both", "coding", "codings"])
def test_head_that_ends_a_message_ends_it_whatever_it_says(
    status: bytes, fault: str
) -> None:
    # 6.3, rule 1. What is odd is not passed on, and the connection is not used again.
    lines = dict(REFUSED.values())[fault]
    head = parsed(response(b"A: b", *lines, line=b"HTTP/1.1 " + status + b" X"))
    assert (head.body, head.keep_alive) == ("none", False)
    assert [header.hop for header in head.headers] == [False] + [True] * len(lines)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    # 6.1
    lines = [b"Transfer-Encoding: chunked"]
    assert outcome(response(*lines, line=b"HTTP/1.0 200 OK")) == "codings"


@pytest.mark.parametrize("status", [b"100", b"101", b"103", b"199", b"204"])
@pytest.mark.parametrize("framing", [SIZED, CHUNKED])
def test_body_that_cannot_be_is_not_announced_further(
    status: bytes, framing: bytes
) -> None:
    # 6.3; RFC 9110, 8.6. llhttp would wait for the body behind a 120.
    head = parsed(response(framing, line=b"HTTP/1.1 " + status + b" X"))
    assert (head.body, head.keep_alive) == ("none", False)
    assert head.headers[0].hop


def test_headers_about_requests_mean_nothing_in_a_response() -> None:
    head = parsed(response(b"Host: a/b", b"Host: c", b"Expect: 100-continue"))
    assert [header.hop for header in head.headers] == [False] * 3


SAMPLES = [
    response(),
    response(SIZED) + b"body",
    *[response(line=line) for line, _, _ in LINES.values()],
    *[response(line=line) for _, line in ODD_LINES.values() if len(line) < 99],
    *[response(*lines) for _, lines in REFUSED.values() if len(str(lines)) < 99],
]


@pytest.mark.parametrize("data", SAMPLES, ids=range(len(SAMPLES)))
def test_cut_anywhere_the_outcome_is_the_same(data: bytes) -> None:
    whole = outcome(data)
    ended = None
    for size in range(len(data) + 1):  # a byte more each time
        ended = ended or outcome(data[:size], max(size - 1, 0))
        first = outcome(data[:size])
        assert first in (None, whole)
        assert first or outcome(data, size) == whole
    assert ended == whole
