"""Thousands of relays, tables and failures leave a process as it was.

The engine has a process to itself: its memory and descriptors are nobody else's.
Slopes, not sums: what is allocated once is no leak.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from tests.support.engine_process import SANITIZED, EngineProcess
from tests.support.relay_tools import Listening, refusing
from tests.support.servers import EchoServer, receive_exactly, send_reset
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.adversity,
    pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps memory that was freed"),
]

KIB = 1024
SLACK_BYTES = 64 * KIB  # pages that an allocator takes for reasons of its own
ROUND = 700  # a leak of 100 bytes a relay is more than that
ROUNDS = 5


def settled(engine: EngineProcess) -> tuple[int, int]:
    """Memory and descriptors once nothing lives any more."""
    wait_until(lambda: engine.active == 0)
    return engine.anonymous_bytes, engine.descriptors


def leaks(engine: EngineProcess, deed: Callable[[], None]) -> str:
    """What grows each time that something is done, or nothing.

    What is allocated once is seen once: a leak is there in every round.
    """
    deed()
    before = settled(engine)
    for _ in range(ROUNDS):
        deed()
        after = settled(engine)
        grown = after[0] - before[0], after[1] - before[1]
        if grown[0] < SLACK_BYTES and grown[1] <= 0:
            return ""
        before = after
    return f"{grown[0]} bytes and {grown[1]} descriptors a round"


def at_once(count: int, deed: Callable[[], None], threads: int = 4) -> None:
    """Do something `count` times, from several threads."""

    def work() -> None:
        for _ in range(count // threads):
            deed()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_relays_of_every_ending_leave_neither_memory_nor_descriptors() -> None:
    with EchoServer() as server, refusing() as dead:
        with EngineProcess(dead, server.address, workers=2) as engine:

            def live_and_die() -> None:
                for ending in ("fin", "rst", "stall"):
                    client = socket.create_connection(engine.address, 10)
                    with client:
                        client.sendall(b"x" * 2000)
                        receive_exactly(client, 2000)
                        if ending == "stall":
                            client.settimeout(0)
                            with contextlib.suppress(BlockingIOError):
                                client.send(bytes(1 << 20))
                        if ending == "rst":
                            send_reset(client)

            assert not leaks(engine, lambda: at_once(ROUND // 3, live_and_die))


def test_clients_that_find_nobody_leave_neither_memory_nor_descriptors() -> None:
    with refusing() as dead, EngineProcess(dead, workers=2) as engine:

        def knock() -> None:
            with contextlib.suppress(OSError):
                with socket.create_connection(engine.address, 10) as client:
                    client.sendall(b"x" * 2000)
                    client.recv(1)

        assert not leaks(engine, lambda: at_once(ROUND, knock))


def test_tables_that_come_and_go_leave_neither_memory_nor_descriptors() -> None:
    # A ring of 100 backends is some 40 KiB: 70 of them left behind are 3 MiB.
    with EchoServer() as server:
        with EngineProcess(server.address, workers=2) as engine:
            assert not leaks(engine, lambda: engine.ask("apply 200") and None)


def test_resets_of_live_relays_leave_neither_memory_nor_descriptors() -> None:
    with Listening(backlog=1024) as backend:
        with EngineProcess(backend.address, workers=2) as engine:

            def fill_and_reset() -> None:
                with contextlib.ExitStack() as stack:
                    for _ in range(ROUND):
                        stack.enter_context(socket.create_connection(engine.address))
                        stack.enter_context(backend.accept())
                    wait_until(lambda: engine.active == ROUND)
                    engine.ask("reset")
                    wait_until(lambda: engine.active == 0)

            assert not leaks(engine, fill_and_reset)


@pytest.mark.crowd
def test_idle_relay_takes_no_more_than_its_256_bytes() -> None:
    # By slope, between two numbers of idle relays that have carried bytes before.
    first, second = 512, 2560
    with Listening(backlog=1024) as backend, contextlib.ExitStack() as stack:
        engine = stack.enter_context(EngineProcess(backend.address))

        def grow(count: int) -> int:
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(engine.address))
                server = stack.enter_context(backend.accept())
                client.sendall(b"q" * 100)
                server.sendall(receive_exactly(server, 100))
                receive_exactly(client, 100)
            return engine.anonymous_bytes

        low = grow(first)
        high = grow(second - first)
        assert engine.ask("stats")["spills"] == engine.ask("stats")["pipes"] == 0
        assert (high - low) / (second - first) <= 256
        # Two descriptors a relay, and the few of the process.
        assert engine.descriptors <= 2 * second + 20
