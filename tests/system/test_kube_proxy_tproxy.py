"""The whole kube proxy on a node of its own: cluster IPs, a take-over, no trace."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pyproxy.cli import program
from tests.fakes.node import SLICES, SPACE, Agent, Cluster, cluster_in, slice_of
from tests.support import netns
from tests.support.servers import EchoServer
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.netns,
    pytest.mark.root,
    pytest.mark.timeout(180),
]

NODE_IP, NODE_PORT = "10.0.0.5", 30123


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A network with a node in it, and an apiserver on the node."""
    if why := netns.obstacle() or netns.obstacle_to_loss():
        pytest.skip(why)
    namespace = netns.NetNs()
    try:
        for line in (
            "ip link add d0 type veth peer name d1",
            f"ip addr add {NODE_IP}/24 dev d0",
            "ip link set d0 up",
            "ip link set d1 up",
            "ip route add default via 10.0.0.1",
        ):
            namespace.run(*line.split())
        with namespace.entered(), cluster_in(tmp_path) as made:
            made.make_node(NODE_IP)
            yield made
    finally:
        namespace.close()


def agent(cluster: Cluster) -> Agent:
    """The command with all of its real parts."""
    return cluster.agent(
        "--capture=tproxy",
        "--cluster-cidr=10.244.0.0/16",
        f"--handover-socket={cluster.directory / 'socket'}",
        environment={"REAL_PARTS": "1"},
    )


def make_service(cluster: Cluster, *endpoints: tuple[str, int]) -> str:
    """Make a Service with a node port, and return its cluster IP."""
    port = {"name": "web", "port": 80, "nodePort": NODE_PORT}
    spec = {"type": "NodePort", "ports": [port]}
    made = cluster.call("POST", SPACE, {"metadata": {"name": "web"}, "spec": spec})
    cluster.call("POST", SLICES, slice_of("web", endpoints))
    return str(made["spec"]["clusterIP"])


def echo(client: socket.socket) -> None:
    """Say something, and hear it."""
    client.sendall(b"hello")
    assert client.recv(5) == b"hello"


def test_services_are_served_by_one_process_and_then_by_the_next(
    cluster: Cluster,
) -> None:
    with EchoServer(NODE_IP) as server:
        cluster_ip = make_service(cluster, server.address)
        vip = (cluster_ip, 80)
        with agent(cluster) as old:
            old.serving()
            assert old.get("/proxyMode") == (200, "tproxy")
            for address in (vip, (NODE_IP, NODE_PORT)):
                with socket.create_connection(address, scaled(5)) as client:
                    echo(client)
            with pytest.raises(ConnectionRefusedError):  # a port that is not offered
                socket.create_connection((cluster_ip, 81), scaled(5))
            said = json.loads(old.get("/debug/explain?service=agent/web")[1])
            assert said["capture"] == "tproxy"
            assert said["type"] == "NodePort"
            text = explained(old)
            assert text.startswith("agent/web: NodePort\n")
            assert f"{server.address[0]}:{server.address[1]}" in text
            assert f"tcp       {cluster_ip}:80" in text
            with (
                socket.create_connection(vip, scaled(5)) as kept,
                agent(cluster) as new,
            ):
                new.serving()
                old.wait_for_event("a successor serves, ending")
                echo(kept)  # through the old one
                with socket.create_connection(vip, scaled(5)) as client:
                    echo(client)
                kept.close()
                assert old.wait() == 0
                with socket.create_connection(vip, scaled(5)) as client:
                    echo(client)  # the old one has left everything
                cluster.set_endpoints("web")
                wait_until(lambda: is_refused(vip), 20, "no endpoint: refused")
                new.send(signal.SIGTERM)
                assert new.wait() == 0
    with pytest.raises(OSError, match=r"timed out|unreachable|No route"):
        socket.create_connection(vip, 0.5)  # no rule is left that answers


def explained(running: Agent) -> str:
    """What the command says of the Service."""
    url = running.wait_for_event("admin address open")["url"]
    where = url.removeprefix("http://").rstrip("/")
    arguments = ["explain", "agent/web", f"--admin-address={where}"]
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def is_refused(address: tuple[str, int]) -> bool:
    """Whether a client is told so at once."""
    try:
        socket.create_connection(address, scaled(5)).close()
    except ConnectionRefusedError:
        return True
    return False
