"""A side that does not read stops the side that writes; what waits is bounded.

Source: the correctness contract of the relay, "B stalls": at most one pipe or one
spill per direction, the window closes, back-pressure reaches the writer.
"""

import contextlib
import hashlib
import socket
import threading

import pytest

from fastpath import Engine
from tests.support.engine_process import SANITIZED, memory
from tests.support.relay_tools import Link, Listening, Proxy, fill, linked
from tests.support.servers import receive_exactly
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live

MIB = 1 << 20
# Four socket buffers of the kernel's choice stand between the two ends (tcp(7):
# tcp_wmem and tcp_rmem); 32 MiB is the largest that any of them grows to here.
KERNEL_MOST = 4 * 32 * MIB


def resident_kib() -> int:
    """Memory of this process that is in RAM and nobody else's."""
    return 0 if SANITIZED else memory("self", "RssAnon") // 1024


def turns(engine: Engine) -> int:
    """Turns of all event loops."""
    return sum(w.turns for w in engine.stats().workers)


def ends(link: Link, stalls: str) -> tuple[socket.socket, socket.socket]:
    """Which side writes, and which does not read."""
    if stalls == "server":
        return link.client, link.server
    return link.server, link.client


@pytest.mark.parametrize("splice", [True, False], ids=["splice", "copy"])
@pytest.mark.parametrize("stalls", ["server", "client"])
def test_stalled_reader_costs_one_buffer_and_no_turn_of_the_loop(
    stalls: str, splice: bool
) -> None:
    with linked(splice=splice) as link:
        writer, reader = ends(link, stalls)
        before_kib = resident_kib()
        sent = fill(writer, most=8 * KERNEL_MOST)
        assert sent < KERNEL_MOST, "nothing stopped the writer"
        assert resident_kib() - before_kib < 2048
        assert sum(link.proxy.held) <= 1, "more than one buffer for one half"
        while True:  # fill takes a while, and once nothing may happen in it
            before = turns(link.proxy.engine)
            more = fill(writer)
            sent += more
            if not more:
                break
        assert turns(link.proxy.engine) - before < 20
        assert len(receive_exactly(reader, sent)) == sent
        assert link.proxy.held[0] == 0


@pytest.mark.parametrize("splice", [True, False], ids=["splice", "copy"])
def test_both_directions_stalled_at_once_hold_one_buffer_each(splice: bool) -> None:
    with linked(splice=splice) as link:
        up, down = fill(link.client), fill(link.server)
        assert sum(link.proxy.held) <= 2
        # Neither side reads while it writes: only full buffers stand in the way.
        assert len(receive_exactly(link.server, up)) == up
        assert len(receive_exactly(link.client, down)) == down
        assert link.proxy.held[0] == 0


@pytest.mark.parametrize("splice", [True, False], ids=["splice", "copy"])
@pytest.mark.parametrize("stalls", ["server", "client"])
def test_stream_that_stalls_again_and_again_arrives_exactly(
    stalls: str, splice: bool
) -> None:
    pattern = bytes(range(251)) * 4177  # a prime period, about a MiB
    with linked(splice=splice) as link:
        writer, reader = ends(link, stalls)
        sent = 0
        got = hashlib.sha256()
        want = hashlib.sha256()
        for portion in (1, 60_000, 1_000_000, 7, 5_000_000, 300_000):
            writer.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                while True:
                    taken = writer.send(pattern)
                    want.update(pattern[:taken])
                    sent += taken
            portion = min(portion, sent)
            got.update(receive_exactly(reader, portion))
            sent -= portion
        writer.shutdown(socket.SHUT_WR)
        reader.settimeout(10)
        while chunk := reader.recv(65536):
            got.update(chunk)
        assert got.digest() == want.digest()


@pytest.mark.slow
def test_gigabytes_at_a_stalled_backend_stay_where_they_are() -> None:
    # Many writers at once: memory is bounded by their number, not by what they send.
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Listening())
        proxy = stack.enter_context(Proxy(backend.address, workers=2))
        before_kib = resident_kib()
        links = []
        for _ in range(32):
            client = stack.enter_context(proxy.connect())
            links.append((client, stack.enter_context(backend.accept())))
        sent = []
        fillers = [
            threading.Thread(target=lambda c=client: sent.append(fill(c, 256 * MIB)))
            for client, _ in links
        ]
        for filler in fillers:
            filler.start()
        for filler in fillers:
            filler.join()
        spills, pipes = proxy.held
        assert spills + pipes <= 32
        assert sum(sent) < 32 * 256 * MIB
        # A spill is 64 KiB; the test's own threads and objects are in this, too.
        assert resident_kib() - before_kib < 32 * 64 + 4096


def test_stalled_relay_leaves_its_neighbour_its_speed() -> None:
    # Same worker, same pipes: one that waits must not be waited for.
    with Listening() as backend, Proxy(backend.address) as proxy:
        with proxy.connect() as stuck, backend.accept() as deaf:
            fill(stuck)
            with proxy.connect() as client, backend.accept() as server:
                for _ in range(200):
                    client.sendall(b"ping")
                    assert server.recv(10) == b"ping"
                    server.sendall(b"pong")
                    assert client.recv(10) == b"pong"
            assert deaf.fileno() != -1


def test_stalled_relay_that_is_reset_gives_its_buffers_back() -> None:
    with Listening() as backend, Proxy(backend.address) as proxy:
        for _ in range(5):
            with proxy.connect() as client, backend.accept():
                fill(client)
                assert sum(proxy.held) >= 1
                proxy.engine.reset()
                proxy.wait_idle()
                wait_until(lambda: proxy.held[0] == 0)
        # A pipe that held bytes is closed, never lent again: none may pile up.
        assert proxy.held[1] <= 1
