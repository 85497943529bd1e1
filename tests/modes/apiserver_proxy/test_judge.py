"""The judge: questions that wait together, that leave, and that have no answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.http.identity import Token, User
from pyproxy.kube.errors import KubeError
from pyproxy.modes.apiserver_proxy.answers import (
    MOST_TOKENS,
    Answer,
    Bounded,
    Lives,
    Memory,
)
from pyproxy.modes.apiserver_proxy.judge import Judge
from pyproxy.modes.apiserver_proxy.policy import Access, Decision, Need
from tests.modes.apiserver_proxy.test_policy import POD, settings
from tests.support.asking import ask

TURNS = 10_000  # of the loop; nothing here waits for time


class Core:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, float, str]] = []

    def answer(
        self,
        question: Question,
        verdict: Forward | Reply | None,
        *,
        ttl_s: float,
        key: tuple[str, ...],
        tag: str = "",
        label: int = 0,
    ) -> None:
        self.answers.append((verdict, ttl_s, tag))

    def forget(self, tag: str | None = None) -> None:
        self.answers.clear()

    @property
    def statuses(self) -> list[int]:
        """200 stands for a request that is sent on."""
        return [getattr(v, "status", 200) for v, _, _ in self.answers]


class Oracle:
    """Answers when it is let, and counts."""

    def __init__(self) -> None:
        self.asked: list[Need] = []
        self.gate = asyncio.Event()
        self.error: KubeError | None = None
        self.cancelled = 0

    async def ask(self, need: Need) -> Answer:
        self.asked.append(need)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        if isinstance(need, Token):
            return User("alice") if need.text != "bad" else None
        return Decision(isinstance(need, Access))


class Rig:
    """A judge with everything around it."""

    def __init__(self, lives: Lives | None = None) -> None:
        self.core, self.oracle = Core(), Oracle()
        now = asyncio.get_running_loop().time
        self.memory = Memory(lives or Lives(), now)
        self.judge = Judge(
            *(self.core, settings(), self.memory, self.oracle.ask),
            lambda path, location: None,
        )
        self._number = 0

    def ask(self, token: str = "t") -> Question:
        """Let a question come."""
        self._number += 1
        question = ask(f"{POD}/x", "GET", "h", f"Authorization: Bearer {token}")
        question.ticket = (self._number,)
        self.judge.on_question(question)
        return question

    async def until(self, done: Callable[[], object]) -> None:
        """Let others run until something is so."""
        for _ in range(TURNS):
            if done():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never is")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.judge.close()


async def test_questions_that_come_together_are_asked_once(rig: Rig) -> None:
    for _ in range(50):
        rig.ask()
    rig.oracle.gate.set()
    await rig.until(lambda: len(rig.core.answers) == 50)
    assert [type(need) for need in rig.oracle.asked] == [Token, Access]
    assert set(rig.core.statuses) == {200}
    assert rig.core.answers[0][2] == "pods n/web"


async def test_answer_is_remembered_for_the_next_question(rig: Rig) -> None:
    rig.oracle.gate.set()
    rig.ask()
    await rig.until(lambda: rig.core.answers)
    rig.ask()  # at once
    assert len(rig.core.answers) == 2
    assert len(rig.oracle.asked) == 2


async def test_apiserver_that_is_away_is_a_503_that_is_not_remembered(
    rig: Rig,
) -> None:
    rig.oracle.error = KubeError("connection refused")
    rig.oracle.gate.set()
    rig.ask()
    await rig.until(lambda: rig.core.answers)
    assert (rig.core.statuses, rig.core.answers[0][1]) == ([503], 0.0)
    assert rig.judge.trouble == "connection refused"
    rig.oracle.error = None
    rig.ask()
    await rig.until(lambda: len(rig.core.answers) == 2)
    assert rig.core.statuses == [503, 200]
    assert rig.judge.trouble == ""


async def test_client_that_leaves_takes_its_question_along(rig: Rig) -> None:
    one, other = rig.ask(), rig.ask()
    await rig.until(lambda: rig.oracle.asked)
    rig.judge.on_withdrawn(one)
    await asyncio.sleep(0)
    assert rig.oracle.cancelled == 0
    rig.judge.on_withdrawn(other)
    await rig.until(lambda: rig.oracle.cancelled == 1)
    assert rig.core.answers == []


async def test_answer_that_holds_for_no_time_serves_those_that_waited() -> None:
    rig = Rig(Lives(token_s=0.0, allow_s=0.0, deny_s=0.0))
    rig.oracle.gate.set()
    rig.ask("bad")
    await rig.until(lambda: rig.core.answers)
    assert (rig.core.statuses, rig.core.answers[0][1]) == ([401], 0.0)
    # Two of them, one after the other.
    rig.ask()
    await rig.until(lambda: len(rig.core.answers) == 2)
    assert (rig.core.statuses, rig.core.answers[1][1]) == ([401, 200], 0.0)
    await rig.judge.close()


async def test_many_tokens_are_not_all_asked_about_at_a_time(rig: Rig) -> None:
    for number in range(300):
        rig.ask(f"t{number}")
    await rig.until(lambda: len(rig.oracle.asked) == 64)
    await asyncio.sleep(0)
    assert len(rig.oracle.asked) == 64
    rig.oracle.gate.set()
    await rig.until(lambda: len(rig.core.answers) == 300)


async def test_memory_of_tokens_is_bounded_and_holds_none_of_them(rig: Rig) -> None:
    for number in range(MOST_TOKENS + 10):
        rig.memory.keep(Token(f"secret-{number}"), None)
    users = rig.memory._users
    assert len(users) == MOST_TOKENS
    assert not any(b"secret" in key for key in users._kept)


def test_oldest_value_makes_room_and_ended_ones_are_gone() -> None:
    kept: Bounded[str, int] = Bounded(2)
    for number, name in enumerate("abc"):
        kept.put(name, number, 10.0 + number)
    assert kept.get("a", 0.0) is None
    assert kept.get("b", 0.0) == (1, 11.0)
    assert kept.get("b", 11.0) is None
    assert len(kept) == 1
