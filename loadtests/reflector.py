"""Measure a reflector: a whole cluster's slices listed, then changes of them watched.

The server is another process and sends prepared bytes over TLS, so CPU here is what the
reflector costs a mode: TLS, HTTP, cutting, decoding, the store and its index, the
garbage collector. *Held* is the longest time for which the event loop could do nothing
else; in CPU time of our thread, because a shared machine takes it away as it likes, and
on the clock. Not measured: what handlers do with the marks.

    python -m loadtests.reflector [--quick]
"""

import argparse
import asyncio
import contextlib
import gc
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from loadtests.reflector_server import LINE_ENDPOINTS, endpoint_slice, line
from pyproxy.kube.config import ClientFlags, Current
from pyproxy.kube.objects import EndpointSlice
from pyproxy.kube.reflector import Reflector
from pyproxy.kube.resource import ENDPOINT_SLICES, Change
from pyproxy.kube.splitting import LineReader
from pyproxy.kube.store import Store
from pyproxy.kube.watching import Selection, read_line
from pyproxy.kube.wire import Wire
from pyproxy.sandbox.certificates import Authority

SLICES, ENDPOINTS, LINES, ROUNDS = 1000, 100, 20_000, 5
TICK_S = 0.001
BARS = {"list": 1.5, "held": 0.020, "line": 30e-6}


class Sample(NamedTuple):
    """One list, and the changes after it."""

    list_cpu_s: float
    list_s: float
    held_cpu_s: float
    held_s: float
    line_cpu_s: float
    ours_cpu_s: float  # of a line, without TLS and HTTP
    watch_held_cpu_s: float


class Holds:
    """The longest time between two turns that the event loop gave us."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            cpu_s, wall_s = time.thread_time(), time.perf_counter()
            await asyncio.sleep(TICK_S)
            self.cpu_s = max(self.cpu_s, time.thread_time() - cpu_s)
            self.wall_s = max(self.wall_s, time.perf_counter() - wall_s - TICK_S)

    async def end(self) -> None:
        """Stop looking."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def by_service(found: EndpointSlice) -> list[str]:
    """Index slices as kube-proxy needs them."""
    return [found.service]


@contextlib.asynccontextmanager
async def watching(
    wire: Wire, *, streams: bool
) -> AsyncIterator[tuple[Store[EndpointSlice], Reflector[EndpointSlice]]]:
    """Follow the slices into a store."""
    store: Store[EndpointSlice] = Store({"service": by_service})
    reflector = Reflector(wire, Selection(ENDPOINT_SLICES), store)
    reflector._streams_lists = streams
    task = asyncio.create_task(reflector.run())
    try:
        yield store, reflector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def read_and_store(lines: int, slices: int) -> float:
    """Return the CPU time of a line: cut out, decoded, stored, indexed."""
    data = b"".join(
        line("MODIFIED", endpoint_slice(n % slices, LINE_ENDPOINTS, 10_000 + n))
        for n in range(lines)
    )
    reader, store = LineReader(), Store[EndpointSlice]({"service": by_service})
    cpu_s = time.process_time()
    for at in range(0, len(data), 1 << 16):
        for each in reader.feed(data[at : at + (1 << 16)]):
            change = read_line(ENDPOINT_SLICES, each, "")
            assert isinstance(change, Change)
            store.upsert(change.object)
    return (time.process_time() - cpu_s) / lines


async def reached(reflector: Reflector[EndpointSlice], version: str) -> None:
    """Return when the store is right up to a version; look as seldom as that allows."""
    while reflector.version != version:  # noqa: ASYNC110  # an event costs every line
        await asyncio.sleep(TICK_S)


async def measure(url: str, ca: str, lines: int, *, streams: bool) -> Sample:
    """List once and watch once."""
    flags = ClientFlags(server=url, certificate_authority=ca)
    wire = Wire(Current(flags, {"HOME": "/nonexistent"}))
    gc.collect()
    holds = Holds()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    async with watching(wire, streams=streams) as (store, _):
        await store.wait_synced()
        list_cpu_s, list_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        await holds.end()
        assert sum(len(each.endpoints) for each in store.objects.values())
    listed, holds = holds, Holds()
    store = Store({"service": by_service})
    async with watching(wire, streams=False) as (store, reflector):
        await store.wait_synced()
        cpu_s = time.process_time()
        await reached(reflector, str(10_000 + lines - 1))
        line_cpu_s = (time.process_time() - cpu_s) / lines
    await holds.end()
    await wire.close()
    ours_cpu_s = read_and_store(lines, SLICES)
    held = (listed.cpu_s, listed.wall_s)
    return Sample(list_cpu_s, list_s, *held, line_cpu_s, ours_cpu_s, holds.cpu_s)


def run(rounds: int, slices: int, lines: int) -> dict[str, list[Sample]]:
    """Measure both ways to list, in turns."""
    found: dict[str, list[Sample]] = {"pages": [], "streaming": []}
    with tempfile.TemporaryDirectory() as directory:
        issuer = Authority(Path(directory))
        pair = issuer.issue("server", ["127.0.0.1"])
        numbers = map(str, (slices, ENDPOINTS, lines))
        argv = [sys.executable, "-m", "loadtests.reflector_server", *numbers]
        argv += [str(pair.certificate), str(pair.key)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = f"https://127.0.0.1:{server.stdout.readline().strip()}"
            try:
                for _ in range(rounds):
                    for way, samples in found.items():
                        work = measure(
                            url, str(issuer.certificate), lines, streams=way != "pages"
                        )
                        samples.append(uvloop.run(work))
            finally:
                server.kill()
    return found


def spread(values: Sequence[float], unit: float, digits: int = 1) -> str:
    """Return min/median/max."""
    three = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value / unit:.{digits}f}" for value in three)


def report(found: dict[str, list[Sample]], slices: int) -> None:
    """Print it, and whether the bars hold for the medians."""
    size = len(line("MODIFIED", endpoint_slice(1, LINE_ENDPOINTS, 10_000)))
    print(f"{slices} slices of {ENDPOINTS} endpoints; lines of {size} bytes")
    print(f"Python {platform.python_version()}, {platform.machine()}")
    print("min / median / max")
    for way, samples in found.items():
        columns = list(zip(*samples, strict=True))
        list_cpu, list_wall, held_cpu, held, line_cpu, ours, watch_held = columns
        print(f"{way}")
        print(f"  list: CPU s            {spread(list_cpu, 1, 2)}")
        print(f"  list: wall s           {spread(list_wall, 1, 2)}")
        print(f"  list: held, CPU ms     {spread(held_cpu, 1e-3)}")
        print(f"  list: held, clock ms   {spread(held, 1e-3)}")
        print(f"  watch: CPU us per line {spread(line_cpu, 1e-6)}")
        print(f"    without TLS and HTTP {spread(ours, 1e-6)}")
        print(f"  watch: held, CPU ms    {spread(watch_held, 1e-3)}")
        held_all = max(statistics.median(held_cpu), statistics.median(watch_held))
        results = {
            "list": statistics.median(list_cpu),
            "held": held_all,
            "line": statistics.median(line_cpu),
        }
        for name, bar in BARS.items():
            verdict = "holds" if results[name] <= bar else "MISSED"
            print(f"  bar {name} <= {bar:g} s: {verdict} ({results[name]:.2g})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, small")
    quick = parser.parse_args().quick
    slices, lines = (100, 2000) if quick else (SLICES, LINES)
    report(run(1 if quick else ROUNDS, slices, lines), slices)


if __name__ == "__main__":
    main()
