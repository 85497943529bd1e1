"""Every byte, in order, both ways, however it is cut: the relay against its oracle.

The oracle is a plain copy loop between two sockets (`Oracle`): whatever script the
two peers follow, what they receive through the relay is what they receive through it.
"""

import contextlib
import hashlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastpath import Engine
from tests.support.relay_tools import Link, Listening, Proxy, linked, wait_for
from tests.support.servers import receive_exactly
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live

NOISE = os.urandom(1 << 20)
MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes without a period that a lost or doubled chunk could hide in."""
    whole, rest = divmod(size, len(NOISE))
    blocks = ((seed + i).to_bytes(8) + NOISE[8:] for i in range(whole))
    return b"".join(blocks) + (seed.to_bytes(8) + NOISE)[:rest]


class Sender(threading.Thread):
    """Sends `data` in pieces, then a FIN."""

    def __init__(self, connection: socket.socket, data: bytes, piece: int) -> None:
        super().__init__(name="sender")
        self.connection, self.data, self.piece = connection, data, piece
        self.start()

    def run(self) -> None:
        """Send."""
        view = memoryview(self.data)
        for first in range(0, len(view), self.piece):
            self.connection.sendall(view[first : first + self.piece])
        self.connection.shutdown(socket.SHUT_WR)


class Digester(threading.Thread):
    """Reads to the EOF."""

    def __init__(self, connection: socket.socket, piece: int = 65536) -> None:
        super().__init__(name="digester")
        self.connection, self.piece = connection, piece
        self.size = 0
        self.digest = hashlib.sha256()
        self.start()

    def run(self) -> None:
        """Read."""
        while chunk := self.connection.recv(self.piece):
            self.size += len(chunk)
            self.digest.update(chunk)

    def result(self) -> tuple[int, str]:
        """Size and digest, once it has ended."""
        self.join()
        return self.size, self.digest.hexdigest()


def expected(data: bytes) -> tuple[int, str]:
    """What a Digester must find."""
    return len(data), hashlib.sha256(data).hexdigest()


# Size of a write -> size of the whole: short enough for the slow ones.
PIECES = {1: 20_000, 7: 50_000, 512: MIB, 4096: 8 * MIB, 65537: 32 * MIB, MIB: 64 * MIB}


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_stream_of_any_piece_size_arrives_exactly(direction: str, piece: int) -> None:
    up = noise(PIECES[piece]) if direction != "down" else b""
    down = noise(PIECES[piece], 1) if direction != "up" else b""
    with linked(workers=1) as link:
        readers = Digester(link.server), Digester(link.client)
        writers = Sender(link.client, up, piece), Sender(link.server, down, piece)
        for writer in writers:
            writer.join()
        assert readers[0].result() == expected(up)
        assert readers[1].result() == expected(down)
        link.proxy.wait_drops(closed=1)
        stats = link.proxy.stats
        assert (stats.bytes_up, stats.bytes_down) == (len(up), len(down))


@pytest.mark.parametrize("piece", [1, 100, 3000])
def test_slow_reader_of_small_pieces_gets_everything(piece: int) -> None:
    data = noise(piece * 10_000)
    with linked() as link:
        writer = Sender(link.client, data, MIB)
        reader = Digester(link.server, piece)
        writer.join()
        assert reader.result() == expected(data)


def spliced(engine: Engine) -> int:
    """Bytes that went through pipes so far."""
    return sum(w.bytes_spliced for w in engine.stats().workers)


def copied(engine: Engine) -> int:
    """Bytes that went through memory so far."""
    return sum(w.bytes_copied for w in engine.stats().workers)


def test_pauses_that_turn_splicing_on_and_off_lose_nothing() -> None:
    with linked() as link:
        engine = link.proxy.engine
        for turn in range(10):
            before = spliced(engine), copied(engine)
            burst = noise(4 * MIB, turn)
            writer = threading.Thread(target=link.client.sendall, args=(burst,))
            writer.start()
            assert receive_exactly(link.server, len(burst)) == burst
            writer.join()
            for k in range(20):  # requests and answers, each of them waited for
                word = noise(100 + k)
                link.client.sendall(word)
                assert receive_exactly(link.server, len(word)) == word
                link.server.sendall(word)
                assert receive_exactly(link.client, len(word)) == word
            after = spliced(engine), copied(engine)
            assert after[0] > before[0], "a stream that was not spliced"
            assert after[1] > before[1], "small requests that were not copied"


def test_streams_are_spliced_and_small_writes_are_copied() -> None:
    with linked() as link:
        link.server.settimeout(20)
        writer = Sender(link.client, noise(64 * MIB), MIB)
        reader = Digester(link.server)
        writer.join()
        reader.join()
        engine = link.proxy.engine
        assert spliced(engine) > 48 * MIB
        before = spliced(engine)
        for _ in range(1000):
            link.server.sendall(b"x" * 512)
            receive_exactly(link.client, 512)
        assert spliced(engine) == before
        total = 64 * MIB + 512_000  # counted a moment after it was sent
        wait_until(lambda: copied(engine) + spliced(engine) == total)


def test_engine_told_not_to_splice_never_does() -> None:
    data = noise(16 * MIB)
    with linked(splice=False) as link:
        writer = Sender(link.client, data, MIB)
        assert Digester(link.server).result() == expected(data)
        writer.join()
        assert spliced(link.proxy.engine) == 0
        assert link.proxy.held == (0, 0)


@pytest.mark.parametrize("pipe_bytes", [4096, 65536, MIB])
def test_pipe_of_any_size_carries_a_stream_exactly(pipe_bytes: int) -> None:
    data = noise(16 * MIB)
    with linked(pipe_bytes=pipe_bytes) as link:
        writer = Sender(link.client, data, MIB)
        assert Digester(link.server).result() == expected(data)
        writer.join()


def test_server_that_speaks_first_is_heard_before_the_client_says_anything() -> None:
    with linked() as link:
        link.server.sendall(b"220 ready\r\n")
        assert link.client.recv(100) == b"220 ready\r\n"


def test_many_relays_at_once_do_not_mix_their_bytes() -> None:
    # Scratch buffer, pipes and spills are shared by all of them.
    with Listening() as backend, Proxy(backend.address, workers=2) as proxy:
        with contextlib.ExitStack() as stack:
            readers: list[Digester] = []
            wanted: list[bytes] = []
            for number in range(24):
                client = stack.enter_context(proxy.connect())
                server = stack.enter_context(backend.accept())
                # Every relay its own content, size and cut.
                up = noise(MIB, 1000 * number) + bytes([number]) * number
                Sender(client, up, 509 + number * 4099)
                Sender(server, up[::-1], 70_001 - number)
                readers += [Digester(server), Digester(client)]
                wanted += [up, up[::-1]]
            results = sorted(reader.result() for reader in readers)
        assert results == sorted(expected(data) for data in wanted)
        proxy.wait_drops(closed=24)


# ---- The oracle.


class Oracle:
    """Two sockets and a copy loop for each direction: a relay without ideas."""

    def __init__(self) -> None:
        self.client, down = socket.socketpair()
        self.server, up = socket.socketpair()
        self._inside = (down, up)
        self._threads = [
            threading.Thread(target=self._copy, args=pair, name="oracle")
            for pair in ((down, up), (up, down))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Both scripts have ended."""
        for end in (self.client, self.server):
            end.close()
        for thread in self._threads:
            thread.join()
        for end in self._inside:
            end.close()


class Step(NamedTuple):
    """One step of a script: which side writes, how much, and whether all is read."""

    who: str
    size: int
    settle: bool
    fin: bool


STEPS = st.builds(
    Step,
    who=st.sampled_from(["client", "server"]),
    size=st.one_of(
        st.integers(0, 20),
        st.sampled_from(
            [511, 4096, 49151, 49152, 65535, 65536, 65537, 262144, 300_001]
        ),
    ),
    settle=st.booleans(),
    fin=st.integers(0, 9).map(lambda n: n == 0),
)


def follow(
    client: socket.socket, server: socket.socket, script: list[Step]
) -> dict[str, bytes]:
    """Play a script; return what each side received."""
    sockets = {"client": client, "server": server}
    peers = {"client": "server", "server": "client"}
    received = {"client": bytearray(), "server": bytearray()}
    sent = {"client": 0, "server": 0}
    closed: set[str] = set()

    def catch_up(reader: str) -> None:
        missing = sent[peers[reader]] - len(received[reader])
        received[reader] += receive_exactly(sockets[reader], missing)

    for number, step in enumerate(script):
        if step.who in closed:
            continue
        data = noise(step.size, number)
        with draining(sockets[peers[step.who]], received[peers[step.who]]) as full:
            sockets[step.who].sendall(data)
            sent[step.who] += len(data)
            if step.fin:
                sockets[step.who].shutdown(socket.SHUT_WR)
                closed.add(step.who)
            if step.settle:
                full(sent[step.who])
    for who in peers:
        if who not in closed:
            sockets[who].shutdown(socket.SHUT_WR)
    for who in peers:
        catch_up(who)
        assert sockets[who].recv(1) == b"", "no EOF behind the last byte"
    return {who: bytes(got) for who, got in received.items()}


@contextlib.contextmanager
def draining(
    connection: socket.socket, into: bytearray
) -> Iterator[Callable[[int], None]]:
    """Read in a thread while the block writes, so that no buffer is ever too small."""
    stop = threading.Event()

    def read() -> None:
        connection.settimeout(0.002)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                chunk = connection.recv(65536)
                if not chunk:
                    return
                into.extend(chunk)

    thread = threading.Thread(target=read, name="draining")
    thread.start()
    try:
        yield lambda size: wait_for(lambda: len(into), size)
    finally:
        stop.set()
        thread.join()
        connection.settimeout(10)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(script=st.lists(STEPS, max_size=12))
def test_any_script_ends_as_it_does_through_a_plain_copy_loop(
    script: list[Step],
) -> None:
    oracle = Oracle()
    try:
        want = follow(oracle.client, oracle.server, script)
    finally:
        oracle.close()
    with linked() as link:
        assert follow(link.client, link.server, script) == want
        link.proxy.wait_drops(closed=1)


def test_random_cuts_both_ways_at_once_arrive_exactly() -> None:
    # Seeded: a failure can be had again.
    dice = random.Random(2)
    for _ in range(5):
        data = noise(dice.randrange(4 * MIB), dice.randrange(1 << 30))
        with linked() as link:
            run_both(link, data, dice)


def run_both(link: Link, data: bytes, dice: random.Random) -> None:
    """Stream `data` both ways in pieces that change all the time."""
    readers = Digester(link.server, 1 + dice.randrange(100_000)), Digester(link.client)

    def send(connection: socket.socket, own: random.Random) -> None:
        left = memoryview(data)
        while left:
            size = own.choice([1, 100, 512, 5000, 65536, 200_000])
            connection.sendall(left[:size])
            left = left[size:]
        connection.shutdown(socket.SHUT_WR)

    writers = [
        threading.Thread(target=send, args=(end, random.Random(dice.random())))
        for end in (link.client, link.server)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for reader in readers:
        assert reader.result() == expected(data)
