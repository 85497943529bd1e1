"""Two ends of a TLS connection in one thread: ours, and Python's `ssl` as the judge.

Nothing here blocks: `spin` turns both ends until what is waited for is there.
"""

import contextlib
import datetime
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from fastpath.api.tlsspec import ClientTls, ServerTls
from fastpath.tls.context import ClientContext, ServerContext
from fastpath.tls.endpoint import Buffers, Transport
from pyproxy.sandbox.certificates import Authority, Pair
from tests.support.waiting import scaled

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class End(Protocol):
    """What both kinds of ends can do; None and 0 = not now."""

    def handshake(self) -> bool: ...
    def read(self, size: int) -> bytes | None: ...
    def write(self, data: bytes) -> int: ...


def tcp_pair(room: int = 0) -> tuple[socket.socket, socket.socket]:
    """Return two ends of a TCP connection; with `room` of one that is full early.

    That is a unix socket: TCP with buffers of a few segments waits for its timers.
    """
    if room:
        return small_pair(room)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def small_pair(room: int) -> tuple[socket.socket, socket.socket]:
    """Return two ends of a connection that holds about `room` bytes each way."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    return ends


def spin(done: Callable[[], object], deadline_s: float = 10.0) -> None:
    """Call `done` until it is true; the kernel may take a moment to deliver."""
    end = time.monotonic() + scaled(deadline_s)
    while not done():
        assert time.monotonic() < end, "nothing moves any more"


class Peer:
    """The other end, by Python's `ssl`."""

    def __init__(
        self,
        connection: socket.socket,
        context: ssl.SSLContext,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        connection.setblocking(False)
        self.tls = context.wrap_socket(
            connection,
            server_side=context.protocol == ssl.PROTOCOL_TLS_SERVER,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            server_hostname=name,
            session=session,
        )

    def handshake(self) -> bool:
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.tls.do_handshake()
            return True
        return False

    def read(self, size: int) -> bytes | None:
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return self.tls.recv(size)
        return None

    def write(self, data: bytes) -> int:
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return self.tls.send(data)
        return 0

    def end(self) -> None:
        """Send a close_notify; what comes back is not waited for."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()


def shake(one: End, other: End) -> None:
    """Let both ends finish their handshakes, whichever is first."""
    done = {one: False, other: False}

    def step() -> bool:
        for end in done:
            done[end] = done[end] or end.handshake()
        return all(done.values())

    spin(step)


def send(source: End, target: End, data: bytes, size: int = 65536) -> bytes:
    """Write `data` at one end and return what was read at the other, `size` a call."""
    sent, got = 0, bytearray()

    def step() -> bool:
        nonlocal sent
        if sent < len(data):
            sent += source.write(data[sent : sent + size])
        got.extend(target.read(size) or b"")
        return len(got) >= len(data)

    spin(step, 30.0)
    return bytes(got)


def read(end: End, size: int = 65536) -> bytes:
    """Read once something is there, or the end of it (b"")."""
    found: list[bytes] = []

    def step() -> bool:
        if (data := end.read(size)) is not None:
            found.append(data)
        return bool(found)

    spin(step)
    return found[0]


class Certificates:
    """Certificates of one test, and contexts of both kinds around them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.server = self.authority.issue("server", ["localhost", "127.0.0.1", "::1"])

    @property
    def ca(self) -> bytes:
        return self.authority.certificate.read_bytes()

    def client_tls(
        self, name: str = "localhost", mine: Pair | None = None
    ) -> ClientTls:
        """How our client speaks with `server`."""
        if mine is None:
            return ClientTls(ca=self.ca, server_name=name)
        certificate, key = pem(mine)
        return ClientTls(ca=self.ca, server_name=name, certificate=certificate, key=key)

    def server_tls(self, *others: Pair) -> ServerTls:
        """How our server speaks."""
        return ServerTls(tuple(pem(pair) for pair in (self.server, *others)))

    def judge_server(
        self, version: str = "1.3", pair: Pair | None = None
    ) -> ssl.SSLContext:
        """A server by Python's `ssl`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = pair or self.server
        context.load_cert_chain(pair.certificate, pair.key)
        context.minimum_version = context.maximum_version = VERSIONS[version]
        return context

    def judge_client(self, version: str = "1.3") -> ssl.SSLContext:
        """A client by Python's `ssl`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority.certificate)
        context.minimum_version = context.maximum_version = VERSIONS[version]
        return context


def make_pair(
    folder: Path,
    name: str,
    hosts: Sequence[str] = (),
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
) -> tuple[Pair, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    """Make what `openssl req -x509` makes, signed by `issuer` or by itself.

    Returns:
        its files, and what it takes to sign others.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(not hosts, None), critical=True)
        .add_extension(names, critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return pair, (certificate, key)


def pem(pair: Pair) -> tuple[bytes, bytes]:
    """Return certificate and key as the core takes them."""
    return pair.certificate.read_bytes(), pair.key.read_bytes()


def our_client(
    connection: socket.socket,
    context: ClientContext,
    worker: int = 0,
    buffers: Buffers | None = None,
) -> Transport:
    """Return a client of ours on `connection`, which it owns."""
    transport = Transport(connection.detach(), buffers)
    transport.start_client(context, worker=worker)
    return transport


def our_server(
    connection: socket.socket,
    context: ServerContext,
    worker: int = 0,
    buffers: Buffers | None = None,
) -> Transport:
    """Return a server of ours on `connection`, which it owns."""
    transport = Transport(connection.detach(), buffers)
    transport.start_server(context, worker)
    return transport


@contextlib.contextmanager
def connected(
    certificates: Certificates, role: str, version: str, room: int = 0
) -> Iterator[tuple[Transport, Peer]]:
    """Our end as `role` and Python's as the other one, after the handshake."""
    one, other = tcp_pair(room)
    if role == "client":
        ours = our_client(one, ClientContext(certificates.client_tls()))
        peer = Peer(other, certificates.judge_server(version))
    else:
        ours = our_server(one, ServerContext(certificates.server_tls()))
        peer = Peer(other, certificates.judge_client(version), "localhost")
    try:
        shake(ours, peer)
        yield ours, peer
    finally:
        ours.close()
        peer.tls.close()


def facing(tls: ClientTls, judge: ssl.SSLContext) -> tuple[Transport, Peer]:
    """Return a client of ours and a server of Python's, before the handshake."""
    one, other = tcp_pair()
    return our_client(one, ClientContext(tls)), Peer(other, judge)


def believed(ours: Transport, peer: Peer) -> None:
    """Expect a handshake that goes well."""
    shake(ours, peer)
    ours.close()
    peer.tls.close()


def why(ours: Transport, peer: Peer) -> str:
    """Return why `ours` refuses; the peer may be unhappy, too."""
    text = ""

    def step() -> bool:
        nonlocal text
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            peer.handshake()
        try:
            return ours.handshake()
        except OSError as error:
            text = str(error)
            return True

    spin(step)
    assert text, "it was believed"
    assert ours.why in text
    with pytest.raises(OSError, match=r"."):
        ours.handshake()
    ours.close()
    peer.tls.close()
    return text
