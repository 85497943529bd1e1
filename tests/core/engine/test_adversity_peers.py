"""Peers that stall, stop, die or play by rules of their own: they harm nobody else."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.engine_process import EngineProcess
from tests.support.relay_tools import Listening, Proxy, echoes, fill, linked
from tests.support.servers import (
    Address,
    EchoServer,
    receive_all,
    receive_exactly,
    send_reset,
)
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.adversity

ECHO = """
import socket, sys, threading
def serve(connection):
    with connection:
        while chunk := connection.recv(65536):
            connection.sendall(chunk)
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""


class EchoProcess:
    """An echo server that can be stopped, continued and killed."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdout is not None
        self.address = Address("127.0.0.1", int(self._child.stdout.readline()))

    def send(self, what: signal.Signals) -> None:
        """Send a signal and wait until it has done its work."""
        os.kill(self._child.pid, what)
        if what == signal.SIGSTOP:
            wait_until(lambda: self._state() == "T")
        elif what == signal.SIGKILL:
            self._child.wait()

    def _state(self) -> str:
        with open(f"/proc/{self._child.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._child.kill()
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextlib.contextmanager
def echo_process() -> Iterator[EchoProcess]:
    """A backend in a process of its own."""
    process = EchoProcess()
    try:
        yield process
    finally:
        process.close()


def turns(proxy: Proxy) -> int:
    """Turns of all event loops."""
    return sum(w.turns for w in proxy.engine.stats().workers)


def test_clients_that_say_nothing_cost_a_slot_and_no_more() -> None:
    with EchoServer() as server, contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(server.address, workers=2))
        for _ in range(300):
            stack.enter_context(proxy.connect())
        wait_until(lambda: proxy.backend(server.address).connects == 300)
        assert proxy.held == (0, 0)
        before = turns(proxy)
        for _ in range(20):
            assert echoes(proxy.address)
        assert turns(proxy) - before < 400
        assert proxy.stats.active >= 300


def test_clients_that_dribble_do_not_slow_the_others() -> None:
    with EchoServer() as server, contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(server.address))
        slow = [stack.enter_context(proxy.connect()) for _ in range(50)]
        for letter in b"GET / HTTP/1.1\r\n\r\n":
            for client in slow:
                client.send(bytes([letter]))
            assert echoes(proxy.address, b"x" * 100_000)
        for client in slow:
            assert receive_exactly(client, 18) == b"GET / HTTP/1.1\r\n\r\n"


def test_stopped_backend_holds_up_its_own_clients_and_loses_nothing() -> None:
    with echo_process() as process, EchoServer() as other:
        options = {"balance": "round-robin", "workers": 2}
        with Proxy(process.address, other.address, **options) as proxy:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(proxy.connect()) for _ in range(6)]
                for client in clients:
                    client.sendall(b"before")
                    assert receive_exactly(client, 6) == b"before"
                process.send(signal.SIGSTOP)
                # The kernel accepts for it, and takes what its buffers take.
                clients += [stack.enter_context(proxy.connect()) for _ in range(6)]
                served = []
                for client in clients:
                    client.sendall(b"during")
                for client in clients:
                    client.settimeout(scaled(0.1))
                    with contextlib.suppress(TimeoutError):
                        served.append(receive_exactly(client, 6))
                assert served == [b"during"] * 6
                before = turns(proxy)
                fill(clients[0], most=1 << 20)
                assert turns(proxy) - before < 200
                process.send(signal.SIGCONT)
                rest = 0
                for client in clients:
                    client.settimeout(scaled(10))
                    client.shutdown(socket.SHUT_WR)
                for client in clients:
                    rest += len(receive_all(client))
                assert rest >= 6 * 6
            # Its threads end on EOF and close: everybody is served to the end.
            proxy.wait_drops(closed=12)


def test_killed_backend_ends_its_relays_and_gets_no_new_ones() -> None:
    with echo_process() as process, EchoServer() as other:
        with Proxy(process.address, other.address, balance="least") as proxy:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(proxy.connect()) for _ in range(10)]
                for client in clients:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
                process.send(signal.SIGKILL)
                alive = 0
                for client in clients:
                    client.sendall(b"y")
                    with contextlib.suppress(ConnectionResetError):
                        alive += client.recv(1) == b"y"
                assert alive == 5, "those of the other backend"
                wait_until(lambda: proxy.backend(process.address).active == 0)
            for _ in range(20):
                assert echoes(proxy.address)
            assert proxy.backend(process.address).connect_failures > 0


def test_backend_killed_in_the_middle_of_an_upload_is_told_to_the_client() -> None:
    with echo_process() as process, Proxy(process.address, workers=2) as proxy:
        with proxy.connect() as client:
            client.sendall(b"x" * 100_000)
            receive_exactly(client, 50_000)
            process.send(signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while True:
                    client.sendall(b"x" * 65536)
        proxy.wait_drops(reset_by_backend=1)


def test_process_that_dies_of_sigpipe_does_not_die_of_ours() -> None:
    # splice(2) knows no MSG_NOSIGNAL: writing to a peer that was reset raises it.
    with Listening() as backend:
        with EngineProcess(backend.address, workers=2, deadly_sigpipe=True) as engine:
            for _ in range(30):
                with socket.create_connection(engine.address, 10) as client:
                    server = backend.accept()
                    writer = threading.Thread(target=write_on, args=(client,))
                    writer.start()
                    receive_exactly(server, 1 << 20)
                    send_reset(server)
                    writer.join()
            wait_until(lambda: engine.active == 0)
            assert engine.drops == {"reset_by_backend": 30}


def write_on(connection: socket.socket) -> None:
    """Write until that is an error."""
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(bytes(1 << 18))


def test_backend_that_comes_back_on_its_port_is_used_again() -> None:
    with echo_process() as process, contextlib.ExitStack() as stack:
        options = {"eject_after": 1, "eject_s": scaled(0.2)}
        proxy = stack.enter_context(Proxy(process.address, **options))
        assert echoes(proxy.address)
        process.send(signal.SIGKILL)
        with contextlib.suppress(OSError):
            echoes(proxy.address)
        stack.enter_context(EchoServer(port=process.address.port))
        wait_until(lambda: echoes(proxy.address))


def receive_letters(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes that are neither zero nor "!"."""
    letters = b""
    while len(letters) < count:
        chunk = connection.recv(65536)
        assert chunk, "EOF"
        letters += chunk.replace(b"\0", b"").replace(b"!", b"")
    return letters


def test_urgent_byte_holds_up_none_of_the_bytes_around_it() -> None:
    # Symptom: recv(2) stops at the urgent mark (tcp(7)), which looks like a dry
    # socket; what stood behind the mark waited for bytes that never came.
    with Listening() as backend, Proxy(backend.address) as proxy:
        for _ in range(50):
            with proxy.connect() as client:
                client.send(b"before!", socket.MSG_OOB)  # "!" is the urgent one
                client.send(b"after")
                with backend.accept() as server:
                    assert receive_letters(server, 11) == b"beforeafter"


def test_urgent_byte_in_a_stalled_stream_holds_up_nothing_either() -> None:
    with linked() as link:
        fill(link.client)
        letters: list[bytes] = []
        reader = threading.Thread(
            target=lambda: letters.append(receive_letters(link.server, 100))
        )
        reader.start()
        for _ in range(10):
            link.client.send(b"12345!", socket.MSG_OOB)
            link.client.sendall(b"67890")
        reader.join()
        assert letters == [b"1234567890" * 10]


def test_clients_that_connect_and_vanish_leave_no_relay() -> None:
    with EchoServer() as server, Proxy(server.address, workers=2) as proxy:
        for _ in range(200):
            proxy.connect().close()
        proxy.wait_accounted()
        assert set(proxy.drops) <= {"closed", "reset_by_client"}


def test_backends_that_accept_and_never_read_block_nobody_else() -> None:
    with Listening() as deaf, EchoServer() as server:
        backends = (deaf.address, server.address)
        with Proxy(*backends, balance="round-robin", workers=2) as proxy:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(proxy.connect()) for _ in range(8)]
                ears = [stack.enter_context(deaf.accept()) for _ in range(4)]
                stuck = []
                for client in clients:
                    client.sendall(b"?")
                    client.settimeout(scaled(0.1))
                    try:
                        assert client.recv(1) == b"?"
                    except TimeoutError:
                        stuck.append(client)
                assert len(stuck) == len(ears) == 4
                for client in stuck:
                    fill(client, most=8 << 20)
                proxy.engine.set_health(deaf.address, "draining")
                for _ in range(20):
                    assert echoes(proxy.address, b"z" * 50_000)
                spills, pipes = proxy.held
                assert spills + pipes <= 4 + 4
