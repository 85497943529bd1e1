"""kubectl at work on pods of a real kube-apiserver, through kubectl-proxy.

The same through `kubectl proxy`, so that a difference would be ours; and each way that
kubectl has of upgrading: WebSockets, and SPDY as older ones do. What stands in for a
kubelet (tests/support/kubelet.py) runs real commands and dials real ports.
"""

import functools
import hashlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pyproxy.sandbox.apiserver import write_kubeconfig
from pyproxy.sandbox.certificates import Authority
from tests.fakes.desk import Desk
from tests.fakes.desk import Kubectl as Peer
from tests.support import realcluster
from tests.support.kubectl import Following, Kubectl
from tests.support.kubelet import POD, Kubelet, run_pod
from tests.support.servers import EchoServer, receive_all
from tests.support.waiting import scaled, wait_until

# The first test waits for a kube-apiserver.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]

MIB = 1 << 20
OPEN = "--reject-paths="  # by default exec and attach are refused, as by kubectl
CUT = "connection reset by peer"


WEBSOCKETS = re.compile(
    r"^apiserver_stream_(?:translator|tunnel)_requests_total\S* (\d+)$", re.MULTILINE
)


@dataclass(frozen=True)
class Rig:
    """A cluster with one running pod."""

    kubeconfig: Path
    kubelet: Kubelet
    cluster: realcluster.RealCluster

    @property
    def flag(self) -> str:
        """What tells of the cluster."""
        return f"--kubeconfig={self.kubeconfig}"

    def websockets(self) -> int:
        """Count those that kube-apiserver has turned into SPDY."""
        text = self.cluster.call("GET", "/metrics").decode()
        return sum(int(count) for count in WEBSOCKETS.findall(text))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests: it takes seconds to start."""
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    directory = tmp_path_factory.mktemp("pods")
    pair = Authority(directory).issue("kubelet", ["127.0.0.1"])
    with (
        realcluster.RealCluster(directory / "server") as cluster,
        Kubelet(directory / "pod", pair, command=["cat"]) as kubelet,
    ):
        run_pod(cluster, kubelet)
        path = directory / "kubeconfig"
        write_kubeconfig(path, cluster.url, cluster.ca, "admin-token")
        yield Rig(path, kubelet, cluster)


@pytest.fixture
def kubelet(rig: Rig) -> Iterator[Kubelet]:
    """The pod's host; at the end nothing goes on there."""
    yield rig.kubelet
    wait_until(lambda: not rig.kubelet.busy, 10.0, "everything ends at the kubelet")


@pytest.fixture(scope="module", params=[Peer, Desk], ids=["kubectl", "pyproxy"])
def proxy(
    rig: Rig, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """A proxy that lets everything through."""
    with request.param(tmp_path_factory.mktemp("proxy"), rig.flag, OPEN) as desk:
        yield desk
        desk.send(signal.SIGTERM)
        desk.wait()
        assert "by force" not in desk.stderr  # all that was open had been closed


@pytest.fixture(params=["websocket", "spdy"])
def way(request: pytest.FixtureRequest) -> str:
    """How kubectl asks for streams."""
    return str(request.param)


def kubectl_at(proxy: Desk, way: str, directory: Path, path: str = "") -> Kubectl:
    """Return a kubectl that knows of the proxy alone."""
    wanted = "true" if way == "websocket" else "false"
    environment = {
        "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": wanted,
        "KUBECTL_PORT_FORWARD_WEBSOCKETS": wanted,
    }
    server = f"--server=http://127.0.0.1:{proxy.port}{path}"
    return Kubectl(directory / "kubectl", server, environment=environment)


@pytest.fixture
def kubectl(
    proxy: Desk, rig: Rig, kubelet: Kubelet, way: str, tmp_path: Path
) -> Iterator[Kubectl]:
    """Each kubectl of these; what it did not do that way fails the test."""
    before, known = len(kubelet.seen), rig.websockets()
    yield kubectl_at(proxy, way, tmp_path)
    # kubectl falls back to SPDY when a WebSocket fails: nothing else would show it.
    expected = len(kubelet.seen) - before if way == "websocket" else 0
    wait_until(lambda: rig.websockets() - known == expected, 10.0, f"{expected} {way}")


def forwarded_port(forwarding: Following) -> int:
    """Wait until kubectl listens and return where."""
    forwarding.wait_for("Forwarding from 127.0.0.1:")
    return int(forwarding.text.split("127.0.0.1:", 1)[1].split()[0])


def test_logs_are_read_and_followed(
    proxy: Desk, kubelet: Kubelet, tmp_path: Path
) -> None:
    kubectl = kubectl_at(proxy, "websocket", tmp_path)
    kubelet.write_log("the first")
    assert kubectl("logs", POD, "--tail=1") == "the first\n"
    with kubectl.follow("logs", "--follow", "--tail=1", POD) as following:
        following.wait_for("the first\n")
        for number in range(3):
            kubelet.write_log(f"line {number}")
            following.wait_for(f"line {number}\n")
        assert following.text == "the first\nline 0\nline 1\nline 2\n"


def test_exec_passes_output_errors_and_exit_code(kubectl: Kubectl) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = kubectl.run("exec", POD, "--", "sh", "-c", script, code=7)
    assert done.stdout == "out\n"
    assert done.stderr == "err\ncommand terminated with exit code 7\n"
    assert "No such file" in kubectl.fails("exec", POD, "--", "nope")


def test_exec_answers_while_stdin_is_open(kubectl: Kubectl) -> None:
    with kubectl.follow("exec", "-i", POD, "--", "cat") as talking:
        for text in ("one\n", "two\n"):
            talking.write(text)
            talking.wait_for(text)
        talking.end_input()
        assert talking.wait() == 0
        assert talking.text == "one\ntwo\n"


def test_exec_passes_megabytes_to_their_end(kubectl: Kubectl) -> None:
    text = "".join(f"line {number}\n" for number in range(300_000))
    assert kubectl("exec", "-i", POD, "--", "cat", stdin=text) == text


def test_exec_left_behind_ends_in_the_pod(kubectl: Kubectl, kubelet: Kubelet) -> None:
    with kubectl.follow("exec", "-i", POD, "--", "cat") as talking:
        talking.write("begun\n")
        talking.wait_for("begun\n")
        talking.process.kill()
        wait_until(lambda: not kubelet.busy, 10.0, "the command is ended")


def test_exec_refused_by_apiserver_tells_why(kubectl: Kubectl) -> None:
    as_bob = ("--as=bob", "--as-group=viewers")
    error = kubectl.fails("exec", POD, *as_bob, "--", "true")
    assert 'cannot create resource "pods/exec"' in error


def test_attach_meets_the_process(kubectl: Kubectl) -> None:
    attached = kubectl("attach", "-i", "--quiet", POD, stdin="hello\n")
    assert attached.endswith("hello\n")


def test_cp_takes_a_file_there_and_back(
    kubectl: Kubectl, kubelet: Kubelet, tmp_path: Path
) -> None:
    data = os.urandom(5 * MIB)
    (tmp_path / "here").write_bytes(data)
    kubectl("cp", str(tmp_path / "here"), f"{POD}:there")
    assert (kubelet.directory / "there").read_bytes() == data
    kubectl("cp", f"{POD}:there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


def test_cp_takes_a_directory_there_and_back(
    kubectl: Kubectl, kubelet: Kubelet, tmp_path: Path
) -> None:
    here = tmp_path / tmp_path.name
    (here / "a" / "deep").mkdir(parents=True)
    (here / "empty").touch()
    for number in range(20):
        (here / "a" / "deep" / f"file {number}").write_bytes(os.urandom(MIB // 8))
    kubectl("cp", str(here), f"{POD}:{here.name}")
    assert digests(kubelet.directory / here.name) == digests(here)
    kubectl("cp", f"{POD}:{here.name}", str(tmp_path / "back"))
    assert digests(tmp_path / "back") == digests(here)


def digests(directory: Path) -> dict[str, str]:
    """Name of each file below a directory -> what is in it."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def echoed(port: int, data: bytes) -> bytes:
    """Send all, end, and return what comes back until its end."""
    with (
        socket.create_connection(("127.0.0.1", port), scaled(30.0)) as connection,
        ThreadPoolExecutor(1) as sender,
    ):
        sending = sender.submit(connection.sendall, data)
        sending.add_done_callback(lambda _: connection.shutdown(socket.SHUT_WR))
        return receive_all(connection)


def test_port_forward_serves_several_connections_at_once(kubectl: Kubectl) -> None:
    parts = [os.urandom(size) for size in (1, 1000, MIB, 2 * MIB, 3 * MIB)]
    with EchoServer() as server, ThreadPoolExecutor(len(parts)) as clients:
        target = f":{server.address.port}"
        with kubectl.follow("port-forward", f"pod/{POD}", target) as forwarding:
            port = forwarded_port(forwarding)
            assert list(clients.map(functools.partial(echoed, port), parts)) == parts
            assert server.accepted == len(parts)


def test_port_forward_to_nobody_tells_why(kubectl: Kubectl, free_port: int) -> None:
    with kubectl.follow("port-forward", f"pod/{POD}", f":{free_port}") as forwarding:
        port = forwarded_port(forwarding)
        with socket.create_connection(("127.0.0.1", port), scaled(30.0)) as connection:
            assert connection.recv(1) == b""
        forwarding.wait_for(f"failed to connect to 127.0.0.1:{free_port}")
        forwarding.wait_for("lost connection to pod")
        assert forwarding.wait() == 1


@pytest.mark.parametrize(
    ("flag", "path"),
    [("--contexts=*", "/contexts/{}"), ("--api-prefix=/own/", "/own")],
    ids=["context", "prefix"],
)
def test_streams_work_below_a_path(
    rig: Rig, kubelet: Kubelet, way: str, flag: str, path: str, tmp_path: Path
) -> None:
    context = yaml.safe_load(rig.kubeconfig.read_text())["current-context"]
    with Desk(tmp_path / "proxy", rig.flag, flag, OPEN) as proxy:
        kubectl = kubectl_at(proxy, way, tmp_path, path.format(context))
        assert kubectl("exec", "-i", POD, "--", "cat", stdin="hello\n") == "hello\n"
        with EchoServer() as server:
            words = ("port-forward", f"pod/{POD}", f":{server.address.port}")
            with kubectl.follow(*words) as forwarding:
                assert echoed(forwarded_port(forwarding), b"hello") == b"hello"
    with Desk(tmp_path / "proxy", rig.flag, flag) as proxy:
        kubectl = kubectl_at(proxy, way, tmp_path, path.format(context))
        assert "Forbidden" in kubectl.fails("exec", POD, "--", "true")


@pytest.mark.parametrize("kind", [Peer, Desk], ids=["kubectl", "pyproxy"])
def test_exec_is_forbidden_by_default(
    rig: Rig, kind: type[Desk], way: str, tmp_path: Path
) -> None:
    before = len(rig.kubelet.seen)
    with kind(tmp_path / "proxy", rig.flag) as proxy:
        kubectl = kubectl_at(proxy, way, tmp_path)
        assert "Forbidden" in kubectl.fails("exec", POD, "--", "true")
    assert len(rig.kubelet.seen) == before


STOPPED = {
    "exec": (("exec", "-i", POD, "--", "cat"), CUT),
    "port-forward": (("port-forward", f"pod/{POD}", ":1"), "lost connection to pod"),
    "logs": (("logs", "--follow", POD), CUT),
}


@pytest.mark.parametrize("command", STOPPED)
def test_stream_cut_by_the_end_of_the_proxy_is_told(
    rig: Rig, kubelet: Kubelet, way: str, command: str, tmp_path: Path
) -> None:
    words, text = STOPPED[command]
    flags = (rig.flag, OPEN, "--drain-timeout=100ms")
    kubelet.write_log("begun")
    with (
        Desk(tmp_path / "proxy", *flags) as proxy,
        kubectl_at(proxy, way, tmp_path).follow(*words) as following,
    ):
        if command == "exec":
            following.write("begun\n")
        following.wait_for("Forwarding" if command == "port-forward" else "begun\n")
        proxy.send(signal.SIGTERM)
        assert proxy.wait() == 0
        assert "drain ended by force" in proxy.stderr
        code = following.wait()
        # Whatever ends it, exec over SPDY ends well for kubectl, which sees no more
        # than that the stream of errors ended, and empty.
        if (way, command) != ("spdy", "exec"):
            following.wait_for(text)
            assert code == 1


def test_exec_that_ends_within_the_drain_is_whole(
    rig: Rig, kubelet: Kubelet, way: str, tmp_path: Path
) -> None:
    flags = (rig.flag, OPEN, "--drain-timeout=30s", "--log-level=info")
    script = "echo begun; read word; echo $word; exit 5"
    with (
        Desk(tmp_path / "proxy", *flags) as proxy,
        kubectl_at(proxy, way, tmp_path).follow(
            *("exec", "-i", POD, "--", "sh", "-c", script)
        ) as following,
    ):
        following.wait_for("begun\n")
        proxy.send(signal.SIGTERM)
        wait_until(lambda: "draining" in proxy.stderr, 10.0)
        following.write("ended\n")
        assert following.wait() == 5
        assert "begun\nended\n" in following.text
        assert proxy.wait() == 0
        assert "by force" not in proxy.stderr
