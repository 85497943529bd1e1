"""`python -m loadtests.load_node`: a node whose endpoints come and go, to be loaded.

The sandbox's apiserver, three endpoints (HTTP and datagrams) behind one Service, and
`pyproxy kube-proxy --capture bind` that serves its node ports on loopback. Every few
seconds an endpoint stops listening, a while before its slice says so, and comes back.
Prints a line of JSON once it serves: where, and which file notes who has gone. Ends
when its standard input does.
"""

import contextlib
import json
import os
import random
import select
import socket
import sys
import tempfile
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtests.process import free_port
from tests.fakes import netexec
from tests.fakes.bastion import own_address
from tests.fakes.bastion_cluster import MERGE
from tests.fakes.node import NODE, SLICES, SPACE, Cluster, cluster_in
from tests.fakes.process import Program
from tests.support.waiting import wait_until

ENDPOINTS = 3
LOOPBACK = "127.0.0.1"
UNSAID_S, AWAY_S, QUIET_S = (
    1.5,
    1.0,
    1.5,
)  # until a death is said, and so on
DEATH_S = 0.5  # from the last accept to the end
NODE_PORTS = range(30_000, 32_768)


class Endpoint:
    """One that can die and come back at its ports, with a slice of its own."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.name = f"pod-{number}"
        self.http, self.udp = free_port(), free_port()
        self._cluster, self._host = cluster, own_address()
        self._path = f"{SLICES}/web-{number}"
        self._lives = 0
        cluster.call("POST", SLICES, self._slice(number))

    def born(self, stack: contextlib.ExitStack) -> None:
        """Start it, and wait until it serves."""
        self._lives += 1
        program = Program(
            self._cluster.directory / f"{self.name}-{self._lives}",
            "tests.fakes.netexec",
            *("--name", self.name, "--http", str(self.http), "--udp", str(self.udp)),
        )
        stack.enter_context(program)
        wait_until(lambda: self._ask("/hostname") == self.name, 20, self.name)

    def die(self) -> None:
        """Let it stop listening at once, and end soon."""
        self._ask(f"/exit?code=0&timeout={DEATH_S}&wait=0")

    def say(self, *, is_ready: bool) -> None:
        """Let the slice know."""
        change = {"endpoints": [self._endpoint(is_ready)]}
        self._cluster.call("PATCH", self._path, change, MERGE)

    def _ask(self, path: str) -> str:
        try:
            return netexec.ask_http((self._host, self.http), path[1:], 5.0)
        except (OSError, urllib.error.URLError):
            return ""

    def _endpoint(self, is_ready: bool) -> dict[str, Any]:
        said = {"ready": is_ready, "serving": is_ready, "terminating": False}
        return {"addresses": [self._host], "conditions": said, "nodeName": NODE}

    def _slice(self, number: int) -> dict[str, Any]:
        ports = [
            {"name": "web", "port": self.http, "protocol": "TCP"},
            {"name": "dns", "port": self.udp, "protocol": "UDP"},
        ]
        labels = {"kubernetes.io/service-name": "web"}
        return {
            "metadata": {"name": f"web-{number}", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [self._endpoint(is_ready=True)],
            "ports": ports,
        }


def make_service(cluster: Cluster) -> dict[str, str]:
    """Make the Service at node ports that are free; say where."""
    ports = []
    for name, protocol in (("web", "TCP"), ("dns", "UDP")):
        number = free_node_port()
        ports.append(
            {"name": name, "protocol": protocol, "port": number, "nodePort": number}
        )
    spec = {"type": "NodePort", "ports": ports}
    cluster.call("POST", SPACE, {"metadata": {"name": "web"}, "spec": spec})
    tcp, udp = (f"{LOOPBACK}:{port['nodePort']}" for port in ports)
    return {"host": f"http://{tcp}", "udp": udp}


def free_node_port() -> int:
    """Return a port of the API's range on which nothing listens."""
    for number in random.sample(NODE_PORTS, len(NODE_PORTS)):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            with contextlib.suppress(OSError):
                tcp.bind((LOOPBACK, number))
                udp.bind((LOOPBACK, number))
                return number
    raise SystemExit("every node port is taken")


@contextlib.contextmanager
def scene(directory: Path) -> Iterator[tuple[dict[str, str], list[Endpoint]]]:
    """Start everything; say where it is."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(cluster_in(directory))
        found = make_service(cluster)
        endpoints = [Endpoint(cluster, number) for number in range(ENDPOINTS)]
        for each in endpoints:
            each.born(stack)
        agent = cluster.agent(
            "--capture=bind",
            "--cluster-cidr=10.244.0.0/16",
            environment={"REAL_PARTS": "1"},
        )
        stack.enter_context(agent).serving()
        found["gone"] = str(directory / "gone")
        found["pid"] = str(agent.pid)
        yield found, endpoints


def is_over(seconds: float) -> bool:
    """Wait; True as soon as standard input ends."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 100)


def live(endpoints: list[Endpoint], gone: Path) -> None:
    """Let endpoints die and come back in turn, until standard input ends."""
    number = 0
    with contextlib.ExitStack() as stack:
        while not is_over(QUIET_S):
            one = endpoints[number % len(endpoints)]
            number += 1
            one.die()
            with gone.open("a") as file:
                file.write(f"{one.name}\n")
            if is_over(UNSAID_S):
                return
            one.say(is_ready=False)
            if is_over(AWAY_S):
                return
            one.born(stack)
            one.say(is_ready=True)


def main() -> None:
    """Serve until standard input ends."""
    if not own_address():
        raise SystemExit("only loopback addresses here: no endpoint may be there")
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        with scene(Path(folder)) as (found, endpoints):
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
            live(endpoints, Path(found["gone"]))


if __name__ == "__main__":
    main()
