"""Virtual hosts of apiserver-proxy, over real TLS."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.bastion import own_address
from tests.fakes.bastion_cluster import NAMESPACE
from tests.support.bastion_rig import (
    WEB,
    Rig,
    bastion_rig,
    issued,
    message,
    read_until,
    request,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

END = f"{NAMESPACE}.svc.localhost"
HOST = f"web--odd.{END}"
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests."""
    directory = tmp_path_factory.mktemp("bastion")
    flags = (
        *("--virtual-host-suffix=example.org", "--virtual-host-suffix=*.Localhost"),
        "--pass-authorization-header=X-Pyproxy-Authorization",
    )
    with bastion_rig(directory, *flags) as made:
        yield made


def headers(seen: dict[str, Any]) -> dict[str, str]:
    """What the backend saw, by lower-case name."""
    return dict(seen["headers"])


@pytest.mark.parametrize(
    "target", ["/", "/a//b/../%2F%zz?x=1&y=%20", "/api/v1/namespaces", f"{WEB}/x"]
)
def test_path_and_host_arrive_as_they_came(rig: Rig, target: str) -> None:
    seen = rig.echo(target, host=f"{HOST}:8443")
    assert seen["path"] == target
    found = headers(seen)
    assert found["host"] == found["x-forwarded-host"] == f"{HOST}:8443"
    assert found["x-forwarded-proto"] == "https"
    assert "authorization" not in found
    assert not {"x-forwarded-prefix", "x-forwarded-uri"} & set(found)


def test_what_only_we_may_say_is_taken_out(rig: Rig) -> None:
    lines = ("X-Forwarded-Prefix: /x", "X-Remote-User: root", "Impersonate-User: jane")
    found = headers(rig.echo("/", *lines, host=HOST))
    forged = {"x-forwarded-prefix", "x-remote-user", "impersonate-user"}
    assert not forged & set(found)


def test_right_is_that_of_the_proxy_url_by_method_and_spelling(rig: Rig) -> None:
    assert rig.ask("/x", host=HOST, token="alice-token").status == 200
    for host, method in (
        (HOST, "POST"),
        (f"http--web--odd.{END}", "GET"),
        (f"web.{END}", "GET"),
    ):
        answer = rig.ask("/x", host=host, method=method, token="alice-token")
        assert answer.status == 403, (host, method)
    said = message(rig.ask("/x", host=f"https--web--tls.{END}", token="alice-token"))
    assert said.startswith('services "https:web:tls" is forbidden')


def test_verdict_of_one_host_is_not_that_of_another(rig: Rig) -> None:
    def asked() -> float:
        return rig.metric('pyproxy_verdicts_total{outcome="asked"}')

    assert rig.ask("/1", host=HOST, token="alice-token").status == 200
    before = asked()
    for path in ("/2", "/3?q", WEB):
        assert rig.ask(path, host=HOST, token="alice-token").status == 200
    assert asked() == before  # all paths of a host share it
    assert rig.ask("/1", host=f"web.{END}", token="alice-token").status == 403
    assert rig.ask("/1", host="bastion.example.org", token="alice-token").status != 200
    target = f"http://web.{END}/1"  # an absolute target goes before Host
    assert rig.ask(target, host=HOST, token="alice-token").status == 403


def test_what_is_no_service_is_told_to_those_who_may_ask(rig: Rig) -> None:
    gone = f"gone.{END}"
    assert rig.ask("/", host=gone).status == 404
    assert message(rig.ask("/", host=gone)) == 'services "gone" not found'
    assert rig.ask("/", host=gone, token="alice-token").status == 403
    assert rig.ask("/", host=gone, token="bad").status == 401


@pytest.mark.parametrize("name", ["x", "a.b.c", "web--", "web%2e", "..", "-a.b"])
def test_host_below_a_suffix_that_is_none_is_404_whatever_the_path(
    rig: Rig, name: str
) -> None:
    for path in ("/", "/api/v1/namespaces", f"{WEB}/echo"):
        answer = rig.ask(path, host=f"{name}.svc.localhost")
        assert answer.status == 404, (name, path)
        assert json.loads(answer.body)["kind"] == "Status"
        assert rig.ask(path, host=f"{name}.svc.localhost", token="bad").status == 401


def test_other_hosts_are_served_as_before(rig: Rig) -> None:
    for host in ("bastion.example.org", "127.0.0.1:8443", "evil.com", "localhost"):
        assert rig.ask("/api/v1/namespaces", host=host).status == 200
        assert rig.echo(f"{WEB}/echo", host=host)["path"] == "/echo"


def test_places_and_cookies_stay_with_the_host(rig: Rig) -> None:
    places = {
        "abs": "/landing?x=1#f",
        "rel": "landing",
        "other": "https://elsewhere.example/z",
        "self": f"http://{HOST}/landing",
        "ip": "/landing",
    }
    for name, place in places.items():
        assert rig.ask(f"/redir/{name}", host=HOST).get("location") == place
    cookie = rig.ask("/cookie", host=HOST).get("set-cookie")
    assert cookie == "a=1; Path=/app; HttpOnly"
    cors = rig.ask("/cors", host=HOST).get("access-control-allow-origin")
    assert cors == "*"  # of an origin of its own


def test_cookie_of_a_proxy_url_has_no_domain(rig: Rig) -> None:
    cookie = rig.ask(f"{WEB}/cookie").get("set-cookie")
    assert cookie == f"a=1; Path={WEB}/app; HttpOnly"


def test_upgrade_with_a_token_among_subprotocols(rig: Rig) -> None:
    word = base64.urlsafe_b64encode(b"admin-token").decode().rstrip("=")
    token = f"base64url.bearer.authorization.k8s.io.{word}"
    with rig.program.dial() as connection:
        head = request(
            "/ws?q=1", *UPGRADE, f"Sec-WebSocket-Protocol: {token}, chat", token=""
        )
        connection.sendall(head.replace(b"Host: h", f"Host: {HOST}".encode()))
        assert read_until(connection, b" chat\n").startswith(b"HTTP/1.1 101")
        connection.sendall(b"hello\n")
        assert read_until(connection, b"\n") == b"HELLO\n"


def test_browser_of_a_user_with_a_certificate_is_no_tool_of_other_sites(
    rig: Rig,
) -> None:
    # The browser shows the certificate, whichever page sends the request.
    pair = issued(rig.users, "root", "system:masters")
    near: tuple[tuple[str, ...], ...] = (
        (),
        ("Sec-Fetch-Site: same-origin",),
        ("Sec-Fetch-Site: none",),
        (f"Origin: https://{HOST}",),
    )
    far: tuple[tuple[str, ...], ...] = (
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site", f"Origin: https://{HOST}"),
        ("Origin: https://evil.com",),
        ("Origin: null",),
    )
    more: dict[str, Any] = {"host": HOST, "pair": pair, "token": None}
    for lines in near:
        assert rig.ask("/x", *lines, method="POST", **more).status == 200
    for lines in far:
        assert rig.ask("/x", *lines, **more).status == 200  # a link, or an image
        for answer in (
            rig.ask("/x", *lines, method="POST", **more),
            rig.ask("/ws", *lines, *UPGRADE, **more),
        ):
            assert message(answer).startswith("a page of another site"), lines
    # A token is not sent by itself.
    assert rig.ask("/x", *far[0], host=HOST, method="POST").status == 200


@pytest.mark.parametrize(("host", "prefix"), [(HOST, ""), ("h", WEB)])
def test_backend_gets_the_authorization_that_is_meant_for_it(
    rig: Rig, host: str, prefix: str
) -> None:
    own = "X-Pyproxy-Authorization: Basic"
    for value in ("one", "two", "one"):
        found = headers(rig.echo(f"{prefix}/x", f"{own} {value}", host=host))
        assert found["authorization"] == f"Basic {value}"
        assert "x-pyproxy-authorization" not in found
    found = headers(rig.echo(f"{prefix}/x", host=host))
    assert "authorization" not in found
    hidden = (f"{own} one", "Connection: X-Pyproxy-Authorization")
    found = headers(rig.echo(f"{prefix}/x", *hidden, host=host))
    assert "x-pyproxy-authorization" not in found
    twice = rig.ask(f"{prefix}/x", f"{own} a", f"{own} b", host=host)
    assert twice.status == 400
