"""Measure how Services come into force on a node: bytes of the API in, workers use it.

As `loadtests.services`, and on: what the table says goes through the agent's programmer
into the core and, with root, into the sets of tproxy, in a network of its own. Cold
start: from the first byte of both lists to the last transaction. One change: from a
line of the watch to workers that have the new table. Not measured: TLS and HTTP.

    python -m loadtests.programming [--quick] [--profile FILE]
"""

import argparse
import contextlib
import cProfile
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from loadtests.netns import enter
from loadtests.reflector_server import endpoint_slice
from loadtests.services import (
    ENDPOINTS,
    SETTINGS,
    Node,
    changed,
    list_of,
    read_list,
    resident_mib,
    service,
)
from pyproxy.capture import Bind, Capture
from pyproxy.config import convert
from pyproxy.dataplane import Dataplane
from pyproxy.discovery.services import here_of
from pyproxy.kube.resource import SERVICES, Change
from pyproxy.kube.slices import BRIEF_SLICES
from pyproxy.kube.splitting import LineReader
from pyproxy.kube.watching import read_line
from pyproxy.modes.kube_proxy import KubeProxy, wiring
from pyproxy.modes.kube_proxy.process import rare_gc
from pyproxy.modes.kube_proxy.programmer import Programmer

if TYPE_CHECKING:
    from pyproxy.modes.kube_proxy.parts import Table

WORKERS = 2
SETTLE_S = 5.0
BARS = "bars: cold 4 s, 250 MiB resident; change p50 1 ms, p99 10 ms"


class Everywhere(Bind):
    """Capture for a user without rights: everything comes, nothing is dropped."""

    def takes(self, vip: object) -> bool:
        """Say yes."""
        return True


def capture_of(dataplane: Dataplane) -> Capture:
    """Return tproxy, if it may be."""
    if os.geteuid():
        return Everywhere()
    config = convert({"capture": "tproxy", "hostnameOverride": "node-7"}, KubeProxy)
    return wiring.capture(config, lambda: dataplane)


@contextlib.contextmanager
def profiled(file: str) -> Iterator[None]:
    """Profile what is inside, if there is a file for it."""
    if not file:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    profile.dump_stats(file)


def timed(work: Callable[[], Any]) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(many: int, lines: int, file: str) -> None:
    """Measure once: a second start in one process would find memory that is warm."""
    services = list_of("ServiceList", map(service, range(many)))
    slices = (endpoint_slice(n, ENDPOINTS, 5 + n) for n in range(many))
    slice_list = list_of("EndpointSliceList", slices)
    data = [changed(n * 7919 % many, n // many) for n in range(lines)]
    before = resident_mib()
    dataplane = Dataplane.open(WORKERS)
    try:
        capture = capture_of(dataplane)
        capture.open(here_of(SETTINGS, None, ["192.168.0.7", "127.0.0.1"]))
        node, refused = Node(), list[str]()
        table = cast("Table", node.table)
        programmer = Programmer(
            *(table, capture, lambda: dataplane),
            lambda key, why: refused.append(f"{key}: {why}"),
        )
        steps: dict[str, Callable[[], Any]] = {
            "read Services": lambda: read_list(services, SERVICES, node.services),
            "read slices": lambda: read_list(slice_list, BRIEF_SLICES, node.slices),
            "put in force": programmer.sync,
            "workers have it": lambda: settle(dataplane),
        }
        with profiled(file), rare_gc():
            took_s = {name: timed(work) for name, work in steps.items()}
        assert not refused, refused[:3]
        assert len(programmer.vips) >= many
        gc.collect()
        resident = resident_mib()
        changes = sorted(measure(node, programmer, dataplane, data))
    finally:
        dataplane.close()
    for name, seconds in took_s.items():
        print(f"  {name:24} {seconds:.2f} s")
    print(f"cold start {sum(took_s.values()):.2f} s")
    print(f"resident {resident:.0f} MiB, {before:.0f} MiB of it before")
    p50, p99 = statistics.median(changes), changes[int(len(changes) * 0.99)]
    print(f"one change p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")
    print(BARS)


def settle(dataplane: Dataplane) -> None:
    """Wait until all workers have the table."""
    end = time.perf_counter() + SETTLE_S
    while not dataplane.is_idle:
        assert time.perf_counter() < end, "workers do not take the table"


def measure(
    node: Node, programmer: Programmer, dataplane: Dataplane, data: list[bytes]
) -> Iterator[float]:
    """Yield how long each change takes."""
    reader = LineReader()
    for line in data:
        began = time.perf_counter()
        for each in reader.feed(line):
            change = read_line(BRIEF_SLICES, each, "")
            assert isinstance(change, Change)
            node.slices.upsert(change.object)
        programmer.sync()
        settle(dataplane)
        yield time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small")
    parser.add_argument("--profile", default="", help="file for pstats")
    options = parser.parse_args()
    if not os.geteuid():
        enter()
    many, lines = (500, 200) if options.quick else (10_000, 1000)
    run(many, lines, options.profile)


if __name__ == "__main__":
    main()
