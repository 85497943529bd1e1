"""Failures of upstreams, in the words of the vip."""

import pytest

from fastpath import Failure, Forward, TableError
from tests.support.relay_tools import refusing
from tests.support.web_rig import Web

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SORRY = Failure(503, (("Content-Type", "application/json"),), '{"why":"', '"}\n')
NEITHER = Failure(500, (("X-Upgrade", "no"),), "<", ">")


def test_failure_is_told_in_the_words_of_the_vip() -> None:
    with refusing() as nobody, Web(backends=[nobody], gateway=SORRY) as web:
        client = web.client(GET)
        first, body = client.sized()
        assert first == "HTTP/1.1 503 Service Unavailable"
        host, port = nobody
        why = f"dial tcp {host}:{port}: connect: connection refused"
        assert body == f'{{"why":"{why}"}}\n'.encode()


def test_failure_to_upgrade_is_told_in_its_own_words() -> None:
    asked = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n"
    with (
        refusing() as nobody,
        Web(
            lambda _: Forward("up", upgrades=None),
            backends=[nobody],
            gateway=SORRY,
            gateway_upgrade=NEITHER,
        ) as web,
    ):
        first, body = web.client(asked).sized()
        assert first == "HTTP/1.1 500 Internal Server Error"
        assert body.startswith(b"<dial tcp")
        assert body.endswith(b">")


def test_words_around_a_failure_are_bounded_and_have_no_zero() -> None:
    for before in ("x" * 5000, "\0"):
        with pytest.raises(TableError):
            Failure(503, (), before, "")
    with pytest.raises(TableError):
        Failure(200, (), "", "")
