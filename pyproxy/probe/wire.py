"""One probe: connect, perhaps TLS, perhaps one HTTP/1.1 request; never over its time.

Plain asyncio streams instead of an HTTP client: a probe needs a status line, nothing
else. It makes a new connection each time, because accepting is part of what is checked;
reads a bounded head; compares a pinned certificate *before* a token is sent; and ends
by abort, so that a peer that stopped reading cannot hold it.
"""

import asyncio
import contextlib
import errno
import os
import re
import ssl
import time
from dataclasses import dataclass

from pyproxy.errors import ConfigError, PyproxyError
from pyproxy.model import Key, format_address
from pyproxy.probe.state import Result
from pyproxy.tls import ClientTls, read_token

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 4 << 10  # only to say why a server is not ready
MAX_INTERIM = 4  # 1xx answers before the real one
BODY_S = 0.2
CHUNK = 4096

# We ran out of something. That says nothing about the server, and must not cut it off.
_OUR_FAULT = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL)
)

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Target:
    """What to probe and what to make of it."""

    key: Key
    name: str  # the host as the user wrote it, for the Host header and for people
    kind: str  # "tcp", "http" or "https"
    timeout_s: float
    path: str = "/readyz"
    expect: frozenset[int] = frozenset({200})
    server_name: str = ""
    tls: ClientTls | None = None  # borrowed; shared by the backends of a pool
    token_file: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found."""

    result: Result
    why: str
    took_s: float


class CannotProbeError(PyproxyError):
    """The probe failed on our side of the wire: nothing was learnt."""


class _DeadError(Exception):
    """Ends a probe with a reason; never leaves this module."""


async def probe(target: Target) -> Finding:
    """Probe once, in at most `timeout_s`. Never raises for what a server does.

    Raises:
        CannotProbeError: no descriptor left, or no token to show.
    """
    began = time.monotonic()
    stage = ["connecting"]
    try:
        request = b"" if target.kind == "tcp" else _request(target)
        async with asyncio.timeout(target.timeout_s):
            result, why = await _talk(target, request, stage)
    except TimeoutError:
        why = f"no answer within {target.timeout_s:g} s while {stage[0]}"
        result = Result.DEAD
    except _DeadError as error:
        result, why = Result.DEAD, str(error)
    except ConfigError as error:
        raise CannotProbeError(str(error)) from error
    except OSError as error:
        if error.errno in _OUR_FAULT:
            raise CannotProbeError(os.strerror(error.errno)) from error
        result, why = Result.DEAD, _explain(error, stage[0])
    return Finding(result, why, time.monotonic() - began)


async def _talk(target: Target, request: bytes, stage: list[str]) -> tuple[Result, str]:
    host, port = target.key
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES)
    try:
        if target.kind == "tcp":
            return Result.READY, "connected"
        if target.tls is not None:
            stage[0] = "in the TLS handshake"
            await writer.start_tls(
                target.tls.context(), server_hostname=target.server_name
            )
            _check_pin(target.tls, writer)
        stage[0] = "waiting for an answer"
        writer.write(request)
        code = await _read_code(reader)
        if code in target.expect:
            return Result.READY, f"HTTP {code}"
        return Result.ALIVE, f"HTTP {code}{await _read_reason(reader, code)}"
    finally:
        writer.transport.abort()


def _check_pin(tls: ClientTls, writer: asyncio.StreamWriter) -> None:
    session: ssl.SSLObject = writer.get_extra_info("ssl_object")
    complaint = tls.refuses(session.getpeercert(binary_form=True))
    if complaint:
        raise _DeadError(complaint)


def _request(target: Target) -> bytes:
    host = format_address(target.server_name or target.name, target.key[1])
    lines = [
        f"GET {target.path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: pyproxy-probe",
        "Accept: */*",
        "Connection: close",
    ]
    if target.token_file is not None:
        lines.append(f"Authorization: Bearer {read_token(target.token_file)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _read_code(reader: asyncio.StreamReader) -> int:
    for _ in range(1 + MAX_INTERIM):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise _DeadError(f"head of over {MAX_HEAD_BYTES >> 10} KiB") from None
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise _DeadError("closed the connection without an answer") from None
            head = error.partial
        status = _STATUS_LINE.match(head)
        if status is None:
            raise _DeadError(f"answer is not HTTP/1.1: {head[:40]!r}")
        if int(status[1]) >= 200:
            return int(status[1])
    raise _DeadError("interim answers without end")


async def _read_reason(reader: asyncio.StreamReader, code: int) -> str:
    """What an apiserver says about why it is not ready: its `[-]` lines."""
    if code in (401, 403):
        return (
            ", wants credentials: give a token file or a client certificate,"
            f" or expect {code}, too"
        )
    body = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(BODY_S):
            while len(body) < MAX_BODY_BYTES and (part := await reader.read(CHUNK)):
                body += part
    text = body.decode("utf-8", "replace")
    failed = [line[3:60] for line in text.splitlines() if line.startswith("[-]")]
    return f", {'; '.join(failed[:3])}" if failed else ""


def _explain(error: OSError, stage: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if error.errno:
        return f"{os.strerror(error.errno).lower()} while {stage}"
    return f"{error or 'connection lost'} while {stage}"
