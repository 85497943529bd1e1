"""Going on to accept for a while: for balancers in front that ask rarely."""

import signal
from pathlib import Path

import pytest

from tests.fakes.cluster import Cluster, refuses
from tests.fakes.desk import Desk
from tests.fakes.office import Office
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end

LONG = "--shutdown-delay=60s"


def test_clients_are_taken_while_readiness_is_red_already(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with cluster.fake("a") as a:
        servers = [f"{a.address.host}:{a.address.port}"]
        with cluster.balancer(LONG, servers=servers) as balancer:
            address = balancer.serving()
            balancer.send(signal.SIGTERM)
            assert balancer.wait_for_event("still accepting")["delay_s"] == 60.0
            assert balancer.get("/readyz")[0] == 503
            assert balancer.get("/livez")[0] == 200
            with cluster.connect(address) as fresh:
                assert cluster.ask(fresh) == "a"
                balancer.send(signal.SIGTERM)  # a second one waits for nothing
                wait_until(lambda: refuses(address), 5, "nobody listens")
            assert balancer.wait(5) == 128 + signal.SIGTERM


def test_drain_begins_when_the_delay_is_over(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with cluster.fake("a") as a:
        servers = [f"{a.address.host}:{a.address.port}"]
        with cluster.balancer("--shutdown-delay=300ms", servers=servers) as balancer:
            address = balancer.serving()
            with cluster.connect(address) as kept:
                assert cluster.ask(kept) == "a"
                balancer.send(signal.SIGTERM)
                balancer.wait_for_event("draining")
                assert balancer.events("still accepting")
                wait_until(lambda: refuses(address), 5, "nobody listens")
                assert cluster.ask(kept) == "a"
            assert balancer.wait() == 0


def test_kubectl_proxy_answers_new_clients_during_the_delay(office: Office) -> None:
    with office.proxy(Desk, LONG, "--log-level=info") as proxy:
        assert proxy.ask("/a").status == 200
        proxy.send(signal.SIGTERM)
        wait_until(lambda: "still accepting" in proxy.stderr, 10.0)
        assert proxy.ask("/a").status == 200
