"""Connections through the HTTP or SOCKS proxy of a proxy-url: one way for all of us.

The proxy resolves names. Of its answer exactly what belongs to it is read, however it
is cut into pieces: what follows is the connection's. Messages are those of Go's
net/http, and hold no password.

Source: Go, net/http transport.go (dialConn) and http.ReadResponse.
"""

import asyncio
import base64
import os
import re
import socket
import ssl
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes, urlsplit

from python_socks import ProxyConnectionError, ProxyType
from python_socks import ProxyError as SocksError
from python_socks.async_.asyncio import Proxy as SocksProxy

from pyproxy.model import format_address
from pyproxy.tls import new_client_context

DIAL_TIMEOUT_S = 30.0  # client-go's, for dialing and for the proxy's answer
MAX_HEAD_BYTES = 1 << 20  # of the proxy's answer
CHUNK = 65536
SHOWN_CHARACTERS = 200  # of what a proxy says

PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

# RFC 1928, in the words of golang.org/x/net/internal/socks.
_REFUSALS = {
    1: "general SOCKS server failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
_END = re.compile(rb"\n\r?\n")
_VERSION = re.compile(r"HTTP/\d\.\d", re.ASCII)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxyError(Exception):
    """There is no way through the proxy; in Go's words, why."""


class _Octets(str):
    """Bytes in the place of text, for a library that wants to encode it."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return str.encode(self, "latin-1")


class ProxyUrl:
    """A proxy, and our credentials there."""

    def __init__(self, url: str) -> None:
        """`url` was checked; it may hold a user and a password."""
        parts = urlsplit(url)
        self.shown = without_password(url)
        self.scheme = parts.scheme
        self.host = parts.hostname or ""
        self.port = parts.port or PORTS[parts.scheme]
        self._user: tuple[bytes, bytes] | None = None
        if parts.username is not None:
            said = (parts.username, parts.password or "")
            self._user = (unquote_to_bytes(said[0]), unquote_to_bytes(said[1]))

    @property
    def speaks_tls(self) -> bool:
        """Whether we speak TLS with the proxy itself: then there are no sockets."""
        return self.scheme == "https"

    async def open_streams(self, host: str, port: int) -> Streams:
        """Return a connection to `host:port`. Raise ProxyError."""
        if not self.speaks_tls:
            return await asyncio.open_connection(
                sock=await self.open_socket(host, port)
            )
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                reader, writer = await self._dial_tls()
                try:
                    writer.write(self._request(host, port))
                    _check(await _head_of_stream(reader))
                except BaseException:
                    writer.transport.abort()
                    raise
        except (OSError, EOFError, ValueError) as error:
            raise ProxyError(self._why(error)) from error
        return reader, writer

    async def open_socket(self, host: str, port: int) -> socket.socket:
        """Return a connection to `host:port`, non-blocking. Raise ProxyError."""
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                if self.scheme.startswith("socks"):
                    return await self._through_socks(host, port)
                return await self._through_http(host, port)
        except (OSError, EOFError, ValueError) as error:
            raise ProxyError(self._why(error)) from error

    async def _through_http(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        connection = await self._dial()
        try:
            await loop.sock_sendall(connection, self._request(host, port))
            _check(await _head_of_socket(loop, connection))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _through_socks(self, host: str, port: int) -> socket.socket:
        user, password = self._user or (b"", b"")
        shown = (_Octets(user, "latin-1"), _Octets(password, "latin-1"))
        failed: Exception = OSError("no address")
        for address in await self._addresses():
            proxy = SocksProxy(ProxyType.SOCKS5, address, self.port, *shown, rdns=True)
            try:
                return await proxy.connect(host, port, timeout=DIAL_TIMEOUT_S)
            except ProxyConnectionError as error:
                failed = _DialError(address, self.port, error)
            except SocksError as error:
                raise ProxyError(self._socks_refused(error, host, port)) from error
        raise failed

    def _socks_refused(self, error: SocksError, host: str, port: int) -> str:
        said = _REFUSALS.get(error.error_code or 0)
        why = f"unknown error {said}" if said else _shown(str(error))
        if "closed unexpectedly" in why:
            why = "EOF"
        proxy, target = self._at(), format_address(host, port)
        return f"socks connect tcp {proxy}->{target}: {why}"

    async def _dial(self) -> socket.socket:
        """Connect to the first address of the proxy that takes it. Raise OSError."""
        loop = asyncio.get_running_loop()
        failed: Exception = OSError("no address")
        for address in await self._addresses():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, (address, self.port))
            except OSError as error:
                connection.close()
                failed = _DialError(address, self.port, error)
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failed

    async def _dial_tls(self) -> Streams:
        context = new_client_context()
        context.load_default_certs()
        connection = await self._dial()
        return await asyncio.open_connection(
            sock=connection,
            ssl=context,
            server_hostname=self.host.removesuffix("."),
            limit=MAX_HEAD_BYTES,
        )

    async def _addresses(self) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return [str(info[4][0]) for info in found]

    def _request(self, host: str, port: int) -> bytes:
        target = format_address(host, port)
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "User-Agent: pyproxy"]
        if self._user is not None:
            pair = base64.b64encode(b":".join(self._user)).decode()
            lines.append(f"Proxy-Authorization: Basic {pair}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _at(self) -> str:
        return format_address(self.host, self.port)

    def _why(self, error: Exception) -> str:
        """Return what Go's net package would say, where it has words for it."""
        cause = error.__cause__
        if isinstance(error, _AnswerError):
            return str(error)
        if isinstance(error, EOFError):
            return "unexpected EOF"
        if isinstance(error, TimeoutError):
            why = f"dial tcp {self._at()}: i/o timeout"
        elif isinstance(error, socket.gaierror):
            why = f"dial tcp: lookup {self.host}: no such host"
        elif isinstance(error, ssl.SSLCertVerificationError):
            why = f"tls: failed to verify certificate: {error.verify_message}"
        elif isinstance(error, _DialError) and isinstance(cause, OSError):
            why = f"dial tcp {error}: connect: {_words(cause)}"
        else:
            why = _words(error)
        return f"proxyconnect tcp: {why}"


class Direct:
    """No proxy: for addresses in a zone, which the core cannot dial."""

    shown = "none"

    async def open_streams(self, host: str, port: int) -> Streams:
        """Return a connection to `host:port`. Raise ProxyError."""
        at = format_address(host, port)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                return await asyncio.open_connection(host, port)
        except TimeoutError:
            raise ProxyError(f"dial tcp {at}: i/o timeout") from None
        except OSError as error:
            why = f"dial tcp {at}: connect: {_words(error)}"
            raise ProxyError(why) from error


class _DialError(OSError):
    """No connection to one address, which is its text."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        super().__init__(format_address(host, port))
        self.__cause__ = cause


class _AnswerError(ValueError):
    """What the proxy answered is no yes."""


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else str(error)


async def _head_of_stream(reader: asyncio.StreamReader) -> bytes:
    head = b""
    while not head.endswith((b"\n\n", b"\n\r\n")):
        line = await reader.readline()
        head += line
        _check_end(line, head)
    return head


async def _head_of_socket(
    loop: asyncio.AbstractEventLoop, connection: socket.socket
) -> bytes:
    """Read up to the empty line and not a byte more."""
    head = b""
    while not head.endswith((b"\n\n", b"\n\r\n")):
        await _readable(loop, connection)
        try:
            seen = connection.recv(CHUNK, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        tail = head[-2:]
        end = _END.search(tail + seen)
        part = connection.recv(end.end() - len(tail) if end else len(seen))
        head += part
        _check_end(part, head)
    return head


def _check_end(part: bytes, head: bytes) -> None:
    if not part:
        raise EOFError
    if len(head) > MAX_HEAD_BYTES:
        raise _AnswerError(f"answer of a proxy of over {MAX_HEAD_BYTES >> 20} MiB")


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, note)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _check(head: bytes) -> None:
    """Raise ValueError, as Go, unless the proxy has said 200."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    version, space, status = lines[0].partition(" ")
    code, _, reason = (status := status.lstrip(" ")).partition(" ")
    if not space:
        raise _AnswerError(f'malformed HTTP response "{_shown(lines[0])}"')
    if not re.fullmatch(r"[0-9]{3}", code):
        raise _AnswerError(f'malformed HTTP status code "{_shown(code)}"')
    if not _VERSION.fullmatch(version):
        raise _AnswerError(f'malformed HTTP version "{_shown(version)}"')
    for line in filter(None, lines[1:]):
        if ":" not in line and line[0] not in " \t":
            raise _AnswerError(
                f'malformed MIME header: missing colon: "{_shown(line)}"'
            )
    if code != "200":
        raise _AnswerError(_shown(reason) or "unknown status code")


def _shown(text: str) -> str:
    """Return what a proxy said so that a terminal and a line of a log can bear it."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain[:SHOWN_CHARACTERS].strip()


def without_password(url: str) -> str:
    """Return a URL that can be shown."""
    return re.sub(r"//[^/?#]*@", "//…@", url)
