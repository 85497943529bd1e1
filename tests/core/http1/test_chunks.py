"""Chunked bodies: where they end, and what is refused.

References are to sections of RFC 9112 unless they name another one.
"""

import pytest

from fastpath.http1.chunks import Chunks
from fastpath.http1.head import HeadError

LINE_MOST = 4096  # bytes of a size line
TRAILER_LINE_MOST = 32768
TRAILERS_MOST = 128
TRAILER_BYTES_MOST = 65536


def walked(data: bytes, pieces: int = 1 << 30) -> tuple[int, bool] | str:
    """Bytes of the body in `data`, and whether it has ended; or the name of a fault."""
    chunks, total = Chunks(), 0
    try:
        for at in range(0, len(data), pieces):
            piece = data[at : at + pieces]
            size = chunks.walk(piece)
            total += size
            if size < len(piece):
                assert chunks.done
                break
    except HeadError as error:
        with pytest.raises(HeadError):  # and it stays so
            chunks.walk(b"")
        return error.fault
    return total, chunks.done


BODIES = {
    "empty (7.1)": b"0\r\n\r\n",
    "one chunk": b"5\r\nhello\r\n0\r\n\r\n",
    "many": b"1\r\na\r\n2\r\nbc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
    "data like framing": b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
    "letters of both cases": b"aB\r\n" + b"x" * 0xAB + b"\r\n0\r\n\r\n",
    "zeros first": b"0000000000000001\r\na\r\n000\r\n\r\n",
    "extension (7.1.1)": b"1;a\r\nx\r\n0;b\r\n\r\n",
    "extension with a value": b"1;a=b\r\nx\r\n0;c=!#\r\n\r\n",
    "quoted value": b'1;a="b c;\\"\t=\xe4"\r\nx\r\n0\r\n\r\n',
    "empty quoted value": b'1;a=""\r\nx\r\n0\r\n\r\n',
    "several extensions": b'1;a=b;c;d="e";f\r\nx\r\n0\r\n\r\n',
    "trailer (7.1.2)": b"1\r\nx\r\n0\r\nA: b\r\n\r\n",
    "trailers": b"0\r\nGrpc-Status: 0\r\nGrpc-Message:\r\nX:\xe4\t \r\n\r\n",
    "trailer named like a known one": b"0\r\nHosts: a\r\nHos: b\r\nte-x: c\r\n\r\n",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0"])
def test_body_ends_where_it_ends(body: bytes, behind: bytes) -> None:
    assert walked(body + behind) == (len(body), True)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_that_is_cut_has_not_ended(body: bytes) -> None:
    for size in range(len(body)):
        assert walked(body[:size]) == (size, False)


DATA = b"1\r\nx\r\n"
BIG = b"A: " + b"b" * 30000 + b"\r\n"
REFUSED = {
    "no size (7.1)": ("chunk", b"\r\nx\r\n"),
    "no size but an extension": ("chunk", b";a\r\nx\r\n"),
    "0x": ("chunk", b"0x1\r\nx\r\n"),
    "sign": ("chunk", b"+1\r\nx\r\n"),
    "minus": ("chunk", b"-1\r\nx\r\n"),
    "underscore": ("chunk", b"1_0\r\n"),
    "no digit": ("chunk", b"g\r\n"),
    "letter before a": ("chunk", b"`\r\n"),
    "byte before 0": ("chunk", b"/\r\n"),
    "byte behind 9": ("chunk", b":\r\n"),
    "byte before A": ("chunk", b"@\r\n"),
    "space first": ("chunk", b" 1\r\nx\r\n"),
    "space behind": ("chunk", b"1 \r\nx\r\n"),
    "tab behind": ("chunk", b"1\t\r\nx\r\n"),
    "space before an extension": ("chunk", b"1 ;a\r\nx\r\n"),
    "17 digits": ("chunk", b"00000000000000001\r\nx\r\n"),
    "2^63": ("chunk", b"8000000000000000\r\n"),
    "2^64": ("chunk", b"10000000000000000\r\n"),
    "2^64 - 1": ("chunk", b"FFFFFFFFFFFFFFFF\r\n"),
    "bare LF behind a size": ("chunk", b"1\nx\r\n"),
    "bare CR behind a size": ("chunk", b"1\rx\r\n"),
    "bare LF behind the last size": ("chunk", b"0\n\r\n"),
    "no line end behind data": ("chunk", b"1\r\nxy\r\n"),
    "bare LF behind data": ("chunk", b"1\r\nx\n0\r\n\r\n"),
    "CR and something behind data": ("chunk", b"1\r\nx\r0\r\n\r\n"),
    "empty line between chunks": ("chunk", DATA + b"\r\n" + DATA),
    "extension: empty": ("chunk", b"1;\r\nx\r\n"),
    "extension: space": ("chunk", b"1; a\r\nx\r\n"),
    "extension: space behind": ("chunk", b"1;a \r\nx\r\n"),
    "extension: no name": ("chunk", b"1;=a\r\nx\r\n"),
    "extension: no value": ("chunk", b"1;a=\r\nx\r\n"),
    "extension: no value, another one": ("chunk", b"1;a=;b\r\nx\r\n"),
    "extension: two equal signs": ("chunk", b"1;a==b\r\nx\r\n"),
    "extension: two semicolons": ("chunk", b"1;;a\r\nx\r\n"),
    "extension: LF": ("chunk", b"1;a\nx\r\n"),
    "extension: CR": ("chunk", b"1;a\rb\r\nx\r\n"),
    "extension: LF in quotes": ("chunk", b'1;a="\n"\r\nx\r\n'),
    "extension: CRLF in quotes": ("chunk", b'1;a="\r\n"\r\nx\r\n'),
    "extension: escaped LF": ("chunk", b'1;a="\\\n"\r\nx\r\n'),
    "extension: NUL in quotes": ("chunk", b'1;a="\0"\r\nx\r\n'),
    "extension: quote in a value": ("chunk", b'1;a=b"c"\r\nx\r\n'),
    "extension: behind the quotes": ("chunk", b'1;a="b"c\r\nx\r\n'),
    "extension: quoted name": ("chunk", b'1;"a"\r\nx\r\n'),
    "extension: byte that is no token": ("chunk", b"1;a@b\r\nx\r\n"),
    "extension: too long": ("chunk", b"1;" + b"a" * LINE_MOST),
    "trailer: space before the colon": ("name", b"0\r\nA : b\r\n\r\n"),
    "trailer: no name": ("name", b"0\r\n: b\r\n\r\n"),
    "trailer: no colon": ("name", b"0\r\nA\r\n\r\n"),
    "trailer: another chunk": ("name", b"0\r\n1\r\nx\r\n0\r\n\r\n"),
    "trailer: CR and something": ("name", b"0\r\n\rA: b\r\n\r\n"),
    "trailer: bare LF": ("eol", b"0\r\nA: b\n\r\n"),
    "trailer: bare LF in a name": ("eol", b"0\r\nA\n\r\n"),
    "trailer: bare LF at the end": ("eol", b"0\r\n\n"),
    "trailer: bare CR": ("value", b"0\r\nA: b\rC\r\n\r\n"),
    "trailer: NUL": ("value", b"0\r\nA: \0\r\n\r\n"),
    "trailer: DEL": ("value", b"0\r\nA: \x7f\r\n\r\n"),
    "trailer: folded": ("fold", b"0\r\nA: b\r\n c\r\n\r\n"),
    "trailer: space first": ("fold", b"0\r\n A: b\r\n\r\n"),
    "trailer: too long": ("too_long", b"0\r\nA: " + b"b" * TRAILER_LINE_MOST),
    "trailer: too long a name": (
        "too_long",
        b"0\r\n" + b"A" * TRAILER_LINE_MOST + b":",
    ),
    "trailer: too many bytes": ("too_large", b"0\r\n" + BIG * 3),
    "trailer: too many": ("too_many", b"0\r\n" + b"A: b\r\n" * (TRAILERS_MOST + 1)),
}


@pytest.mark.parametrize(("fault", "data"), REFUSED.values(), ids=REFUSED)
def test_framing_is_refused(fault: str, data: bytes) -> None:
    assert walked(data) == fault
    if data.startswith((b"0\r", b"0\n")):
        return
    assert walked(DATA + data) == fault


ONLY_IN_HEADS = [
    b"Content-Length",
    b"transfer-encoding",
    b"HOST",
    b"Connection",
    b"Keep-Alive",
    b"TE",
    b"Trailer",
    b"Upgrade",
    b"Expect",
    b"Proxy-Connection",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
    b"Authorization",
    b"Cookie",
    b"Origin",
    b"Forwarded",
    b"X-Forwarded-For",
    b"X-Forwarded-" + b"a" * 100,
    b"X-Real-IP",
    b"X-Remote-User",
    b"Impersonate-Extra-scopes.authorization.k8s.io",
]


@pytest.mark.parametrize("name", ONLY_IN_HEADS)
def test_trailer_that_belongs_into_the_head_is_refused(name: bytes) -> None:
    # RFC 9110, 6.5.1
    assert walked(b"0\r\nA: b\r\n" + name + b": x\r\n\r\n") == "trailer"
    known = walked(b"0\r\nA" + name + b": x\r\n\r\n")
    assert known != "trailer"


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_cut_anywhere_the_outcome_is_the_same(pieces: int) -> None:
    for data in [*BODIES.values(), *[data for _, data in REFUSED.values()]]:
        assert walked(data, pieces) == walked(data)


def test_size_of_63_bits_is_counted_to_its_end() -> None:
    chunks = Chunks()
    size = b"7fffffffffffffff\r\n"
    assert chunks.walk(size + b"x" * 10) == len(size) + 10
    assert chunks.left == 2**63 - 1 - 10
    assert not chunks.done


def test_limits_are_met_exactly() -> None:
    line = b"1;" + b"a" * (LINE_MOST - 4) + b"\r\n"
    assert len(line) == LINE_MOST
    assert walked(line) == (LINE_MOST, False)
    assert walked(line.replace(b";", b";a")) == "chunk"
    trailer = b"A: " + b"b" * (TRAILER_LINE_MOST - 4) + b"\r"
    assert walked(b"0\r\n" + trailer) == (len(trailer) + 3, False)
    assert walked(b"0\r\n" + trailer.replace(b":", b"::")) == "too_long"
    trailers = b"0\r\n" + b"A: b\r\n" * TRAILERS_MOST + b"\r\n"
    assert walked(trailers) == (len(trailers), True)
    half = b"A: " + b"b" * (TRAILER_BYTES_MOST // 2 - 6) + b"\r\n"
    body = b"0\r\n" + half + half + b"\r\n"
    assert len(body) == TRAILER_BYTES_MOST + 3
    assert walked(body) == (len(body), True)
    assert walked(body.replace(b":", b"::", 1)) == "too_large"


def test_what_follows_a_body_belongs_to_nobody_here() -> None:
    chunks = Chunks()
    assert chunks.walk(b"0\r\n\r\nGET") == 5
    assert chunks.done
    assert chunks.walk(b"GET") == 0
