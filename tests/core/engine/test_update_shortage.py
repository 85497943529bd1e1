"""Descriptors, addresses or room in epoll run out amid an update, or in a worker."""

import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastpath import Backend, Delta, Engine, Pool, Vip
from tests.core.engine.test_update_faults import shim  # noqa: F401
from tests.support.faults import UPDATES, Ground
from tests.support.servers import EchoServer
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.adversity

SHORT_OF = ("path", "given", "many", "transparent", "whole")


@contextlib.contextmanager
def most_descriptors(more: int) -> Iterator[None]:
    """Only `more` can be opened as long as the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.dup(0) for _ in range(more + 1)]
    for fd in held:
        os.close(fd)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1], hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def failure(update: Callable[[], object], more: int) -> OSError | None:
    """What becomes of an update for which only `more` descriptors are left."""
    try:
        with most_descriptors(more):
            update()
    except OSError as error:
        return OSError(error.errno, str(error))  # without the frames of the update
    return None


@pytest.mark.root
@pytest.mark.parametrize("name", SHORT_OF)
def test_update_that_runs_out_of_descriptors_at_any_of_them_changes_nothing(
    tmp_path: Path, name: str
) -> None:
    # Symptom: a path stayed bound, with a socket for each worker that had got one.
    if name == "transparent" and os.geteuid() != 0:
        pytest.skip("transparent listeners need root")
    with Ground(tmp_path, {}) as ground:
        update = UPDATES[name](ground)
        before = ground.picture()
        more = 0
        while failed := failure(update, more):
            assert failed.errno == errno.EMFILE
            assert "cannot" in str(failed)
            assert "too many open files" in str(failed).lower()
            assert ground.picture() == before, more
            more += 1
        assert more > 0
        ground.reset()
        ground.works()


def test_last_address_of_a_hundred_that_is_taken_leaves_none_bound(
    tmp_path: Path,
) -> None:
    with Ground(tmp_path, {}) as ground, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        last = Vip("127.0.0.1", taken.getsockname()[1], "tcp", "p")
        vips = [Vip(f"127.0.1.{n}", 0, "tcp", "p") for n in range(1, 100)]
        vips.append(Vip(f"unix:{tmp_path}/s", 0, "tcp", "p"))
        before = ground.picture()
        with pytest.raises(OSError, match=f":{last.port}: ") as failed:
            ground.engine.update(Delta(vips=[*vips, last]))
        assert failed.value.errno == errno.EADDRINUSE
        del failed
        assert ground.picture() == before
        ground.engine.update(Delta(vips=vips), wait_s=scaled(5))
        ground.reset()


def test_clients_in_a_listener_that_stops_without_descriptors_are_counted() -> None:
    # Symptom: they were reset with the socket, and no counter knew of them.
    with EchoServer() as server, Engine(workers=1) as engine:
        vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*server.address),)))
        engine.update(Delta(vips=[vip]), wait_s=scaled(5))
        address = engine.address(vip)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(20)]
            with most_descriptors(0):
                clients[0].connect(address)  # refused, and the listener pauses
                wait_until(
                    lambda: engine.stats().vips[vip.key].refused["no_descriptors"] == 1
                )
                for client in clients[1:]:
                    client.connect(address)
                engine.drain(wait_s=scaled(5))
                refused = engine.stats().vips[vip.key].refused
            assert refused["no_descriptors"] == len(clients)


SHORT = """
import ctypes, sys, time
from fastpath import Delta, Engine, Pool, Vip
from tests.support.relay_tools import echoes
from tests.support.servers import EchoServer
from fastpath import Backend

shim = ctypes.CDLL(sys.argv[1])
shim.fault_others.argtypes = [ctypes.c_long] * 2
with EchoServer() as server, Engine(workers=2) as engine:
    shim.fault_others(3, 4)
    vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*server.address),)))
    engine.update(Delta(vips=[vip]), wait_s=20)
    assert echoes(engine.address(vip))
    deadline = time.monotonic() + 20
    while sum(w.unwatched for w in engine.stats().workers) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = engine.stats().workers
    assert sum(w.starved for w in workers) == 3, workers
    assert echoes(engine.address(vip))
"""


def test_worker_without_memory_or_watches_says_so_and_tries_again(
    shim: Path,  # noqa: F811
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT, shim],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    assert done.returncode == 0, done.stdout + done.stderr
