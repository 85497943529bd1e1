"""What has hurt other proxies, tried on apiserver-proxy over real TLS.

Source: the facts, B12 and B15; what is not here is in the other files of its name.
"""

import functools
import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from pyproxy.sandbox.certificates import Authority
from tests.fakes.bastion import Backend, Bastion, ask, bastion, own_address
from tests.fakes.bastion_cluster import MERGE, NAMESPACE, make_pod, make_service
from tests.support.bastion_rig import (
    SPACE,
    WEB,
    Rig,
    bastion_rig,
    message,
    read_until,
    request,
)
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.adversity,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests."""
    with bastion_rig(tmp_path_factory.mktemp("bastion")) as made:
        yield made


# Addresses


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A server at the address of loopback, which must never be reached."""
    directory = tmp_path_factory.mktemp("here")
    pair = Authority(directory).issue("here", ["127.0.0.1"])
    with Backend("127.0.0.1", pair) as backend:
        yield backend


REFUSED = {
    "loopback": "127.0.0.1",
    "all of loopback": "127.8.9.10",
    "loopback of IPv6": "::1",
    "any": "0.0.0.0",
    "mapped loopback": "::ffff:127.0.0.1",
    "link": "169.254.169.254",
    "link of IPv6": "fe80::1",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
}


@pytest.mark.parametrize("name", REFUSED)
def test_pod_and_endpoint_at_an_address_that_is_none_of_a_pod_are_not_dialled(
    rig: Rig, here: Backend, name: str
) -> None:
    # Kubernetes issues 8989, 10349, 71980; metadata services of clouds.
    pod = "bad-" + name.replace(" ", "-").lower()
    make_pod(rig.call, pod, REFUSED[name], [])
    try:
        make_service(rig.call, pod, [("", 80, here.port)], pod, REFUSED[name])
    except HTTPError as error:  # an apiserver that looks takes no such slice
        error.close()
        if error.code != 422:
            raise
    target = f"{SPACE}/pods/{pod}:{here.port}/proxy/x"
    wait_until(lambda: rig.ask(target).status != 404, 10.0, "the Pod")
    answer = rig.ask(target)
    assert (answer.status, message(answer)) == (400, "address not allowed")
    service = f"{SPACE}/services/{pod}/proxy/x"
    wait_until(lambda: rig.ask(service).status != 404, 10.0, "the Service")
    assert rig.ask(service).status == 503
    assert here.seen == []


def test_our_own_listener_is_never_a_target(tmp_path: Path) -> None:
    # Allowed or not: a request must not come round.
    flags = ("--allow-address=127.0.0.0/8",)
    with bastion(tmp_path / "rig", *flags) as (program, _, call):
        make_pod(call, "self", "127.0.0.1", [])
        target = f"{SPACE}/pods/https:self:{program.port}/proxy{SPACE}/pods"
        wait_until(lambda: program.ask(target).status != 404, 10.0, "the Pod")
        answer = program.ask(target)
        assert (answer.status, message(answer)) == (400, "address not allowed")


@functools.cache
def obstacle_to_names() -> str:
    """Why a program cannot be given names of our own, or nothing."""
    command = ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    if shutil.which("unshare") is None:
        return "names of our own need unshare (util-linux)"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no mounts of our own here: {done.stderr}" if done.returncode else ""


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the bastion another /etc/hosts, which a test writes."""
    if why := obstacle_to_names():
        pytest.skip(why)
    hosts = tmp_path / "hosts"
    hosts.touch()
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    wrapper = ("unshare", "--mount", "sh", "-c", script, str(hosts))
    monkeypatch.setattr(Bastion, "launcher", (*wrapper, *Bastion.launcher))
    return hosts


def test_node_whose_name_turns_to_loopback_is_dialled_where_it_was_vetted(
    names: Path, here: Backend, tmp_path: Path
) -> None:
    # CVE-2020-8562, which is open in every release of Kubernetes: a name is looked up
    # for the check, and once more for the dial.
    names.write_text(f"{own_address()} turning.example\n")
    with bastion(tmp_path / "rig") as (program, backend, call):
        for node in ("turning", "twofaced"):
            call("POST", "/api/v1/nodes", {"metadata": {"name": node}})
            address = {"type": "Hostname", "address": f"{node}.example"}
            status = {"status": {"addresses": [address]}}
            call("PATCH", f"/api/v1/nodes/{node}/status", status, MERGE)
        good = f"/api/v1/nodes/turning:{backend.port}/proxy/x"
        wait_until(lambda: program.ask(good).status == 200, 10.0, "the node")
        lines = [f"{host} turning.example" for host in ("127.0.0.1", "::1")]
        lines += [f"{host} twofaced.example" for host in (own_address(), "127.0.0.1")]
        names.write_text("\n".join([*lines, ""]))
        bad = f"/api/v1/nodes/turning:{here.port}/proxy/x"
        # Its port is tried at the address of before; the loopback's is never.
        assert {program.ask(good).status for _ in range(10)} <= {200, 400}
        assert {program.ask(bad).status for _ in range(10)} <= {503, 400}
        both = f"/api/v1/nodes/twofaced:{here.port}/proxy/x"
        answer = program.ask(both)
        assert (answer.status, message(answer)) == (400, "address not allowed")
        assert here.seen == []


# What is written into heads


@pytest.mark.parametrize(
    "rest",
    [
        "a%0d%0aX-Evil:%201",
        "a%0aX-Evil:%201/b",
        "%0d%0a%0d%0aGET%20/evil%20HTTP/1.1",
        "a%00b",
        "%3Cscript%3E",
        "a%2F..%2Fb",
        "a;b=c",
        "a?x=%0d%0aX-Evil:%201",
        "a?b=1;c=2&d=%zz&&e",
    ],
)
def test_escapes_stay_escaped_all_the_way(rig: Rig, rest: str) -> None:
    seen = rig.echo(f"{WEB}/{rest}")
    assert seen["path"] == f"/{rest}"  # byte for byte
    headers = dict(seen["headers"])
    assert "x-evil" not in headers
    assert headers["x-forwarded-uri"] == f"{WEB}/{rest}".partition("?")[0]


@pytest.mark.parametrize(
    "host", ['evil"><script>', "a,b", "h/../x", "user@h", "h:port", "h h", ""]
)
def test_host_that_is_none_is_passed_on_in_no_header_of_ours(
    rig: Rig, host: str
) -> None:
    with rig.program.dial() as connection:
        answer = ask(connection, f"{WEB}/echo", host=host)
    if answer.status == 200:
        seen = dict(json.loads(answer.body)["headers"])
        assert "x-forwarded-host" not in seen
    else:
        assert answer.status == 400


@pytest.mark.parametrize(
    "target",
    [
        f"{WEB}/../../single/proxy/x",
        f"{WEB}/%2e%2e/%2e%2e/single/proxy/x",
        f"{WEB}/..%2f..%2fsingle/proxy/x",
    ],
)
def test_dots_lead_to_no_other_object(rig: Rig, target: str) -> None:
    # alice may read `web:odd` alone: whatever follows stays below that.
    answer = rig.ask(target, token="alice-token")
    assert answer.status == 200
    assert dict(json.loads(answer.body)["headers"])["x-forwarded-prefix"] == WEB


@pytest.mark.parametrize(
    "target",
    [
        f"{SPACE}/services/./web:odd/proxy/x",
        f"{SPACE}/services/x/../web:odd/proxy/x",
        f"{SPACE}/./services/web:odd/proxy/x",
        f"{SPACE}//services/web:odd/proxy/x",
        f"/{SPACE}/services/web:odd/proxy/x",
        "/api/v1/namespaces/e2e/../kube-system/services/web:odd/proxy/x",
        f"{SPACE}/services/web:odd/proxy%2fx",
        f"{SPACE}/services/web:odd/PROXY/x",
        f"{SPACE}/services/web:odd/proxy;/x",
    ],
)
def test_other_spelling_of_a_proxy_url_reaches_no_backend(
    rig: Rig, target: str
) -> None:
    before = len(rig.backend.seen)
    for token in ("alice-token", "bob-token"):
        assert rig.ask(target, token=token).status in (400, 403, 404)
    assert len(rig.backend.seen) == before


def test_path_in_absolute_form_is_authorized_as_what_it_is(rig: Rig) -> None:
    for host in ("bastion.example:8443", "evil.example"):
        answer = rig.ask(f"https://{host}{SPACE}/pods/web-0/proxy/x", token="bob-token")
        assert answer.status in (400, 403)


# What is said, and to whom


def test_log_at_its_most_talkative_holds_no_secret(tmp_path: Path) -> None:
    # CVE-2019-11250, CVE-2020-8565.
    with bastion(tmp_path / "rig", "--log-level=debug") as (program, _, _):
        for lines in (
            ("Cookie: session=cookie-secret",),
            ("X-Api-Key: key-secret",),
            ("Connection: Upgrade", "Upgrade: websocket", *_subprotocols()),
        ):
            with program.dial() as connection:
                token = "" if len(lines) > 1 else "forged-secret"
                connection.sendall(
                    request(f"{WEB}/ws?q=query-secret", *lines, token=token)
                )
                connection.recv(65536)
        program.ask(f"{WEB}/x?q=query-secret", "Cookie: session=cookie-secret")
        program.ask("/api/v1/secrets?q=query-secret")
        said = program.stdout + program.stderr
    for secret in ("cookie-", "key-", "forged-", "query-", "admin-token", "YWRtaW4"):
        assert secret not in said
    assert '"level"' in said  # it does talk


def _subprotocols() -> tuple[str]:
    word = "base64url.bearer.authorization.k8s.io.YWRtaW4tdG9rZW4"  # admin-token
    return (f"Sec-WebSocket-Protocol: {word}, chat",)


def test_number_of_series_depends_on_no_client(rig: Rig) -> None:
    # CVE-2020-8552.
    def series() -> int:
        text = rig.program.admin("/metrics")[1]
        return len([line for line in text.splitlines() if line[:1] not in ("", "#")])

    def many(first: int) -> None:
        with rig.program.dial() as connection:
            for number in range(first, first + 300):
                method = "GET" if number % 3 else f"X{number}"
                lines = (f"User-Agent: agent/{number}", f"X-{number}: 1")
                target = f"{SPACE}/services/s{number}/proxy/p{number}"
                connection.sendall(
                    f"{method} {target} HTTP/1.1\r\nHost: h{number}\r\n".encode()
                    + "".join(f"{line}\r\n" for line in lines).encode()
                    + f"Authorization: Bearer t{number}\r\n\r\n".encode()
                )
                _one_answer(connection)

    many(0)  # of each kind there has been one
    before = series()
    many(1000)
    assert series() == before
    assert not re.search(
        r"agent/|services/s|\bp1\d{3}\b", rig.program.admin("/metrics")[1]
    )


def _one_answer(connection: socket.socket) -> None:
    said = b""
    while b"\r\n\r\n" not in said:
        said += (part := connection.recv(65536))
        assert part
    head, _, body = said.partition(b"\r\n\r\n")
    size = re.search(rb"(?i)content-length: (\d+)", head)
    assert size is not None
    while len(body) < int(size[1]):
        body += connection.recv(65536)


# Protocols


def test_http_2_is_not_spoken_so_that_no_flood_of_it_can_come(rig: Rig) -> None:
    # CVE-2023-44487, CVE-2019-9512 and its kin.
    context = rig.program.trust()
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", rig.program.port), scaled(10.0))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        assert connection.selected_alpn_protocol() != "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) * 1000)
        said = b""
        try:
            said = read_until(connection, b"")
        except (ConnectionError, ssl.SSLError) as error:
            # What it had not read makes its close a reset.
            logger.info("ended", extra={"why": str(error)})
        assert said[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 505", b"")
    assert rig.ask(f"{WEB}/x").status == 200


@pytest.mark.parametrize("token", ["h2c", "H2C", "TLS/1.0", "custom", "websocket, h2c"])
def test_protocol_that_is_not_on_the_list_gets_no_tunnel(rig: Rig, token: str) -> None:
    # Kubernetes issue 72112.
    upgrade = ("Connection: Upgrade", f"Upgrade: {token}")
    with rig.program.dial() as connection:
        connection.sendall(request(f"{WEB}/ws", *upgrade) + request(f"{WEB}/second"))
        said = connection.recv(65536)
    assert not said.startswith(b"HTTP/1.1 101")


def test_legacy_prefixes_lead_nowhere(rig: Rig) -> None:
    # B14: no redirect that would show a backend's address.
    for verb in ("proxy", "redirect"):
        for what in (f"namespaces/{NAMESPACE}/services/web:odd", "nodes/n1"):
            answer = rig.ask(f"/api/v1/{verb}/{what}/x")
            assert answer.status in (403, 404)
            assert answer.get("location") is None
