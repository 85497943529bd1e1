"""Names to addresses, and what remains when the resolver is away."""

import asyncio
import socket
from typing import Any, cast

import pytest

from pyproxy.config import Check, Listener, Pool, Server
from pyproxy.discovery import names as module
from pyproxy.discovery.names import Names, resolve
from pyproxy.discovery.sync import Plan, Sync
from pyproxy.errors import ConfigError, StartError
from pyproxy.modes.apiserver_lb import ApiserverLb, Planner, follow_names

Answers = dict[str, tuple[str, ...] | ConfigError]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What the resolver says; a test changes it."""
    made: Answers = {}

    async def fake(host: str) -> tuple[str, ...]:
        answer = made[host]
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    monkeypatch.setattr(module, "resolve", fake)
    return made


async def test_refresh_says_whether_an_answer_changed(answers: Answers) -> None:
    names = Names()
    answers["a"] = ("10.0.0.1",)
    assert await names.refresh(["a", "a"])
    assert not await names.refresh(["a"])
    answers["a"] = ("10.0.0.1", "10.0.0.2")
    assert await names.refresh(["a"])
    assert names.known == {"a": ("10.0.0.1", "10.0.0.2")}


async def test_last_answer_stays_while_the_resolver_is_away(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names()
    answers["a"] = ("10.0.0.1",)
    await names.refresh(["a"])
    answers["a"] = ConfigError("cannot resolve a: no answer")
    for _ in range(3):
        assert not await names.refresh(["a"])
    assert names.known == {"a": ("10.0.0.1",)}
    assert names.errors == {"a": "cannot resolve a: no answer"}
    assert caplog.text.count("keeping its last addresses") == 1  # once per outage
    answers["a"] = ("10.0.0.9",)
    assert await names.refresh(["a"])
    assert not names.errors


async def test_name_without_any_answer_stays_unknown(answers: Answers) -> None:
    names = Names()
    answers["a"] = ConfigError("no")
    await names.refresh(["a"])
    assert (names.known, names.errors) == ({}, {"a": "no"})


async def test_names_that_are_no_longer_asked_for_are_forgotten(
    answers: Answers,
) -> None:
    names = Names()
    answers.update(a=("10.0.0.1",), b=("10.0.0.2",))
    await names.refresh(["a", "b"])
    assert await names.refresh(["b"])
    assert names.known == {"b": ("10.0.0.2",)}


async def test_same_answer_in_another_order_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ["10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2"]

    async def fake(*args: Any, **more: Any) -> list[Any]:
        return [(0, 0, 0, "", (host, 0)) for host in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fake)
    assert await resolve("x") == ("10.0.0.1", "10.0.0.2", "fd00::1")
    found.reverse()
    assert await resolve("x") == ("10.0.0.1", "10.0.0.2", "fd00::1")


async def test_resolver_that_is_silent_or_refuses_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(*args: Any, **more: Any) -> list[Any]:
        return await asyncio.Future()

    async def refusing(*args: Any, **more: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(module, "RESOLVE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(loop, "getaddrinfo", silent)
    with pytest.raises(ConfigError, match="cannot resolve x: no answer"):
        await resolve("x")
    monkeypatch.setattr(loop, "getaddrinfo", refusing)
    with pytest.raises(ConfigError, match="cannot resolve x: Temporary failure"):
        await resolve("x")


class FakeSync:
    """Remembers what was applied, and refuses when told so."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.refuses = False

    async def apply(self, plan: Plan) -> None:
        """Take a plan."""
        if self.refuses:
            raise StartError("cannot listen")
        self.plan = plan


def configuration(server: str) -> ApiserverLb:
    """One listener, one server."""
    check = Check(type="tcp")
    pool = Pool(servers=(Server(address=server),), check=check)
    return ApiserverLb(listeners=(Listener(address="127.0.0.1:1"),), pools=(pool,))


def hosts(plan: Plan) -> list[str]:
    """Where a plan sends connections."""
    return [backend.host for pool in plan.pools for backend in pool.backends]


async def test_moved_name_is_followed_and_an_outage_is_not(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config, planner, sync = configuration("api.test:1"), Planner(), FakeSync()
    answers["api.test"] = ("10.0.0.1",)
    sync.plan = await planner.plan(config)
    for answer, expected in (
        (("10.0.0.1", "10.0.0.2"), ["10.0.0.1", "10.0.0.2"]),
        (ConfigError("away"), ["10.0.0.1", "10.0.0.2"]),
        (("10.0.0.3",), ["10.0.0.3"]),
        (("10.0.0.3",), ["10.0.0.3"]),
    ):
        answers["api.test"] = answer
        await follow_names(config, planner, cast("Sync", sync))
        assert hosts(sync.plan) == expected
        assert [target.key[0] for target, _ in sync.plan.targets] == expected
    assert caplog.text.count("names have other addresses now") == 2


async def test_move_that_cannot_be_made_is_logged_and_tried_again(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    config, planner, sync = configuration("api.test:1"), Planner(), FakeSync()
    answers["api.test"] = ("10.0.0.1",)
    sync.refuses = True
    await follow_names(config, planner, cast("Sync", sync))
    assert "names not followed" in caplog.text
    sync.refuses = False
    await follow_names(config, planner, cast("Sync", sync))
    assert hosts(sync.plan) == ["10.0.0.1"]


async def test_without_names_nothing_is_looked_up(answers: Answers) -> None:
    sync = FakeSync()
    await follow_names(configuration("10.0.0.1:1"), Planner(), cast("Sync", sync))
    assert sync.plan == Plan()
