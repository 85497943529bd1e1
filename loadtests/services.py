"""Measure how Services come into force: bytes of the API in, all workers serving.

*Table alone*: from the bytes of both lists to the first delta, which has everything;
from the bytes of a line of the watch, in which one endpoint of a slice is ready or is
not, to the delta of that one Service. Memory is what the process grows by, with the
stores and without the bytes of the lists; in later rounds less, because what earlier
ones freed is used again.

*The whole way* goes on through the agent's own parts to the core (two workers) and, as
root, to the sets of nftables: until all workers use the table. Each round is a process
of its own (`services_node`), whose memory is told whole. A *front* changes where a
Service loses its last endpoint, or has one again. Not measured: TLS and HTTP; those
stand in `make bench NAME=reflector`.

    python -m loadtests.services [--quick] [--write]
"""

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.reflector_server import SPACE, dumps, endpoint_slice, line
from loadtests.report import table
from loadtests.services_node import Whole, resident_mib
from pyproxy.discovery.services import (
    BY_SERVICE,
    Delta,
    ServiceHandler,
    ServiceTable,
    Settings,
    SliceHandler,
    by_service,
    here_of,
)
from pyproxy.kube.objects import ListMeta, Object, Service
from pyproxy.kube.resource import SERVICES, Change, Resource
from pyproxy.kube.slices import BRIEF_SLICES, BriefSlice
from pyproxy.kube.splitting import LineReader, ListReader, Unread
from pyproxy.kube.store import Store
from pyproxy.kube.watching import read_line

MANY, ENDPOINTS, LINES, ROUNDS = 10_000, 10, 5000, 5
FRONTS, RATED = 200, 3000  # lines of the whole way, beside LINES
CHUNK = 1 << 16
BARS = {
    "table alone: cold start, CPU s": 2.0,
    "table alone: change p50, CPU ms": 0.3,
    "table alone: 1,000 changes/s, core": 0.25,
    "cold start, s": 4.0,
    "resident, MiB": 250.0,
    "change p50, ms": 1.0,
    "change p99, ms": 10.0,
    "1,000 changes/s, core": 0.25,
}
RESULT = Path(__file__).with_name("results") / "services.md"
SETTINGS = Settings("node-7", cluster_cidrs=("10.0.0.0/8",), node_ips=("192.168.0.7",))


class Sample(NamedTuple):
    """One cold start, and the changes after it."""

    cold_s: float  # CPU time
    take_s: float  # the part of it in which the table is built
    grown_mib: float
    changes_s: list[float]  # CPU time of each


class Node:
    """Two stores and the table over them."""

    def __init__(self) -> None:
        self.services: Store[Service] = Store()
        self.slices: Store[BriefSlice] = Store({BY_SERVICE: by_service})
        here = here_of(SETTINGS, None, ["192.168.0.7", "127.0.0.1"])
        self.table = ServiceTable(self.services, self.slices, SETTINGS, here)
        self.services.add_handler(ServiceHandler(self.table))
        self.slices.add_handler(SliceHandler(self.table))


def service(number: int) -> dict[str, Any]:
    """Return a Service: of twenty, one is a load balancer's and two have node ports."""
    name, kind = f"app-{number}", number % 20
    port: dict[str, Any] = {"name": "http", "protocol": "TCP", "port": 80}
    port["targetPort"] = 8080
    ip = f"10.{96 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"
    spec: dict[str, Any] = {
        "ports": [port],
        "selector": {"app": name},
        "clusterIP": ip,
        "clusterIPs": [ip],
        "type": "LoadBalancer"
        if kind == 0
        else "NodePort"
        if kind < 3
        else "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }
    status: dict[str, Any] = {"loadBalancer": {}}
    if kind < 3:
        port["nodePort"] = 30_000 + number % 32_768
        spec["externalTrafficPolicy"] = "Cluster" if kind else "Local"
    if not kind:
        spec["healthCheckNodePort"] = 20_000 + number % 10_000
        ingress = f"203.0.{number >> 8 & 255}.{number & 255}"
        status["loadBalancer"] = {"ingress": [{"ip": ingress, "ipMode": "VIP"}]}
    metadata = {
        "name": name,
        "namespace": SPACE,
        "uid": f"215b18a1-8e61-4192-81c6-{number:012}",
        "resourceVersion": str(5 + number),
        "creationTimestamp": "2026-11-30T02:29:01Z",
        "labels": {"app.kubernetes.io/name": name},
    }
    return {"metadata": metadata, "spec": spec, "status": status}


def list_of(kind: str, items: Iterable[object]) -> bytes:
    """Return the bytes of a list."""
    head = dumps({"kind": kind, "metadata": {"resourceVersion": "9000"}})[:-2]
    return head + b',"items":[' + b",".join(dumps(i)[:-1] for i in items) + b"]}\n"


def read_list(data: bytes, resource: Resource[Any], store: Store[Any]) -> None:
    """Take a list over into a store as its bytes come."""
    reader, replacement = ListReader(resource), store.replace()

    def take(found: Iterable[Object | Unread | ListMeta]) -> None:
        for each in found:
            if isinstance(each, Object):
                replacement.take(each)

    for at in range(0, len(data), CHUNK):
        take(reader.feed(data[at : at + CHUNK]))
    take(reader.finish())
    replacement.finish()


def changed(number: int, visit: int) -> bytes:
    """Return a line of the watch: another endpoint than last time is unready."""
    made = endpoint_slice(number, ENDPOINTS, 20_000 + visit)
    conditions = made["endpoints"][visit % ENDPOINTS]["conditions"]
    conditions |= {"ready": False, "serving": False}
    return line("MODIFIED", made)


def take_line(node: Node, reader: LineReader, data: bytes) -> Delta:
    """Go the way from bytes to a delta."""
    for each in reader.feed(data):
        change = read_line(BRIEF_SLICES, each, "")
        assert isinstance(change, Change)
        node.slices.upsert(change.object)
    return node.table.take()


def measure(lists: tuple[bytes, bytes], lines: Sequence[bytes], many: int) -> Sample:
    """Start once and change a lot."""
    gc.collect()
    before = resident_mib()
    began = time.process_time()
    node = Node()
    read_list(lists[0], SERVICES, node.services)
    read_list(lists[1], BRIEF_SLICES, node.slices)
    half = time.process_time()
    whole = node.table.take()
    ended = time.process_time()
    gc.collect()
    grown = resident_mib() - before
    assert len(whole.pools) >= many
    reader, changes_s = LineReader(), []
    for data in lines:
        cpu_s = time.process_time()
        delta = take_line(node, reader, data)
        changes_s.append(time.process_time() - cpu_s)
        assert delta.pools
    return Sample(ended - began, ended - half, grown, changes_s)


def run(rounds: int, many: int, lines: int) -> tuple[list[Sample], list[Whole]]:
    """Measure some times."""
    services = list_of("ServiceList", map(service, range(many)))
    slices = (endpoint_slice(n, ENDPOINTS, 5 + n) for n in range(many))
    lists = services, list_of("EndpointSliceList", slices)
    data = [changed(n * 7919 % many, n // many) for n in range(lines)]
    alone, whole = [], []
    with tempfile.TemporaryDirectory(prefix="services-") as name:
        folder = Path(name)
        rated = [changed(n * 7919 % many, n // many + 1) for n in range(RATED)]
        fronts = [turned(n % (FRONTS // 2), n) for n in range(FRONTS)]
        folder.joinpath("services").write_bytes(lists[0])
        folder.joinpath("slices").write_bytes(lists[1])
        for each, of in (("lines", data), ("rated", rated), ("fronts", fronts)):
            folder.joinpath(each).write_bytes(b"".join(of))
        for _ in range(rounds):
            whole.append(live(folder))
            alone.append(measure(lists, data, many))
    return alone, whole


def turned(number: int, visit: int) -> bytes:
    """Return a line of the watch: all endpoints are gone, or are back."""
    made = endpoint_slice(number, ENDPOINTS, 40_000 + visit)
    if visit < FRONTS // 2:
        for each in made["endpoints"]:
            each["conditions"] |= {"ready": False, "serving": False}
    return line("MODIFIED", made)


def live(folder: Path) -> Whole:
    """Go the whole way once, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.services_node", str(folder)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return Whole(**json.loads(done.stdout))


def spread(values: Sequence[float]) -> str:
    """Return min/median/max."""
    three = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.3g}" for value in three)


def p50(seconds: Sequence[float]) -> float:
    """Return it in milliseconds."""
    return statistics.median(seconds) * 1e3


def p99(seconds: Sequence[float]) -> float:
    """Return it in milliseconds."""
    return sorted(seconds)[int(len(seconds) * 0.99)] * 1e3


def rows_of(alone: Sequence[Sample], whole: Sequence[Whole]) -> dict[str, list[float]]:
    """Return each round of each figure."""
    return {
        "cold start, s": [w.cold_s for w in whole],
        "  of it lists": [w.lists_s for w in whole],
        "  table": [w.table_s for w in whole],
        "  core": [w.core_s for w in whole],
        "  capture": [w.capture_s for w in whole],
        "cold start, CPU s": [w.cold_cpu_s for w in whole],
        "resident, MiB": [w.resident_mib for w in whole],
        "change p50, ms": [p50(w.changes_s) for w in whole],
        "change p99, ms": [p99(w.changes_s) for w in whole],
        "front p50, ms": [p50(w.fronts_s) for w in whole],
        "front p99, ms": [p99(w.fronts_s) for w in whole],
        "1,000 changes/s, core": [w.busy for w in whole],
        "  changes/s that were reached": [w.rate for w in whole],
        "table alone: cold start, CPU s": [s.cold_s for s in alone],
        "  of it the table": [s.take_s for s in alone],
        "  grown by, MiB": [max(s.grown_mib for s in alone)],
        "table alone: change p50, CPU ms": [p50(s.changes_s) for s in alone],
        "table alone: change p99, CPU ms": [p99(s.changes_s) for s in alone],
        "table alone: 1,000 changes/s, core": [
            statistics.fmean(s.changes_s) * 1e3 for s in alone
        ],
    }


def report(alone: Sequence[Sample], whole: Sequence[Whole], many: int) -> str:
    """Return it as Markdown, with whether the bars hold for the medians."""
    sizes = len(json.dumps(service(1))), len(changed(1, 1))
    head = (
        "# services: from bytes of the API to all workers, `make bench NAME=services`"
        f"\n\n{many:,} Services of {sizes[0]} bytes, {many * ENDPOINTS:,} endpoints,"
        f" lines of {sizes[1]} bytes; capture: {whole[0].capture};\n"
        f"{platform.machine()}, Linux {platform.release()}, Python"
        f" {platform.python_version()}; {len(whole)} rounds"
    )
    cells = [["what", "min / median / max", "bar", "verdict"]]
    for name, values in rows_of(alone, whole).items():
        bar = BARS.get(name)
        verdict = ["", ""]
        if bar is not None:
            held = statistics.median(values) <= bar
            verdict = [f"{bar:g}", "holds" if held else "MISSED"]
        cells.append([name, spread(values), *verdict])
    return f"{head}\n\n{table(cells)}\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, small")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help="results/services.md")
    options = parser.parse_args()
    many, lines = (500, 500) if options.quick else (MANY, LINES)
    text = report(*run(1 if options.quick else options.rounds, many, lines), many)
    sys.stdout.write(text)
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
