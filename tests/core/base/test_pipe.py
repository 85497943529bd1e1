"""Kernel pipes as buffers, between real sockets, and the list they are lent from."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.pipe import Pipe, PipeList
from tests.support.leaks import Holdings
from tests.support.servers import receive_exactly

pytestmark = pytest.mark.live

Pair = tuple[socket.socket, socket.socket]


def tcp_pair() -> Pair:
    """Return two ends of a TCP connection, both non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def send_until_full(connection: socket.socket) -> None:
    """Send until no buffer between here and the other end has room."""
    with contextlib.suppress(BlockingIOError):
        while connection.send(b"y" * 65536):
            pass


@pytest.fixture
def source() -> Iterator[Pair]:
    """A connection; the pipe reads its second end."""
    one, other = tcp_pair()
    with one, other:
        yield one, other


@pytest.fixture
def target() -> Iterator[Pair]:
    """A connection; the pipe writes its first end."""
    one, other = tcp_pair()
    with one, other:
        yield one, other


def test_fill_on_dry_socket_raises_blocking_and_keeps_bytes(source: Pair) -> None:
    # EAGAIN here must not lose what an earlier fill moved in.
    client, server = source
    pipe = Pipe()
    client.sendall(b"x" * 1000)
    assert pipe.fill(server.fileno(), limit=65536) == 1000
    with pytest.raises(BlockingIOError):
        pipe.fill(server.fileno(), limit=65536)
    assert pipe.used == 1000


def test_bytes_come_out_as_they_went_in(source: Pair, target: Pair) -> None:
    message = bytes(range(256)) * 100
    pipe = Pipe()
    source[0].sendall(message[:10_000])
    assert pipe.fill(source[1].fileno()) == 10_000
    source[0].sendall(message[10_000:])
    assert pipe.fill(source[1].fileno()) == len(message) - 10_000
    assert pipe.used == len(message)
    assert pipe.flush(target[0].fileno()) == len(message)
    assert pipe.used == 0
    target[1].setblocking(True)
    assert receive_exactly(target[1], len(message)) == message


def test_limit_bounds_a_fill(source: Pair) -> None:
    source[0].sendall(b"x" * 5000)
    pipe = Pipe()
    assert pipe.fill(source[1].fileno(), limit=1234) == 1234
    assert pipe.used == 1234
    assert pipe.fill(source[1].fileno(), limit=65536) == 5000 - 1234


def test_full_pipe_looks_like_a_dry_socket_and_goes_on_after_a_flush(
    source: Pair, target: Pair
) -> None:
    # splice(2) says EAGAIN for both; that is why `used` is asked then.
    client, server = source
    pipe = Pipe(PipeList(size=4096))
    sent = client.send(b"x" * 200_000)
    assert sent > pipe.size
    while True:
        try:
            pipe.fill(server.fileno())
        except BlockingIOError:
            break
    assert 0 < pipe.used < sent
    assert server.recv(1, socket.MSG_PEEK), "there is more"
    moved = pipe.flush(target[0].fileno())
    assert moved > 0
    assert pipe.fill(server.fileno()) > 0


def test_fill_at_the_end_returns_nothing(source: Pair) -> None:
    pipe = Pipe()
    source[0].sendall(b"last words")
    source[0].shutdown(socket.SHUT_WR)
    assert pipe.fill(source[1].fileno()) == 10
    assert pipe.fill(source[1].fileno()) == 0
    assert pipe.used == 10


def test_flush_to_a_reader_that_does_not_read_keeps_the_rest(
    source: Pair, target: Pair
) -> None:
    pipe = Pipe()
    source[0].sendall(b"x" * 60_000)
    pipe.fill(source[1].fileno())
    send_until_full(target[0])
    before = pipe.used
    with pytest.raises(BlockingIOError):
        pipe.flush(target[0].fileno())
    assert pipe.used == before


@pytest.mark.parametrize("call", ["fill", "flush"])
def test_failure_of_a_socket_is_its_errno_and_changes_nothing(
    source: Pair, target: Pair, call: str
) -> None:
    pipe = Pipe()
    source[0].sendall(b"x" * 100)
    pipe.fill(source[1].fileno())
    with socket.socket() as nobody, pytest.raises(OSError, match="splice"):
        getattr(pipe, call)(nobody.fileno())
    assert pipe.used == 100
    assert pipe.flush(target[0].fileno()) == 100


@settings(max_examples=40, deadline=None)
@given(
    message=st.binary(max_size=30_000),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 9000)), max_size=30),
)
def test_any_order_of_fills_and_flushes_is_a_copy(
    message: bytes, steps: list[tuple[bool, int]]
) -> None:
    one, source = tcp_pair()
    target, other = tcp_pair()
    with one, source, target, other:
        one.sendall(message)
        pipe, filled, flushed = Pipe(), 0, 0
        for fills, limit in steps:
            if fills and filled < len(message):
                filled += pipe.fill(source.fileno(), limit)
            elif pipe.used > 0:
                flushed += pipe.flush(target.fileno())
            assert pipe.used == filled - flushed
        while pipe.used > 0:
            flushed += pipe.flush(target.fileno())
        other.setblocking(True)
        assert receive_exactly(other, filled) == message[:filled]


def test_empty_pipe_is_lent_again(source: Pair, target: Pair) -> None:
    pipes = PipeList()
    pipe = Pipe(pipes)
    fds = pipe.fds
    source[0].sendall(b"x")
    pipe.fill(source[1].fileno())
    pipe.flush(target[0].fileno())
    pipe.put()
    assert (pipes.idle, pipes.total) == (1, 1)
    again = Pipe(pipes)
    assert again.fds == fds
    assert again.used == 0
    assert (pipes.idle, pipes.total) == (0, 1)


def test_pipe_with_a_residue_never_reaches_another_relay(source: Pair) -> None:
    # What was meant for one client must not be sent to the next.
    pipes = PipeList()
    pipe = Pipe(pipes)
    source[0].sendall(b"secret")
    pipe.fill(source[1].fileno())
    before = Holdings.now()
    pipe.put()
    assert (pipes.idle, pipes.total) == (0, 0)
    assert len(Holdings.now().fds) == len(before.fds) - 2, "closed, not kept"
    other = Pipe(pipes)
    with pytest.raises(BlockingIOError):
        os.read(other.fds[0], 1)


def test_list_lends_no_more_than_its_limit() -> None:
    pipes = PipeList(limit=3)
    lent = [Pipe(pipes) for _ in range(3)]
    assert pipes.total == 3
    with pytest.raises(BlockingIOError):
        Pipe(pipes)
    lent.pop().put()
    assert Pipe(pipes).used == 0
    with pytest.raises(BlockingIOError):
        [Pipe(pipes) for _ in range(3)]


def test_list_keeps_a_few_and_closes_the_others() -> None:
    pipes = PipeList(limit=10, keep=2)
    lent = [Pipe(pipes) for _ in range(5)]
    before = len(Holdings.now().fds)
    for pipe in lent:
        pipe.put()
    assert (pipes.idle, pipes.total) == (2, 2)
    assert len(Holdings.now().fds) == before - 2 * 3


def test_putting_back_twice_is_fine() -> None:
    pipes = PipeList()
    pipe = Pipe(pipes)
    pipe.put()
    pipe.put()
    assert (pipes.idle, pipes.total) == (1, 1)


@pytest.mark.parametrize(("asked", "granted"), [(1, 4096), (65536, 65536)])
def test_size_is_what_the_kernel_granted(asked: int, granted: int) -> None:
    # F_SETPIPE_SZ rounds up to pages, powers of two: fcntl(2).
    assert Pipe(PipeList(size=asked)).size == granted


def test_size_that_nobody_gets_leaves_a_pipe_of_the_usual_size() -> None:
    assert Pipe(PipeList(size=1 << 31)).size >= 4096


def test_descriptors_are_not_inherited_and_do_not_block() -> None:
    pipe = Pipe()
    for fd in pipe.fds:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
