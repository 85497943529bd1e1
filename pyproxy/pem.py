"""Certificates and keys as PEM: read as Go reads them, written so that OpenSSL does.

What stands outside of BEGIN and END means nothing, whatever its bytes are. A key is
what its DER says, not its label. Among roots, a broken certificate is skipped.

Source: Go, encoding/pem, crypto/x509.AppendCertsFromPEM, crypto/tls.X509KeyPair.
"""

import base64
import binascii
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

CERTIFICATE = "CERTIFICATE"
_BEGIN = re.compile(rb"^-----BEGIN ([^\r\n]*?)-----[ \t\r]*$", re.MULTILINE)
_HEADER = re.compile(rb"[^\n]*:[^\n]*\n")
_BOM = b"\xef\xbb\xbf"
# The second element of a key's DER: an algorithm, a modulus, or the secret itself.
_KEYS = {0x30: "PRIVATE KEY", 0x02: "RSA PRIVATE KEY", 0x04: "EC PRIVATE KEY"}


class PairError(ValueError):
    """What is wrong with a certificate or its key, in Go's words."""

    def __init__(self, why: str, *, about_key: bool = False) -> None:
        self.why = why
        self.about_key = about_key
        super().__init__(f"tls: {why}")


class Block(NamedTuple):
    """One thing in a PEM file."""

    label: str
    headers: bytes
    der: bytes


class Roots(NamedTuple):
    """Authorities to trust, and how many could not be read."""

    pem: bytes
    broken: int


def blocks(raw: bytes) -> Iterator[Block]:
    """Yield what is whole in `raw`, in its order."""
    raw = raw.removeprefix(_BOM)
    at = 0
    while found := _BEGIN.search(raw, at):
        at = found.end()
        label = found[1]
        end = re.compile(
            rb"^-----END " + re.escape(label) + rb"-----[ \t\r]*$", re.MULTILINE
        ).search(raw, at)
        following = raw.find(b"\n-----BEGIN ", at)
        if end is None or 0 <= following < end.start() - 1:
            continue
        block = _block(label, raw[at : end.start()].lstrip(b"\r\n"))
        if block is not None:
            at = end.end()
            yield block


def _block(label: bytes, body: bytes) -> Block | None:
    at = 0
    while header := _HEADER.match(body, at):
        at = header.end()
    text = re.sub(rb"[ \t\r\n]", b"", body[at:])
    try:
        der = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return Block(label.decode("latin-1"), body[:at], der)


def roots(raw: bytes) -> Roots:
    """Return the certificates in `raw`. Raise ValueError, as client-go, if none is."""
    found = list(blocks(raw))
    if not found:
        raise ValueError("unable to parse bytes as PEM block")
    ours = [b.der for b in found if b.label == CERTIFICATE and not b.headers]
    whole = [der for der in ours if _is_certificate(der)]
    if ours and not whole:
        raise ValueError("failed to parse certificate")
    if not whole:
        raise ValueError("no valid certificate authority data seen")
    return Roots(
        b"".join(_write(CERTIFICATE, d) for d in whole), len(ours) - len(whole)
    )


def pair(certificate: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Return what a client shows: certificate and chain, and key. Raise PairError."""
    found = list(blocks(certificate))
    shown = [block.der for block in found if block.label == CERTIFICATE]
    if not shown:
        kind = "certificate PEM data" if found else "any PEM data"
        raise PairError(f"failed to find {kind} in certificate input")
    if not _is_certificate(shown[0]):
        raise PairError("failed to parse certificate")
    # Nobody looks at the rest of a chain before it is sent, and OpenSSL must read it.
    chain = [shown[0], *filter(_is_certificate, shown[1:])]
    ready = b"".join(_write(CERTIFICATE, der) for der in chain), _key(key)
    if complaint := _complaint(*ready):
        raise PairError(complaint, about_key=True)
    return ready


def _key(raw: bytes) -> bytes:
    found = list(blocks(raw))
    if not found:
        raise PairError("failed to find any PEM data in key input", about_key=True)
    keys = [b for b in found if f" {b.label}".endswith(" PRIVATE KEY")]
    if not keys:
        why = 'failed to find PEM block with type ending in "PRIVATE KEY" in key input'
        raise PairError(why, about_key=True)
    block = keys[0]
    if block.label == "ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in block.headers:
        raise PairError("private key is protected by a pass phrase", about_key=True)
    label = _KEYS.get(_second_tag(block.der))
    if label is None:
        raise PairError("failed to parse private key", about_key=True)
    return _write(label, block.der)


def _second_tag(der: bytes) -> int:
    """Return the tag of the second element of a sequence; 0 = there is none."""
    outer = _content(der, 0)
    if der[:1] != b"\x30" or outer is None:
        return 0
    version = _content(der, outer[0])
    if version is None or version[1] >= len(der):
        return 0
    return der[version[1]]


def _content(der: bytes, at: int) -> tuple[int, int] | None:
    """Return where the content of the element at `at` begins and ends."""
    if at + 2 > len(der):
        return None
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(der[begin : begin + count], "big")
        begin += count
    return begin, begin + size


def _is_certificate(der: bytes) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _complaint(certificate: bytes, key: bytes) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        load_pair(context, certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "private key does not match public key"
        if error.reason == "KEY_TYPE_MISMATCH":
            return "private key type does not match public key type"
        return error.reason or "failed to parse private key"
    return ""


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Let a context show what `pair` returned. Raise ssl.SSLError.

    Keys never touch a disk: OpenSSL reads files only, so it gets one in memory.
    """
    with _in_memory(certificate) as certificate_file, _in_memory(key) as key_file:
        # With an answer, so that OpenSSL never asks the terminal for a pass phrase.
        context.load_cert_chain(certificate_file, key_file, password="")


def _write(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[n : n + 64] for n in range(0, len(text), 64)]
    edges = f"-----BEGIN {label}-----".encode(), f"-----END {label}-----".encode()
    return b"\n".join([edges[0], *lines, edges[1], b""])


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    with open(os.memfd_create("pyproxy-pem"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
