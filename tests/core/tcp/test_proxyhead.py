"""PROXY protocol headers: what is one, which client it names, and what is none.

Source: proxy-protocol.txt of HAProxy, 2.1 (version 1) and 2.2 (version 2).
"""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastpath.tcp.proxyhead import parse
from tests.support import proxyhead_reference as reference
from tests.support.proxyhead_reference import NoHeader, frame, line, raw_frame, tlv

V4 = (b"\x0a\x01\x02\x03" + b"\x7f\x00\x00\x01" + b"\x04\xd2\x01\xbb", "10.1.2.3", 1234)
LONGEST = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

NAMED = [
    ("v1", line("10.1.2.3", 1234), ("10.1.2.3", 1234)),
    ("v1 v6", line("2001:db8::1", 1), ("2001:db8::1", 1)),
    ("v1 longest", line(LONGEST, 65535, LONGEST, 65535), (LONGEST, 65535)),
    ("v1 mapped", line("::ffff:10.1.2.3", 7), ("10.1.2.3", 7)),
    ("v1 port 0", line("10.1.2.3", 0), ("10.1.2.3", 0)),
    ("v1 unknown", b"PROXY UNKNOWN\r\n", None),
    ("v1 unknown and more", b"PROXY UNKNOWN ffff::1 \xff\n 1 2\r\n", None),
    ("v1 unknown, 107", b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
    ("v2", frame("10.1.2.3", 1234), ("10.1.2.3", 1234)),
    ("v2 v6", frame("2001:db8::1", 65535), ("2001:db8::1", 65535)),
    ("v2 mapped", frame("::ffff:10.1.2.3", 7), ("10.1.2.3", 7)),
    ("v2 udp", raw_frame(V4[0], family=reference.UDP4), V4[1:]),
    ("v2 local", raw_frame(b"", command=reference.LOCAL, family=0), None),
    ("v2 local, rest unread", raw_frame(b"any", command=reference.LOCAL), None),
    ("v2 local, odd family", raw_frame(b"", command=0x20, family=0xFF), None),
    ("v2 unspec", raw_frame(b"", family=0), None),
    ("v2 unspec, rest unread", raw_frame(b"any", family=0), None),
    ("v2 unix", raw_frame(bytes(216), family=reference.UNIX), None),
    ("v2 vpce of AWS", frame("10.1.2.3", 1, tlv(0xEA, b"\1vpce-1")), ("10.1.2.3", 1)),
    ("v2 psc of GCP", frame("10.1.2.3", 1, tlv(0xE0, bytes(8))), ("10.1.2.3", 1)),
    ("v2 noop", frame("10.1.2.3", 1, tlv(4, b"") + tlv(4, b"x")), ("10.1.2.3", 1)),
    ("v2 checksum", frame("10.1.2.3", 1, checksum=True), ("10.1.2.3", 1)),
    ("v2 longest", frame("10.1.2.3", 1, tlv(4, bytes(4065))), ("10.1.2.3", 1)),
]


@pytest.mark.parametrize(
    ("header", "named"), [row[1:] for row in NAMED], ids=[row[0] for row in NAMED]
)
def test_header_is_read_to_its_end_and_no_further(
    header: bytes, named: tuple[str, int] | None
) -> None:
    assert parse(header) == (len(header), named)
    assert parse(header + header) == (len(header), named)
    assert parse(header + b"\x16\x03\x01") == (len(header), named)
    assert reference.read(header) == (len(header), named)
    for size in range(len(header)):
        assert parse(header[:size]) is None


def test_longest_headers_are_as_long_as_they_may_be() -> None:
    rows = {row[0]: row[1] for row in NAMED}
    assert len(rows["v1 unknown, 107"]) == reference.LINE_MOST
    assert len(rows["v2 longest"]) == reference.MOST


GOOD_SUM = frame("10.1.2.3", 1, checksum=True)
REFUSED = [
    ("tls", b"\x16"),
    ("http", b"GET / HTTP/1.1\r\n"),
    ("lower case", b"proxy TCP4"),
    ("other word", b"PROXZ"),
    ("tab", b"PROXY\t"),
    ("v1 protocol", b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"),
    ("v1 TCP5", b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"),
    ("v1 bare", b"PROXY \r\n"),
    ("v1 unknownx", b"PROXY UNKNOWNX\r\n"),
    ("v1 v6 as v4", b"PROXY TCP4 ::1 ::1 1 2\r\n"),
    ("v1 v4 as v6", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"),
    ("v1 mixed", b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n"),
    ("v1 name", b"PROXY TCP4 localhost 1.2.3.4 1 2\r\n"),
    ("v1 short", b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"),
    ("v1 octal", b"PROXY TCP4 010.2.3.4 1.2.3.4 1 2\r\n"),
    ("v1 zone", b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n"),
    ("v1 NUL", b"PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"),
    ("v1 NUL, long", b"PROXY TCP4 1.2.3.4\0xyz 1.2.3.4 1 2\r\n"),
    ("v1 long word", b"PROXY TCP6 " + b"0" * 46 + b" ::1 1 2\r\n"),
    ("v1 no ports", b"PROXY TCP4 1.2.3.4 1.2.3.4\r\n"),
    ("v1 one port", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"),
    ("v1 one port and space", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n"),
    ("v1 third port", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"),
    ("v1 space behind", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"),
    ("v1 two spaces", b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"),
    ("v1 65536", b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"),
    ("v1 65536 there", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"),
    ("v1 2**32", b"PROXY TCP4 1.2.3.4 1.2.3.4 4294967297 2\r\n"),
    ("v1 leading zero", b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"),
    ("v1 zeros", b"PROXY TCP4 1.2.3.4 1.2.3.4 00 2\r\n"),
    ("v1 sign", b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"),
    ("v1 LF in it", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\n2\r\n"),
    ("v1 no CRLF in 107", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n"),
    ("v1 bare LF", b"PROXY UNKNOWN\n" + b"x" * 100),
    ("v2 signature", reference.SIGNATURE[:11] + b"\r"),
    ("v2 version 1", raw_frame(V4[0], command=0x11)),
    ("v2 version 3", raw_frame(V4[0], command=0x31)),
    ("v2 command 2", raw_frame(V4[0], command=0x22)),
    ("v2 family 4", raw_frame(bytes(216), family=0x41)),
    ("v2 transport 0", raw_frame(V4[0], family=0x10)),
    ("v2 transport 3", raw_frame(V4[0], family=0x13)),
    ("v2 no family", raw_frame(V4[0], family=0x01)),
    ("v2 short v4", raw_frame(bytes(11))),
    ("v2 short v6", raw_frame(bytes(35), family=reference.TCP6)),
    ("v2 short unix", raw_frame(bytes(215), family=reference.UNIX)),
    ("v2 empty", raw_frame(b"")),
    ("v2 rest of 1", frame("10.1.2.3", 1, b"\4")),
    ("v2 rest of 2", frame("10.1.2.3", 1, b"\4\0")),
    ("v2 extension too long", frame("10.1.2.3", 1, b"\4\0\1")),
    ("v2 extension far too long", frame("10.1.2.3", 1, b"\4\xff\xffxx")),
    ("v2 4097", frame("10.1.2.3", 1, tlv(4, bytes(4066)))),
    ("v2 64 KiB, by its size alone", raw_frame(b"", size=65535)),
    ("v2 64 KiB, local", raw_frame(b"", size=65535, command=reference.LOCAL)),
    ("v2 wrong sum", GOOD_SUM[:-1] + bytes([GOOD_SUM[-1] ^ 1])),
    ("v2 sum of other bytes", GOOD_SUM[:19] + b"\4" + GOOD_SUM[20:]),
    ("v2 sum of 3 bytes", frame("10.1.2.3", 1, tlv(3, bytes(3)))),
    ("v2 two sums", frame("10.1.2.3", 1, tlv(3, bytes(4)), checksum=True)),
]


@pytest.mark.parametrize(
    "data", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no PROXY header"):
        parse(data)
    with pytest.raises(NoHeader):
        reference.read(data)


def test_nothing_is_no_mistake_yet() -> None:
    assert parse(b"") is None


def test_checksum_is_castagnoli() -> None:
    # RFC 3720, appendix B.4: 32 zeros, and 32 ones.
    assert reference.crc32c(bytes(32)) == 0x8A9136AA
    assert reference.crc32c(b"\xff" * 32) == 0x62A8AB43


# ---- Against the reference.

ports = st.integers(0, 70_000).map(str) | st.sampled_from(["00", "01", "", "x"])
hosts = st.ip_addresses().map(str) | st.sampled_from(["::", "::ffff:1.2.3.4", "1::%1"])
lines = st.builds(
    lambda kind, one, other, port, target, tail: (
        f"PROXY {kind} {one} {other} {port} {target}{tail}".encode()
    ),
    st.sampled_from(["TCP4", "TCP6", "UNKNOWN", "TCP"]),
    hosts,
    hosts,
    ports,
    ports,
    st.sampled_from(["\r\n", "\r\n", "\r\nGET", "\n", " \r\n", ""]),
)
good_lines = st.builds(
    lambda one, port: line(str(one), port), st.ip_addresses(), st.integers(0, 65535)
)
extensions = st.lists(
    st.builds(tlv, st.integers(0, 255), st.binary(max_size=20)), max_size=4
).map(b"".join)
good_frames = st.builds(
    lambda one, port, more, checksum: frame(str(one), port, more, checksum=checksum),
    st.ip_addresses(),
    st.integers(0, 65535),
    extensions,
    st.booleans(),
)
frames = st.builds(
    lambda body, command, family, lie: raw_frame(
        body, command=command, family=family, size=max(0, len(body) + lie)
    ),
    st.binary(max_size=300),
    st.sampled_from([0x20, 0x21, 0x21, 0x21, 0x22, 0x10]),
    st.sampled_from([0, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32, 0x10, 0x41]),
    st.sampled_from([0, 0, 0, -1, 1, 4000, 65000]),
)


@st.composite
def damaged(draw: st.DrawFn, headers: st.SearchStrategy[bytes]) -> bytes:
    """A header, perhaps cut, with a byte changed, or with something behind it."""
    data = bytearray(draw(headers))
    how = draw(st.sampled_from(["whole", "cut", "changed", "longer"]))
    if how == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif how == "changed" and data:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    elif how == "longer":
        data += draw(st.binary(max_size=200))
    return bytes(data)


def outcome(data: bytes) -> object:
    """What the reference says, in the core's terms."""
    try:
        return reference.read(data)
    except NoHeader:
        return "refused"


@pytest.mark.slow
@pytest.mark.hypothesis  # `make fuzz` looks for it
@settings(
    max_examples=max(settings().max_examples, 500),
    suppress_health_check=[HealthCheck.too_slow],  # measures the machine
)
@given(damaged(good_lines | lines | good_frames | frames) | st.binary(max_size=120))
@example(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n")
@example(b"PROXY TCP6 1:2:3:4:5:6:7:: ::1.2.3.4 1 2\r\n")
def test_core_and_reference_agree_on_every_input(data: bytes) -> None:
    try:
        got: object = parse(data)
    except ValueError:
        got = "refused"
    assert got == outcome(data)
    if got is None:
        assert len(data) < reference.MOST


@pytest.mark.hypothesis
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(damaged(good_lines | good_frames), st.lists(st.integers(0, 300), max_size=4))
def test_verdict_on_a_part_is_never_taken_back(data: bytes, cuts: list[int]) -> None:
    # Bytes come in any pieces: what was refused or read stays so with more behind it.
    final = outcome(data)
    for cut in cuts:
        early = outcome(data[:cut])
        try:
            got: object = parse(data[:cut])
        except ValueError:
            got = "refused"
        assert got == early
        if cut < len(data) and got is not None:
            assert got == final
