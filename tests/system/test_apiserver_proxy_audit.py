"""The audit log of apiserver-proxy, over real TLS; beside kube-apiserver's own."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyproxy.sandbox.apiserver import write_kubeconfig
from pyproxy.sandbox.certificates import Authority
from tests.fakes.bastion import Backend, Bastion, ask, bastion, dial, own_address
from tests.fakes.bastion_cluster import NAMESPACE, populate
from tests.support import realcluster
from tests.support.bastion_rig import (
    SPACE,
    WEB,
    Rig,
    bastion_rig,
    issued,
    read_until,
    request,
)
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [{"level": "Metadata"}],
}
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


class Log:
    """An audit log, read by the ids that clients gave their requests."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def events(self) -> list[dict[str, Any]]:
        """Every whole line so far."""
        lines = self.file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def of(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """So many events of a request; no more of them."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events() if event["auditID"] == name]

        wait_until(lambda: len(found()) >= count, 10.0, f"{count} events of {name}")
        assert len(found()) == count
        return found()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("audit") / "audit.log")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Iterator[Rig]:
    """One for all tests."""
    directory = tmp_path_factory.mktemp("bastion")
    with bastion_rig(directory, f"--audit-log-path={log.file}") as made:
        yield made


def test_remembered_verdicts_name_their_users(rig: Rig, log: Log) -> None:
    # Others share the verdict of a Service, but for what it says of its user.
    for number, token in enumerate(("admin", "alice", "admin", "alice")):
        answer = rig.ask(
            f"{WEB}/echo?secret={number}",
            f"Audit-ID: shared-{number}",
            token=f"{token}-token",
        )
        assert answer.status == 200
        (event,) = log.of(f"shared-{number}")
        assert event["user"]["username"] == token
        assert event["requestURI"] == f"{WEB}/echo?secret={number}"
        assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
        assert event["responseStatus"] == {"metadata": {}, "code": 200}
        assert event["sourceIPs"] == ["127.0.0.1"]


def test_refused_requests_are_logged_with_the_reason(rig: Rig, log: Log) -> None:
    pod = f"{SPACE}/pods/web-0/proxy/"
    rig.ask(pod, "Audit-ID: denied", token="alice-token")
    (event,) = log.of("denied")
    assert event["responseStatus"]["code"] == 403
    assert 'User "alice" cannot get' in event["responseStatus"]["message"]
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    rig.ask(pod, "Audit-ID: stranger", token="no-such-token")
    (event,) = log.of("stranger")
    assert event["user"] == {}
    assert event["objectRef"]["name"] == "web-0"
    assert event["responseStatus"]["code"] == 401
    dead = f"{SPACE}/services/dead:80/proxy/"
    rig.ask(dead, "Audit-ID: dead")
    (event,) = log.of("dead")
    assert event["user"]["username"] == "admin"
    assert event["responseStatus"]["code"] == 503
    assert "no-such-token" not in log.file.read_text()
    assert "alice-token" not in log.file.read_text()


def test_users_of_every_kind_are_named(rig: Rig, log: Log) -> None:
    rig.ask(f"{WEB}/x", "Audit-ID: nobody", token=None)
    (event,) = log.of("nobody")
    assert event["user"]["username"] == "system:anonymous"
    rig.ask(f"{WEB}/x", "Audit-ID: as", "Impersonate-User: jane")
    (event,) = log.of("as")
    assert event["user"]["username"] == "admin"
    assert event["impersonatedUser"]["username"] == "jane"
    pair = issued(rig.users, "carol", "devs")
    rig.ask(f"{WEB}/x", "Audit-ID: cert", token=None, pair=pair)
    (event,) = log.of("cert")
    assert event["user"]["username"] == "carol"
    assert "devs" in event["user"]["groups"]


def test_tunnel_is_logged_at_both_ends(rig: Rig, log: Log) -> None:
    with rig.program.dial() as connection:
        head = request(f"{WEB}/ws", "Audit-ID: tunnel", *UPGRADE)
        connection.sendall(head)
        read_until(connection, b"/ws -\n")
        (began,) = log.of("tunnel")
        assert began["stage"] == "ResponseStarted"
    began, ended = log.of("tunnel", 2)
    assert ended["stage"] == "ResponseComplete"
    assert ended["user"] == began["user"]
    assert ended["user"]["username"] == "admin"
    for event in (began, ended):
        assert event["responseStatus"]["code"] == 101
    assert ended["stageTimestamp"] > began["stageTimestamp"]


def test_what_the_apiserver_logs_itself_is_not_logged(rig: Rig, log: Log) -> None:
    assert rig.ask("/api/v1/namespaces", "Audit-ID: rest").status == 200
    rig.ask(f"{WEB}/x", "Audit-ID: after-rest")
    log.of("after-rest")
    assert not [event for event in log.events() if event["auditID"] == "rest"]


def test_log_that_was_moved_away_goes_on_in_a_new_file(rig: Rig, log: Log) -> None:
    rig.ask(f"{WEB}/x", "Audit-ID: before-move")
    log.of("before-move")
    log.file.rename(log.file.with_suffix(".1"))
    rig.ask(f"{WEB}/x", "Audit-ID: after-move")
    wait_until(log.file.exists)
    log.of("after-move")
    assert rig.metric('pyproxy_audit_events_lost_total{reason="file"}') == 0


def test_full_disk_holds_no_request_and_is_seen(tmp_path: Path) -> None:
    with bastion(tmp_path, "--audit-log-path=/dev/full") as (program, backend, _):
        for _ in range(3):
            assert program.ask(f"{WEB}/x").status == 200
        lost = 'pyproxy_audit_events_lost_total{reason="file"} 3.0'
        wait_until(lambda: lost in program.admin("/metrics")[1])
        assert program.stderr.count("audit log not written") == 1
        assert "No space left" in program.admin("/readyz?verbose")[1]
        assert len(backend.seen) == 3


def test_tunnel_that_the_drain_resets_is_logged(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    flags = (f"--audit-log-path={log.file}", "--drain-timeout=100ms")
    with bastion(tmp_path / "rig", *flags) as (program, _, _):
        with program.dial() as connection:
            connection.sendall(request(f"{WEB}/ws", "Audit-ID: cut", *UPGRADE))
            read_until(connection, b"/ws -\n")
            program.send(signal.SIGTERM)
            program.wait()
        assert [event["stage"] for event in log.of("cut", 2)] == [
            "ResponseStarted",
            "ResponseComplete",
        ]


# Beside the original


@pytest.mark.cluster
def test_events_are_those_of_kube_apiserver(tmp_path: Path) -> None:
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    (tmp_path / "policy.yaml").write_text(json.dumps(POLICY))
    theirs, ours = Log(tmp_path / "theirs.log"), Log(tmp_path / "ours.log")
    flags = (
        f"--audit-policy-file={tmp_path / 'policy.yaml'}",
        f"--audit-log-path={theirs.file}",
    )
    with realcluster.RealCluster(tmp_path / "server", *flags) as cluster:
        pair = Authority(tmp_path).issue("pod", ["127.0.0.1"])
        with Backend(own_address(), pair) as backend:
            populate(cluster.call, backend)
            kubeconfig = tmp_path / "kubeconfig"
            write_kubeconfig(kubeconfig, cluster.url, cluster.ca, "admin-token")
            serving = (
                f"--tls-cert-file={tmp_path / 'server' / 'server.crt'}",
                f"--tls-private-key-file={tmp_path / 'server' / 'server.key'}",
                f"--audit-log-path={ours.file}",
            )
            with Bastion(tmp_path / "b", kubeconfig, cluster.ca, *serving) as program:
                program.ready()
                for number, (target, lines, more) in enumerate(CASES):
                    given = (*lines, f"Audit-ID: case-{number}")
                    for port in (cluster.port, program.port):
                        with dial(port, program.trust()) as connection:
                            ask(connection, target, *given, **more)
                    last = compared(theirs, f"case-{number}")
                    assert compared(ours, f"case-{number}") == last, target


CASES: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    (f"{WEB}/echo?a=1&token=2", ("User-Agent: x/1",), {}),
    (f"{WEB}/%2f//x", ("X-Forwarded-For: 1.2.3.4, x, 5.6.7.8",), {}),
    (f"{WEB}/echo", ("X-Real-Ip: 9.9.9.9",), {"method": "PUT"}),
    (f"{WEB}/status/404", (), {"method": "HEAD"}),
    (f"{WEB}/echo", (), {"method": "OPTIONS"}),
    (f"{WEB}/echo", (), {"token": "alice-token"}),
    (f"{WEB}/echo", (), {"token": "bob-token", "method": "DELETE"}),
    (f"{WEB}/echo", (), {"token": None}),
    (f"{WEB}/echo", (), {"token": "nobodys"}),
    (f"/api/v1/namespaces/{NAMESPACE}/pods/gone:80/proxy/", (), {}),
    (f"/api/v1/namespaces/{NAMESPACE}/pods/a:b:c:d/proxy/", (), {}),
    ("/api/v1/nodes/loop/proxy/metrics", (), {}),
    (f"{WEB}/echo", ("Impersonate-User: jane", "Impersonate-Group: devs"), {}),
]


def compared(log: Log, name: str) -> dict[str, Any]:
    """Return the last event of a request, without what differs at each.

    Of a request with a bad token kube-apiserver writes no ResponseComplete. By which
    rule one may impersonate, a beta of 1.36, we do not know.
    """
    wait_until(lambda: name in log.file.read_text(), 10.0, name)
    wait_until(
        lambda: any(
            event["auditID"] == name
            and (event["stage"] == "ResponseComplete" or event["user"] == {})
            for event in log.events()
        ),
        10.0,
        f"the last event of {name}",
    )
    event = [each for each in log.events() if each["auditID"] == name][-1]
    for varies in ("stage", "requestReceivedTimestamp", "stageTimestamp"):
        del event[varies]
    event.pop("authenticationMetadata", None)
    return event
