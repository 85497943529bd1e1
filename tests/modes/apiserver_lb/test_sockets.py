"""The whole balancer on sockets that systemd holds: no client is refused."""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cluster import FAST, Address, Cluster, refuses
from tests.fakes.process import Balancer
from tests.support.servers import EchoServer, free_port
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Servers and a client that trusts them."""
    return Cluster(tmp_path)


def shown(address: Address) -> str:
    """As it is written."""
    return f"{address[0]}:{address[1]}"


@contextlib.contextmanager
def held(count: int = 1) -> Iterator[list[socket.socket]]:
    """Sockets of one address, as systemd holds them for a socket unit."""
    with contextlib.ExitStack() as stack:
        made, port = [], 0
        for _ in range(count):
            each = socket.create_server(("127.0.0.1", port), reuse_port=count > 1)
            made.append(stack.enter_context(each))
            port = each.getsockname()[1]
        yield made


def activated(
    cluster: Cluster,
    given: list[socket.socket],
    server: Any,
    *flags: str,
    environment: dict[str, str] | None = None,
) -> Balancer:
    """A balancer that was given sockets and listens on the address of the first."""
    return Balancer(
        cluster.directory / "balancer",
        f"--listen={shown(given[0].getsockname())}",
        f"--check-ca={cluster.issuer.certificate}",
        f"--server={shown(server.address)}",
        *FAST,
        *flags,
        environment=environment,
        given=given,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_client_that_comes_while_nobody_runs_is_served_by_the_next(
    cluster: Cluster, workers: int
) -> None:
    flags = (f"--workers={workers}",)
    answers: list[str] = []
    with cluster.fake("a") as a, held() as given:
        address: Address = given[0].getsockname()
        with activated(cluster, given, a, *flags) as balancer:
            assert balancer.serving() == address
            assert cluster.who(address) == "a"
            said = balancer.wait_for_event("passed sockets taken over")
            assert said["what"] == f"descriptor 3 ({shown(address)})"
            balancer.send(signal.SIGTERM)
            assert balancer.wait() == 0
        waiting = threading.Thread(target=lambda: answers.append(cluster.who(address)))
        waiting.start()
        with activated(cluster, given, a, *flags) as balancer:
            waiting.join(scaled(30))
            assert answers == ["a"]
            balancer.send(signal.SIGTERM)
            assert balancer.wait() == 0


class Caller(threading.Thread):
    """Connects again and again; being cut is no loss here, being refused is."""

    def __init__(self, address: Address) -> None:
        super().__init__(name="caller")
        self.address = address
        self.refused = self.answered = 0
        self.stop = False

    def count(self) -> int:
        """How often it was answered."""
        return self.answered

    def run(self) -> None:
        """Call."""
        while not self.stop:
            try:
                with socket.create_connection(self.address, scaled(30)) as client:
                    client.sendall(b"hello")
                    self.answered += client.recv(5) == b"hello"
            except ConnectionRefusedError:
                self.refused += 1
            except ConnectionResetError:
                continue  # by the kill


@pytest.mark.adversity
def test_no_client_is_refused_over_restarts_and_a_kill(cluster: Cluster) -> None:
    with EchoServer() as server, held() as given:
        caller = Caller(given[0].getsockname())
        caller.start()
        try:
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
                with Balancer(
                    cluster.directory / "balancer",
                    f"--listen={shown(caller.address)}",
                    f"--server={shown(server.address)}",
                    "--check=tcp",
                    given=given,
                ) as balancer:
                    balancer.serving()
                    enough = caller.count() + 10
                    wait_until(lambda enough=enough: caller.count() >= enough, 20)  # type: ignore[misc]
                    balancer.send(number)
                    balancer.wait()
            assert caller.refused == 0
        finally:
            caller.stop = True
            given[0].close()  # clients that wait are let go
            caller.join()


def test_several_sockets_of_one_address_are_all_served(cluster: Cluster) -> None:
    with cluster.fake("a") as a, held(2) as given:
        with activated(cluster, given, a, "--workers=2") as balancer:
            address = balancer.serving()
            assert [cluster.who(address) for _ in range(20)] == ["a"] * 20


def test_more_sockets_than_workers_exits_1_and_says_so(cluster: Cluster) -> None:
    with cluster.fake("a") as a, held(3) as given:
        with activated(cluster, given, a, "--workers=2") as balancer:
            assert balancer.wait() == 1
            last = balancer.stderr.splitlines()[-1]
            where = shown(given[0].getsockname())
            assert last == f"pyproxy: cannot take over {where}: 3 sockets for 2 workers"


def test_sockets_that_nobody_wants_are_one_warning(cluster: Cluster) -> None:
    with (
        cluster.fake("a") as a,
        held() as given,
        held() as other,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("127.0.0.1", 0))
        passed = [*given, *other, datagrams]
        names = {"LISTEN_FDNAMES": "api:old:dns"}
        with activated(cluster, passed, a, environment=names) as balancer:
            assert cluster.who(balancer.serving()) == "a"
            (said,) = balancer.events("no listener for passed sockets")
            assert said["what"].startswith(
                f"old ({shown(other[0].getsockname())}), dns"
            )
            taken = balancer.wait_for_event("passed sockets taken over")
            assert taken["what"] == f"api ({shown(given[0].getsockname())})"
            open_there = sockets_of(balancer)
            assert inode(given[0]) in open_there
            assert not open_there & {inode(other[0]), inode(datagrams)}


def sockets_of(balancer: Balancer) -> set[str]:
    """What it has open, by inode."""
    found = set()
    for path in Path(f"/proc/{balancer.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.add(str(path.readlink()))
    return found


def inode(ours: socket.socket) -> str:
    """The same for one of ours."""
    return str(Path(f"/proc/self/fd/{ours.fileno()}").readlink())


def test_sockets_of_another_process_are_left_alone(cluster: Cluster) -> None:
    with cluster.fake("a") as a, held() as given:
        where = shown(given[0].getsockname())
        pid = {"LISTEN_PID": "1"}
        with activated(cluster, given, a, environment=pid) as balancer:
            assert balancer.wait() == 1
            assert "passed sockets are for another process" in balancer.stderr
            assert f"cannot listen on {where}" in balancer.stderr


def test_socket_that_does_not_listen_is_said_before_binding_fails(
    cluster: Cluster,
) -> None:
    with cluster.fake("a") as a, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with activated(cluster, [deaf], a) as balancer:
            assert balancer.wait() == 1
            assert "no listener for passed sockets" in balancer.stderr
            assert "not listening" in balancer.stderr


def test_nobody_else_holds_it_so_clients_are_refused_at_the_drain(
    cluster: Cluster,
) -> None:
    with cluster.fake("a") as a, contextlib.ExitStack() as stack:
        given = stack.enter_context(held())
        address: Address = given[0].getsockname()
        with activated(cluster, given, a) as balancer:
            balancer.serving()
            given[0].close()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                balancer.send(signal.SIGTERM)
                wait_until(lambda: refuses(address), 10, "nobody listens")
                assert cluster.ask(kept) == "a"
            assert balancer.wait() == 0


def test_reload_goes_back_to_a_socket_that_was_given(cluster: Cluster) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a, held() as given:
        address: Address = given[0].getsockname()
        elsewhere = f"127.0.0.1:{free_port()}"
        check = {"ca": str(cluster.issuer.certificate)}
        pool = {"servers": [{"address": shown(a.address)}], "check": check}
        places = [shown(address), elsewhere, shown(address)]
        contents = [
            json.dumps({"listeners": [{"address": place}], "pools": [pool]})
            for place in places
        ]
        file.write_text(contents[0])
        arguments = (f"--config={file}",)
        directory = cluster.directory / "balancer"
        with Balancer(directory, *arguments, given=given) as balancer:
            assert balancer.serving() == address
            for turn, content in enumerate(contents[1:], 1):
                file.write_text(content)
                balancer.send(signal.SIGHUP)
                balancer.wait_for_event("configuration reloaded", turn)
            assert cluster.who(address) == "a"
