"""A credential that the apiserver refuses, and clients that wait for a new one."""

import socket

import pytest

from tests.fakes.desk import Desk
from tests.fakes.office import Office
from tests.fakes.recorder import Answer, Seen, reply
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test
FOLLOW_S = 15.0  # for a credential that is renewed


def expects(token: str) -> Answer:
    """Answer 401 to everything but this token."""

    def answer(seen: Seen, connection: socket.socket) -> bytes:
        if seen.get("authorization") == f"Bearer {token}":
            return reply("200 OK", b"welcome")
        return reply("401 Unauthorized", b"who?")

    return answer


def test_request_with_expired_credential_is_sent_again_with_a_new_one(
    office: Office,
) -> None:
    # Beyond kubectl, which lets the 401 through: headlamp issue 7482.
    plugin = office.plugin("old")
    office.write(plugin.user)
    office.upstream.answer = expects("old")
    with office.proxy(Desk) as proxy:
        assert proxy.ask("/a").status == 200
        office.upstream.answer = expects("new")
        plugin.give("new")
        wait_until(lambda: renewed(proxy), FOLLOW_S)
        assert plugin.runs == 2
        assert proxy.ask("/a").status == 200
        assert plugin.runs == 2


def renewed(proxy: Desk) -> bool:
    """Whether a request succeeds; a rejection right after a run starts no other one."""
    return proxy.ask("/a", "POST", b"body").status == 200


RENEWABLE = ["exec", "token-file"]


@pytest.mark.parametrize("kind", RENEWABLE)
def test_write_that_is_refused_is_not_sent_again_with_the_same_token(
    office: Office, kind: str
) -> None:
    # Ten POSTs with a token that stays the same had become twenty: a Service behind
    # `/proxy/` that answers 401 by itself saw each login twice.
    if kind == "exec":
        office.write(office.plugin("bad").user)
    else:
        file = office.directory / "token"
        file.write_text("bad")
        office.write({"tokenFile": str(file)})
    office.upstream.answer = expects("good")
    with office.proxy(Desk) as proxy:
        for _ in range(10):
            answer = proxy.ask("/a", "POST", b"name=a")
            assert (answer.status, answer.body) == (401, b"who?")
        assert len(office.upstream.seen) == 10


def test_upload_that_is_refused_renews_the_credential_for_the_next(
    office: Office,
) -> None:
    # Too large to be sent twice: it fails, and the next one has the new token.
    plugin = office.plugin("old")
    office.write(plugin.user)
    office.upstream.answer = expects("old")
    with office.proxy(Desk) as proxy:
        assert proxy.ask("/a").status == 200
        office.upstream.answer = expects("new")
        plugin.give("new")

        def uploads() -> bool:
            return proxy.ask("/a", "POST", b"x" * 200_000).status == 200

        wait_until(uploads, FOLLOW_S)
        assert plugin.runs == 2


def test_clients_that_leave_before_the_plugin_ends_cost_nothing_afterwards(
    office: Office,
) -> None:
    # 12,000 of them held up the next client for 31 to 47 s: each had a task of its own,
    # and each task synced. kubectl proxy: 0.9 s.
    go = office.directory / "go"
    plugin = office.plugin("t", before=f"while [ ! -e {go} ]; do sleep 0.05; done")
    office.write(plugin.user)
    office.upstream.answer = expects("t")
    with office.proxy(Desk, "--admin-address=127.0.0.1:0") as proxy:
        for _ in range(1000):
            with proxy.dial() as client:
                client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: plugin.runs == 1)
        with proxy.dial() as client:
            client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            go.touch()
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert len(office.upstream.seen) == 1
        assert plugin.runs == 1
