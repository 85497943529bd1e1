"""Apiservers that announce themselves, followed through our own listener."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.apiserver import FakeApiserver, server_context
from tests.fakes.bastion_cluster import caller
from tests.fakes.process import Balancer
from tests.support.netns import NetNs
from tests.support.realcluster import RealCluster, obstacle
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.netns,
    pytest.mark.root,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
]

SECOND, THIRD = "198.18.77.2", "198.18.77.3"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters:
- {name: c, cluster: {server: "https://localhost:1", certificate-authority: "%s"}}
users: [{name: u, user: {token: admin-token}}]
"""


class Scene:
    """One real apiserver, whose slice of apiservers the tests write, and a balancer."""

    def __init__(self, cluster: RealCluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.call: Callable[..., Any] = caller(cluster.url, cluster.ca)
        self.seed = f"127.0.0.1:{cluster.port}"
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(KUBECONFIG % cluster.ca)
        self.state = directory / "state.json"

    def balancer(self, *flags: str) -> Balancer:
        """Return one that knows the seed alone."""
        return Balancer(
            self.directory / "lb",
            *("--listen=127.0.0.1:0", f"--server={self.seed}", "--discover"),
            *(f"--kubeconfig={self.kubeconfig}", f"--check-ca={self.cluster.ca}"),
            *(f"--state-file={self.state}", "--check-interval=200ms", *flags),
        )

    def announce(self, *hosts: str) -> None:
        """Write the slice that apiservers keep; kube-apiserver's own is another one."""
        body = {
            "metadata": {
                "name": "kubernetes-test",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [host]} for host in hosts],
            "ports": [{"name": "https", "port": self.cluster.port, "protocol": "TCP"}],
        }
        with contextlib.suppress(OSError):
            self.call("DELETE", f"{SLICES}/kubernetes-test")
        self.call("POST", SLICES, body)


def backends(balancer: Balancer) -> list[str]:
    """Addresses in the table."""
    return sorted(balancer.states())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """One that leaves the slices of its Service to us, where other hosts are ours."""
    directory = tmp_path_factory.mktemp("cluster")
    # No slice may have an address of the loopback network.
    with contextlib.closing(NetNs()) as space, space.entered():
        for host in (SECOND, THIRD):
            space.run("ip", "address", "add", f"{host}/32", "dev", "lo")
        flags = ("--endpoint-reconciler-type=none", f"--advertise-address={THIRD}")
        with RealCluster(directory, *flags) as one:
            yield one


@pytest.fixture
def scene(cluster: RealCluster, tmp_path: Path) -> Scene:
    """Everything, with a slice of nobody."""
    made = Scene(cluster, tmp_path)
    made.announce()
    return made


@contextlib.contextmanager
def neighbour(cluster: RealCluster, host: str) -> Iterator[FakeApiserver]:
    """Another server on the port of the apiserver, at an address of its own."""
    context = server_context(cluster._authority.issue("other", [host]))
    with FakeApiserver(context, host, cluster.port, host) as server:
        yield server


def test_apiservers_come_and_go_with_the_slices(scene: Scene) -> None:
    port = scene.cluster.port
    with neighbour(scene.cluster, SECOND), scene.balancer() as balancer:
        balancer.serving()
        assert backends(balancer) == [scene.seed]
        scene.announce(SECOND)
        both = [scene.seed, f"{SECOND}:{port}"]
        wait_until(lambda: backends(balancer) == both, scaled(20))
        balancer.wait_for_states("UP", "UP")
        scene.announce()  # empty: never taken
        balancer.wait_for_event("no usable list of apiservers, keeping the last")
        assert backends(balancer) == both
        scene.announce(THIRD, SECOND)
        three = [*both, f"{THIRD}:{port}"]
        wait_until(lambda: backends(balancer) == three, scaled(20))
        balancer.wait_for_states("UP", "UP", "DOWN")
        scene.announce(SECOND)
        wait_until(lambda: backends(balancer) == both, scaled(20))


def test_last_list_serves_a_start_with_the_seed_down(scene: Scene) -> None:
    port = scene.cluster.port
    scene.announce(SECOND)
    with neighbour(scene.cluster, SECOND):
        with scene.balancer() as balancer:
            balancer.serving()
            balancer.wait_for_states("UP", "UP")

            def kept() -> bool:
                written = json.loads(scene.state.read_text())
                return bool(written["discovered"] == [f"{SECOND}:{port}"])

            wait_until(kept, scaled(20))
        scene.seed = "127.0.0.9:1"
        with scene.balancer() as balancer:
            balancer.serving()
            balancer.wait_for_states("DOWN", "UP")
            assert f"{SECOND}:{port}" in backends(balancer)


def test_corrupt_list_is_reported_and_ignored(scene: Scene) -> None:
    scene.state.write_text(
        '{"version": 1, "servers": [], "discovered": ["evil.example:1"]}'
    )
    with scene.balancer() as balancer:
        balancer.serving()
        assert balancer.wait_for_event("state file not used")
        assert backends(balancer) == [scene.seed]
