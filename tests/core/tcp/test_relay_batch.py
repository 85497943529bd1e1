"""What many relays bring in one turn.

The engine's process is stopped while they speak, so that one turn meets them all.
"""

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.engine_process import EngineProcess
from tests.support.relay_tools import Listening, fill
from tests.support.servers import receive_all, receive_exactly, send_reset
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live

Link = tuple[socket.socket, socket.socket]


@contextlib.contextmanager
def linked(count: int) -> Iterator[tuple[EngineProcess, list[Link]]]:
    """So many relays: the client's end and the backend's."""
    with Listening() as backend, contextlib.ExitStack() as stack:
        engine = stack.enter_context(EngineProcess(backend.address))
        links = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(engine.address, 10))
            server = stack.enter_context(backend.accept())
            server.settimeout(10)
            server.sendall(b"!")
            assert receive_exactly(client, 1) == b"!"  # it flows
            links.append((client, server))
        yield engine, links


@contextlib.contextmanager
def stopped(engine: EngineProcess) -> Iterator[None]:
    """What the block does, the engine meets at once afterwards."""
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine.pid, signal.SIGCONT)


def test_messages_of_one_turn_reach_who_they_are_for() -> None:
    dice = random.Random(1)
    sizes = [1, 100, 100, 100, 4096, 4097, 20_000, 60_000]
    with linked(150) as (engine, links):
        for _ in range(5):
            up = [dice.randbytes(dice.choice(sizes)) for _ in links]
            down = [dice.randbytes(dice.choice(sizes)) for _ in links]
            with stopped(engine):
                for (client, server), ours, theirs in zip(links, up, down, strict=True):
                    client.sendall(ours)
                    server.sendall(theirs)
            for (client, server), ours, theirs in zip(links, up, down, strict=True):
                assert receive_exactly(server, len(ours)) == ours
                assert receive_exactly(client, len(theirs)) == theirs
        assert engine.drops == {}


def test_ends_and_resets_in_one_turn_with_messages_harm_nobody_else() -> None:
    with linked(60) as (engine, links):
        with stopped(engine):
            for number, (client, server) in enumerate(links):
                client.sendall(b"%04d" % number)
                if number % 6 == 1:
                    client.shutdown(socket.SHUT_WR)
                elif number % 6 == 3:
                    send_reset(client)
                elif number % 6 == 5:
                    send_reset(server)
        for number, (client, server) in enumerate(links):
            if number % 6 == 1:
                assert receive_all(server) == b"%04d" % number
                server.close()
                assert receive_all(client) == b""
            elif number % 2 == 0:
                assert receive_exactly(server, 4) == b"%04d" % number
                server.sendall(b"back")
                assert receive_exactly(client, 4) == b"back"
        wait_until(lambda: engine.active == 30)
        ended = {"closed": 10, "reset_by_client": 10, "reset_by_backend": 10}
        assert engine.drops == ended


def test_message_for_a_full_backend_waits_and_the_others_pass() -> None:
    with linked(20) as (engine, links):
        stuck, reader = links[7]
        held = fill(stuck, most=64 << 20)
        with stopped(engine):
            for number, (client, _) in enumerate(links):
                if number != 7:
                    client.sendall(b"%04d" % number)
        for number, (_, server) in enumerate(links):
            if number != 7:
                assert receive_exactly(server, 4) == b"%04d" % number
        stuck.settimeout(10)
        drain = threading.Thread(target=receive_exactly, args=(reader, held))
        drain.start()
        drain.join()
        stuck.sendall(b"more")
        assert receive_exactly(reader, 4) == b"more"
