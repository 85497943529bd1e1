"""apiserver-proxy over real TLS: upgrades, paths, targets, and its life.

Source of what is expected: the facts, B4, B9, B12 and B15.
"""

import base64
import json
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyproxy.model import format_address
from pyproxy.sandbox.certificates import Authority
from tests.fakes.bastion import PAGE, Backend, Bastion, ask, bastion, dial, own_address
from tests.fakes.bastion_cluster import (
    DEAD_PORT,
    NAMESPACE,
    make_node,
    make_pod,
    make_service,
)
from tests.support.bastion_rig import (
    SPACE,
    WEB,
    Rig,
    bastion_rig,
    issued,
    message,
    read_until,
    request,
)
from tests.support.servers import has_ipv6
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests."""
    with bastion_rig(tmp_path_factory.mktemp("bastion")) as made:
        yield made


# Upgrades


def test_token_among_subprotocols_is_taken_and_taken_out(rig: Rig) -> None:
    word = base64.urlsafe_b64encode(b"admin-token").decode().rstrip("=")
    token = f"base64url.bearer.authorization.k8s.io.{word}"
    with rig.program.dial() as connection:
        connection.sendall(
            request(
                f"{WEB}/ws?q=1%2F2",
                *("Connection: Upgrade", "Upgrade: websocket"),
                f"Sec-WebSocket-Protocol: {token}, chat",
                token="",
            )
        )
        said = read_until(connection, b" chat\n")
        connection.sendall(b"hello\n")
        assert read_until(connection, b"\n") == b"HELLO\n"
    assert said.startswith(b"HTTP/1.1 101")
    assert said.endswith(b"/ws?q=1%2F2 chat\n")  # the query is kept, the token is not


def test_refused_upgrade_leaves_no_tunnel(rig: Rig) -> None:
    # CVE-2018-1002105.
    with rig.program.dial() as connection:
        head = request(f"{WEB}/refuse", "Connection: Upgrade", "Upgrade: websocket")
        connection.sendall(head + request(f"{WEB}/smuggled"))
        said = read_until(connection, b"")
    assert said.startswith(b"HTTP/1.1 403")
    assert said.count(b"HTTP/1.1") == 1
    assert "/smuggled" not in rig.backend.seen


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


def test_endpoint_that_goes_under_load_costs_no_request(
    rig: Rig, tmp_path: Path
) -> None:
    host = rig.backend.host
    pair = Authority(tmp_path).issue("pod", [host])
    make_pod(rig.call, "pair-0", host, [])
    make_service(rig.call, "pair", [("", 80, rig.backend.port)], "pair-0", host)
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    one = rig.call("GET", f"{slices}/pair-1")
    other = {name: one[name] for name in ("addressType", "endpoints")}
    other["metadata"] = {"name": "pair-2", "labels": one["metadata"]["labels"]}
    target = f"{SPACE}/services/pair/proxy/x"

    def many(number: int) -> set[int]:
        return {rig.ask(target).status for _ in range(number)}

    with Backend(host, pair) as second, ThreadPoolExecutor(4) as pool:
        other["ports"] = [{**one["ports"][0], "port": second.port}]
        rig.call("POST", slices, other)
        wait_until(lambda: rig.ask(target) and second.seen, 10.0, "both serve")
        asked = [pool.submit(many, 100) for _ in range(4)]
        wait_until(lambda: len(second.seen) > 20, 10.0, "under way")
        merge = "application/merge-patch+json"
        rig.call("PATCH", f"{slices}/pair-2", {"endpoints": []}, merge)
        wait_until(lambda: _backends(rig, "pair") == 1, 10.0, "one is left")
        assert [each.result() for each in asked] == [{200}] * 4


def _backends(rig: Rig, service: str) -> int:
    table = json.loads(rig.program.admin("/debug/table")[1])
    name = f"services {NAMESPACE}/{service}"
    return next(len(p["backends"]) for p in table["pools"] if p["name"] == name)


@pytest.mark.parametrize("is_trusted", [True, False], ids=["ours", "other"])
def test_kubelet_is_verified_by_its_authority(
    tmp_path: Path, *, is_trusted: bool
) -> None:
    directory = tmp_path / "rig"
    other = Authority(tmp_path).certificate
    trusted = tmp_path / "kubelets.crt"
    trusted.write_bytes(other.read_bytes())
    flag = f"--kubelet-certificate-authority={trusted}"
    with bastion(directory, flag) as (program, backend, call):
        if is_trusted:
            # Read again, as any of our files.
            trusted.write_bytes((directory / "ca.crt").read_bytes())
            text = "certificates reloaded"
            wait_until(lambda: text in program.stderr, 10.0, text)
        make_node(call, "k1", backend.host, backend.tls_port)
        target = "/api/v1/nodes/k1/proxy/metrics"
        wait_until(lambda: program.ask(target).status != 404, 10.0, "the node")
        answer = program.ask(target)
        if is_trusted:
            assert json.loads(answer.body)["path"] == "/metrics"
        else:
            assert answer.status == 503
            assert message(answer).startswith("error trying to reach service: ")
            assert "certificate" in message(answer)
            assert "/metrics" not in backend.seen


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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", program.port)) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True)


def test_page_leads_back_through_the_proxy_or_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{}\n")
    mapped = PAGE.replace(b'"/', f'"{WEB}/'.encode())
    with bastion(tmp_path / "rig", f"--config={file}") as (program, _, _):
        assert program.ask(f"{WEB}/html", "Accept-Encoding: br").body == mapped
        assert program.ask(f"{WEB}/html-404").body == mapped
        assert (
            'pyproxy_html_pages_total{outcome="rewritten"} 2.0'
            in (program.admin("/metrics")[1])
        )
        # A link in it leads to where it should.
        assert program.ask(f"{WEB}/rewriteme").status == 200
        file.write_text("rewriteHtml: false\n")
        program.send(signal.SIGHUP)
        wait_until(lambda: program.ask(f"{WEB}/html").body == PAGE, 10.0, "as it came")


def test_reload_takes_other_settings(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("anonymousAuth: true\n")
    with bastion(tmp_path / "rig", f"--config={file}") as (program, _, _):
        assert program.ask(f"{WEB}/x", token=None).status == 403
        file.write_text("anonymousAuth: false\n")
        program.send(signal.SIGHUP)
        wait_until(
            lambda: program.ask(f"{WEB}/x", token=None).status == 401, 10.0, "401"
        )
        assert program.ask(f"{WEB}/x").status == 200
        file.write_text("anonymousAuth: maybe\n")
        program.send(signal.SIGHUP)
        wait_until(lambda: "reload refused" in program.stderr, 10.0, "a complaint")
        assert program.ask(f"{WEB}/x", token=None).status == 401


def test_socket_that_systemd_opened_is_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        flag = f"--secure-port={port}"
        with bastion(tmp_path / "rig", flag, given=[listener]) as (program, _, _):
            assert program.port == port
            assert program.ask(f"{WEB}/x").status == 200


def answered(program: Bastion, host: str) -> int:
    """Return the status of an answer by way of an address."""
    with dial(program.port, program.trust(), host=host) as connection:
        return ask(connection, f"{WEB}/x").status


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("every", ["0.0.0.0", "::"])
def test_every_address_is_one_of_both_families(tmp_path: Path, every: str) -> None:
    with bastion(tmp_path / "rig", f"--bind-address={every}") as (program, _, _):
        shown = program.stdout.splitlines()[0].removeprefix("Starting to serve on ")
        assert shown == format_address(every, program.port)
        assert answered(program, "::1") == answered(program, "127.0.0.1") == 200
        assert len(program.stdout.splitlines()) == 1


def test_family_of_a_given_socket_is_all_there_is(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        flags = (
            f"--secure-port={listener.getsockname()[1]}",
            "--bind-address=0.0.0.0",
        )
        with bastion(tmp_path / "rig", *flags, given=[listener]) as (program, _, _):
            assert answered(program, "127.0.0.1") == 200
            with pytest.raises(ConnectionRefusedError):
                answered(program, "::1")


def test_signal_ends_it_in_order(tmp_path: Path) -> None:
    with bastion(tmp_path / "ended", "--drain-timeout=1s") as (program, _, _):
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.stderr
