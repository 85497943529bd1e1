"""apiserver-proxy over real TLS, in front of the sandbox's apiserver.

Source of what is expected: the facts, B6, B9, B11, B12 and B15.
"""

import base64
import json
import re
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyproxy.sandbox.certificates import Authority, Pair
from tests.fakes.bastion import (
    DEAD_PORT,
    NAMESPACE,
    Backend,
    Bastion,
    Call,
    bastion,
    make_node,
    make_pod,
    make_service,
    own_address,
)
from tests.fakes.desk import Answer
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

SPACE = f"/api/v1/namespaces/{NAMESPACE}"
WEB = f"{SPACE}/services/web:odd/proxy"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@dataclass(frozen=True)
class Rig:
    """What the tests of this file share; they make objects of their own."""

    program: Bastion
    backend: Backend
    call: Call
    users: Authority
    fronts: Authority

    def ask(self, target: str, *lines: str, **more: Any) -> Answer:
        """Send a request."""
        return self.program.ask(target, *lines, **more)

    def echo(self, target: str, *lines: str, **more: Any) -> dict[str, Any]:
        """Return what the backend saw of a request."""
        answer = self.ask(target, *lines, **more)
        assert answer.status == 200, answer
        return dict(json.loads(answer.body))

    def metric(self, text: str) -> float:
        """Return the value of a line of the metrics."""
        found = re.search(
            rf"^{re.escape(text)} (\S+)$", self.program.admin("/metrics")[1], re.M
        )
        assert found is not None, text
        return float(found[1])


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests."""
    directory = tmp_path_factory.mktemp("bastion")
    (directory / "fronts").mkdir()
    fronts = Authority(directory / "fronts", "front proxies")
    flags = (
        f"--requestheader-client-ca-file={fronts.certificate}",
        "--requestheader-username-headers=X-Who",
        "--requestheader-username-headers=X-Remote-User",
    )
    (directory / "users").mkdir()
    users = Authority(directory / "users", "users")
    more = (*flags, f"--client-ca-file={users.certificate}")
    with bastion(directory / "rig", *more) as (program, backend, call):
        group = "rbac.authorization.k8s.io"
        rules = [
            {
                "apiGroups": [""],
                "resources": ["services/proxy", "services/unsafeproxy"],
                "resourceNames": ["web:odd"],
                "verbs": ["get"],
            },
            {
                "apiGroups": [""],
                "resources": ["nodes/proxy", "nodes/unsafeproxy"],
                "verbs": ["get"],
            },
        ]
        role = {"metadata": {"name": "reader"}, "rules": rules}
        call("POST", f"{RBAC}/clusterroles", role)
        subjects = [
            {"kind": "User", "apiGroup": group, "name": name}
            for name in ("alice", "jane")
        ]
        binding = {
            "metadata": {"name": "readers"},
            "subjects": subjects,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reader"},
        }
        call("POST", f"{RBAC}/clusterrolebindings", binding)
        yield Rig(program, backend, call, users, fronts)


def message(answer: Answer) -> str:
    return str(json.loads(answer.body)["message"])


# May they


def test_right_holds_for_one_spelling_of_an_id_and_one_verb(rig: Rig) -> None:
    assert rig.ask(f"{WEB}/echo", token="alice-token").status == 200
    for target, method in (
        (f"{WEB}/echo", "POST"),
        (f"{WEB}/echo", "OPTIONS"),
        (f"{SPACE}/services/http:web:odd/proxy/echo", "GET"),
        (f"{SPACE}/services/web:9999/proxy/echo", "GET"),
        (f"{SPACE}/pods/web-0/proxy/echo", "GET"),
    ):
        answer = rig.ask(target, token="alice-token", method=method)
        assert answer.status == 403, (target, method)


def test_user_without_rights_learns_nothing_of_what_exists(rig: Rig) -> None:
    names = ("web:odd", "gone", "a:b:c:d")
    answers = [
        rig.ask(f"{SPACE}/services/{name}/proxy/", token="bob-token") for name in names
    ]
    said = {
        message(answer).replace(name, "…")
        for name, answer in zip(names, answers, strict=True)
    }
    assert len(said) == 1
    assert {answer.status for answer in answers} == {403}


def test_remembered_verdict_costs_no_question(rig: Rig) -> None:
    target = f"{WEB}/remembered"
    rig.ask(target)
    asked = rig.metric('pyproxy_verdicts_total{outcome="asked"}')
    for _ in range(5):
        assert rig.ask(f"{target}?any=query").status == 200
    assert rig.metric('pyproxy_verdicts_total{outcome="asked"}') == asked


def test_get_that_upgrades_to_a_command_on_a_node_takes_create(rig: Rig) -> None:
    # Kubernetes issue 136550: a WebSocket begins with a GET.
    node = f"/api/v1/nodes/n1:{rig.backend.port}/proxy"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    assert rig.ask(f"{node}/exec/x", token="alice-token").status == 200
    for path in ("exec/ns/pod/c", "run/x", "attach/x", "portForward/x", "%65xec/x"):
        for lead in ("", "/", "a/../"):
            target = f"{node}/{lead}{path}"
            answer = rig.ask(target, *upgrade, token="alice-token")
            assert answer.status == 403, target
            assert "cannot create resource" in message(answer)
    with rig.program.dial() as connection:
        connection.sendall(_head(f"{node}/ws", *upgrade, token="alice-token"))
        assert connection.recv(12) == b"HTTP/1.1 101"


def _head(target: str, *lines: str, token: str = "admin-token") -> bytes:
    every = [f"GET {target} HTTP/1.1", "Host: h", *lines]
    if token:
        every.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*every, "", ""]).encode()


# Who are you


def issued(authority: Authority, name: str, *groups: str) -> Pair:
    return authority.issue(name, [], groups=groups)


def test_certificate_says_who_a_client_is(rig: Rig) -> None:
    jane = issued(rig.users, "jane")
    assert rig.ask(f"{WEB}/echo", token=None, pair=jane).status == 200
    other = issued(rig.users, "mallory")
    answer = rig.ask(f"{WEB}/echo", token=None, pair=other)
    assert answer.status == 403
    assert 'User "mallory"' in message(answer)


def test_group_of_a_certificate_counts(rig: Rig) -> None:
    root = issued(rig.users, "root", "system:masters")
    assert rig.ask(f"{WEB}/echo", token=None, method="POST", pair=root).status == 200


def test_authority_of_front_proxies_makes_no_users(rig: Rig) -> None:
    root = issued(rig.fronts, "root", "system:masters")
    answer = rig.ask(f"{WEB}/echo", token=None, pair=root)
    assert 'User "system:anonymous"' in message(answer)


def test_front_proxy_says_whose_request_it_is(rig: Rig) -> None:
    front = issued(rig.fronts, "front")
    seen = rig.echo(
        f"{WEB}/echo", "X-Remote-User: alice", "X-Foo: 1", token=None, pair=front
    )
    assert ["x-foo", "1"] in seen["headers"]
    answer = rig.ask(f"{WEB}/echo", "X-Who: bob", token=None, pair=front)
    assert 'User "bob"' in message(answer)


def test_authority_of_users_makes_no_front_proxies(rig: Rig) -> None:
    mallory = issued(rig.users, "mallory2")
    headers = ("X-Remote-User: alice", "X-Remote-Group: system:masters")
    answer = rig.ask(f"{WEB}/echo", *headers, token=None, pair=mallory)
    assert 'User "mallory2"' in message(answer)


def test_impersonation_takes_the_right_to_it(rig: Rig) -> None:
    as_bob = "Impersonate-User: bob"
    answer = rig.ask(f"{WEB}/echo", as_bob, token="alice-token")
    assert answer.status == 403
    assert 'User "alice" cannot impersonate resource "users"' in message(answer)
    answer = rig.ask(f"{WEB}/echo", as_bob)
    assert 'User "bob" cannot get resource' in message(answer)
    assert rig.ask(f"{WEB}/echo", "Impersonate-User: alice").status == 200
    assert rig.ask(f"{WEB}/echo", "Impersonate-Group: x").status == 400


def test_nothing_that_proves_identity_reaches_the_backend(rig: Rig) -> None:
    seen = rig.echo(
        f"{WEB}/identity",
        *("X-Who: root", "X-Remote-User: root", "X-Remote-Group: system:masters"),
        *("X-Remote-Uid: 0", "X-Remote-Extra-Foo: 1", "Impersonate-Extra-Foo: 1"),
        *("Cookie: a=b", "X-Kept: 1", "X-Remote: kept"),
    )
    names = {name for name, _ in seen["headers"]}
    assert {"cookie", "x-kept", "x-remote"} <= names
    assert not names & {"x-who", "authorization"}
    assert not [n for n in names if n.startswith(("x-remote-", "impersonate-"))]


def test_connection_cannot_drop_what_we_add(rig: Rig) -> None:
    drop = "Connection: X-Forwarded-For, X-Forwarded-Prefix, X-Forwarded-Uri"
    seen = dict(rig.echo(f"{WEB}/drop", drop)["headers"])
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-prefix"] == WEB
    assert seen["x-forwarded-uri"] == f"{WEB}/drop"


# Upgrades


def test_token_among_subprotocols_is_taken_and_taken_out(rig: Rig) -> None:
    word = base64.urlsafe_b64encode(b"admin-token").decode().rstrip("=")
    token = f"base64url.bearer.authorization.k8s.io.{word}"
    with rig.program.dial() as connection:
        connection.sendall(
            _head(
                f"{WEB}/ws?q=1%2F2",
                *("Connection: Upgrade", "Upgrade: websocket"),
                f"Sec-WebSocket-Protocol: {token}, chat",
                token="",
            )
        )
        said = _read_until(connection, b" chat\n")
        connection.sendall(b"hello\n")
        assert _read_until(connection, b"\n") == b"HELLO\n"
    assert said.startswith(b"HTTP/1.1 101")
    assert said.endswith(b"/ws?q=1%2F2 chat\n")  # the query is kept, the token is not


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        chunk = connection.recv(65536)
        assert chunk, read
        read += chunk
    return read


def test_refused_upgrade_leaves_no_tunnel(rig: Rig) -> None:
    # CVE-2018-1002105.
    with rig.program.dial() as connection:
        head = _head(f"{WEB}/refuse", "Connection: Upgrade", "Upgrade: websocket")
        connection.sendall(head + _head(f"{WEB}/smuggled"))
        said = _read_to_end(connection)
    assert said.startswith(b"HTTP/1.1 403")
    assert said.count(b"HTTP/1.1") == 1
    assert "/smuggled" not in rig.backend.seen


def _read_to_end(connection: socket.socket) -> bytes:
    read = b""
    while chunk := connection.recv(65536):
        read += chunk
    return read


def test_h2c_is_not_tunnelled(rig: Rig) -> None:
    answer = rig.ask(f"{WEB}/ws", "Connection: Upgrade", "Upgrade: h2c")
    assert answer.status == 200  # an ordinary request
    assert "upgrade" not in dict(json.loads(answer.body)["headers"])


# Paths


def test_escapes_in_a_path_make_no_header(rig: Rig) -> None:
    answer = rig.ask(f"{SPACE}/services/web:odd%0d%0aX-Evil:1/proxy")
    assert answer.status == 400
    assert answer.get("x-evil") is None
    answer = rig.ask(f"{WEB}?a=%0d%0aX-Evil:1")
    assert answer.get("location") == f"{WEB}/?a=%0d%0aX-Evil:1"


def test_message_holds_no_tag(rig: Rig) -> None:
    answer = rig.ask(f"{SPACE}/services/%3Cscript%3E:a:b:c/proxy/")
    assert b"<script>" not in answer.body
    answer = rig.ask(f"{SPACE}/pods/%3Cscript%3E/proxy/", token="bob-token")
    assert b"<script>" not in answer.body
    assert answer.get("x-content-type-options") == "nosniff"


def test_other_paths_go_to_the_apiserver_as_they_came(rig: Rig) -> None:
    answer = rig.ask(f"{SPACE}/services?limit=1", token="bob-token")
    assert json.loads(answer.body)["kind"] == "ServiceList"
    assert rig.ask("/version", token="nope").status == 401
    forged = ("X-Remote-User: root", "X-Remote-Group: system:masters")
    answer = rig.ask("/api/v1/secrets", *forged, token="alice-token")
    assert 'User \\"alice\\"' in answer.body.decode()


def test_user_with_a_certificate_is_told_why_the_apiserver_is_not_reached(
    rig: Rig,
) -> None:
    answer = rig.ask("/version", pair=issued(rig.users, "jane3"))
    assert answer.status == 403
    assert "--proxy-client-cert-file" in message(answer)


# Where to


def test_objects_are_followed(rig: Rig) -> None:
    target = f"{SPACE}/services/late/proxy/x"
    assert rig.ask(target).status == 404
    make_pod(rig.call, "late-0", rig.backend.host, [])
    make_service(
        rig.call, "late", [("", 80, rig.backend.port)], "late-0", rig.backend.host
    )
    wait_until(lambda: rig.ask(target).status == 200, 10.0, "the new Service")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    merge = "application/merge-patch+json"
    rig.call("PATCH", f"{slices}/late-1", {"endpoints": []}, merge)
    wait_until(lambda: rig.ask(target).status == 503, 10.0, "no endpoints")
    pod = f"{SPACE}/pods/late-0:{rig.backend.port}/proxy/x"
    assert rig.ask(pod).status == 200
    rig.call("DELETE", f"{SPACE}/pods/late-0")
    wait_until(lambda: rig.ask(pod).status == 404, 10.0, "the Pod is gone")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0"])
def test_node_at_an_address_of_this_machine_is_never_dialled(
    rig: Rig, address: str
) -> None:
    name = "bad-" + re.sub(r"[.:]+", "-", address).strip("-")
    make_node(rig.call, name, address, rig.backend.port)
    wait_until(
        lambda: rig.ask(f"/api/v1/nodes/{name}/proxy/").status != 404, 10.0, name
    )
    for port in ("", ":10250", f":{rig.backend.port}"):
        answer = rig.ask(f"/api/v1/nodes/{name}{port}/proxy/")
        assert (answer.status, message(answer)) == (400, "address not allowed")


def test_endpoint_that_does_not_answer_is_replaced(rig: Rig) -> None:
    host = rig.backend.host
    make_pod(rig.call, "half-0", host, [])
    make_service(rig.call, "half", [("", 80, DEAD_PORT)], "half-0", host)
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    one = rig.call("GET", f"{slices}/half-1")
    other = {name: one[name] for name in ("addressType", "endpoints")}
    other["metadata"] = {"name": "half-2", "labels": one["metadata"]["labels"]}
    other["ports"] = [{**one["ports"][0], "port": rig.backend.port}]
    target = f"{SPACE}/services/half/proxy/x"
    wait_until(lambda: rig.ask(target).status == 503, 10.0, "the Service")
    rig.call("POST", slices, other)
    wait_until(lambda: rig.ask(target).status == 200, 10.0, "the second slice")
    assert {rig.ask(target).status for _ in range(20)} == {200}


# Life


def test_admin_address_shows_health_and_no_path(rig: Rig) -> None:
    rig.ask(f"{WEB}/very-secret-path")
    assert rig.program.admin("/readyz?verbose")[1].startswith("[+]ping ok")
    text = rig.program.admin("/metrics")[1]
    assert "very-secret-path" not in text
    assert 'pyproxy_build_info{mode="apiserver-proxy"' in text
    assert "pyproxy_http_requests_total" in text


def test_log_holds_no_token(rig: Rig) -> None:
    rig.ask(f"{WEB}/echo", token="a-token-that-nobody-has")
    assert "a-token-that-nobody-has" not in rig.program.stderr
    assert "admin-token" not in rig.program.stderr


def test_apiserver_that_is_away_means_503_and_never_yes(tmp_path: Path) -> None:
    directory = tmp_path / "away"
    with bastion(directory, "--authentication-token-webhook-cache-ttl=0s") as rig:
        program, _, _ = rig
        assert program.ask(f"{WEB}/a").status == 200
        # Another one that refuses connections stands for it.
        kubeconfig = directory / "kubeconfig"
        text = kubeconfig.read_text()
        kubeconfig.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text))
        wait_until(
            lambda: program.ask(f"{WEB}/b").status == 503, 20.0, "the apiserver is away"
        )
        answer = program.ask(f"{WEB}/b")
        assert message(answer) == "there is no answer to the question who you are"


def test_certificate_is_read_again_when_it_changes(tmp_path: Path) -> None:
    with bastion(tmp_path / "rotated") as (program, _, _):
        directory = tmp_path / "rotated"
        before = _shown(program)
        Authority(directory / "..").issue("unused", [])
        issuer_file = directory / "ca.crt"
        assert issuer_file.exists()
        fresh = Authority(tmp_path)
        pair = fresh.issue("fresh", ["127.0.0.1"])
        for name, source in (
            ("server.key", pair.key),
            ("server.crt", pair.certificate),
        ):
            (directory / name).write_bytes(source.read_bytes())
        wait_until(lambda: _shown(program) != before, 15.0, "the new certificate")


def _shown(program: Bastion) -> bytes | None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", program.port)) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True)


def test_signal_ends_it_in_order(tmp_path: Path) -> None:
    with bastion(tmp_path / "ended", "--drain-timeout=1s") as (program, _, _):
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.stderr
