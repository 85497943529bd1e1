"""An update that is refused changes nothing that a client or a caller could see."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from fastpath import Backend, Delta, Engine, Pool, TableError, Vip
from tests.support.relay_tools import echoes
from tests.support.servers import EchoServer, free_port


def listening_on(address: tuple[str, int]) -> socket.socket:
    """A duplicate of the engine's socket that listens there; it is in our process."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            found = socket.socket(fileno=os.dup(fd))
            accepts = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if accepts and found.getsockname() == address:
                return found
            found.close()
    raise AssertionError(f"nothing listens on {address}")


class Standing:
    """An engine with one vip that echoes, and what must not change."""

    def __init__(self, engine: Engine, server: EchoServer) -> None:
        self.engine, self.server = engine, server
        self.pool = Pool((Backend(*server.address),))
        self.vip = Vip("127.0.0.1", 0, "tcp", "p")
        engine.update(Delta(vips=[self.vip], pools={"p": self.pool}), wait_s=5)

    def picture(self) -> tuple[Any, ...]:
        """Generation, keys, where it listens, how, and how many descriptors."""
        stats, address = self.engine.stats(), self.engine.address(self.vip)
        with listening_on(address) as listening:
            told = [
                listening.getsockopt(level, name)
                for level, name in (
                    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                    (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT),
                )
            ]
        fds = len(os.listdir("/proc/self/fd"))
        keys = [set(kind) for kind in (stats.vips, stats.backends, stats.upstreams)]
        return self.engine.generation, stats.generation, keys, address, told, fds


@pytest.fixture
def standing() -> Iterator[Standing]:
    """One of them."""
    with EchoServer() as server, Engine(workers=2) as engine:
        yield Standing(engine, server)


def other_options(standing: Standing) -> Vip:
    """The vip that listens, with other options of its sockets."""
    return Vip(
        "127.0.0.1", 0, "tcp", "p", keepalive_s=77, user_timeout_s=9, client_first=True
    )


@pytest.mark.parametrize("first", [True, False])
def test_vip_that_cannot_be_bound_takes_the_good_ones_along(
    standing: Standing, first: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        blocked = Vip("127.0.0.1", taken.getsockname()[1], "tcp", "p")
        good = Vip("127.0.0.1", free_port(), "tcp", "p")
        vips = [other_options(standing), good, blocked]
        before = standing.picture()
        for _ in range(50):
            with pytest.raises(OSError, match=str(blocked.port)) as failed:
                standing.engine.update(Delta(vips=vips[:: 1 if first else -1]))
            assert failed.value.errno == errno.EADDRINUSE
        assert standing.picture() == before
    assert echoes(standing.engine.address(standing.vip))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(good.key[1:])


def test_health_of_an_unknown_backend_refuses_the_update(standing: Standing) -> None:
    before = standing.picture()
    delta = Delta(vips=[other_options(standing)], pools={"q": Pool(())})
    known = standing.server.address
    for health in ({known: "dead", ("10.9.9.9", 1): "dead"}, {known: "odd"}):
        with pytest.raises(KeyError, match=r"10\.9\.9\.9|odd"):
            standing.engine.update(delta, health=health)  # type: ignore[arg-type]
    assert standing.picture() == before
    assert standing.engine.stats().backends[known].health == "ready"
    standing.engine.update(delta)
    assert standing.picture()[4] != before[4], "the options do differ"


def test_refused_updates_of_ever_new_backends_run_out_of_no_slots(
    standing: Standing,
) -> None:
    # Symptom: only a table that came into force freed what the refused had taken.
    engine = standing.engine
    before = standing.picture()
    for number in range(1100):
        many = [Backend(f"10.{n}.{number >> 8}.{number & 255}", 1) for n in range(250)]
        delta = Delta(pools={"q": Pool(many)}, vips=[Vip("127.0.0.9", 0, "tcp", "z")])
        for _ in range(4):  # each time more names than a registry has slots
            with pytest.raises(TableError, match="names no pool: 'z'"):
                engine.update(delta)
            many = [Backend(b.host, b.port + 1) for b in many]
            delta = Delta(pools={"q": Pool(many)}, vips=delta.vips)
    assert standing.picture() == before
    assert echoes(engine.address(standing.vip))


def test_refused_update_gives_its_address_back_while_the_error_is_held(
    standing: Standing,
) -> None:
    # The traceback has the draft, and with it the sockets that were opened.
    vip = Vip("127.0.0.1", free_port(), "tcp", "p")
    with pytest.raises(KeyError) as failed:
        standing.engine.update(Delta(vips=[vip]), health={("10.9.9.9", 1): "dead"})
    with socket.create_server(vip.key[1:]):
        del failed
