"""PROXY protocol headers, made and read in plain Python: what the core is held to.

Written from the specification alone, by other means than the core: regular expressions,
struct, ipaddress, and a table of checksums.
"""

import ipaddress
import re
import socket
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
MOST = 4096  # the core's own bound
LINE_MOST = 107
NAMED_NOBODY = b"PROXY UNKNOWN\r\n"
CRC_TLV = 3
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX, UNIX_DGRAM = 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
ADDRESS_BYTES = {TCP4: 12, UDP4: 12, TCP6: 36, UDP6: 36, UNIX: 216, UNIX_DGRAM: 216}

Named = tuple[str, int]
PORT = rb"(0|[1-9][0-9]{0,4})"
LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: .*)?|TCP([46]) (\S+) (\S+) %b %b)" % (PORT, PORT), re.S
)


class NoHeader(Exception):
    """What these bytes begin with is none, and will be none."""


def read(data: bytes) -> tuple[int, Named | None] | None:
    """Length of the header and the address it names; None = there must be more."""
    for start, whole in ((b"PROXY ", _read_line), (SIGNATURE, _read_frame)):
        if data.startswith(start):
            return whole(data)
        if start.startswith(data):
            return None
    raise NoHeader


def _read_line(data: bytes) -> tuple[int, Named | None] | None:
    line, end, _ = data[:LINE_MOST].partition(b"\r\n")
    if not end:
        if len(data) < LINE_MOST:
            return None
        raise NoHeader
    match = LINE.fullmatch(line)
    if match is None:
        raise NoHeader
    version, source, target, port, target_port = match.groups()
    size = len(line) + 2
    if version is None:
        return size, None
    if max(int(port), int(target_port)) > 65535:
        raise NoHeader
    _literal(target, int(version))
    return size, (_literal(source, int(version)), int(port))


def _literal(text: bytes, version: int) -> str:
    if b"%" in text:
        raise NoHeader
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except (ValueError, UnicodeError):
        raise NoHeader from None
    if address.version != version:
        raise NoHeader
    return _text(address)


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As the core writes it: IPv4 in IPv6 is IPv4."""
    mapped = getattr(address, "ipv4_mapped", None)
    packed = (mapped or address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed)


def _read_frame(data: bytes) -> tuple[int, Named | None] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    size = 16 + length
    if size > MOST or command not in (LOCAL, PROXY):
        raise NoHeader
    if len(data) < size:
        return None
    frame = data[:size]
    if command == LOCAL or family == 0:
        return size, None
    if family not in ADDRESS_BYTES or length < ADDRESS_BYTES[family]:
        raise NoHeader
    _check_extensions(frame, 16 + ADDRESS_BYTES[family])
    if family in (UNIX, UNIX_DGRAM):
        return size, None
    width = 4 if family in (TCP4, UDP4) else 16
    source, _, port, _ = struct.unpack_from(f"!{width}s{width}sHH", frame, 16)
    return size, (_text(ipaddress.ip_address(source)), port)


def _check_extensions(frame: bytes, at: int) -> None:
    sums = 0
    while at < len(frame):
        if len(frame) - at < 3:
            raise NoHeader
        kind, length = struct.unpack_from("!BH", frame, at)
        value = frame[at + 3 : at + 3 + length]
        if len(value) < length:
            raise NoHeader
        if kind == CRC_TLV:
            sums += 1
            hole = frame[: at + 3] + bytes(4) + frame[at + 7 :]
            if sums > 1 or length != 4 or value != struct.pack("!I", crc32c(hole)):
                raise NoHeader
        at += 3 + length


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _table()


def crc32c(data: bytes) -> int:
    """Checksum of RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ---- Writing.


def line(source: str, port: int, target: str = "", target_port: int = 443) -> bytes:
    """A header of version 1 in the family of `source`."""
    v6 = ":" in source
    target = target or ("::1" if v6 else "127.0.0.1")
    kind = "TCP6" if v6 else "TCP4"
    return f"PROXY {kind} {source} {target} {port} {target_port}\r\n".encode()


def tlv(kind: int, value: bytes) -> bytes:
    """An extension."""
    return struct.pack("!BH", kind, len(value)) + value


def frame(
    source: str, port: int, extensions: bytes = b"", *, checksum: bool = False
) -> bytes:
    """A header of version 2 in the family of `source`."""
    packed = ipaddress.ip_address(source).packed
    addresses = packed + bytes(len(packed)) + struct.pack("!HH", port, 443)
    body = addresses + extensions + (tlv(CRC_TLV, bytes(4)) if checksum else b"")
    made = raw_frame(body, family=TCP4 if len(packed) == 4 else TCP6)
    return made[:-4] + struct.pack("!I", crc32c(made)) if checksum else made


def raw_frame(
    body: bytes, *, command: int = PROXY, family: int = TCP4, size: int | None = None
) -> bytes:
    """A frame around any bytes, which may lie about its size."""
    size = len(body) if size is None else size
    return SIGNATURE + struct.pack("!BBH", command, family, size) + body
