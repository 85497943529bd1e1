"""kubectl at work through apiserver-proxy, on pods of a real kube-apiserver.

Its kubeconfig names the bastion as the server; what upgrades, it does both ways, over
WebSockets and SPDY.
"""

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyproxy.sandbox.apiserver import write_kubeconfig
from pyproxy.sandbox.certificates import Authority
from tests.fakes.application import Application
from tests.fakes.bastion import Bastion, own_address
from tests.fakes.bastion_cluster import NAMESPACE, populate
from tests.support import realcluster
from tests.support.bastion_rig import SPACE
from tests.support.kubectl import Following, Kubectl
from tests.support.kubelet import POD, Kubelet, run_pod
from tests.support.servers import EchoServer, receive_all
from tests.support.waiting import scaled, wait_until

# The first test waits for a kube-apiserver.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]


@dataclass(frozen=True)
class Real:
    """A kube-apiserver with one running pod, and a bastion before it."""

    kubeconfig: Path
    kubelet: Kubelet
    cluster: realcluster.RealCluster

    def kubectl(self, directory: Path, way: str = "websocket", *flags: str) -> Kubectl:
        """Return a kubectl that knows of the bastion alone."""
        wanted = "true" if way == "websocket" else "false"
        environment = {
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": wanted,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": wanted,
        }
        given = (f"--kubeconfig={self.kubeconfig}", *flags)
        return Kubectl(directory / "kubectl", *given, environment=environment)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """One for all tests: it takes seconds to start."""
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    directory = tmp_path_factory.mktemp("real")
    pair = Authority(directory).issue("pod", ["127.0.0.1"])
    server = directory / "server"
    with (
        realcluster.RealCluster(server) as cluster,
        Application(directory / "application", own_address(), pair) as application,
        Kubelet(directory / "pod", pair, command=["cat"]) as kubelet,
    ):
        populate(cluster.call, application)
        run_pod(cluster, kubelet)
        ours, theirs = directory / "kubeconfig", directory / "of-the-bastion"
        write_kubeconfig(theirs, cluster.url, cluster.ca, "admin-token")
        files = (
            f"--tls-cert-file={server / 'server.crt'}",
            f"--tls-private-key-file={server / 'server.key'}",
        )
        with Bastion(directory / "bastion", theirs, cluster.ca, *files) as program:
            url = f"https://127.0.0.1:{program.ready().port}"
            write_kubeconfig(ours, url, cluster.ca, "admin-token")
            yield Real(ours, kubelet, cluster)


@pytest.fixture(params=["websocket", "spdy"])
def kubectl(
    real: Real, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Kubectl]:
    """Each way of kubectl's to ask for streams; at the end nothing goes on."""
    yield real.kubectl(tmp_path, str(request.param))
    wait_until(lambda: not real.kubelet.busy, 10.0, "everything ends at the kubelet")


def test_kubectl_reads_writes_and_asks_the_proxy(real: Real, tmp_path: Path) -> None:
    kubectl = real.kubectl(tmp_path)
    names = kubectl("get", "services", "-n", NAMESPACE, "-o", "name").split()
    assert "service/web" in names
    raw = kubectl("get", "--raw", f"{SPACE}/services/web:odd/proxy/pages/7")
    assert "<title>page 7</title>" in raw
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    try:
        patch = '{"data": {"a": "2"}}'
        kubectl("patch", "configmap", "c", f"--patch={patch}")
        assert kubectl("get", "configmap", "c", "-o", "jsonpath={.data.a}") == "2"
        assert "Name:" in kubectl("describe", "configmap", "c")
    finally:
        kubectl("delete", "configmap", "c")
    assert kubectl("auth", "can-i", "get", "pods").strip() == "yes"
    assert "node-1" in kubectl("get", "nodes")


def test_kubectl_watches(real: Real, tmp_path: Path) -> None:
    kubectl = real.kubectl(tmp_path)
    command = ("get", "configmaps", "--watch-only", "-o", "name")
    with kubectl.follow(*command) as following:
        for number in range(3):
            # What came before the watch began is not in it.
            wait_until(
                lambda n=number: _made(kubectl, following, f"w-{n}"),  # type: ignore[misc]
                30.0,
                "an event",
            )
    kubectl("delete", "configmap", "w-0", "w-1", "w-2")


def _made(kubectl: Kubectl, following: Following, name: str) -> bool:
    kubectl.run("create", "configmap", name, code=None)
    kubectl.run("label", "configmap", name, f"a={os.urandom(4).hex()}", "--overwrite")
    return f"configmap/{name}" in following.text


def test_kubectl_follows_a_log(real: Real, tmp_path: Path) -> None:
    kubectl = real.kubectl(tmp_path)
    real.kubelet.write_log("the first")
    with kubectl.follow("logs", "--follow", "--tail=1", POD) as following:
        following.wait_for("the first\n")
        for number in range(3):
            real.kubelet.write_log(f"line {number}")
            following.wait_for(f"line {number}\n")
    wait_until(lambda: not real.kubelet.busy, 10.0, "nobody follows any more")


def test_kubectl_executes(kubectl: Kubectl) -> None:
    script = "cat; echo err >&2; exit 7"
    done = kubectl.run(
        "exec", "-i", POD, "--", "sh", "-c", script, stdin="in\n", code=7
    )
    assert done.stdout == "in\n"
    assert done.stderr == "err\ncommand terminated with exit code 7\n"


def test_kubectl_forwards_a_port(kubectl: Kubectl) -> None:
    parts = [os.urandom(size) for size in (1, 1000, 3_000_000)]
    with EchoServer() as server, ThreadPoolExecutor(len(parts)) as clients:
        target = f":{server.address.port}"
        with kubectl.follow("port-forward", f"pod/{POD}", target) as forwarding:
            forwarding.wait_for("Forwarding from 127.0.0.1:")
            found = re.search(r"127\.0\.0\.1:(\d+)", forwarding.text)
            assert found is not None
            where = ("127.0.0.1", int(found[1]))
            assert list(clients.map(lambda part: _echoed(where, part), parts)) == parts


def _echoed(where: tuple[str, int], data: bytes) -> bytes:
    with (
        socket.create_connection(where, scaled(30.0)) as connection,
        ThreadPoolExecutor(1) as sender,
    ):
        sending = sender.submit(connection.sendall, data)
        sending.add_done_callback(lambda _: connection.shutdown(socket.SHUT_WR))
        return receive_all(connection)


def test_kubectl_of_a_user_without_rights_is_told_by_the_apiserver(
    real: Real, tmp_path: Path
) -> None:
    kubectl = real.kubectl(tmp_path, "websocket", "--token=alice-token")
    assert 'User "alice" cannot list resource "pods"' in kubectl.fails("get", "pods")
    path = f"{SPACE}/services/web:odd/proxy/pages/1"
    said = kubectl.fails("get", "--raw", path)
    assert 'User "alice" cannot get resource "services/proxy"' in said
