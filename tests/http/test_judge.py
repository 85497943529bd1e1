"""A judge answers every question once, and never with a credential of yesterday."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.errors import PyproxyError
from pyproxy.http.filter import Filter
from pyproxy.http.judge import Judge
from pyproxy.http.policy import Credential, Key, Settings, Target
from pyproxy.http.route import Router
from tests.support.asking import ask
from tests.support.waiting import scaled

TARGET = Target("main", "h", takes_credential=True)
SETTINGS = Settings(Router(), {"": TARGET}, Filter())


class Core:
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[Forward | Reply | None, float, Key]] = []
        self.forgot = 0
        self._more = asyncio.Event()

    def answer(
        self,
        question: Question,
        answer: Forward | Reply | None,
        *,
        ttl_s: float,
        key: Key,
    ) -> None:
        """Take a verdict."""
        self.answers.append((answer, ttl_s, key))
        self._more.set()

    def forget(self) -> None:
        """Count."""
        self.forgot += 1

    async def answered(self, count: int) -> None:
        """Wait for answers."""
        async with asyncio.timeout(scaled(5.0)):
            while len(self.answers) < count:
                self._more.clear()
                await self._more.wait()

    def tokens(self) -> list[str | None]:
        """Return the Authorization of each answer."""
        assert all(isinstance(each[0], Forward) for each in self.answers)
        return [
            dict(answer.default).get("Authorization")
            for answer, _, _ in self.answers
            if isinstance(answer, Forward)
        ]


Give = Callable[[str, bool], Awaitable[Credential]]


def giver(*credentials: Credential | Exception) -> tuple[Give, list[tuple[str, bool]]]:
    """Give these, one after the other, and the last for ever; note what is asked."""
    asked: list[tuple[str, bool]] = []

    async def give(context: str, rejected: bool) -> Credential:
        asked.append((context, rejected))
        await asyncio.sleep(0)
        found = credentials[min(len(asked), len(credentials)) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    return give, asked


async def test_question_that_needs_nothing_is_answered_at_once() -> None:
    core = Core()
    give, asked = giver(Credential("a"))
    Judge(core, SETTINGS, give).on_question(ask("/", "GET", "evil.com"))
    assert isinstance(core.answers[0][0], Reply)
    assert asked == []


async def test_credential_is_obtained_once_and_kept_for_its_time() -> None:
    core = Core()
    give, asked = giver(Credential("Bearer a", ttl_s=50.0))
    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a"))
    await core.answered(1)
    judge.on_question(ask("/b"))
    assert core.tokens() == ["Bearer a", "Bearer a"]
    assert asked == [("", False)]
    assert 0 < core.answers[1][1] <= 50.0


async def test_credential_without_time_left_is_obtained_again() -> None:
    core = Core()
    give, asked = giver(Credential("Bearer a", ttl_s=0.0), Credential("Bearer b"))
    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a"))
    await core.answered(1)
    assert core.answers[0][1] == 0.0
    judge.on_question(ask("/b"))
    await core.answered(2)
    assert core.tokens() == ["Bearer a", "Bearer b"]
    assert len(asked) == 2


async def test_credential_rejected_is_replaced() -> None:
    core = Core()
    old = Credential("Bearer a", renewable=True)
    give, asked = giver(old, Credential("Bearer b", renewable=True))
    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a"))
    await core.answered(1)
    judge.on_question(ask("/a", refused=401))
    await core.answered(2)
    judge.on_question(ask("/a"))
    assert core.tokens() == ["Bearer a", "Bearer b", "Bearer b"]
    assert asked == [("", False), ("", True)]


async def test_credentials_known_before_a_change_are_obtained_again_after_it() -> None:
    core = Core()
    give, asked = giver(Credential("Bearer old"), Credential("Bearer new"))
    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a"))
    await core.answered(1)
    judge.change()
    judge.on_question(ask("/a"))
    await core.answered(2)
    assert core.tokens() == ["Bearer old", "Bearer new"]
    assert len(asked) == 2


def waiting(count: int) -> list[Question]:
    """Questions of as many clients."""
    questions = [ask(f"/{number}") for number in range(count)]
    for number, question in enumerate(questions):
        question.ticket = (0, number, 1, 1, 0)
    return questions


async def test_one_credential_serves_all_that_wait_for_it() -> None:
    core = Core()
    give, asked = giver(Credential("Bearer a", ttl_s=0.0))
    judge = Judge(core, SETTINGS, give)
    for question in waiting(1000):
        judge.on_question(question)
    await core.answered(1000)
    assert set(core.tokens()) == {"Bearer a"}
    assert asked == [("", False)]


async def test_question_withdrawn_is_not_answered_and_the_last_ends_the_wait() -> None:
    core = Core()
    ended = asyncio.Event()

    async def give(context: str, rejected: bool) -> Credential:
        try:
            await asyncio.sleep(scaled(60.0))
        finally:
            ended.set()
        raise AssertionError

    judge = Judge(core, SETTINGS, give)
    first, second = waiting(2)
    judge.on_question(first)
    judge.on_question(second)
    await asyncio.sleep(0)
    judge.on_withdrawn(first)
    await asyncio.sleep(0)
    assert not ended.is_set()
    judge.on_withdrawn(second)
    judge.on_withdrawn(second)  # no harm
    async with asyncio.timeout(scaled(5.0)):
        await ended.wait()
    assert core.answers == []


async def test_question_after_a_wait_that_ended_waits_anew() -> None:
    core = Core()
    give, _ = giver(Credential("Bearer a"))
    judge = Judge(core, SETTINGS, give)
    first, second = waiting(2)
    judge.on_question(first)
    judge.on_withdrawn(first)
    judge.on_question(second)
    await core.answered(1)
    assert core.tokens() == ["Bearer a"]


@pytest.mark.parametrize("error", [PyproxyError("plugin failed"), RuntimeError("bug")])
async def test_refusal_goes_to_the_client_if_no_credential_is_better(
    error: Exception,
) -> None:
    # kubectl: a plugin that fails after a 401 leaves the client with that 401.
    core = Core()
    give, _ = giver(error)
    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a", refused=401))
    await core.answered(1)
    assert core.answers[0][0] is None


async def test_change_withdraws_what_was_remembered() -> None:
    core = Core()
    give, asked = giver(Credential("Bearer a"))
    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a"))
    await core.answered(1)
    other = Settings(Router("/custom/"), {"": TARGET}, Filter())
    judge.change(other)
    assert core.forgot == 1
    judge.on_question(ask("/a"))
    assert isinstance(core.answers[1][0], Reply)
    judge.on_question(ask("/custom/a"))
    await core.answered(3)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PyproxyError("getting credentials: no"), b"getting credentials: no\n"),
        (RuntimeError("bug"), b"internal error\n"),
    ],
)
async def test_credential_that_fails_is_said_to_the_client_and_tried_again(
    error: Exception, text: bytes
) -> None:
    core = Core()
    give, asked = giver(error)
    judge = Judge(core, SETTINGS, give)
    for count in (1, 2):
        judge.on_question(ask("/a"))
        await core.answered(count)
    answer, ttl_s, _ = core.answers[0]
    assert isinstance(answer, Reply)
    assert (answer.status, answer.body, ttl_s) == (500, text, 0.0)
    assert len(asked) == 2


async def test_question_that_finds_a_bug_is_answered_all_the_same() -> None:
    core = Core()
    give, _ = giver(Credential())
    pairs = tuple((f"Impersonate-Extra-{n}", "x") for n in range(100))  # too many
    target = Target("main", "h", impersonate=pairs)
    judge = Judge(core, Settings(Router(), {"": target}, Filter()), give)
    judge.on_question(ask("/a"))
    answer, _, _ = core.answers[0]
    assert isinstance(answer, Reply)
    assert answer.status == 500


async def test_close_ends_waiting() -> None:
    core = Core()
    forever = asyncio.Event()

    async def give(context: str, rejected: bool) -> Credential:
        await forever.wait()
        raise AssertionError

    judge = Judge(core, SETTINGS, give)
    judge.on_question(ask("/a"))
    await asyncio.sleep(0)
    await judge.close()
    assert core.answers == []
