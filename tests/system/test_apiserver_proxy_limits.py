"""Limits of users and of client addresses, through apiserver-proxy."""

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.fakes.bastion import ask, own_address
from tests.support.bastion_rig import (
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
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
RATE = 50_000
TOO_MANY = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "Too many requests, please try again later.",
    "reason": "TooManyRequests",
    "details": {"retryAfterSeconds": 1},
    "code": 429,
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests; each has a user of its own."""
    flags = (
        "--max-requests-per-user=2",
        f"--max-bytes-per-second-per-user={RATE}",
        "--max-connections-per-source=40",
    )
    with bastion_rig(tmp_path_factory.mktemp("limits"), *flags) as made:
        yield made


def test_user_with_two_tunnels_gets_no_third_request(rig: Rig) -> None:
    tunnels = [rig.program.dial() for _ in range(2)]
    for tunnel in tunnels:
        tunnel.sendall(request(f"{WEB}/ws", *UPGRADE, token="alice-token"))
        assert read_until(tunnel, b" -\n").startswith(b"HTTP/1.1 101")
    jane = issued(rig.users, "jane")
    for target in (f"{WEB}/echo", "/api/v1/namespaces/e2e/pods"):
        answer = rig.ask(target, token="alice-token")
        assert (answer.status, answer.get("retry-after")) == (429, "1")
        assert json.loads(answer.body) == TOO_MANY
        assert answer.get("content-type") == "application/json"
    # By its certificate alice is the same user; jane is another one.
    alice = issued(rig.users, "alice")
    assert rig.ask(f"{WEB}/echo", token=None, pair=alice).status == 429
    assert rig.ask(f"{WEB}/echo", token=None, pair=jane).status == 200
    for tunnel in tunnels:
        tunnel.close()
    wait_until(lambda: rig.ask(f"{WEB}/echo", token="alice-token").status == 200)
    assert rig.metric("pyproxy_http_limited_total") >= 3


def test_bytes_of_a_user_keep_to_its_rate(rig: Rig) -> None:
    body = b"x" * (4 * RATE)
    began = time.monotonic()
    answer = rig.ask(f"{WEB}/echo", method="POST", body=body)
    took = time.monotonic() - began
    assert len(json.loads(answer.body)["body"]) == len(body)
    # Up and down; 64 KiB go at once.
    assert took >= (2 * len(body) - 65_536 - 2 * 16_384) / RATE
    assert rig.metric("pyproxy_http_pauses_total") > 0


def test_address_with_too_many_connections_is_reset(rig: Rig) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(rig.program.dial())
        assert not can_ask(rig)
    wait_until(lambda: can_ask(rig), what="connections are taken again")
    text = 'pyproxy_vip_limit{limit="connections_per_source"'
    assert text in rig.program.admin("/metrics")[1]


def can_ask(rig: Rig) -> bool:
    """Whether a connection is taken."""
    try:
        with rig.program.dial() as connection:
            ask(connection, "/version")
            return True
    except OSError:
        return False
