"""Threads: load spread over them, letters between them, their beginning and end."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from functools import partial

import pytest

from fastpath import Backend, Engine, EngineError, Pool, Table, Vip
from tests.support.relay_tools import Listening, Proxy, wait_for
from tests.support.servers import EchoServer, send_reset
from tests.support.waiting import scaled, wait_until


def active(proxy: Proxy) -> list[int]:
    """Live relays by worker."""
    return [worker.active for worker in proxy.engine.stats().workers]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_few_long_connections_are_spread_evenly(workers: int) -> None:
    # The kernel's hash alone puts 8 of 8 on one of two listeners once in 128 runs.
    with EchoServer() as server:
        with Proxy(server.address, workers=workers) as proxy:
            for _ in range(5):
                with contextlib.ExitStack() as stack:
                    for number in range(1, 9):
                        stack.enter_context(proxy.connect())
                        wait_for(lambda: sum(active(proxy)), number)
                    loads = active(proxy)
                    assert max(loads) - min(loads) <= 1, loads
                proxy.wait_idle()


@pytest.mark.crowd
def test_burst_of_connections_is_spread_within_an_eighth() -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=2) as proxy:
            with contextlib.ExitStack() as stack:
                for _ in range(400):
                    client = stack.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(proxy.address)
                wait_until(lambda: sum(active(proxy)) == 400)
                loads = active(proxy)
                # An eighth, and the clients on their way when it was looked at.
                assert max(loads) <= min(loads) * 9 / 8 + 24, loads
            proxy.wait_idle()


def is_loaded(proxy: Proxy, relays: int) -> bool:
    """Whether the workers have so many."""
    return sum(active(proxy)) == relays


def test_relays_that_end_on_one_worker_are_made_up_for() -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=2) as proxy:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
                wait_until(lambda: sum(active(proxy)) == 20)
                for client in clients[::2]:
                    client.close()
                wait_until(lambda: sum(active(proxy)) == 10)
                # One at a time: workers that wait for a CPU see old counts.
                for live in range(11, 31):
                    stack.enter_context(proxy.connect())
                    wait_until(partial(is_loaded, proxy, live))
                loads = active(proxy)
                assert max(loads) - min(loads) <= 4, loads
            proxy.wait_idle()


def test_relay_handed_over_works_as_any_other() -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=4) as proxy:
            with contextlib.ExitStack() as stack:
                for _ in range(40):
                    client = stack.enter_context(proxy.connect())
                    client.sendall(b"hello")
                    assert client.recv(10) == b"hello"
                handed = sum(w.handed_over for w in proxy.engine.stats().workers)
                assert handed > 0
            proxy.wait_drops(closed=40)
            assert proxy.engine.stats().relays_total == 40


@pytest.mark.parametrize("workers", [0, -1, 65, 1000])
def test_engine_refuses_a_number_of_workers_that_it_cannot_have(workers: int) -> None:
    # Symptom: the half-made engine closed descriptor 0, and whatever was opened next
    # became the process's standard input; libuv aborts on that.
    with pytest.raises(ValueError, match="workers"):
        Engine(workers=workers)
    os.fstat(0)


def test_engine_has_a_worker_for_each_cpu_unless_told_otherwise() -> None:
    with Engine() as engine:
        assert engine.workers == len(os.sched_getaffinity(0))


def test_engines_opened_and_closed_in_a_row_leave_nothing() -> None:
    # Descriptors and threads are counted by the fixture that watches every test.
    with EchoServer() as server:
        for _ in range(30):
            with Proxy(server.address, workers=3) as proxy, proxy.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"


def test_engine_closed_with_live_relays_resets_both_their_ends() -> None:
    with Listening() as backend:
        proxy = Proxy(backend.address, workers=2)
        with contextlib.ExitStack() as stack:
            links = []
            for _ in range(10):
                client = stack.enter_context(proxy.connect())
                links.append((client, stack.enter_context(backend.accept())))
            proxy.engine.close()
            for link in links:
                for end in link:
                    with pytest.raises(ConnectionResetError):
                        end.recv(1)


class Talker(threading.Thread):
    """Connects, says something, reads the echo, and again until told to stop."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(name="talker")
        self.proxy = proxy
        self.done = 0
        self.stop = False
        self.start()

    def count(self) -> int:
        """How often it was answered."""
        return self.done

    def run(self) -> None:
        """Talk."""
        while not self.stop:
            with contextlib.suppress(OSError), self.proxy.connect() as client:
                client.sendall(b"x" * 1000)
                client.recv(1000)
                self.done += 1


def test_engine_closed_under_load_ends_and_leaves_nothing() -> None:
    with EchoServer() as server:
        for _ in range(5):
            proxy = Proxy(server.address, workers=2)
            talkers = [Talker(proxy) for _ in range(4)]
            for talker in talkers:
                wait_for(talker.count, 5)
            proxy.engine.close()
            for talker in talkers:
                talker.stop = True
            for talker in talkers:
                talker.join()


def test_closed_engine_says_so_and_closing_again_is_nothing() -> None:
    with EchoServer() as server:
        proxy = Proxy(server.address)
        engine = proxy.engine
        engine.close()
        engine.close()
        for call in (
            engine.reset,
            engine.drain,
            engine.stats,
            engine.notices,
            engine.fileno,
        ):
            with pytest.raises(EngineError, match="closed"):
                call()
        with pytest.raises(EngineError, match="closed"):
            engine.apply(Table([proxy.vip]))
        with pytest.raises((EngineError, KeyError)):
            engine.address(proxy.vip)
        with contextlib.suppress(EngineError, KeyError):
            engine.set_health(server.address, "dead")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: it may crash."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=scaled(30),
        check=False,
    )


def test_notices_of_a_closed_engine_are_none_or_an_error() -> None:
    # Symptom: a crash, of a process that read notices in a callback after close().
    done = run_python("""
from fastpath import Engine, EngineError
engine = Engine(workers=1)
engine.notices(), engine.fileno()
engine.close()
try:
    print(engine.notices())
except EngineError:
    print([])
""")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_engine_forgotten_without_close_crashes_nobody() -> None:
    # The workers' threads must not outlive the memory that they share.
    done = run_python("""
import gc, socket, warnings
from fastpath import Backend, Engine, Pool, Table, Vip
warnings.simplefilter("ignore")
sink = socket.create_server(("127.0.0.1", 0))
for _ in range(20):
    engine = Engine(workers=2)
    vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*sink.getsockname()),)))
    engine.apply(Table([vip]))
    where = engine.address(vip)
    client = socket.create_connection(where)
    del engine
    junk = [bytes(n) for n in range(0, 4096, 16)]  # takes the memory over
    for _ in range(5):
        try:
            socket.create_connection(where, 1).close()
        except OSError:
            pass
    client.close()
print("alive")
""")
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]


def test_interpreter_that_ends_with_an_engine_open_ends_cleanly() -> None:
    done = run_python("""
from fastpath import Engine
engine = Engine(workers=2)
print("end")
""")
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_child_process_inherits_no_descriptor_of_the_engine() -> None:
    # It would keep vips bound and peers waiting after the engine has closed them.
    with EchoServer() as server, Proxy(server.address, workers=2) as proxy:
        with proxy.connect() as client:
            client.sendall(b"x" * 500_000)
            with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
                folder = f"/proc/{child.pid}/fd"
                wait_until(
                    lambda: os.readlink(f"/proc/{child.pid}/exe").endswith("sleep")
                )
                held = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
                child.kill()
        assert not [
            name for name in held if name.startswith(("socket:", "anon_inode:"))
        ]


def test_flood_of_commands_fills_no_mailbox_for_good() -> None:
    # More resets than a mailbox holds letters: the caller waits, nothing is lost.
    with Listening() as backend, Proxy(backend.address, workers=2) as proxy:
        with proxy.connect() as client, backend.accept():

            def flood() -> None:
                for _ in range(2000):
                    proxy.engine.reset()

            threads = [threading.Thread(target=flood) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        # The last ones may still be under way, and hit new clients.
        wait_until(lambda: lives(proxy, backend))


def lives(proxy: Proxy, backend: Listening) -> bool:
    """Whether a relay stays long enough to be used."""
    try:
        with proxy.connect() as client, backend.accept() as server:
            client.sendall(b"alive")
            return server.recv(10) == b"alive"
    except ConnectionResetError:
        return False


def test_storm_of_connects_and_resets_is_counted_to_the_last_one() -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=2) as proxy:

            def knock() -> None:
                for _ in range(150):
                    send_reset(proxy.connect())

            storms = [threading.Thread(target=knock) for _ in range(4)]
            for storm in storms:
                storm.start()
            for storm in storms:
                storm.join()
            # Some are gone before they are accepted: the kernel never shows those.
            proxy.wait_accounted()
            assert 0 < sum(proxy.drops.values()) <= 600


def test_two_engines_in_one_process_share_nothing() -> None:
    with EchoServer() as server:
        with Proxy(server.address) as one, Proxy(server.address) as other:
            with one.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            one.wait_drops(closed=1)
            assert other.drops == {}
            one.engine.close()
            with other.connect() as client:
                client.sendall(b"y")
                assert client.recv(1) == b"y"


def test_table_on_many_vips_is_served_by_each_worker() -> None:
    with EchoServer() as server, Engine(workers=2) as engine:
        hosts = [f"127.0.1.{n}" for n in range(1, 41)]
        pool = Pool((Backend(*server.address),))
        vips = [Vip(host, 0, "tcp", pool) for host in hosts]
        engine.apply(Table(vips))
        seen: Counter[str] = Counter()
        for vip in vips:
            with socket.create_connection(engine.address(vip), 10) as client:
                client.sendall(vip.host.encode())
                seen[client.recv(100).decode()] += 1
        assert seen == Counter(hosts)
