"""The whole balancer: start, reload, drain, and what it says when it cannot."""

import contextlib
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.apiserver import FakeApiserver
from tests.fakes.cluster import Cluster, is_reset, refuses
from tests.support.servers import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Servers and a client that trusts them."""
    return Cluster(tmp_path)


def address_of(server: FakeApiserver) -> str:
    """`HOST:PORT` of a server."""
    return f"{server.address.host}:{server.address.port}"


def configuration(cluster: Cluster, *servers: str, **more: Any) -> dict[str, Any]:
    """A file for these servers; `listen` overrides the address."""
    check = {"ca": str(cluster.issuer.certificate), "interval": "100ms"}
    listeners = [{"address": more.pop("listen", "127.0.0.1:0")}]
    pool = {"servers": [{"address": server} for server in servers], "check": check}
    return {"listeners": listeners, "pools": [pool], **more}


# ---- Reload.


def test_reload_takes_new_servers_and_keeps_old_connections(cluster: Cluster) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a, cluster.fake("b") as b:
        listen = f"127.0.0.1:{free_port()}"
        old = configuration(cluster, address_of(a), listen=listen)
        file.write_text(json.dumps(old))
        with cluster.program(f"--config={file}") as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                new = configuration(cluster, address_of(b), listen=listen)
                file.write_text(json.dumps(new))
                balancer.send(signal.SIGHUP)
                balancer.wait_for_event("configuration reloaded")
                # Published; a worker takes it at the top of its loop.
                wait_until(lambda: cluster.who(address) == "b", 5, "the new server")
                assert cluster.ask(kept) == "a"
            assert balancer.table()["generation"] == 2
            assert balancer.get("/readyz?verbose")[0] == 200


def test_reload_moves_a_listener(cluster: Cluster) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a:
        ports = [free_port(), free_port()]
        for port in ports:
            listen = f"127.0.0.1:{port}"
            made = configuration(cluster, address_of(a), listen=listen)
            (cluster.directory / f"{port}.json").write_text(json.dumps(made))
        (cluster.directory / f"{ports[0]}.json").replace(file)
        with cluster.program(f"--config={file}") as balancer:
            assert cluster.who(balancer.serving()) == "a"
            (cluster.directory / f"{ports[1]}.json").replace(file)
            balancer.send(signal.SIGHUP)
            balancer.wait_for_event("configuration reloaded")
            assert cluster.who(("127.0.0.1", ports[1])) == "a"
            wait_until(lambda: refuses(("127.0.0.1", ports[0])), 5, "the old one")


ONE_POOL = '{"pools": [{"servers": [{"address": "%s"}], "check": {%s}}]}'
NO_NAME = ONE_POOL % ("no.such.invalid:1", '"insecure": true')
NO_FILE = ONE_POOL % ("10.0.0.1:1", '"ca": "/nowhere"')
BAD_FILES = [
    ("typo", '{"timeouts": {"tcpIdel": "1s"}}', "$.timeouts.tcpIdel: unknown field"),
    ("syntax", "{", "lb.json:1:2: "),
    ("name", NO_NAME, "cannot resolve no.such.invalid"),
    ("certificate", NO_FILE, "/nowhere: CA file: No such file"),
]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [row[1:] for row in BAD_FILES],
    ids=[row[0] for row in BAD_FILES],
)
def test_bad_file_is_reported_and_the_running_one_stays(
    cluster: Cluster, content: str, complaint: str
) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a:
        file.write_text(json.dumps(configuration(cluster, address_of(a))))
        with cluster.program(f"--config={file}", "--listen=127.0.0.1:0") as balancer:
            address = balancer.serving()
            file.write_text(content)
            balancer.send(signal.SIGHUP)
            event = balancer.wait_for_event("reload refused, nothing changed")
            assert complaint in event["why"]
            status, said = balancer.get("/readyz?verbose")
            assert (status, "[!]reload: refused at " in said) == (200, True)
            assert complaint in said
            assert "reload_successful 0.0" in balancer.get("/metrics")[1]
            assert cluster.who(address) == "a"
            assert balancer.table()["generation"] == 1


def test_listener_that_cannot_be_bound_refuses_the_whole_reload(
    cluster: Cluster,
) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a, cluster.fake("b") as squatter:
        listen = f"127.0.0.1:{free_port()}"
        first = configuration(cluster, address_of(a), listen=listen)
        file.write_text(json.dumps(first))
        with cluster.program(f"--config={file}") as balancer:
            address = balancer.serving()
            gone = f"127.0.0.1:{free_port()}"
            second = configuration(cluster, gone, listen=address_of(squatter))
            file.write_text(json.dumps(second))
            balancer.send(signal.SIGHUP)
            event = balancer.wait_for_event("reload refused, nothing changed")
            assert f"cannot listen on {address_of(squatter)}" in event["why"]
            assert balancer.states() == {address_of(a): "UP"}
            assert cluster.who(address) == "a"


def test_what_needs_a_restart_is_said(cluster: Cluster) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a:
        listen = f"127.0.0.1:{free_port()}"
        made = configuration(cluster, address_of(a), listen=listen, workers=1)
        file.write_text(json.dumps(made))
        with cluster.program(f"--config={file}") as balancer:
            balancer.serving()
            file.write_text(json.dumps({**made, "workers": 2}))
            balancer.send(signal.SIGHUP)
            event = balancer.wait_for_event("change needs a restart")
            assert event["setting"] == "workers"
            balancer.wait_for_event("configuration reloaded")


def test_reloads_in_a_row_end_with_the_last_file(cluster: Cluster) -> None:
    file = cluster.directory / "lb.json"
    with cluster.fake("a") as a, cluster.fake("b") as b:
        listen = f"127.0.0.1:{free_port()}"
        made = [
            json.dumps(configuration(cluster, address_of(each), listen=listen))
            for each in (a, b)
        ]
        file.write_text(made[0])
        with cluster.program(f"--config={file}") as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                for turn in range(1, 11):
                    file.write_text(made[turn % 2])
                    balancer.send(signal.SIGHUP)
                file.write_text(made[1])
                balancer.send(signal.SIGHUP)
                wait_until(lambda: cluster.who(address) == "b", 20, "the last file")
                assert cluster.ask(kept) == "a"


def test_each_listener_has_its_pool(cluster: Cluster) -> None:
    file = cluster.directory / "lb.yaml"
    ca = cluster.issuer.certificate
    with cluster.fake("a") as a, cluster.fake("b") as b:
        ports = [free_port(), free_port()]
        file.write_text(f"""
listeners:
  - {{address: "127.0.0.1:{ports[0]}", pool: one}}
  - {{address: "127.0.0.1:{ports[1]}", pool: other, limits: {{maxConnections: 1}}}}
pools:
  - {{name: one, servers: [{{address: "{address_of(a)}"}}], check: {{ca: {ca}}}}}
  - {{name: other, servers: [{{address: "{address_of(b)}"}}], check: {{type: tcp}}}}
""")
        with cluster.program(f"--config={file}") as balancer:
            balancer.serving()
            assert cluster.who(("127.0.0.1", ports[0])) == "a"
            with cluster.connect(("127.0.0.1", ports[1])) as only:
                assert cluster.ask(only) == "b"
                assert cluster.who(("127.0.0.1", ports[1])) == ""
            text = balancer.get("/readyz?verbose")[1]
            assert "[+]pool/one ok\n[+]pool/other ok\n" in text


# ---- Drain.


def test_drain_lets_live_connections_end_and_exits_0(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        with cluster.balancer(servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                balancer.send(signal.SIGTERM)
                balancer.wait_for_event("draining")
                wait_until(lambda: refuses(address), 5, "nobody listens")
                status, text = balancer.get("/readyz")
                assert (status, "[-]shutdown failed: draining" in text) == (503, True)
                assert balancer.get("/livez")[0] == 200
                assert cluster.ask(kept) == "a"
                assert balancer.process.poll() is None
            assert balancer.wait() == 0
            assert balancer.events("drained")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_without_connections_ends_at_once(
    cluster: Cluster, number: signal.Signals
) -> None:
    with cluster.fake("a") as a:
        with cluster.balancer(servers=[address_of(a)]) as balancer:
            balancer.serving()
            balancer.send(number)
            assert balancer.wait(5) == 0


def test_drain_resets_what_lives_at_the_deadline(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        flags = ("--drain-timeout=300ms",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                balancer.send(signal.SIGTERM)
                assert is_reset(kept)
            assert balancer.wait() == 0
            assert balancer.events("drain ended by force")[0]["relays_reset"] == 1


def test_second_signal_ends_at_once(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        with cluster.balancer(servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                balancer.send(signal.SIGTERM)
                balancer.wait_for_event("draining")
                balancer.send(signal.SIGTERM)
                assert balancer.wait(5) == 128 + signal.SIGTERM
                assert is_reset(kept)


@pytest.mark.adversity
def test_server_that_dies_during_a_drain_is_not_waited_for(cluster: Cluster) -> None:
    with cluster.small("a") as server:
        with cluster.balancer(servers=[server.address]) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                balancer.send(signal.SIGTERM)
                balancer.wait_for_event("draining")
                server.send(signal.SIGSTOP)
                assert is_reset(kept)
            assert balancer.wait() == 0


@pytest.mark.adversity
def test_stop_while_starting_exits_0_without_serving(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        silent = f"127.0.0.1:{hung.getsockname()[1]}"
        flags = ("--check-timeout=60s",)
        with cluster.balancer(*flags, servers=[silent]) as balancer:
            balancer.wait_for_event("admin address open")
            status, text = balancer.get("/readyz")
            assert (status, "start failed: not serving yet" in text) == (503, True)
            balancer.send(signal.SIGTERM)
            assert balancer.wait() == 0
            assert balancer.stdout == ""


# ---- What cannot be.


def test_address_in_use_exits_1_and_says_what_would_help(cluster: Cluster) -> None:
    with cluster.fake("a") as a, cluster.fake("squatter") as squatter:
        flags = (f"--listen={address_of(squatter)}",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            assert balancer.wait() == 1
            last = balancer.stderr.splitlines()[-1]
            assert f"pyproxy: cannot listen on {address_of(squatter)}" in last
            assert "another program listens there" in last
            assert balancer.stdout == ""
            assert "Traceback" not in balancer.stderr


def test_admin_address_in_use_exits_1(cluster: Cluster) -> None:
    with cluster.fake("a") as a, cluster.fake("squatter") as squatter:
        flags = (f"--admin-address={address_of(squatter)}",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            assert balancer.wait() == 1
            assert "cannot open the admin address" in balancer.stderr
            assert balancer.stdout == ""


def test_nothing_is_bound_when_a_file_is_bad(cluster: Cluster) -> None:
    port = free_port()
    flags = (f"--listen=127.0.0.1:{port}", "--check-ca=/nowhere")
    with cluster.balancer(*flags, servers=["10.0.0.1:1"]) as balancer:
        assert balancer.wait() == 2
        assert balancer.stderr == (
            "pyproxy: $.pools[0].check: /nowhere: CA file: No such file or directory\n"
        )


@pytest.mark.ipv6
def test_listeners_are_all_said_ipv6_too(cluster: Cluster) -> None:
    with cluster.fake("a") as a, contextlib.ExitStack() as stack:
        flags = ("--listen=[::1]:0",)
        servers = [address_of(a)]
        balancer = stack.enter_context(cluster.balancer(*flags, servers=servers))
        balancer.wait_for("Starting to serve on [::1]:")
        assert len(balancer.stdout.splitlines()) == 2
        port = int(balancer.stdout.splitlines()[1].rpartition(":")[2])
        with socket.create_connection(("::1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")


def test_warnings_are_logged_at_the_start(cluster: Cluster) -> None:
    with cluster.fake("a") as a:
        flags = ("--idle-timeout=30s",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            balancer.serving()
            event = balancer.wait_for_event("check the configuration")
            assert event["what"].startswith("$.timeouts.tcpIdle: 30s cuts watches")
            event = balancer.wait_for_event("pool in use")
            assert event["pool"] == "default"
            assert event["hung_server_noticed_within"].endswith("ms")
