"""A node from bytes of the API to the core, by the parts of the agent; see `services`.

Run by `loadtests.services` as a process of its own, so that memory is that of a node
alone: `python -m loadtests.services_node FOLDER`. In the folder are the lists
and the lines of the watch, as files; printed is a `Whole` as JSON.
"""

import contextlib
import dataclasses
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from loadtests import netns
from pyproxy.capture import Bind, Capture, Fronts, Layout, Tproxy
from pyproxy.dataplane import Dataplane
from pyproxy.errors import PyproxyError
from pyproxy.kube.objects import Object
from pyproxy.kube.resource import SERVICES, Change, Resource
from pyproxy.kube.splitting import LineReader, ListReader
from pyproxy.kube.store import Store
from pyproxy.kube.watching import read_line
from pyproxy.model import Vip
from pyproxy.modes.kube_proxy import KubeProxy, wiring
from pyproxy.modes.kube_proxy.parts import Parts, usual
from pyproxy.modes.kube_proxy.programmer import Programmer
from pyproxy.modes.kube_proxy.world import World

CHUNK = 1 << 16
WORKERS = 2
RATE = 1000  # lines a second
REST_S = 0.0005  # between lines, so that workers sleep again
SETTLE_S = 30.0
LOCAL = ("192.168.0.7", "127.0.0.1", "::1")
CONFIG = KubeProxy(
    hostname_override="node-7",
    bind_address="192.168.0.7",
    cluster_cidr="10.0.0.0/8",
    capture="tproxy",
)

T = TypeVar("T")


@dataclasses.dataclass
class Whole:
    """One life of a node. Seconds, and MiB of the process."""

    capture: str
    cold_s: float  # from the first byte of the lists until all workers serve
    cold_cpu_s: float
    lists_s: float  # parts of `cold_s`
    table_s: float
    core_s: float
    capture_s: float
    resident_mib: float
    changes_s: list[float]  # from the bytes of a line until all workers use it
    fronts_s: list[float]  # the same where a Service loses its endpoints, or has some
    busy: float  # share of a core at RATE lines a second
    rate: float  # that was reached


class Node:
    """What the agent is put together from, without its reflectors and doors."""

    def __init__(self, dataplane: Dataplane, parts: Parts) -> None:
        self.spent: dict[str, float] = dict.fromkeys(("table", "core", "capture"), 0.0)
        self.calls: Counter[str] = Counter()
        self.world = World.empty(parts)
        self._dataplane, self._parts = dataplane, parts
        dataplane.update = self._timed("core", dataplane.update)  # type: ignore[method-assign]
        self.programmer: Programmer | None = None
        self._reader = LineReader()

    def begin(self) -> str:
        """Bring the stores into force as the agent does, and name the capture."""
        capture = self._capture()
        here = self._parts.here(CONFIG, None, LOCAL)
        world, binds = self.world, capture.name == "bind"
        table = self._parts.table(CONFIG, here, world.services, world.slices, binds)
        table.take = self._timed("table", table.take)  # type: ignore[method-assign]
        capture.update = self._timed("capture", capture.update)  # type: ignore[method-assign]
        plane = self._dataplane
        self.programmer = Programmer(table, capture, lambda: plane, refused)
        handlers = self._parts.handlers(table, nothing, lambda: None)
        world.services.add_handler(handlers[0])
        world.slices.add_handler(handlers[1])
        self.programmer.prepare()
        capture.open(here)
        self.sync()
        self.settle()
        return capture.name

    def sync(self) -> None:
        """Bring what has changed into force."""
        assert self.programmer is not None
        if not self.programmer.sync():
            raise SystemExit(f"not in force: {self.programmer.trouble}")

    def settle(self) -> None:
        """Wait until all workers use the newest table; the agent does not."""
        deadline = time.perf_counter() + SETTLE_S
        while not self._dataplane._engine.settle(0):
            if time.perf_counter() > deadline:
                raise SystemExit("workers do not take the table")

    def take_line(self, data: bytes) -> None:
        """Go the way from the bytes of a line to a table that is published."""
        for each in self._reader.feed(data):
            change = read_line(self._parts.slices, each, "")
            assert isinstance(change, Change)
            self.world.slices.upsert(change.object)
        self.sync()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.programmer is not None:
            self.programmer.capture.close(leave=False)

    def _capture(self) -> Capture:
        """Return capture by tproxy; without the rights, what does nothing."""
        made = self._parts.capture(CONFIG, lambda: self._dataplane)
        return made if netns_has_rules() else Unseen()

    def _timed(self, name: str, work: Callable[..., T]) -> Callable[..., T]:
        def timed(*arguments: Any, **named: Any) -> T:
            self.calls[name] += 1
            began = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                self.spent[name] += time.perf_counter() - began

        return timed


class Unseen(Bind):
    """In place of capture, where the kernel grants no rules: nothing is measured."""

    name = "none"

    def takes(self, vip: Vip) -> bool:
        """Clients of every address would come."""
        return True

    def update(self, change: Fronts) -> None:
        """Change nothing."""


def netns_has_rules() -> bool:
    """Whether our tables can be installed in this network."""
    trial = Tproxy(Layout(1, 1, name="trial"))
    try:
        trial.open(wiring.here(CONFIG, None, LOCAL))
    except PyproxyError as error:
        sys.stderr.write(f"without capture: {error}\n")
        return False
    trial.close(leave=False)
    return True


def refused(key: str, why: str) -> None:
    """A Service that the core does not take makes the figures worthless."""
    raise SystemExit(f"{key} was refused: {why}")


def nothing(is_slice: bool) -> None:
    """A line was noted."""


def read_list(path: Path, resource: Resource[Any], store: Store[Any]) -> None:
    """Take a list over into a store as its bytes come."""
    reader, replacement = ListReader(resource), store.replace()
    with path.open("rb") as file:
        for data in iter(lambda: file.read(CHUNK), b""):
            for each in reader.feed(data):
                if isinstance(each, Object):
                    replacement.take(each)
    for each in reader.finish():
        if isinstance(each, Object):
            replacement.take(each)
    replacement.finish()


def resident_mib() -> float:
    """Return what the process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def one_by_one(node: Node, lines: Sequence[bytes]) -> list[float]:
    """Seconds of each line."""
    found = []
    for data in lines:
        began = time.perf_counter()
        node.take_line(data)
        node.settle()
        found.append(time.perf_counter() - began)
        time.sleep(REST_S)
    return found


def at_rate(node: Node, lines: Sequence[bytes]) -> tuple[float, float]:
    """Take RATE lines a second: share of a core, workers included; lines a second."""
    began, cpu_s = time.perf_counter(), time.process_time()
    for number, data in enumerate(lines):
        ahead_s = began + number / RATE - time.perf_counter()
        if ahead_s > 0:
            time.sleep(ahead_s)
        node.take_line(data)
    node.settle()
    took_s = time.perf_counter() - began
    return (time.process_time() - cpu_s) / took_s, len(lines) / took_s


def measure(node: Node, folder: Path) -> Whole:
    """Live once."""
    lines, rated, fronts = (
        folder.joinpath(name).read_bytes().splitlines(keepends=True)
        for name in ("lines", "rated", "fronts")
    )
    began, cpu_s = time.perf_counter(), time.process_time()
    read_list(folder / "services", SERVICES, node.world.services)
    read_list(folder / "slices", wiring.SLICES, node.world.slices)
    listed = time.perf_counter()
    name = node.begin()
    ended, cpu_s = time.perf_counter(), time.process_time() - cpu_s
    spent = dict(node.spent)
    gc.collect()
    resident = resident_mib()
    changes = one_by_one(node, lines)
    calls = node.calls["capture"]
    turned = one_by_one(node, fronts)
    if node.calls["capture"] - calls < len(fronts):
        raise SystemExit("lines that should change a front do not")
    busy, rate = at_rate(node, rated)
    return Whole(
        capture=name,
        cold_s=ended - began,
        cold_cpu_s=cpu_s,
        lists_s=listed - began,
        table_s=spent["table"],
        core_s=spent["core"],
        capture_s=spent["capture"],
        resident_mib=resident,
        changes_s=changes,
        fronts_s=turned,
        busy=busy,
        rate=rate,
    )


@contextlib.contextmanager
def started() -> Iterator[Node]:
    """Return a node with a core, in a network of its own."""
    netns.enter()
    dataplane = Dataplane.open(WORKERS)
    node = Node(dataplane, usual())
    try:
        yield node
    finally:
        node.close()
        dataplane.close()


def main() -> None:
    """Measure and print."""
    with started() as node:
        found = measure(node, Path(sys.argv[1]))
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
