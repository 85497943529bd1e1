"""Descriptors or memory run out: clients are refused by name, nobody else notices.

The engine runs in a process of its own, under limits of its own.
Source: the correctness contract of the relay, "EMFILE".
"""

import contextlib
import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from fastpath import Backend, Engine, Pool, Table, Vip
from tests.support.engine_process import SANITIZED, EngineProcess
from tests.support.relay_tools import Listening, echoes, fill
from tests.support.servers import EchoServer, receive_exactly
from tests.support.waiting import scaled, wait_until
from tests.support.web_rig import VIP, Peer, Web

pytestmark = pytest.mark.adversity

NOFILE = 64


def dial(address: tuple[str, int]) -> socket.socket | None:
    """A client that was served an echo, or None for one that was reset."""
    client = socket.socket()
    client.settimeout(scaled(10))
    try:
        client.connect(address)
        client.sendall(b"?")
        if client.recv(1) == b"?":
            return client
    except (ConnectionResetError, BrokenPipeError):
        pass
    client.close()
    return None


@contextlib.contextmanager
def exhausted(engine: EngineProcess) -> Iterator[list[socket.socket]]:
    """As many clients as the engine has descriptors for, all of them served."""
    clients: list[socket.socket] = []
    try:
        while client := dial(engine.address):
            clients.append(client)
        yield clients
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_client_without_a_descriptor_is_reset_counted_and_harms_nobody(
    workers: int,
) -> None:
    with EchoServer() as server:
        with EngineProcess(server.address, nofile=NOFILE, workers=workers) as engine:
            with exhausted(engine) as clients:
                assert 10 <= len(clients) <= NOFILE // 2
                for _ in range(5):  # each may wait for the end of a pause
                    assert dial(engine.address) is None
                # A relay that ends is counted just after its sockets are closed.
                wait_until(lambda: engine.drops == {"no_descriptors": 6})
                for client in clients:  # admitted clients are served as before
                    client.sendall(b"still here")
                    assert receive_exactly(client, 10) == b"still here"
            wait_until(lambda: engine.active == 0)
            with exhausted(engine) as again:
                assert len(again) == len(clients), "not all descriptors came back"


@pytest.mark.parametrize("workers", [1, 2])
def test_loop_does_not_spin_while_clients_wait_for_descriptors(workers: int) -> None:
    with EchoServer() as server:
        with EngineProcess(server.address, nofile=NOFILE, workers=workers) as engine:
            with exhausted(engine):
                before = engine.turns
                crowds = [Crowd(engine.address) for _ in range(20)]
                wait_until(lambda: engine.drops["no_descriptors"] >= 100, 30)
                dialled = sum(crowd.end() for crowd in crowds)
                # A few for each client, and ten a second for the pauses; a spin is
                # some hundred thousand.
                assert engine.turns - before < 10 * dialled + 1000


class Crowd(threading.Thread):
    """Clients that keep coming."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(name="crowd")
        self.address = address
        self.count = 0
        self.stop = False
        self.start()

    def run(self) -> None:
        """Dial, and dial again."""
        while not self.stop:
            self.count += 1
            if client := dial(self.address):
                client.close()

    def end(self) -> int:
        """Stop; return how many came."""
        self.stop = True
        self.join()
        return self.count


def test_streams_without_a_descriptor_for_a_pipe_are_copied() -> None:
    with EchoServer() as server:
        with EngineProcess(server.address, nofile=NOFILE) as engine:
            with exhausted(engine) as clients:
                data = bytes(range(256)) * 65536
                writer = threading.Thread(target=clients[0].sendall, args=(data,))
                writer.start()
                assert receive_exactly(clients[0], len(data)) == data
                writer.join()


def test_vip_that_is_applied_without_descriptors_is_an_error_and_no_end() -> None:
    with EchoServer() as server, Engine(workers=2) as engine:
        pool = Pool((Backend(*server.address),))
        vip = Vip("127.0.0.1", 0, "tcp", pool)
        engine.apply(Table([vip]))
        with no_more_descriptors():
            with pytest.raises(OSError, match="cannot listen") as failed:
                engine.apply(Table([vip, Vip("127.0.0.2", 0, "tcp", pool)]))
            assert failed.value.errno == errno.EMFILE
            with pytest.raises(OSError, match="descriptors"):
                Engine(workers=1)
        assert echoes(engine.address(vip))
        engine.apply(Table([vip, Vip("127.0.0.2", 0, "tcp", pool)]))


GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def asks(address: tuple[str, int]) -> Peer | None:
    """A client of an HTTP vip that was answered, or None for one that was reset."""
    try:  # the reset may come before connect(2) has returned
        client = Peer(socket.create_connection(address, scaled(10)))
    except ConnectionResetError:
        return None
    try:
        client.say(GET)
        assert client.sized() == ("HTTP/1.1 200 OK", b"yes")
    except (ConnectionResetError, BrokenPipeError):
        client.close()
        return None
    return client


def test_client_of_http_without_a_descriptor_is_reset_and_harms_nobody() -> None:
    with (
        EngineProcess(nofile=NOFILE, http=True) as engine,
        contextlib.ExitStack() as stack,
    ):
        clients: list[Peer] = []
        while client := asks(engine.address):
            clients.append(stack.enter_context(contextlib.closing(client)))
        assert 10 <= len(clients) <= NOFILE
        assert asks(engine.address) is None
        wait_until(lambda: engine.drops == {"no_descriptors": 2})
        for client in clients:
            client.say(GET)
            assert client.sized()[1] == b"yes"
        clients[0].close()
        wait_until(lambda: engine.active == len(clients) - 1)
        again = asks(engine.address)
        assert again is not None
        again.close()


def test_request_without_a_descriptor_for_its_upstream_is_told_so() -> None:
    with Web() as web:
        client = web.client(GET[:5])
        wait_until(lambda: web.engine.stats().vips[VIP].active == 1)
        with no_more_descriptors():
            client.say(GET[5:])
            first, body = client.sized()
            assert first == "HTTP/1.1 502 Bad Gateway"
            assert b"too many open files" in body
        client.say(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert client.head()[0] == "HTTP/1.1 204 No Content"


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """None can be opened in this process as long as the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps memory that was freed")
def test_relay_without_memory_for_its_spill_is_dropped_and_the_others_live() -> None:
    # 20 stalled relays need 64 KiB each: 1.3 MiB, of which there is a half.
    with Listening() as backend, contextlib.ExitStack() as stack:
        options = {"splice": False, "data_bytes": 1 << 19}
        engine = stack.enter_context(EngineProcess(backend.address, **options))
        links = []
        for _ in range(20):
            client = stack.enter_context(socket.create_connection(engine.address, 10))
            links.append((client, stack.enter_context(backend.accept())))
        for client, _ in links:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                fill(client, most=64 << 20)
        alive = [link for link in links if is_alive(link[0])]
        # A socket full of bytes takes its time to close: the client hears of it first.
        wait_until(lambda: engine.active == len(alive))
        assert engine.drops == {"no_memory": 20 - len(alive)}
        assert 0 < len(alive) < 20
        for client, server in alive:
            server.sendall(b"back")
            assert client.recv(10) == b"back"


def is_alive(client: socket.socket) -> bool:
    """Whether a connection has not been reset."""
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        client.settimeout(scaled(10))
    return False
