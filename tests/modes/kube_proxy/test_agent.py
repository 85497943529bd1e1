"""The agent as a process, with a cluster of its own and Services on loopback."""

import contextlib
import http.client
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.bastion_cluster import MERGE
from tests.fakes.cluster import Address, refuses
from tests.fakes.node import NODE, Agent, Cluster, cluster_in, healthz
from tests.support.servers import EchoServer, free_port
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a Node and no Service."""
    with cluster_in(tmp_path) as made:
        yield made


def place() -> Address:
    """An address for a Service."""
    return ("127.0.0.1", free_port())


def echoes(address: Address) -> bool:
    """Whether a client there is served."""
    try:
        with socket.create_connection(address, scaled(5)) as client:
            client.sendall(b"hello")
            return client.recv(5) == b"hello"
    except OSError:
        return False


def served(address: Address) -> None:
    """Wait until it is."""
    wait_until(lambda: echoes(address), 20, f"{address} is served")


def test_services_are_served_as_they_come_change_and_go(cluster: Cluster) -> None:
    first, later = place(), place()
    with EchoServer() as one, EchoServer() as other:
        cluster.make_service("early", first, one.address)
        with cluster.agent() as agent:
            agent.serving()
            assert echoes(first)  # known before anything was said on stdout
            assert cluster.rules.read_text() == f"127.0.0.1:{first[1]} serve\n"
            cluster.make_service("late", later, other.address)
            served(later)
            cluster.set_endpoints("early")
            wait_until(lambda: refuses(first), 20, "no endpoint, no vip")
            wait_until(lambda: f"{first[1]} reject" in cluster.rules.read_text(), 20)
            cluster.set_endpoints("early", one.address)
            served(first)
            cluster.delete_service("late")
            wait_until(lambda: refuses(later), 20, "no Service, no vip")
            assert agent.get("/readyz")[0] == 200
            assert agent.get("/proxyMode") == (200, "bind")
            config = json.loads(agent.get("/configz")[1])["kubeproxy.config.k8s.io"]
            assert config["hostnameOverride"] == NODE
            agent.send(signal.SIGTERM)
            assert agent.wait() == 0
            assert not cluster.rules.exists()  # nothing is left behind


def test_nothing_is_served_before_the_cluster_is_known(cluster: Cluster) -> None:
    cluster.kill()
    with cluster.agent("--log-level=debug") as agent:
        agent.wait_for_event("admin address open")
        agent.wait_for_event("watch lost")
        assert not cluster.rules.exists()
        status, text = agent.get("/readyz")
        assert status == 503
        assert "[-]synced failed: not listed yet: services, endpointslices" in text
        assert agent.stdout == ""
        assert agent.get("/proxyMode") == (200, "starting")
        cluster.start()
        cluster.make_node("127.0.0.1")
        assert healthz(agent)[0] == 200


def test_last_state_is_served_while_the_api_is_away(cluster: Cluster) -> None:
    where = place()
    with EchoServer() as server:
        cluster.make_service("web", where, server.address)
        with cluster.agent() as agent:
            agent.serving()
            cluster.kill()
            agent.wait_for_event("watch lost")
            assert echoes(where)
            assert healthz(agent)[0] == 200
            assert agent.get("/readyz")[0] == 200


def test_health_of_the_node_and_of_services_is_told(cluster: Cluster) -> None:
    where, port = place(), free_port()
    with EchoServer() as server:
        cluster.make_service(
            *("web", where, server.address),
            type="LoadBalancer",
            externalTrafficPolicy="Local",
            healthCheckNodePort=port,
        )
        with cluster.agent() as agent:
            agent.serving()
            assert wait_for_count(port, 1)["service"]["name"] == "web"
            status, body = healthz(agent)
            assert (status, body["nodeEligible"]) == (200, True)
            taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
            node = f"/api/v1/nodes/{NODE}"
            cluster.call("PATCH", node, {"spec": {"taints": [taint]}}, MERGE)
            wait_until(lambda: healthz(agent)[0] == 503, 20, "the node is to go")
            assert healthz(agent, "/livez")[0] == 200
            assert wait_for_count(port, 1)["serviceProxyHealthy"]
            cluster.set_endpoints("web")
            assert wait_for_count(port, 0)["serviceProxyHealthy"]
            cluster.delete_service("web")
            wait_until(lambda: refuses(("127.0.0.1", port)), 20, "no Service, no port")
            lines = agent.get("/metrics")[1]
            assert 'kubeproxy_proxy_healthz_total{code="503"}' in lines


def ask(port: int) -> tuple[int, dict[str, object], str]:
    """Status, body and weight of a health port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        weight = answer.headers["X-Load-Balancing-Endpoint-Weight"]
        return answer.status, json.loads(answer.read()), weight
    finally:
        connection.close()


def wait_for_count(port: int, count: int) -> dict[str, dict[str, object]]:
    """Wait until a Service has so many endpoints here; return the body."""

    def has_it() -> bool:
        try:
            return ask(port)[2] == str(count)
        except OSError:
            return False

    wait_until(has_it, 20, f"{count} endpoints at port {port}")
    status, body, _ = ask(port)
    assert status == (200 if count else 503)
    return body  # type: ignore[return-value]


def test_health_port_that_is_taken_is_an_event(cluster: Cluster) -> None:
    with EchoServer() as server, EchoServer() as taken:
        number = taken.address[1]
        spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        cluster.make_service(
            "web", place(), server.address, healthCheckNodePort=number, **spec
        )
        with cluster.agent() as agent:
            agent.serving()
            reason = "FailedToStartServiceHealthcheck"
            wait_until(lambda: bool(cluster.events(reason)), 20, reason)
            (event,) = cluster.events(reason)
            assert event["involvedObject"]["name"] == "web"
            assert f"on port {number}: " in event["message"]


def test_service_that_cannot_be_served_stops_no_other(cluster: Cluster) -> None:
    good, blocked = place(), place()
    with EchoServer() as server, socket.create_server(blocked) as taken:
        cluster.make_service("good", good, server.address)
        cluster.make_service("bad", blocked, server.address)
        with cluster.agent() as agent:
            agent.serving()
            assert echoes(good)
            said = agent.wait_for_event("service not served")
            assert said["service"] == "agent/bad"
            reason = "ServiceNotServed"
            wait_until(lambda: bool(cluster.events(reason)), 20, reason)
            explained = json.loads(agent.get("/debug/explain?service=agent/bad")[1])
            assert "address already in use" in explained["notServed"].lower()
            assert agent.get("/readyz")[0] == 200
            assert healthz(agent)[0] == 200
            taken.close()
            served(blocked)


def test_complaint_about_a_service_is_one_event(cluster: Cluster) -> None:
    with EchoServer() as server, cluster.agent() as agent:
        agent.serving()
        where, notes = place(), {"complaint": "port 1 is odd"}
        cluster.make_service("odd", where, server.address, annotations=notes)
        served(where)
        cluster.set_endpoints("odd")
        reason = "ServiceProblem"
        wait_until(lambda: bool(cluster.events(reason)), 20, reason)
        (event,) = cluster.events(reason)
        assert (event["message"], event.get("count", 1)) == ("port 1 is odd", 1)
        assert event["source"]["component"] == "kube-proxy"
        (started,) = cluster.events("Starting")
        assert started["involvedObject"]["name"] == NODE


def test_rules_that_fail_make_it_not_ready_until_they_do_not(cluster: Cluster) -> None:
    where = place()
    with EchoServer() as server, cluster.agent() as agent:
        agent.serving()
        cluster.trouble.write_text("fail")
        cluster.make_service("web", where, server.address)
        agent.wait_for_event("rules not changed")
        status, text = agent.get("/readyz")
        assert (status, "rules cannot be written" in text) == (503, True)
        cluster.trouble.write_text("")
        served(where)
        wait_until(lambda: agent.get("/readyz")[0] == 200, 20, "ready again")
        cluster.rules.unlink()  # by somebody else
        agent.wait_for_event("rules were repaired")
        assert str(where[1]) in cluster.rules.read_text()


def test_rules_that_fail_at_the_start_end_it(cluster: Cluster) -> None:
    cluster.trouble.write_text("fail")
    with EchoServer() as server:
        cluster.make_service("web", place(), server.address)
        with cluster.agent() as agent:
            assert agent.wait(30) == 1
            last = agent.stderr.splitlines()[-1]
            assert last == "pyproxy: rules cannot be written"


def test_node_that_is_not_there_ends_it_after_a_while(cluster: Cluster) -> None:
    config = {"nodeTimeout": "500ms"}
    with cluster.agent("--hostname-override=other", config=config) as agent:
        assert agent.wait(30) == 1
        last = agent.stderr.splitlines()[-1]
        hint = "is its name right (--hostname-override)?"
        assert last.endswith(f"no Node 'other' after 0.5 s; {hint}")


def test_new_addresses_of_the_node_need_no_restart(cluster: Cluster) -> None:
    port = free_port()
    with EchoServer() as server, cluster.agent() as agent:
        spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        where = place()
        cluster.make_service(
            "web", where, server.address, healthCheckNodePort=port, **spec
        )
        agent.serving()
        wait_for_count(port, 1)
        cluster.make_node("127.0.0.1")
        with socket.create_connection(where) as kept:
            cluster.call("DELETE", f"/api/v1/nodes/{NODE}")
            agent.wait_for_event("the Node is gone, going on as it was")
            cluster.make_node()  # without an address, for now
            agent.wait_for_event("the node has changed")
            wait_until(lambda: refuses(("127.0.0.1", port)), 20, "no address")
            cluster.make_node("127.0.0.1")
            wait_for_count(port, 1)
            kept.sendall(b"hello")
            assert kept.recv(5) == b"hello"


def test_file_that_changes_is_read_anew_and_a_bad_one_changes_nothing(
    cluster: Cluster,
) -> None:
    where = place()
    file = cluster.directory / "kube-proxy.json"
    with EchoServer() as server:
        cluster.make_service("web", where, server.address)
        with cluster.agent(config={"syncPeriod": "10s"}) as agent:
            agent.serving()
            file.write_text(json.dumps({"syncPeriod": "20s", "capture": "bind"}))
            agent.wait_for_event("configuration reloaded")
            kept = agent.wait_for_event("change needs a restart")
            assert kept["setting"] == "capture"
            assert echoes(where)
            file.write_text("{")
            agent.wait_for_event("reload refused, nothing changed")
            assert echoes(where)
            shown = json.loads(agent.get("/debug/config")[1])
            assert shown["syncPeriod"] == "20s"


@pytest.mark.parametrize("hard", [False, True])
def test_taken_addresses_end_it_only_if_that_is_wanted(
    cluster: Cluster, hard: bool
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        one, two = (f"127.0.0.1:{each.getsockname()[1]}" for each in (taken, other))
        flags = [f"--healthz-bind-address={one}", f"--admin-address={two}"]
        flags += ["--bind-address-hard-fail"] if hard else []
        with cluster.agent(*flags) as agent:
            if hard:
                assert agent.wait(30) == 1
                return
            agent.serving()
            agent.wait_for_event("admin address not open")
            agent.wait_for_event("health not answered, trying again")
            taken.close()
            agent.wait_for_event("health answered")
            assert healthz(agent)[0] == 200
            other.close()
            agent.wait_for_event("admin address open")


def test_explain_says_all_there_is(cluster: Cluster) -> None:
    where = place()
    with EchoServer() as server:
        cluster.make_service("web", where, server.address)
        with cluster.agent() as agent:
            agent.serving()
            assert echoes(where)
            text = run_explain(agent, "agent/web")
            assert "service: agent/web" in text
            endpoint = "{}:{}".format(*server.address)
            assert f"{endpoint}  yes   ready" in text
            assert f"tcp       127.0.0.1:{where[1]}" in text
            assert run_explain(agent, "no/such", code=1).endswith(
                "pyproxy: no Service no/such is known here\n"
            )
            status, said = agent.get("/debug/explain?service=web")
            assert (status, "say which" in said) == (400, True)


def run_explain(agent: Agent, name: str, code: int = 0) -> str:
    """What the command prints."""
    from click.testing import CliRunner

    from pyproxy.cli import program

    url = agent.wait_for_event("admin address open")["url"]
    where = url.removeprefix("http://").rstrip("/")
    arguments = ["explain", name, f"--admin-address={where}"]
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_metrics_count_what_happened(cluster: Cluster) -> None:
    where = place()
    with EchoServer() as server, cluster.agent() as agent:
        agent.serving()
        cluster.make_service("web", where, server.address)
        served(where)
        lines = agent.get("/metrics")[1].splitlines()
        pairs = dict(line.rsplit(" ", 1) for line in lines if line[:1] != "#")
        rules = "kubeproxy_sync_proxy_rules"
        assert float(pairs[f"{rules}_service_changes_total"]) >= 1
        assert float(pairs[f"{rules}_endpoint_changes_pending"]) == 0
        assert float(pairs[f"{rules}_last_timestamp_seconds"]) > 1e9
        name = 'pyproxy_service_relays_total{service="agent/web"}'
        assert float(pairs[name]) >= 1
        assert not [each for each in pairs if each.startswith("pyproxy_vip_")]
        assert not [each for each in pairs if each.startswith("pyproxy_backend_")]


def test_cleanup_and_the_like_end_at_once(cluster: Cluster) -> None:
    with cluster.agent("--cleanup") as agent:
        assert agent.wait() == 0
        assert agent.stderr == "pyproxy: rules of a test\n"
    with cluster.agent("--init-only") as agent:
        assert agent.wait() == 0
    goal = cluster.directory / "written.yaml"
    with cluster.agent(f"--write-config-to={goal}") as agent:
        assert agent.wait() == 0
    assert "hostnameOverride: n1" in goal.read_text()
    with contextlib.suppress(OSError):
        goal.unlink()
