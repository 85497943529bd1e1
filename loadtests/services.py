"""Measure how Services become a table: bytes of the API in, whole changes out.

Cold start: from the bytes of both lists to the first delta, which has everything. One
change: from the bytes of a line of the watch, in which one endpoint of a slice is ready
or is not, to the delta of that one Service. Not measured: TLS, HTTP and the core.
Memory is what the process grows by, with the stores and without the bytes of the lists;
in later rounds less, because what earlier ones freed is used again.

    python -m loadtests.services [--quick]
"""

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.reflector_server import SPACE, dumps, endpoint_slice, line
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
CHUNK = 1 << 16
BARS = {"cold start, s": 2.0, "change p50, ms": 0.3, "1,000 changes/s, core": 0.25}
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


def resident_mib() -> float:
    """Return what the process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


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


def run(rounds: int, many: int, lines: int) -> list[Sample]:
    """Measure some times."""
    services = list_of("ServiceList", map(service, range(many)))
    slices = (endpoint_slice(n, ENDPOINTS, 5 + n) for n in range(many))
    lists = services, list_of("EndpointSliceList", slices)
    data = [changed(n * 7919 % many, n // many) for n in range(lines)]
    return [measure(lists, data, many) for _ in range(rounds)]


def spread(values: Sequence[float]) -> str:
    """Return min/median/max."""
    three = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.3g}" for value in three)


def report(samples: Sequence[Sample], many: int) -> None:
    """Print it, and whether the bars hold for the medians."""
    sizes = len(json.dumps(service(1))), len(changed(1, 1))
    print(f"{many} Services of {sizes[0]} bytes, {many * ENDPOINTS} endpoints")
    print(f"lines of {sizes[1]} bytes; Python {platform.python_version()}")
    p50 = [statistics.median(s.changes_s) * 1e3 for s in samples]
    p99 = [sorted(s.changes_s)[int(len(s.changes_s) * 0.99)] * 1e3 for s in samples]
    mean = [statistics.fmean(s.changes_s) * 1e3 for s in samples]
    rows = {
        "cold start, s": [s.cold_s for s in samples],
        "  of it the table, s": [s.take_s for s in samples],
        "  grown by, MiB": [max(s.grown_mib for s in samples)],
        "change p50, ms": p50,
        "change p99, ms": p99,
        "1,000 changes/s, core": mean,
    }
    print("CPU time; min / median / max")
    for name, values in rows.items():
        bar = BARS.get(name)
        held = statistics.median(values) <= bar if bar else None
        verdict = "" if held is None else f"  bar {bar:g}: {_word(held)}"
        print(f"{name:24} {spread(values)}{verdict}")


def _word(held: bool) -> str:
    return "holds" if held else "MISSED"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, small")
    quick = parser.parse_args().quick
    many, lines = (500, 500) if quick else (MANY, LINES)
    report(run(1 if quick else ROUNDS, many, lines), many)


if __name__ == "__main__":
    main()
