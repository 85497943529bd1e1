"""ClientHellos by hand: what a client may ask for, however unusual. RFC 8446, 4."""

import os
import struct

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

GROUPS = {
    "P-256": 0x0017,
    "P-384": 0x0018,
    "P-521": 0x0019,
    "X25519": 0x001D,
    "X448": 0x001E,
    "ffdhe2048": 0x0100,
    "ffdhe8192": 0x0104,
}
CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
BYTES = {"X448": 56, "ffdhe2048": 256, "ffdhe8192": 1024}
SIGNATURES = (0x0403, 0x0804, 0x0805, 0x0806, 0x0401, 0x0503)
HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891")  # its random begins so
PSK_WITH_DHE = b"\1\1"


def share_of(group: str) -> bytes:
    """A public key of the group."""
    if group == "X25519":
        return x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
    if group in CURVES:
        key = ec.generate_private_key(CURVES[group]).public_key()
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return b"\x12" + os.urandom(BYTES[group] - 1)


def counted(data: bytes, size: int = 2) -> bytes:
    """`data` behind its length, of `size` bytes."""
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    """An extension."""
    return struct.pack(">H", kind) + counted(data)


def numbers(values: tuple[int, ...]) -> bytes:
    """Two bytes each, behind their length."""
    return counted(b"".join(struct.pack(">H", value) for value in values))


def client_hello(
    group: str = "X25519",
    *,
    name: str = "",
    groups: tuple[int, ...] | None = None,
    ciphers: tuple[int, ...] = (0x1301, 0x1303),
    signatures: tuple[int, ...] = SIGNATURES,
    more: bytes = b"",
    last: bytes = b"",
) -> bytes:
    """One of TLS 1.3, in records, with a key share of `group`.

    `more` are further extensions, and `last` is the last one.
    """
    code = GROUPS[group]
    share = struct.pack(">H", code) + counted(share_of(group))
    wanted = (code, GROUPS["X25519"]) if groups is None else groups
    extensions = b"".join(
        [
            extension(0, counted(b"\0" + counted(name.encode()))) if name else b"",
            extension(10, numbers(wanted)),
            extension(13, numbers(signatures)),
            extension(43, counted(struct.pack(">H", 0x0304), 1)),
            extension(45, PSK_WITH_DHE),
            extension(51, counted(share)),
            more,
            last,
        ]
    )
    hello = b"\3\3" + os.urandom(32) + counted(os.urandom(32), 1)
    hello += numbers(ciphers) + b"\1\0" + counted(extensions)
    message = b"\1" + counted(hello, 3)
    pieces = [message[at : at + 16_384] for at in range(0, len(message), 16_384)]
    return b"".join(b"\x16\3\1" + counted(piece) for piece in pieces)
