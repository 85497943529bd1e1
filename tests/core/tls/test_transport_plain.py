"""A transport without TLS: what sockets do, in the convention that TLS shares."""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.tls.endpoint import Transport
from tests.support.servers import free_port, receive_exactly, send_reset
from tests.support.tls_tools import read, spin, tcp_pair

pytestmark = pytest.mark.live

Ends = tuple[Transport, socket.socket]


@contextlib.contextmanager
def plain(room: int = 0) -> Iterator[Ends]:
    """A transport and the socket at its other end."""
    one, other = tcp_pair(room)
    transport = Transport(one.detach())
    with other:
        try:
            yield transport, other
        finally:
            transport.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with plain() as both:
        yield both


def fill(transport: Transport) -> int:
    """Write until nothing more is taken; return how much was."""
    sent = 0
    while taken := transport.write(b"y" * 65536):
        sent += taken
    return sent


def test_descriptor_does_not_block_and_is_closed_once() -> None:
    one, other = tcp_pair()
    one.setblocking(True)
    fd = one.detach()
    transport = Transport(fd)
    assert not os.get_blocking(fd)
    assert transport.fileno() == fd
    transport.close()
    transport.close()
    assert transport.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    other.close()


def test_fresh_one_may_be_read_and_written(ends: Ends) -> None:
    assert ends[0].flags == {"readable", "writable"}
    assert ends[0].handshake()
    assert (ends[0].alpn, ends[0].version, ends[0].why) == ("", "", "")
    assert not ends[0].resumed
    assert ends[0].peer_certificate() is None


def test_bytes_come_out_as_they_went_in(ends: Ends) -> None:
    transport, other = ends
    message = bytes(range(256)) * 10
    assert transport.write(message) == len(message)
    other.setblocking(True)
    assert receive_exactly(other, len(message)) == message
    other.sendall(message)
    assert read(transport) == message


def test_read_of_nothing_says_not_now(ends: Ends) -> None:
    assert ends[0].read(10) is None
    assert ends[0].flags == {"writable"}


def test_short_read_has_emptied_the_socket(ends: Ends) -> None:
    # epoll(7): a stream that gives less than was asked for has no more, and a new edge
    # comes with what comes after.
    ends[1].sendall(b"0123456789")
    assert read(ends[0], 5) == b"01234"
    assert "readable" in ends[0].flags
    assert read(ends[0], 6) == b"56789"
    assert "readable" not in ends[0].flags


def test_short_read_after_a_fin_has_not(ends: Ends) -> None:
    # Its event may have come already, together with that of the bytes.
    transport, other = ends
    other.sendall(b"last words")
    other.shutdown(socket.SHUT_WR)
    transport.event(fin=True)
    assert read(transport) == b"last words"
    assert "readable" in transport.flags
    assert transport.read(10) == b""
    assert transport.flags == {"writable", "eof"}


def test_fin_is_an_end_and_no_truncation(ends: Ends) -> None:
    transport, other = ends
    other.shutdown(socket.SHUT_WR)
    assert read(transport) == b""
    assert transport.flags == {"writable", "eof"}
    assert transport.write(b"the other way is open") == 21
    other.setblocking(True)
    assert receive_exactly(other, 21) == b"the other way is open"


def test_reset_is_an_error(ends: Ends) -> None:
    transport, other = ends
    other.sendall(b"lost")
    send_reset(other)
    with pytest.raises(ConnectionResetError):
        spin(lambda: transport.read(1) is None and False)
    with pytest.raises(BrokenPipeError):
        transport.write(b"x")


def test_full_socket_takes_nothing_until_there_is_room() -> None:
    with plain(room=8192) as (transport, other):
        sent = fill(transport)
        assert transport.flags == {"readable"}
        other.setblocking(True)
        assert receive_exactly(other, sent) == b"y" * sent
        spin(lambda: transport.write(b"x"))


def test_shut_ends_our_side_only(ends: Ends) -> None:
    transport, other = ends
    transport.write(b"bye")
    transport.shut()
    transport.shut()
    assert "shut" in transport.flags
    other.setblocking(True)
    assert receive_exactly(other, 4) == b"bye"
    other.sendall(b"answer")
    assert read(transport) == b"answer"


def test_close_is_a_fin_and_reset_a_reset() -> None:
    for reset in (False, True):
        with plain() as (transport, other):
            other.setblocking(True)
            transport.close(reset)
            if reset:
                with pytest.raises(ConnectionResetError):
                    other.recv(1)
            else:
                assert other.recv(1) == b""


def test_idle_is_over_with_a_byte_or_an_end(ends: Ends) -> None:
    transport, other = ends
    assert transport.idle_ok()
    other.sendall(b"unasked")
    spin(lambda: not transport.idle_ok())
    assert read(transport) == b"unasked", "a look takes nothing"
    assert transport.idle_ok()
    other.shutdown(socket.SHUT_WR)
    spin(lambda: not transport.idle_ok())


def test_idle_is_over_with_a_reset(ends: Ends) -> None:
    send_reset(ends[1])
    spin(lambda: not ends[0].idle_ok())


def test_idle_is_over_when_we_have_ended_or_closed(ends: Ends) -> None:
    ends[0].shut()
    assert not ends[0].idle_ok()
    ends[0].close()
    assert not ends[0].idle_ok()


def test_connecting_socket_is_full_and_then_refused() -> None:
    connection = socket.socket()
    connection.setblocking(False)
    assert connection.connect_ex(("127.0.0.1", free_port())) == errno.EINPROGRESS
    transport = Transport(connection.detach())
    with pytest.raises(ConnectionRefusedError):
        spin(lambda: transport.write(b"x"))
    transport.close()


def test_gone_reader_is_an_error_and_no_signal(ends: Ends) -> None:
    # A program that embeds the core may have left SIGPIPE deadly, as by default.
    transport, other = ends
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        send_reset(other)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            spin(lambda: transport.write(b"x") and False)
    finally:
        signal.signal(signal.SIGPIPE, before)


@settings(max_examples=30)
@given(
    message=st.binary(min_size=1, max_size=20_000),
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_any_sizes_of_reads_give_what_was_written(
    message: bytes, sizes: list[int]
) -> None:
    with plain() as (transport, other):
        other.setblocking(True)
        other.sendall(message)
        got, turn = b"", 0
        while len(got) < len(message):
            got += read(transport, sizes[turn % len(sizes)])
            turn += 1
        assert got == message
