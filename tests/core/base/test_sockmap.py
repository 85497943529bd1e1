"""Our sockets in somebody else's sockmap: slower perhaps, never wrong.

Agents for eBPF tracing sweep every established socket into such a map. Then splice(2)
may say 0 with bytes waiting, reads may come short with more behind them, and the
wake-ups are other ones. Source: dae#518, grafana/beyla#2941, and
linux/net/ipv4/tcp_bpf.c.

What is asked here is what a plain loop of poll, recv and send gets through as well.
Under Linux 6.18 that loop loses bytes in a map with a stream parser. In one with a
verdict program it gets a segment twice where bytes waited, read in part, when the map
took their socket, and now and then where the reader had been stalled.
"""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from fastpath import Engine
from tests.support.relay_tools import Link, linked, relay_sockets
from tests.support.servers import receive_all, receive_exactly, send_reset
from tests.support.sockmap import SockMap, obstacle
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.root,
    pytest.mark.adversity,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "-"),
]

MIB = 1 << 20
PROGRAMS = {
    "member": (),  # no program: membership alone changes the protocol's functions
    "verdict": ("verdict",),
    "message": ("message",),
    "both": ("verdict", "message"),
}
STALLING = ["member", "message"]
SIDES = ["down", "up", "both"]


@contextlib.contextmanager
def swept(link: Link, programs: str, side: str = "both") -> Iterator[SockMap]:
    """The relay's own sockets in a sockmap for as long as the block runs."""
    down, up = relay_sockets(link)
    with down, up, SockMap(*PROGRAMS[programs]) as found:
        if side != "up":
            found.add(down)
        if side != "down":
            found.add(up)
        # The map holds its sockets by itself; our duplicates would keep them open.
        down.close()
        up.close()
        yield found


def unspliceable(engine: Engine) -> int:
    """Halves for which splice(2) turned out not to be true."""
    return sum(worker.unspliceable for worker in engine.stats().workers)


class Pump(threading.Thread):
    """Streams random bytes, then a FIN; knows their digest."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        super().__init__(name="pump")
        self.connection, self.size = connection, size
        self.digest = hashlib.sha256()
        self.start()

    def run(self) -> None:
        """Stream."""
        block = os.urandom(MIB)
        left = self.size
        while left:
            piece = block[: min(left, MIB)]
            self.connection.sendall(piece)
            self.digest.update(piece)
            left -= len(piece)
        self.connection.shutdown(socket.SHUT_WR)


def check_stream(source: socket.socket, target: socket.socket, size: int) -> None:
    """Stream one way and compare the digests."""
    pump = Pump(source, size)
    got = hashlib.sha256()
    count = 0
    while chunk := target.recv(65536):
        got.update(chunk)
        count += len(chunk)
    pump.join()
    assert count == size
    assert got.digest() == pump.digest.digest()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("programs", PROGRAMS)
def test_stream_through_swept_sockets_is_whole(programs: str, side: str) -> None:
    # With a verdict program the kernel gives a stalled reader a segment twice now and
    # then: on a busy machine one stream of three must be whole, elsewhere the first.
    tries = 3 if "verdict" in PROGRAMS[programs] else 1
    for left in reversed(range(tries)):
        try:
            with linked() as link, swept(link, programs, side):
                check_stream(link.client, link.server, 8 * MIB)
                check_stream(link.server, link.client, 8 * MIB)
                link.proxy.wait_drops(closed=1)
            return
        except AssertionError:
            if not left:
                raise


@pytest.mark.parametrize("programs", STALLING)
def test_sockets_swept_in_the_middle_of_a_stream_lose_nothing(programs: str) -> None:
    with linked() as link:
        before = 16 * MIB
        pump = Pump(link.client, 64 * MIB)
        got = hashlib.sha256(receive_exactly(link.server, before))
        with swept(link, programs):
            count = before
            while chunk := link.server.recv(65536):
                got.update(chunk)
                count += len(chunk)
            pump.join()
        assert count == 64 * MIB
        assert got.digest() == pump.digest.digest()


@pytest.mark.parametrize("programs", PROGRAMS)
def test_spliced_relay_swept_between_two_bursts_notices(programs: str) -> None:
    # The half is in splice mode already when its socket changes under it.
    burst = os.urandom(4 * MIB)
    with linked() as link:
        exchange(link.client, link.server, burst)
        with swept(link, programs):
            for _ in range(5):
                exchange(link.client, link.server, burst)
                exchange(link.server, link.client, burst)


def exchange(source: socket.socket, target: socket.socket, data: bytes) -> None:
    """Send one way and compare."""
    writer = threading.Thread(target=source.sendall, args=(data,))
    writer.start()
    assert receive_exactly(target, len(data)) == data
    writer.join()


@pytest.mark.parametrize("programs", PROGRAMS)
def test_requests_through_swept_sockets_are_all_answered(programs: str) -> None:
    with linked() as link, swept(link, programs):
        for size in [1, 100, 4096, 20_000, 60_000] * 5:
            data = os.urandom(size)
            exchange(link.client, link.server, data)
            exchange(link.server, link.client, data)


@pytest.mark.parametrize("programs", PROGRAMS)
def test_bytes_that_came_before_the_sweep_are_not_forgotten(programs: str) -> None:
    # They wait in the ordinary queue while new ones go to the map's.
    for _ in range(20):
        with linked() as link:
            link.client.sendall(b"before ")
            with swept(link, programs):
                link.client.sendall(b"after")
                link.client.shutdown(socket.SHUT_WR)
                assert receive_all(link.server) == b"before after"


@pytest.mark.parametrize("programs", PROGRAMS)
def test_half_close_and_reset_of_swept_sockets_mean_what_they_mean(
    programs: str,
) -> None:
    with linked() as link, swept(link, programs):
        link.client.sendall(b"request")
        link.client.shutdown(socket.SHUT_WR)
        assert receive_all(link.server) == b"request"
        link.server.sendall(b"half of it")
        assert receive_exactly(link.client, 10) == b"half of it"
        send_reset(link.server)
        with pytest.raises(ConnectionResetError):
            link.client.recv(1)
        link.proxy.wait_drops(reset_by_backend=1)


@pytest.mark.parametrize("programs", STALLING)
def test_stalled_reader_of_swept_sockets_gets_every_byte_later(programs: str) -> None:
    with linked() as link, swept(link, programs):
        pump = Pump(link.client, 24 * MIB)
        wait_until(lambda: sum(link.proxy.held) > 0 or not pump.is_alive())
        got = hashlib.sha256()
        count = 0
        while chunk := link.server.recv(65536):
            got.update(chunk)
            count += len(chunk)
        pump.join()
        assert count == 24 * MIB
        assert got.digest() == pump.digest.digest()


def test_splice_that_lies_is_found_out_and_counted() -> None:
    # Whether it lies depends on the kernel: counted, or spliced in truth.
    with linked() as link:
        with swept(link, "verdict"):
            check_stream(link.client, link.server, 8 * MIB)
        workers = link.proxy.engine.stats().workers
        assert unspliceable(link.proxy.engine) > 0 or workers[0].bytes_spliced > 0


def test_relay_next_to_a_swept_one_is_spliced_as_ever() -> None:
    with linked() as one, linked() as other, swept(one, "verdict"):
        check_stream(one.client, one.server, 8 * MIB)
        check_stream(other.client, other.server, 16 * MIB)
        assert other.proxy.engine.stats().workers[0].bytes_spliced > 8 * MIB
        assert unspliceable(other.proxy.engine) == 0
