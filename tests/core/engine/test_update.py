"""Updates while clients come: shared pools, workers that lag, nothing that grows."""

import contextlib
import gc
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from fastpath import Backend, Delta, Engine, Pool, Vip
from tests.core.engine.test_apply import calling
from tests.support.engine_process import SANITIZED, memory
from tests.support.leaks import Holdings
from tests.support.relay_tools import echoes, wait_for
from tests.support.servers import EchoServer, ScriptedServer
from tests.support.waiting import scaled, wait_until

# Stops one thread of ours from outside, until its input ends: ptrace(2), SEIZE and
# INTERRUPT. A tracer that ends lets go of what it traced.
STOPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
tid = int(sys.argv[1])
for request in (0x4206, 0x4207):
    if libc.ptrace(request, tid, None, None) == -1:
        print(os.strerror(ctypes.get_errno()), flush=True)
        sys.exit()
libc.waitpid(tid, None, 0x40000000)
print("stopped", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def stopped(tid: int) -> Iterator[None]:
    """Keep a thread of this process from running; skip where that is not allowed."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPER, str(tid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as stopper:
        assert stopper.stdout is not None
        try:
            said = stopper.stdout.readline().strip()
            if said != "stopped":
                pytest.skip(f"a thread cannot be stopped here: {said}")
            yield
        finally:
            if stopper.stdin is not None:
                stopper.stdin.close()


def worker_threads(before: Holdings) -> list[int]:
    """Threads that came since."""
    return sorted(set(Holdings.now().threads) - set(before.threads))


def say(name: bytes, client: socket.socket) -> None:
    """Be a backend that says its name."""
    client.sendall(name)


def said(address: tuple[str, int]) -> bytes:
    """What the backend says."""
    with socket.create_connection(address, scaled(10)) as client:
        return client.recv(10)


def test_pool_of_two_vips_changes_and_takes_turns_for_both() -> None:
    with contextlib.ExitStack() as stack:
        names = [b"a", b"b", b"c"]
        servers = [
            stack.enter_context(ScriptedServer(partial(say, name))) for name in names
        ]
        engine = stack.enter_context(Engine(workers=1))
        backends = [Backend(*server.address) for server in servers]
        vips = [Vip(f"127.0.0.{n}", 0, "tcp", "p") for n in (1, 2)]
        two = Pool(backends[:2], balance="round-robin")
        engine.update(Delta(vips=vips, pools={"p": two}), wait_s=5)
        met = [said(engine.address(vips[n % 2])) for n in range(8)]
        # A turn for each vip would give the first vip a, b, a, b and so the second.
        assert len(set(met[::2])) == len(set(met[1::2])) == 1
        assert Counter(met) == {b"a": 4, b"b": 4}
        engine.update(Delta(pools={"p": Pool(backends[2:])}), wait_s=5)
        assert {said(engine.address(vip)) for vip in vips} == {b"c"}


@pytest.mark.slow
def test_two_thousand_updates_under_load_lose_no_connection() -> None:
    with EchoServer() as one, EchoServer() as other, Engine(workers=2) as engine:
        both = [Backend(*one.address), Backend(*other.address)]
        vip, extra = (Vip(f"127.0.0.{n}", 0, "tcp", "p") for n in (1, 2))
        engine.update(Delta(vips=[vip], pools={"p": Pool(both)}), wait_s=5)
        with calling(engine.address(vip)) as callers:
            for number in range(2000):
                if number % 20 == 0:
                    caller = callers[number // 20 % len(callers)]
                    wait_for(caller.count, caller.done + 1)
                balance = "ring" if number % 2 else "round-robin"
                some = both if number % 3 else both[number // 3 % 2 :][:1]
                there = number // 7 % 2
                delta = Delta(
                    pools={"p": Pool(some, balance=balance)},  # type: ignore[arg-type]
                    vips=[extra] if number % 7 == 0 and not there else [],
                    remove_vips=[extra.key] if number % 7 == 0 and there else [],
                )
                assert engine.update(delta) == number + 2


def churn(engine: Engine, number: int) -> None:
    """Change everything there is by two updates that leave nothing behind."""
    vip = Vip("127.0.0.7", 0, "tcp", f"p{number}")
    pool = Pool([Backend(f"10.{n}.{number >> 8}.{number & 255}", 1) for n in range(50)])
    engine.update(Delta(vips=[vip], pools={f"p{number}": pool}))
    engine.update(Delta(remove_vips=[vip.key], remove_pools=[f"p{number}"]))


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what was freed")
def test_updates_that_wait_for_nobody_hold_no_memory_and_no_descriptors() -> None:
    with Engine(workers=2) as engine:
        for number in range(1000):
            churn(engine, number)
        assert engine.settle(scaled(5))
        gc.collect()
        before, held = memory("self", "RssAnon"), Holdings.now()
        for number in range(1000, 6000):
            churn(engine, number)
        assert engine.settle(scaled(5))
        gc.collect()
        assert memory("self", "RssAnon") - before < 2_000_000
        assert held.new_in(Holdings.now()) == []
        stats = engine.stats()
        assert (stats.vips, stats.backends) == ({}, {})


@pytest.mark.slow
def test_worker_that_was_stopped_catches_up_and_held_nobody_up() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EchoServer())
        before = Holdings.now()
        engine = stack.enter_context(Engine(workers=1))
        (tid,) = worker_threads(before)
        vip = Vip("127.0.0.1", 0, "tcp", "p")
        pool = Pool((Backend(*server.address),))
        engine.update(Delta(vips=[vip], pools={"p": pool}), wait_s=5)
        for number in range(200):
            churn(engine, number)
        with stopped(tid):
            held = memory("self", "RssAnon")
            for number in range(200, 1200):
                churn(engine, number)
            assert not engine.settle(0.01)
            # 100 MB if every table kept its blocks.
            assert memory("self", "RssAnon") - held < 20_000_000 or SANITIZED
            late = Vip("127.0.0.3", 0, "tcp", "p")
            engine.update(Delta(vips=[late]))
        assert engine.settle(scaled(10))
        assert echoes(engine.address(vip))
        assert echoes(engine.address(late))
        wait_until(lambda: len(engine.stats().backends) == 1)


def test_update_after_a_drain_listens_again_where_it_names_the_vip() -> None:
    with EchoServer() as server, Engine(workers=2) as engine:
        vips = [Vip(f"127.0.0.{n}", 0, "tcp", "p") for n in (1, 2)]
        pool = Pool((Backend(*server.address),))
        engine.update(Delta(vips=vips, pools={"p": pool}), wait_s=5)
        engine.drain(wait_s=5)
        engine.update(Delta(vips=vips[:1]), wait_s=5)
        assert echoes(engine.address(vips[0]))
        with pytest.raises(KeyError):
            engine.address(vips[1])
        engine.update(Delta(remove_vips=[vip.key for vip in vips]), wait_s=5)


def test_stats_tell_what_they_are_asked_for() -> None:
    with EchoServer() as server, Engine(workers=1) as engine:
        vips = [Vip(f"127.0.0.{n}", 0, "tcp", "p") for n in (1, 2)]
        pool = Pool((Backend(*server.address), Backend("10.9.9.9", 1, weight=0)))
        engine.update(Delta(vips=vips, pools={"p": pool}), wait_s=5)
        assert echoes(engine.address(vips[0]))
        told = engine.stats(vips=[vips[0].key], backends=[server.address])
        assert set(told.vips) == {vips[0].key}
        assert set(told.backends) == {server.address}
        assert told.backends[server.address].connects == 1
        assert engine.stats(vips=[], backends=[]).vips == {}
        with pytest.raises(KeyError, match=r"10\.1\.1\.1"):
            engine.stats(vips=[("tcp", "10.1.1.1", 1)])
        with pytest.raises(KeyError, match=r"10\.1\.1\.1"):
            engine.stats(backends=[("10.1.1.1", 1)])


@pytest.mark.skipif(SANITIZED, reason="the sanitizer has memory of its own")
def test_counters_that_never_counted_take_no_memory() -> None:
    # 64 bytes of state and the Python values are all that 20,000 vips may cost.
    vips = [
        Vip(f"10.5.{n >> 8}.{n & 255}", 80, "tcp", "p", bind=False)
        for n in range(20_000)
    ]
    with Engine(workers=1) as engine, Engine(workers=32) as many:
        grown = []
        for one in (engine, many):
            before = memory("self", "RssAnon")
            one.update(Delta(vips=vips, pools={"p": Pool(())}), wait_s=5)
            grown.append(memory("self", "RssAnon") - before)
        # 31 workers more would be 40 MB and more, if each had a counter for each vip.
        assert grown[1] < grown[0] * 1.5 + 20_000_000, "not by worker"


def test_change_of_one_vip_leaves_all_others_of_its_page_alone() -> None:
    # A page of 256 pointers is copied for the change, the last of them as well.
    with EchoServer() as server, Engine(workers=1) as engine:
        to = Pool((Backend(*server.address),))
        vips = [Vip(f"127.0.1.{n}", 0, "tcp", to) for n in range(256)]
        engine.update(Delta(vips=vips), wait_s=scaled(5))
        limited = Vip("127.0.1.0", 0, "tcp", to, max_connections=1)
        engine.update(Delta(vips=[limited]), wait_s=scaled(5))
        for vip in (vips[0], vips[1], vips[254], vips[255]):
            with socket.create_connection(engine.address(vip), scaled(5)) as client:
                client.sendall(b"here")
                assert client.recv(4) == b"here"
