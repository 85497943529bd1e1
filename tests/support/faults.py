"""An engine under updates that fail in the middle, and what must not change then."""

import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastpath import Backend, Delta, Engine, Http, Listener, Pool, Table, Upstream, Vip
from fastpath.api.tlsspec import ClientTls, ServerTls
from fastpath.table.delta import State
from tests.support.relay_tools import echoes
from tests.support.waiting import scaled, wait_until

WORKERS = 2
KEPT = [Vip(f"127.0.0.{n}", 0, "tcp", "p") for n in (1, 2)]


# One client at a time, each echoed to its end.
ECHO = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        client, _ = server.accept()
        with client:
            while data := client.recv(65536):
                client.sendall(data)
"""


@contextlib.contextmanager
def echo_elsewhere() -> Iterator[tuple[str, int]]:
    """A server in a process of its own: a thread of ours would meet faults, too."""
    command = [sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield "127.0.0.1", int(server.stdout.readline())
        finally:
            server.kill()


class Ground:
    """An engine with two vips that echo, and all that an update may change."""

    def __init__(self, folder: Path, pem: dict[str, bytes]) -> None:
        self.folder, self.pem = folder, pem
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            address = stack.enter_context(echo_elsewhere())
            self.given = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.given_udp = stack.enter_context(udp)
            udp.bind(("127.0.0.1", 0))
            self.engine = stack.enter_context(Engine(workers=WORKERS))
            both = [Backend(*address), Backend("10.9.0.1", 1)]
            self.whole = Table(KEPT, pools={"p": Pool(both[:1]), "r": Pool(both)})
            self.engine.apply(self.whole, wait_s=scaled(5))
            self.state = state_of(self.engine)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def picture(self) -> list[Any]:
        """All that an update may change; blocks by identity, so picks are the same."""
        state, registry = self.state, self.state.registry
        kinds = registry.backends, registry.pools, registry.vips, registry.upstreams
        return [
            self.engine.generation,
            {key: id(block) for key, block in state.vips.items()},
            {key: id(block) for key, block in state.pools.items()},
            dict(state.upstreams),
            dict(state.transparent),
            dict(state.addresses),
            dict(state.ports),
            dict(state.users),
            {key: one.sockets.numbers for key, one in state.listening.items()},
            [dict(numbers.slots) for numbers in kinds],
            descriptors(),
            sorted(os.listdir(self.folder)),
            self.told(),
        ]

    def told(self) -> Any:
        """Keys of the statistics, counters and health; turns of the loops go on."""
        stats = self.engine.stats()
        return stats.generation, stats.vips, stats.backends, stats.upstreams, stats.http

    def reset(self) -> None:
        """Go back to the table that there was in the beginning."""
        self.engine.apply(self.whole, wait_s=scaled(5))
        assert self.engine.settle(scaled(5))
        for file in self.folder.iterdir():
            file.unlink()  # of a vip that is gone: whoever gave its name removes it
        gc.collect()

    def works(self) -> None:
        """Fail unless clients are served."""
        before = descriptors()
        assert echoes(self.engine.address(KEPT[0]))
        wait_until(lambda: descriptors() == before)


def descriptors() -> int:
    """How many are open."""
    return len(os.listdir("/proc/self/fd"))


def state_of(engine: Engine) -> State:
    """The state in force. Only the collector knows: the core shows it to nobody."""
    key, address = KEPT[0].key, engine.address(KEPT[0])
    found = [one for one in gc.get_objects() if type(one) is State]
    (state,) = [
        one
        for one in found
        if key in one.listening and one.listening[key].address == address
    ]
    return state


# ---- Updates: what each of them does, as a function that takes no memory to call.


def many(ground: Ground) -> Callable[[], object]:
    """Vips and pools of every balance come, change and go."""
    some = [Backend(f"10.1.0.{n}", 1, weight=n) for n in range(1, 5)]
    delta = Delta(
        vips=[
            Vip(
                "127.0.0.1", 0, "tcp", Pool(some, balance="round-robin"), keepalive_s=9
            ),
            Vip("127.0.0.3", 0, "tcp", "q", max_connections_per_source=5),
            Vip("10.5.0.1", 80, "tcp", "q", False, proxy_protocol_from=("10.0.0.0/8",)),
        ],
        remove_vips=[KEPT[1].key],
        pools={
            "q": Pool(some, balance="ring"),
            "p": Pool(some[:2], balance="least"),
            "x": Pool([Backend("unix:/nowhere", 1)]),
        },
        remove_pools=["r"],
        upstreams=[Upstream("u", "q"), Upstream("v", Pool(some))],
    )
    health: Any = {("10.1.0.2", 1): "dead"}
    return lambda: ground.engine.update(delta, health=health)


def tls(ground: Ground) -> Callable[[], object]:
    """An upstream and a vip that speak TLS."""
    pem = ground.pem
    spoken = ClientTls(
        ca=pem["ca"],
        server_name="localhost",
        certificate=pem["certificate"],
        key=pem["key"],
    )
    certificate = (pem["certificate"], pem["key"])
    served = ServerTls((certificate, certificate), pem["ca"], "required")
    http = Http(key=(":method", ":path", ":upgrade", "x-y"))
    vip = Vip("127.0.0.4", 0, "tcp", http=http, tls=served)
    delta = Delta(vips=[vip], upstreams=[Upstream("u", "p", spoken)])
    return lambda: ground.engine.update(delta)


def path(ground: Ground) -> Callable[[], object]:
    """A vip that listens on a path."""
    vip = Vip(f"unix:{ground.folder}/s", 0, "tcp", "p")
    delta = Delta(vips=[vip, Vip("127.0.0.5", 0, "tcp", "p")])
    return lambda: ground.engine.update(delta)


def given(ground: Ground) -> Callable[[], object]:
    """A vip whose socket is given."""
    vip = Vip("127.0.0.1", ground.given.getsockname()[1], "tcp", "p")
    sockets: Any = {vip.key: [ground.given.fileno()]}
    delta = Delta(vips=[Vip("127.0.0.5", 0, "tcp", "p"), vip])
    return lambda: ground.engine.update(delta, sockets=sockets)


def transparent(ground: Ground) -> Callable[[], object]:
    """A transparent listener, and a vip that it finds."""
    vip = Vip("10.5.0.1", 80, "tcp", "p", False)
    both = [Listener("127.0.0.6", 0), Listener("127.0.0.6", 0, "udp")]
    delta = Delta(vips=[vip], listeners=both)
    return lambda: ground.engine.update(delta)


def datagrams(ground: Ground) -> Callable[[], object]:
    """Vips of UDP: bound, and on a socket that is given."""
    vip = Vip("127.0.0.1", ground.given_udp.getsockname()[1], "udp", "p")
    sockets: Any = {vip.key: [ground.given_udp.fileno()]}
    bound = Vip("127.0.0.5", 0, "udp", "p", max_connections_per_source=5)
    delta = Delta(vips=[bound, vip])
    return lambda: ground.engine.update(delta, sockets=sockets)


def whole(ground: Ground) -> Callable[[], object]:
    """A whole table that has nothing in common with the one in force."""
    pool = Pool([Backend("10.7.0.1", 1)], balance="ring")
    table = Table([Vip("127.0.0.7", 0, "tcp", pool)], [Upstream("u", pool)])
    return lambda: ground.engine.apply(table, wait_s=scaled(5))


UPDATES = {
    one.__name__: one for one in (many, tls, path, given, transparent, datagrams, whole)
}


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep the collector from running amid an update: it would need memory, too."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
