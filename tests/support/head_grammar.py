"""Messages made of pieces that are mostly good, and small damages to them.

Random bytes are hardly ever a message. These are one often enough for what we accept
to be compared with what others do, and odd often enough to be near every rule.
"""

from hypothesis import strategies as st

Draw = st.DrawFn

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"OPTIONS", b"M-SEARCH", b"get"]
TARGETS = [
    b"/",
    b"/api/v1/pods?watch=1&x=%3D",
    b"//a/../b;c/%00?",
    b"/a?b?c:d@e[f]",
    b"http://a",
    b"HTTP://a:80/b?c",
    b"https://[::1]:443?d/e",
    b"/!\"$&'()*+,-.<=>\\^_`{|}~",
]
NAMES = [b"Accept", b"X", b"x-a_b.c", b"!#$%&'*+-.^_`|~", b"User-Agent", b"X-Upgrade"]
VALUES = [b"", b"a", b"a, b", b" \t a\tb \t", b"\xe4\xff", b"chunked", b"close", b"5"]
KNOWN = [
    b"Connection: close",
    b"Connection: keep-alive",
    b"connection:\tX , close\t,",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"Trailer: X",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: close",
    b"Proxy-Connection: keep-alive",
    b"Cookie: a=b",
]
LENGTHS = [b"0", b"3", b"003", b"11", b"65537", b"9223372036854775807"]
# What is put in, or instead of something: each breaks a rule in some places.
ODDITIES = [
    *[bytes([byte]) for byte in b'\0\t\n\x0b\r !"#,/:;=@[\\]\x1f\x7f\x80\xa0\xff0Aa'],
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\r\r\n",
    b" :",
    b"Content-Length: 3\r\n",
    b"Content-Length: +3\r\n",
    b"Content-Length: 3, 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: x\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"Connection: upgrade\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"0\r\n\r\n",
    b"0x",
    b"5;a=b\r\n",
]
EXTENSIONS = [b"", b"", b"", b";a", b";a=b", b';a="b;\\"c"', b";a;b=c;d"]
TRAILERS = [b"", b"", b"X: y\r\n", b"A:\r\nB: \t c \t\r\n", b"Hosts: a\r\n"]


@st.composite
def chunked(draw: Draw) -> bytes:
    """A chunked body."""
    body = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3)):
        size = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % len(data)
        body += size + draw(st.sampled_from(EXTENSIONS)) + b"\r\n" + data + b"\r\n"
    last = draw(st.sampled_from([b"0", b"000"])) + draw(st.sampled_from(EXTENSIONS))
    return body + last + b"\r\n" + draw(st.sampled_from(TRAILERS)) + b"\r\n"


@st.composite
def lines(draw: Draw) -> list[bytes]:
    """Headers that say nothing about the body."""
    plain = st.builds(
        b"%b:%b%b".__mod__,
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from([b" ", b"", b"\t "]),
            st.sampled_from(VALUES) | st.text(max_size=30).map(str.encode),
        ),
    ).map(lambda line: bytes(b for b in line if b == 9 or (b >= 32 and b != 127)))
    return draw(st.lists(plain | st.sampled_from(KNOWN), max_size=5))


@st.composite
def framed(draw: Draw, first: bytes, headers: list[bytes]) -> bytes:
    """A message with a body of some kind, its header anywhere among the others."""
    kind = draw(st.sampled_from(["none", "sized", "chunked"]))
    body = draw(st.binary(max_size=16))
    if kind == "sized":
        length = draw(st.sampled_from(LENGTHS))
        headers.insert(draw(st.integers(0, len(headers))), b"Content-Length: " + length)
    elif kind == "chunked":
        coding = b"Transfer-Encoding: " + draw(
            st.sampled_from([b"chunked", b"CHUNKED"])
        )
        headers.insert(draw(st.integers(0, len(headers))), coding)
        body = draw(chunked()) + body
    return b"\r\n".join([first, *headers, b"", body])


@st.composite
def requests(draw: Draw) -> bytes:
    """A request, mostly a good one."""
    method, target = draw(st.sampled_from(METHODS)), draw(st.sampled_from(TARGETS))
    if draw(st.integers(0, 9)) == 0:
        pair = [(b"OPTIONS", b"*"), (b"CONNECT", b"a:443"), (b"CONNECT", b"[::1]:1")]
        method, target = draw(st.sampled_from(pair))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    headers = draw(lines())
    host = draw(
        st.sampled_from([b"Host: a", b"host:b:80", b"HOST: [::1]:80", b"Host:"])
    )
    headers.insert(draw(st.integers(0, len(headers))), host)
    first = b" ".join([method, target, version])
    empty = draw(st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n" * 3]))
    return empty + draw(framed(first, headers))


@st.composite
def responses(draw: Draw) -> bytes:
    """A response, mostly a good one."""
    status = draw(
        st.sampled_from(
            [b"200", b"404", b"204", b"304", b"100", b"101", b"142", b"599"]
        )
    )
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Not  Found", b" \xe4\t!"]))
    version = draw(st.sampled_from([b"HTTP/1.1 ", b"HTTP/1.1 ", b"HTTP/1.0 "]))
    return draw(framed(version + status + reason, draw(lines())))


@st.composite
def damaged(draw: Draw, message: st.SearchStrategy[bytes]) -> bytes:
    """A message with up to two damages: half of them have none."""
    data = draw(message)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        start = draw(st.integers(0, len(data)))
        stop = start + draw(st.sampled_from([0, 0, 1, 2, 8]))
        data = data[:start] + draw(st.sampled_from([b"", *ODDITIES])) + data[stop:]
    return data
