"""A cluster in a process, a node agent of it, and Services whose endpoints are ours."""

import contextlib
import json
import urllib.error
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyproxy.sandbox.apiserver import write_kubeconfig
from tests.fakes.apiserver import authority
from tests.fakes.bastion_cluster import MERGE, Call, caller
from tests.fakes.cluster import Address
from tests.fakes.node_agent import LOOPBACK, STAND_IN
from tests.fakes.process import Balancer, Program
from tests.support.servers import free_port
from tests.support.waiting import wait_until

NODE = "n1"
SPACE = "/api/v1/namespaces/agent/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/agent/endpointslices"


class Agent(Balancer):
    """`pyproxy kube-proxy` with small parts; its log as JSON."""

    def __init__(
        self, directory: Path, *arguments: str, environment: dict[str, str]
    ) -> None:
        Program.__init__(
            self,
            directory,
            "tests.fakes.node_agent",
            "kube-proxy",
            "--log-format=json",
            *arguments,
            environment=environment,
        )


class Cluster:
    """An apiserver that can be killed, and what a test does in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.issuer = authority(directory / "ca")
        self.port = free_port()
        self.rules, self.trouble = directory / "rules", directory / "trouble"
        self._server: Program | None = None
        self._started = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def call(self) -> Call:
        """Sends requests as administrator."""
        return caller(self.url, self.issuer.certificate)

    def start(self) -> None:
        """Run the apiserver; what it had before is lost."""
        pair = self.issuer.issue("apiserver", ["127.0.0.1"])
        files = (pair.certificate, pair.key, self.issuer.certificate)
        self._started += 1
        self._server = Program(
            self.directory / f"apiserver{self._started}",
            "pyproxy.sandbox.apiserver",
            *("127.0.0.1", str(self.port)),
            *map(str, files),
        )
        self._server.wait_for("\n")
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": "agent"}})

    def kill(self) -> None:
        """End the apiserver at once."""
        if self._server is not None:
            self._server.__exit__(None, None, None)
            self._server = None

    def make_node(self, *addresses: str, name: str = NODE) -> None:
        """Make a Node."""
        try:
            self.call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        except urllib.error.HTTPError as error:  # it is there
            error.close()
        found = [{"type": "InternalIP", "address": each} for each in addresses]
        path = f"/api/v1/nodes/{name}/status"
        self.call("PATCH", path, {"status": {"addresses": found}}, MERGE)

    def make_service(
        self, name: str, address: Address, *endpoints: Address, **fields: Any
    ) -> None:
        """Make a Service at an external IP, with a slice."""
        notes = fields.pop("annotations", {})
        spec = {
            "externalIPs": [address[0]],
            "ports": [{"name": "web", "port": address[1]}],
            **fields,
        }
        meta = {"name": name, "annotations": notes}
        self.call("POST", SPACE, {"metadata": meta, "spec": spec})
        self.call("POST", SLICES, slice_of(name, endpoints))

    def set_endpoints(self, name: str, *endpoints: Address) -> None:
        """Change the slice of a Service."""
        made = slice_of(name, endpoints)
        self.call("PATCH", f"{SLICES}/{name}-1", made, MERGE)

    def delete_service(self, name: str) -> None:
        """Delete a Service and its slice."""
        self.call("DELETE", f"{SPACE}/{name}")
        self.call("DELETE", f"{SLICES}/{name}-1")

    def events(self, reason: str) -> list[dict[str, Any]]:
        """Events with a reason."""
        every = self.call("GET", "/api/v1/events")["items"]
        return [each for each in every if each["reason"] == reason]

    def agent(
        self,
        *flags: str,
        config: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Agent:
        """Start an agent of the node; `config` is written to a file."""
        self._started += 1
        kubeconfig = self.directory / "kubeconfig"
        token = "admin-token"
        write_kubeconfig(kubeconfig, self.url, self.issuer.certificate, token)
        if config is not None:
            file = self.directory / "kube-proxy.json"
            file.write_text(json.dumps(config))
            flags = (f"--config={file}", *flags)
        return Agent(
            self.directory / f"agent{self._started}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NODE}",
            "--oom-score-adj=0",
            "--workers=1",
            *(f"--healthz-bind-address=127.0.0.1:{free_port()}",),
            *(() if any("admin" in flag for flag in flags) else (ANY_ADMIN,)),
            *flags,
            environment={
                "RULES": str(self.rules),
                "TROUBLE": str(self.trouble),
                **(environment or {}),
            },
        )


ANY_ADMIN = "--admin-address=127.0.0.1:0"


def slice_of(name: str, endpoints: Sequence[Address]) -> dict[str, Any]:
    """Return a slice; its endpoints are on the node."""
    port = endpoints[0][1] if endpoints else 1
    return {
        "metadata": {
            "name": f"{name}-1",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        # The API takes no loopback addresses for endpoints; see `node_agent`.
        "endpoints": [
            {"addresses": [each[0].replace(LOOPBACK, STAND_IN)], "nodeName": NODE}
            for each in endpoints
        ],
        "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
    }


@contextlib.contextmanager
def cluster_in(directory: Path) -> Iterator[Cluster]:
    """A cluster with one Node."""
    made = Cluster(directory)
    made.start()
    try:
        made.make_node("127.0.0.1")
        yield made
    finally:
        made.kill()


def healthz(agent: Agent, path: str = "/healthz") -> tuple[int, dict[str, Any]]:
    """Ask the agent where load balancers do."""
    import http.client

    host, port = agent.serving()
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_for_metric(agent: Agent, name: str, value: float) -> None:
    """Wait until a metric has a value."""

    def has_it() -> bool:
        lines = agent.get("/metrics")[1].splitlines()
        return any(
            line.startswith(f"{name} ") and float(line.rpartition(" ")[2]) == value
            for line in lines
        )

    wait_until(has_it, 20, f"{name} {value}")
