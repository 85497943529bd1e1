"""The whole balancer: what happens to connections when servers change their mood."""

import contextlib
import resource
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.fakes.cluster import Cluster, is_reset
from tests.support.proxyhead_reference import frame, line
from tests.support.servers import free_port
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Servers and a client that trusts them."""
    return Cluster(tmp_path)


def address_of(server: object) -> str:
    """`HOST:PORT` of a server in this process."""
    host, port = server.address  # type: ignore[attr-defined]
    return f"{host}:{port}"


def test_connections_are_spread_over_ready_servers(cluster: Cluster) -> None:
    with cluster.fake("a") as a, cluster.fake("b") as b:
        flags = ("--balance=round-robin", "--workers=1")
        servers = [address_of(a), address_of(b)]
        with cluster.balancer(*flags, servers=servers) as balancer:
            address = balancer.serving()
            assert balancer.stdout == f"Starting to serve on 127.0.0.1:{address[1]}\n"
            assert {cluster.who(address) for _ in range(4)} == {"a", "b"}
            assert balancer.get("/readyz")[0] == 200


def test_alive_but_not_ready_keeps_its_connections_and_gets_no_new_ones(
    cluster: Cluster,
) -> None:
    # An apiserver that shuts down answers 500 on /readyz and still serves (facts A2).
    with cluster.fake("a") as a, cluster.fake("b") as b:
        with cluster.balancer(servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                a.code = 500
                balancer.wait_for_states("DRAINING")
                assert cluster.ask(kept) == "a"
        servers = [address_of(a), address_of(b)]
        with cluster.balancer(servers=servers) as balancer:
            address = balancer.serving()
            balancer.wait_for_states("DRAINING", "UP")
            assert {cluster.who(address) for _ in range(6)} == {"b"}
            a.code = 200
            balancer.wait_for_states("UP", "UP")
            changes = balancer.events("backend changed")
            assert (changes[-1]["was"], changes[-1]["now"]) == ("DRAINING", "UP")


@pytest.mark.adversity
def test_stopped_server_has_its_connections_reset_and_gets_no_new_ones(
    cluster: Cluster,
) -> None:
    # Half-dead servers held kubelets for 15 minutes (kubernetes#44557).
    with cluster.three() as servers:
        addresses = [server.address for server in servers]
        with cluster.balancer("--workers=1", servers=addresses) as balancer:
            address = balancer.serving()
            balancer.wait_for_states("UP", "UP", "UP")
            with contextlib.ExitStack() as stack:
                kept = [stack.enter_context(cluster.connect(address)) for _ in "123"]
                names = [cluster.ask(each) for each in kept]
                assert sorted(names) == ["a", "b", "c"]
                servers[0].send(signal.SIGSTOP)
                balancer.wait_for_states("DOWN", "UP", "UP")
                stopped = balancer.events("backend does not answer")
                assert [one["backend"] for one in stopped] == [addresses[0]]
                for name, connection in zip(names, kept, strict=True):
                    if name == "a":
                        assert is_reset(connection)
                    else:
                        assert cluster.ask(connection) == name
                assert "a" not in {cluster.who(address) for _ in range(6)}
                servers[0].send(signal.SIGCONT)
                balancer.wait_for_states("UP", "UP", "UP")


@pytest.mark.adversity
def test_killed_server_fails_no_new_connection(cluster: Cluster) -> None:
    # From the first failed connect on, not only once a probe has noticed.
    with cluster.three() as servers:
        addresses = [server.address for server in servers]
        flags = ("--check-interval=60s", "--balance=round-robin")
        with cluster.balancer(*flags, servers=addresses) as balancer:
            address = balancer.serving()
            servers[1].send(signal.SIGKILL)
            servers[1].wait()
            answers = [cluster.who(address) for _ in range(30)]
            assert set(answers) == {"a", "c"}
            # The probe would have been due in a minute; the failed connect woke it.
            balancer.wait_for_states("UP", "DOWN", "UP")
            assert balancer.events("backend changed")[-1]["why"].startswith(
                "connection refused"
            )


@pytest.mark.adversity
def test_killed_server_that_comes_back_serves_again(cluster: Cluster) -> None:
    with cluster.small("a") as first:
        with cluster.balancer(servers=[first.address]) as balancer:
            address = balancer.serving()
            first.send(signal.SIGKILL)
            balancer.wait_for_states("DOWN")
            assert balancer.get("/readyz")[0] == 503
            assert cluster.who(address) == ""
            first.wait()
            with first.again():
                balancer.wait_for_states("UP")
                assert cluster.who(address) == "a"
            assert balancer.events("pool is served again")


@pytest.mark.parametrize(("policy", "answer"), [("try", "a"), ("refuse", "")])
def test_all_alive_and_none_ready(cluster: Cluster, policy: str, answer: str) -> None:
    # etcd away: every apiserver answers 500, and still serves what it can (D4, 5).
    with cluster.fake("a") as a:
        a.code = 500
        servers = [address_of(a), f"127.0.0.1:{free_port()}"]
        flags = (f"--on-all-down={policy}",)
        with cluster.balancer(*flags, servers=servers) as balancer:
            address = balancer.serving()
            balancer.wait_for_states("DRAINING", "DOWN")
            assert [cluster.who(address) for _ in range(4)] == [answer] * 4
            event = balancer.wait_for_event("pool has no ready server")
            assert event["policy"] == policy
            status, text = balancer.get("/readyz")
            assert status == 503
            assert "[-]pool/default failed: none of 2 servers is ready" in text


@pytest.mark.parametrize(("policy", "answer"), [("try", "a"), ("refuse", "")])
def test_all_thought_dead_although_one_serves(
    cluster: Cluster, policy: str, answer: str, tmp_path: Path
) -> None:
    # A wrong opinion, here by a CA that signed nobody, must not cut everybody off.
    stranger = Cluster(tmp_path / "stranger").issuer.certificate
    with cluster.fake("a") as a:
        flags = (f"--check-ca={stranger}", f"--on-all-down={policy}")
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            balancer.wait_for_states("DOWN")
            assert cluster.who(address) == answer
            assert "certificate refused" in balancer.events("backend changed")[0]["why"]


@pytest.mark.adversity
def test_start_with_nobody_there_serves_once_somebody_comes(cluster: Cluster) -> None:
    port = free_port()
    with cluster.balancer(servers=[f"127.0.0.1:{port}"]) as balancer:
        address = balancer.serving()
        balancer.wait_for_states("DOWN")
        with cluster.fake("late", port):
            balancer.wait_for_states("UP")
            assert cluster.who(address) == "late"


@pytest.mark.adversity
def test_hung_server_at_the_start_delays_only_by_one_timeout(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung, cluster.fake("a") as a:
        silent = f"127.0.0.1:{hung.getsockname()[1]}"
        with cluster.balancer(servers=[silent, address_of(a)]) as balancer:
            address = balancer.serving()
            assert {cluster.who(address) for _ in range(6)} == {"a"}
            balancer.wait_for_states("DOWN", "UP")


def test_token_and_client_certificate_are_shown(cluster: Cluster) -> None:
    token = cluster.directory / "token"
    token.write_text("secret-of-the-probe")
    pair = cluster.issuer.issue("probe", ["probe"])
    with cluster.fake("a") as a:
        a.token = "secret-of-the-probe"
        flags = (
            f"--check-token-file={token}",
            f"--check-client-certificate={pair.certificate}",
            f"--check-client-key={pair.key}",
        )
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            balancer.serving()
            balancer.wait_for_states("UP")
            shown = balancer.get("/debug/config")[1]
            assert str(token) in shown
            assert "secret-of-the-probe" not in shown + balancer.stderr


def test_name_stands_for_its_addresses(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        server = f"localhost:{a.address.port}"
        with cluster.balancer(servers=[server]) as balancer:
            address = balancer.serving()
            wait_until(lambda: "UP" in balancer.states().values(), 10, "localhost")
            assert cluster.who(address) == "a"
            assert balancer.table()["pools"][0]["backends"][0]["name"] == "localhost"


def test_limits_per_source_hold_and_are_counted(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        flags = ("--max-connections-per-source=2",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as one, cluster.connect(address) as two:
                assert (cluster.ask(one), cluster.ask(two)) == ("a", "a")
                assert cluster.who(address) == ""
            refused = balancer.table()["vips"][0]["refused"]
            assert refused == {"limit_source_connections": 1}


def test_peer_that_is_trusted_names_the_clients_and_must(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        flags = ("--max-connections-per-source=1", "--proxy-protocol-from=127.0.0.3")
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            headers = [line("10.0.0.1", 1), frame("10.0.0.2", 1)]
            with contextlib.ExitStack() as stack:
                for header in headers:
                    client = cluster.connect(address, "127.0.0.3", header)
                    assert cluster.ask(stack.enter_context(client)) == "a"
                for header in (*headers, b""):
                    with socket.create_connection(
                        address, scaled(10), ("127.0.0.3", 0)
                    ) as plain:
                        with contextlib.suppress(OSError):  # it may be reset already
                            plain.sendall(header + b"\x16\x03\x01")
                            assert plain.recv(1) == b""
            assert cluster.who(address) == "a"  # from elsewhere, without a header
            expected = {"limit_source_connections": 2, "proxy_protocol": 1}
            wait_until(lambda: balancer.table()["vips"][0]["refused"] == expected)


@pytest.mark.adversity
def test_killed_server_under_load_fails_nobody_who_comes_later(
    cluster: Cluster,
) -> None:
    with cluster.three() as servers:
        addresses = [server.address for server in servers]
        with cluster.balancer(servers=addresses) as balancer:
            address = balancer.serving()
            balancer.wait_for_states("UP", "UP", "UP")
            dead = threading.Event()
            stop = threading.Event()
            answered: list[tuple[bool, str]] = []  # (began after the death, who)

            def load() -> None:
                while not stop.is_set():
                    answered.append((dead.is_set(), cluster.who(address)))

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            try:
                wait_until(lambda: len(answered) > 20, 20, "load")
                servers[2].send(signal.SIGKILL)
                servers[2].wait()
                dead.set()
                enough = len(answered) + 100
                wait_until(lambda: len(answered) > enough, 30, "load goes on")
            finally:
                stop.set()
                for thread in threads:
                    thread.join(scaled(20))
            assert {who for late, who in answered if late} == {"a", "b"}


@pytest.mark.adversity
def test_exhausted_descriptors_cut_off_no_server(cluster: Cluster) -> None:
    # Probes share the descriptors with relays: what they cannot open says nothing.
    with cluster.fake("a") as a:
        with cluster.balancer("--workers=1", servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            balancer.wait_for_states("UP")
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                soft, hard = resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (3, hard))
                event = balancer.wait_for_event("probe not possible")
                assert event["why"] == "Too many open files"
                assert cluster.ask(kept) == "a"
                resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (soft, hard))
                wait_until(lambda: cluster.who(address) == "a", 20, "room again")
                balancer.wait_for_states("UP")
            changes = [event["now"] for event in balancer.events("backend changed")]
            assert changes == ["UP"]
