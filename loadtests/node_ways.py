"""Ways from a pod to a Service, each on a node of its own, so that none meets another.

- `none`: no Service, the pod behind it is dialled.
- `pyproxy tproxy`: the agent itself, with an apiserver on its node.
- `pyproxy direct`: the programs at connect(2) of `pyproxy.capture.Direct`.
- `nftables`: the table that kube-proxy's nftables mode writes (1.33 and later): a map
  of services, chains of services and endpoints, DNAT, which turns conntrack on.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests import netns
from loadtests.contenders import Contender
from loadtests.measure import BUILD, Generator, Sample, Work
from loadtests.process import Process
from loadtests.udp import UdpGenerator
from pyproxy.capture import Direct
from pyproxy.model import Backend
from tests.fakes.node import SLICES, SPACE, Agent, Cluster, cluster_in
from tests.support import hooked
from tests.support.lab import Lab, Node, Place

ECHO, BULK = 8080, 8081  # ports of the server
PORTS = {"echo": 80, "bulk": 81, "udp": 82, "train": 83}  # of the Service
VIPS = {"web": "10.96.0.20", "part": "10.96.0.21"}  # of ways without an apiserver
PODS = "10.244.0.0/16"
JOIN = 'echo $$ >"$0" && exec "$@"'  # a shell that enters a control group first

PROOF = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
with socket.socket(type=kind) as client:
    client.settimeout(5)
    client.connect((sys.argv[2], int(sys.argv[3])))
    client.send(b"there?")
    assert client.recv(100) == b"there?"
"""

Endpoints = dict[str, Sequence[str]]  # by Service: addresses of pods


@dataclass(frozen=True)
class Behind:
    """What stands behind every way."""

    endpoints: Endpoints
    numbers: dict[str, int]  # ports of the server by name

    def targets(self, service: str, port: str) -> list[tuple[str, int]]:
        """Addresses of one port of a Service."""
        return [(host, self.numbers[port]) for host in self.endpoints[service]]

    def ports(self, service: str) -> list[str]:
        """Names of the ports of a Service."""
        return list(PORTS) if service == "web" else ["echo"]


@dataclass
class Way(Contender):
    """A contender with a pod from which it is used."""

    client: Place | None = None
    vips: dict[str, str] = field(default_factory=dict)
    group: Path | None = None  # the control group of its clients
    restart: Callable[[ExitStack], Callable[[], None]] | None = None

    def prefix(self) -> list[str]:
        """Of a command that is to run in the pod."""
        assert self.client is not None
        entering = inside(self.client)
        if self.group is None:
            return entering
        return [*entering, "sh", "-c", JOIN, str(self.group / "cgroup.procs")]


def inside(place: Place) -> list[str]:
    """Return what a command begins with that runs at a place."""
    return ["nsenter", f"--net=/run/netns/{place.ns.name}"]


class InLab(Generator):
    """A server in a pod, and clients in others."""

    def __init__(
        self, stack: ExitStack, cores: Sequence[int] | None, folder: Path, place: Place
    ) -> None:
        self.cores, self.folder, self._pod = cores, folder, place
        self.log = folder / f"{self.program}.log"
        command = [*inside(place), str(BUILD / self.program), *self.arguments()]
        self.server = stack.enter_context(Process(command, cores, self.log))
        ready = self.server.line().split()
        self.echo_port, self.bulk_port = int(ready[1]), int(ready[2])
        self.bare: Way | None = None  # that of no Service

    def arguments(self) -> list[str]:
        """Of the server."""
        return [str(ECHO), str(BULK)]

    def go(self, way: Way | None, service: str = "web") -> None:
        """Let clients be where a way is, and dial a Service."""
        chosen = way or self.bare
        assert chosen is not None
        self.host = chosen.vips.get(service, self._pod.hosts["ipv4"])
        self.prefix = chosen.prefix()

    def measure(
        self,
        work: Work,
        contender: Contender | None,
        number: int,
        seconds: float,
        warm_s: float = 0.3,
    ) -> Sample:
        """One window of `work` by one way."""
        assert contender is None or isinstance(contender, Way)
        self.go(contender)
        return super().measure(work, contender, number, seconds, warm_s)

    def port(self, work: Work, contender: Contender | None) -> int:
        """Where the client goes."""
        if contender is None:
            return super().port(work, None)
        return PORTS["bulk" if work.bulk else "echo"]


class UdpInLab(InLab, UdpGenerator):
    """The same for datagrams."""

    def arguments(self) -> list[str]:
        """Of the server."""
        return [self._pod.hosts["ipv4"]]

    def port(self, work: Work, contender: Contender | None) -> int:
        """Where the client goes."""
        if contender is None:
            return Generator.port(self, work, None)
        return PORTS["train" if work.bulk else "udp"]


def prepare(lab: Lab, congestion: str) -> None:
    """Let every place have the settings of a benchmark.

    Where the host does not allow a congestion control to all, routes carry it; see
    `netns`.
    """
    pods = [pod for node in lab.nodes for pod in node.pods]
    settings = [f"{n.replace('/', '.')}={v}" for n, v in netns.SYSCTLS.items()]
    for place in [*lab.nodes, *pods]:
        place.run("sysctl", "-qw", *settings)
        routes = place.run("ip", "-4", "route", "show").splitlines()
        plain = [line.replace("linkdown", "").strip() for line in routes]
        place.ip(*(f"-4 route replace {line} congctl {congestion}" for line in plain))


def congestion_between(one: Place, other: Place) -> str:
    """Name what a connection from one place to another uses at its two ends."""
    with other.entered():
        listener = socket.create_server((other.hosts["ipv4"], 0))
    with listener:
        with one.entered():
            client = socket.create_connection(listener.getsockname(), 5)
        accepted, _ = listener.accept()
    with client, accepted:
        both = {netns.congestion_of(client), netns.congestion_of(accepted)}
    return "+".join(sorted(both))


def prove(way: Way, *, datagrams: bool) -> None:
    """Raise RuntimeError unless a Service answers: no figure of nothing is measured."""
    for port, kind in (("echo", "tcp"), ("udp", "udp"))[: 1 + datagrams]:
        place = way.vips["web"], PORTS[port]
        command = [*way.prefix(), sys.executable, "-c", PROOF, kind, *map(str, place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = done.stderr.strip().splitlines()[-1:]
            raise RuntimeError(f"{way.name} does not answer at {kind} {place}: {why}")


# The agent


def services_of(behind: Behind, cluster: Cluster) -> dict[str, str]:
    """Make the Services and their slices; return cluster IPs."""
    found = {}
    for name, hosts in behind.endpoints.items():
        ports: list[dict[str, Any]] = [
            {"name": port, "protocol": protocol_of(port), "port": PORTS[port]}
            for port in behind.ports(name)
        ]
        made = cluster.call(
            "POST", SPACE, {"metadata": {"name": name}, "spec": {"ports": ports}}
        )
        found[name] = str(made["spec"]["clusterIP"])
        numbered = [{**port, "port": behind.numbers[port["name"]]} for port in ports]
        cluster.call("POST", SLICES, slice_of(name, hosts, numbered))
    return found


def slice_of(name: str, hosts: Sequence[str], ports: list[Any]) -> dict[str, Any]:
    """Return a slice of pods on another node."""
    labels = {"kubernetes.io/service-name": name}
    endpoints = [
        {"addresses": [host], "nodeName": "other", "conditions": {"ready": True}}
        for host in hosts
    ]
    return {
        "metadata": {"name": f"{name}-1", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def protocol_of(port: str) -> str:
    """Return TCP or UDP."""
    return "UDP" if port in ("udp", "train") else "TCP"


class Tproxy:
    """`pyproxy kube-proxy`, and its successors."""

    def __init__(
        self, node: Node, behind: Behind, folder: Path, workers: int, cores: Any
    ) -> None:
        self._node, self._behind = node, behind
        self._folder, self._workers, self._cores = folder, workers, cores

    def way(self, stack: ExitStack, server: Process) -> Way:
        """Start it."""
        self._folder.mkdir()
        with self._node.entered():
            self._cluster = stack.enter_context(cluster_in(self._folder))
            self._cluster.make_node(self._node.hosts["ipv4"])
            vips = services_of(self._behind, self._cluster)
        self._agent = self._start(stack)
        self._way = Way("pyproxy tproxy", server, list(PORTS.values()))
        self._way.pids = [self._agent.pid]
        self._way.client, self._way.vips = self._node.pods[0], vips
        self._way.restart = self._restart
        return self._way

    def _start(self, stack: ExitStack) -> Agent:
        with self._node.entered():
            agent = self._cluster.agent(
                "--capture=tproxy",
                f"--cluster-cidr={PODS}",
                f"--workers={self._workers}",
                # Longer than the load of a restart; flows of UDP would live longer.
                "--drain-timeout=8s",
                f"--handover-socket={self._folder / 'socket'}",
                environment={"REAL_PARTS": "1"},
            )
            stack.enter_context(agent)
            agent.serving()
        if self._cores is not None:
            for thread in Path(f"/proc/{agent.pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), self._cores)
        return agent

    def _restart(self, stack: ExitStack) -> Callable[[], None]:
        """Let a successor take over; return what waits for the end of the old one."""
        old, self._agent = self._agent, self._start(stack)
        self._way.pids = [self._agent.pid]

        def ended() -> None:
            if code := old.wait():
                raise RuntimeError(f"the agent ended with {code}: {old.stderr[-500:]}")

        return ended


def direct(
    node: Node, behind: Behind, folder: Path, stack: ExitStack, server: Process
) -> Way:
    """Hook connect(2) of a control group."""
    group = stack.enter_context(hooked.control_group())
    names = stack.enter_context(hooked.names(folder))
    wanted = {
        (VIPS[service], PORTS[port]): [
            Backend(*each) for each in behind.targets(service, port)
        ]
        for service in behind.endpoints
        for port in behind.ports(service)
        if protocol_of(port) == "TCP"
    }
    capture = Direct(group, names)
    capture.open(wanted)
    stack.callback(lambda: capture.cleanup())
    way = Way("pyproxy direct", server, list(PORTS.values()))
    way.client, way.vips, way.group = node.pods[0], VIPS, group

    def restart(_: ExitStack) -> Callable[[], None]:
        capture.close(leave=True)
        capture.open(wanted)
        return lambda: None

    way.restart = restart
    return way


# The peer

BASE = """
table ip kube-proxy {
  set cluster-ips { type ipv4_addr; elements = { %(cluster_ips)s } }
  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
  }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { meta mark set mark or 0x4000; }
  chain masquerading {
    mark and 0x4000 == 0 return
    meta mark set mark xor 0x4000
    masquerade fully-random
  }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain endpoints-check {
    ip daddr . meta l4proto . th dport vmap @no-endpoint-services
  }
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain filter-prerouting {
    type filter hook prerouting priority -110;
    ct state new jump firewall-check
  }
  chain filter-input {
    type filter hook input priority -110;
    ct state new jump endpoints-check
  }
  chain filter-forward {
    type filter hook forward priority -110;
    ct state new jump endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority -110;
    ct state new jump endpoints-check
    ct state new jump firewall-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat
    jump masquerading
  }
%(chains)s
}
"""


def ruleset(behind: Behind) -> str:
    """Return the table that kube-proxy would write."""
    chains, elements = [], []
    for service in behind.endpoints:
        for port in behind.ports(service):
            protocol, number = protocol_of(port).lower(), PORTS[port]
            name, vip = f"{service}/{port}", VIPS[service]
            targets = behind.targets(service, port)
            for host, at in targets:
                chains.append(
                    f"  chain endpoint-{name}__{host} {{\n"
                    f"    ip saddr {host} jump mark-for-masquerade\n"
                    f"    meta l4proto {protocol} dnat to {host}:{at}\n  }}"
                )
            turns = ", ".join(
                f"{n} : goto endpoint-{name}__{host}"
                for n, (host, _) in enumerate(targets)
            )
            chains.append(
                f"  chain service-{name} {{\n"
                f"    ip daddr {vip} {protocol} dport {number}"
                f" ip saddr != {PODS} jump mark-for-masquerade\n"
                f"    numgen random mod {len(targets)} vmap {{ {turns} }}\n  }}"
            )
            elements.append(f"{vip} . {protocol} . {number} : goto service-{name}")
    text = BASE % {"cluster_ips": ", ".join(VIPS.values()), "chains": "\n".join(chains)}
    more = ", ".join(elements)
    return f"{text}\nadd element ip kube-proxy service-ips {{ {more} }}\n"


def nftables(node: Node, behind: Behind, server: Process) -> Way:
    """Install the rules of the peer."""
    node.ns.feed(ruleset(behind), "nft", "-f", "-")
    way = Way("nftables", server, list(PORTS.values()))
    way.client, way.vips = node.pods[0], VIPS
    return way
