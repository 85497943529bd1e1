"""A newer process takes over under load: no client is refused, and none is cut."""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cluster import Address
from tests.fakes.node import Cluster, cluster_in, healthz
from tests.fakes.process import Balancer
from tests.support.servers import EchoServer, free_port
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end


class Caller(threading.Thread):
    """Connects again and again, and counts what must not happen."""

    def __init__(self, address: Address) -> None:
        super().__init__(name="caller")
        self.address = address
        self.answered = 0
        self.failed: list[str] = []
        self.stop = False

    def run(self) -> None:
        """Call."""
        while not self.stop:
            try:
                with socket.create_connection(self.address, scaled(30)) as client:
                    client.sendall(b"hello")
                    assert client.recv(5) == b"hello"
                    self.answered += 1
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))

    def wait_for_more(self) -> None:
        """Wait until it was answered some more times."""
        enough = self.answered + 20
        wait_until(lambda: self.answered >= enough, 20, "answers")


@contextlib.contextmanager
def calling(address: Address) -> Iterator[Caller]:
    """Somebody who calls."""
    caller = Caller(address)
    caller.start()
    try:
        yield caller
    finally:
        caller.stop = True
        caller.join()


@contextlib.contextmanager
def kept(address: Address) -> Iterator[socket.socket]:
    """A connection that stays open."""
    with socket.create_connection(address, scaled(10)) as client:
        echo(client)
        yield client


def echo(client: socket.socket) -> None:
    """Say something, and hear it."""
    client.sendall(b"hello")
    assert client.recv(5) == b"hello"


@pytest.mark.parametrize("workers", [1, 2])
def test_balancer_is_followed_again_and_again(tmp_path: Path, workers: int) -> None:
    address = ("127.0.0.1", free_port())
    with EchoServer() as server, contextlib.ExitStack() as stack:

        def start(number: int) -> Balancer:
            balancer = Balancer(
                tmp_path / str(number),
                f"--listen=127.0.0.1:{address[1]}",
                "--server={}:{}".format(*server.address),
                "--check=tcp",
                f"--workers={workers}",
                f"--handover-socket={tmp_path / 'socket'}",
            )
            stack.enter_context(balancer)
            assert balancer.serving() == address
            return balancer

        old = start(0)
        with calling(address) as caller:
            for number in (1, 2):
                with kept(address) as client:
                    new = start(number)
                    old.wait_for_event("a successor serves, ending")
                    caller.wait_for_more()
                    echo(client)  # through the old one
                    assert old.process.poll() is None
                assert old.wait() == 0
                caller.wait_for_more()
                old = new
            assert caller.failed == []


def test_successor_that_cannot_start_changes_nothing(tmp_path: Path) -> None:
    address = ("127.0.0.1", free_port())
    flags = (
        f"--listen=127.0.0.1:{address[1]}",
        "--check=tcp",
        f"--handover-socket={tmp_path / 'socket'}",
    )
    with EchoServer() as server, socket.create_server(("127.0.0.1", 0)) as taken:
        server_flag = "--server={}:{}".format(*server.address)
        other = f"--listen=127.0.0.1:{taken.getsockname()[1]}"
        with Balancer(tmp_path / "old", *flags, server_flag) as old:
            old.serving()
            with calling(address) as caller:
                with Balancer(tmp_path / "new", *flags, server_flag, other) as new:
                    assert new.wait() == 1
                    assert "cannot listen on" in new.stderr
                old.wait_for_event("the successor has failed, going on")
                caller.wait_for_more()
                assert caller.failed == []
            with Balancer(tmp_path / "third", *flags, server_flag) as third:
                third.serving()
                assert old.wait() == 0


class Supervisor:
    """Hears what is told to systemd, and keeps the sockets that come with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: list[socket.socket] = []
        self.names: list[str] = []
        self.removed: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    @property
    def environment(self) -> dict[str, str]:
        """As systemd sets it."""
        return {
            "NOTIFY_SOCKET": str(self.path),
            "FDSTORE": "8",
            "LISTEN_FDNAMES": ":".join(self.names),
        }

    def hear(self) -> None:
        """Take all that was said so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self._socket, 4096, 8)
                said = dict(each.split("=", 1) for each in data.decode().splitlines())
                if "FDSTORE" in said:
                    self.kept += [socket.socket(fileno=fd) for fd in fds]
                    self.names.append(said["FDNAME"])
                if "FDSTOREREMOVE" in said:
                    self.removed.append(said["FDNAME"])

    def close(self) -> None:
        """Let everything go."""
        for each in [*self.kept, self._socket]:
            each.close()


def test_systemd_keeps_the_sockets_over_a_restart(tmp_path: Path) -> None:
    address, other = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    supervisor = Supervisor(tmp_path / "notify")
    with EchoServer() as server:

        def start(name: str, *flags: str) -> Balancer:
            return Balancer(
                tmp_path / name,
                "--server={}:{}".format(*server.address),
                "--check=tcp",
                "--workers=2",
                f"--listen=127.0.0.1:{address[1]}",
                *flags,
                environment=supervisor.environment,
                given=supervisor.kept,
            )

        with start("old", f"--listen=127.0.0.1:{other[1]}") as old:
            old.serving()
            with calling(address) as caller:
                caller.wait_for_more()
                old.send(signal.SIGTERM)
                assert old.wait() == 0
                supervisor.hear()
                shown = [f"pyproxy-127.0.0.1-{p}" for p in (address[1], other[1])]
                assert [n for n in supervisor.names if n in shown] == sorted(
                    [*shown, *shown], key=shown.index
                )
                with start("new") as new:
                    new.serving()
                    caller.wait_for_more()
                    assert caller.failed == []
                    caller.stop = True
                    caller.join()
                    supervisor.hear()
                    # Nobody serves there any more: it must not go on listening.
                    assert shown[1] in supervisor.removed
                    assert shown[0] not in supervisor.removed
    supervisor.close()


def test_supervised_process_that_was_replaced_waits_to_be_ended(
    tmp_path: Path,
) -> None:
    # Its supervisor would start it again, and it would take the sockets back.
    address = ("127.0.0.1", free_port())
    ready = [tmp_path / "ready-a", tmp_path / "ready-b"]
    with EchoServer() as server:
        flags = (
            f"--listen=127.0.0.1:{address[1]}",
            "--server={}:{}".format(*server.address),
            "--check=tcp",
            f"--handover-socket={tmp_path / 'socket'}",
        )
        with Balancer(tmp_path / "a", *flags, f"--ready-file={ready[0]}") as old:
            old.serving()
            wait_until(ready[0].exists, 10, "ready file")
            with Balancer(tmp_path / "b", *flags, f"--ready-file={ready[1]}") as new:
                new.serving()
                old.wait_for_event("waiting to be ended")
                assert [each.exists() for each in ready] == [False, True]
                assert old.process.poll() is None
                old.send(signal.SIGTERM)
                assert old.wait() == 0
                new.send(signal.SIGTERM)
                assert new.wait() == 0
                assert not ready[1].exists()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a Node and no Service."""
    with cluster_in(tmp_path) as made:
        yield made


def test_node_agent_is_followed_with_its_rules_and_health_ports(
    cluster: Cluster,
) -> None:
    where, later = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    port, admin, health = free_port(), free_port(), free_port()
    flags = (
        f"--handover-socket={cluster.directory / 'socket'}",
        f"--admin-address=127.0.0.1:{admin}",
        f"--healthz-bind-address=127.0.0.1:{health}",
        "--bind-address-hard-fail",  # what is taken would end it
    )
    with EchoServer() as server:
        spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        cluster.make_service(
            "web", where, server.address, healthCheckNodePort=port, **spec
        )
        with cluster.agent(*flags) as old:
            old.serving()
            wait_until(lambda: is_open(port), 20, "health port")
            with calling(where) as caller, kept(where) as client:
                with cluster.agent(*flags) as new:
                    new.serving()
                    old.wait_for_event("a successor serves, ending")
                    cluster.make_service("late", later, server.address)
                    wait_until(lambda: is_open(later[1]), 20, "served by the new one")
                    caller.wait_for_more()
                    echo(client)
                    client.close()
                    assert old.wait() == 0
                    caller.wait_for_more()
                    assert caller.failed == []
                    # What both had is the new one's, and is still there.
                    assert f"{where[1]} serve" in cluster.rules.read_text()
                    assert healthz(new)[0] == 200
                    assert is_open(port)
                    assert new.get("/readyz")[0] == 200
                    caller.stop = True
                    caller.join()


def is_open(port: int) -> bool:
    """Whether somebody listens."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    return False
