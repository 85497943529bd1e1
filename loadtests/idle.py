"""User memory of an idle relay: the slope of a contender's memory over live relays.

Every relay has moved one request and its answer, then waits: that is what most
connections of a load balancer do most of the time. Memory is RssAnon of the proxy's
processes: private pages in use; kernel memory of the sockets is not in it and is the
same for everyone. A slope, because what a program needs at all is no part of a relay.
"""

import socket
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests import contenders
from loadtests.bench import Bench, say
from loadtests.contenders import Contender
from loadtests.measure import Generator

COUNTS = (1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000)
QUICK_COUNTS = (500, 1000, 1500, 2000)
WARM = 200  # relays opened and closed beforehand: one-time allocations are no slope
SETTLE_S = 1.0  # HAProxy and Envoy give buffers back with a delay


def run(bench: Bench) -> list[dict[str, Any]]:
    """Measure every contender of the run."""
    names = [name for name in bench.options.contenders if name != "haproxy-forced"]
    counts = QUICK_COUNTS if bench.options.quick else COUNTS
    found = []
    for name in names:
        with ExitStack() as stack:
            folder = bench.folder / "idle"
            folder.mkdir(exist_ok=True)
            generator = Generator(stack, bench.generator_cores, folder)
            setup = bench.setup(name, [("127.0.0.1", generator.echo_port)])
            contender = contenders.start(name, setup, stack)
            found.append(_slope(contender, counts))
        say(f"idle {name}: {found[-1]['bytes_per_relay']:.0f} bytes per relay")
    return found


def _slope(contender: Contender, counts: Sequence[int]) -> dict[str, Any]:
    for client in _opened(contender.ports[0], WARM):
        client.close()
    time.sleep(SETTLE_S)
    clients: list[socket.socket] = []
    points = [(0, anonymous_bytes(contender.pids))]
    try:
        for count in counts:
            clients += _opened(contender.ports[0], count - len(clients))
            time.sleep(SETTLE_S)
            points.append((count, anonymous_bytes(contender.pids)))
    finally:
        for client in clients:
            client.close()
    x, y = zip(*points, strict=True)
    return {
        "contender": contender.name,
        "bytes_per_relay": statistics.linear_regression(x, y).slope,
        "r2": statistics.correlation(x, y) ** 2 if len(set(y)) > 1 else 1.0,
        "counts": list(x),
        "bytes": list(y),
    }


def _opened(port: int, count: int) -> list[socket.socket]:
    clients: list[socket.socket] = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(bytes(100))
        answer = 0
        while answer < 100:
            answer += len(client.recv(100)) or 1000
        if answer != 100:
            raise RuntimeError(f"relay {len(clients)} ended instead of answering")
        clients.append(client)
    return clients


def anonymous_bytes(pids: Iterable[int]) -> int:
    """Private memory in use by these processes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) * 1024
    return total
