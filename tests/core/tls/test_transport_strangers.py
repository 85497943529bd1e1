"""Peers that speak no TLS, or break off, or speak nonsense."""

import contextlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.tls.context import ClientContext, ServerContext
from tests.support.servers import receive_all
from tests.support.tls_tools import (
    Certificates,
    our_client,
    our_server,
    read,
    spin,
    tcp_pair,
)

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server does not speak TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server does not speak TLS"),
        (b"", "handshake: the server cut the connection"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "alert from the server: handshake fail"),
    ],
)
def test_server_without_tls_is_told(
    certificates: Certificates, said: bytes, told: str
) -> None:
    one, other = tcp_pair()
    ours = our_client(one, ClientContext(certificates.client_tls()))
    assert not ours.handshake()
    other.sendall(said)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=told):
        spin(ours.handshake)
    ours.close()
    other.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "the client does not speak TLS"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a", "does not speak TLS"),
        (b"", "handshake: the client cut the connection"),
    ],
)
def test_client_without_tls_is_told(
    certificates: Certificates, said: bytes, told: str
) -> None:
    one, other = tcp_pair()
    ours = our_server(one, ServerContext(certificates.server_tls()))
    other.sendall(said)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match=told):
        spin(ours.handshake)
    ours.close()
    other.close()


@settings(max_examples=150)
@given(
    role=st.sampled_from(["client", "server"]),
    before=st.binary(max_size=300),
    kind=st.sampled_from([b"", b"\x16\x03\x01", b"\x16\x03\x03", b"\x15\x03\x03"]),
    after=st.binary(max_size=300),
)
def test_garbage_ends_a_handshake_with_an_error(
    certificates: Certificates, role: str, before: bytes, kind: bytes, after: bytes
) -> None:
    one, other = tcp_pair()
    if role == "client":
        ours = our_client(one, ClientContext(certificates.client_tls()))
    else:
        ours = our_server(one, ServerContext(certificates.server_tls()))
    with other:
        other.sendall(before + kind + after)
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r"."):
            spin(ours.handshake)
        ours.close()


@settings(max_examples=100)
@given(
    message=st.binary(min_size=1, max_size=40_000),
    place=st.integers(0, 60_000),
    flip=st.integers(1, 255),
)
def test_byte_changed_on_the_way_is_never_taken_for_data(
    certificates: Certificates, message: bytes, place: int, flip: int
) -> None:
    one, wire = tcp_pair()
    client = our_client(one, ClientContext(certificates.client_tls()))
    other, end = tcp_pair()
    server = our_server(other, ServerContext(certificates.server_tls()))
    handshake = {client: False, server: False}

    def step() -> bool:
        for ours in handshake:
            handshake[ours] = handshake[ours] or ours.handshake()
        pass_on(wire, end)
        pass_on(end, wire)
        return all(handshake.values())

    with wire, end:
        spin(step)
        while pass_on(end, wire) or client.read(100):
            pass  # tickets
        assert client.write(message) == len(message)
        client.close()
        wire.setblocking(True)
        sealed = bytearray(receive_all(wire))
        sealed[place % len(sealed)] ^= flip
        end.setblocking(True)
        end.sendall(sealed)
        end.shutdown(socket.SHUT_WR)
        got, clean = b"", False
        with contextlib.suppress(OSError):
            while chunk := read(server):
                got += chunk
            clean = "truncated" not in server.flags
        assert message.startswith(got)
        assert not clean, "the close_notify was broken, if nothing else was"
        server.close()


def pass_on(source: socket.socket, target: socket.socket) -> bool:
    """Move what is there; return whether anything was."""
    with contextlib.suppress(BlockingIOError):
        return target.send(source.recv(65536)) > 0
    return False
