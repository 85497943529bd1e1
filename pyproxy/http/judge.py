"""Answers the core's questions: at once where it can, or when a credential has come.

Questions that need the same credential wait together: one task obtains it for all of
them. A client that leaves takes its question along, and the last one the task.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.errors import PyproxyError
from pyproxy.http import replies
from pyproxy.http.policy import Credential, Key, Need, Settings, Verdict, decide

logger = logging.getLogger(__name__)

SLICE = 200  # questions that are answered before others of the loop have their turn

# context, whether the last one was rejected -> the one to use now, by the settings that
# are in force when it is returned
Obtain = Callable[[str, bool], Awaitable[Credential]]
Ticket = tuple[int, ...]


class Core(Protocol):
    """The part of the engine that takes verdicts."""

    def answer(
        self,
        question: Question,
        answer: Forward | Reply | None,
        *,
        ttl_s: float,
        key: Key,
    ) -> None:
        """Take a verdict; None lets a response pass that was refused."""

    def forget(self) -> None:
        """Remember no verdict that was given before."""


@dataclass(slots=True)
class Wait:
    """Questions that wait for one credential."""

    questions: dict[Ticket, Question] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Judge:
    """Knows the settings and the credentials of now."""

    def __init__(self, core: Core, settings: Settings, obtain: Obtain) -> None:
        """`obtain` may raise PyproxyError, whose text the client then reads."""
        self._core = core
        self._settings = settings
        self._obtain = obtain
        self._known: dict[str, tuple[Credential, float]] = {}  # and until when
        self._waits: dict[Need, Wait] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def change(self, settings: Settings | None = None) -> None:
        """Withdraw every verdict and credential; from now on decide by `settings`."""
        if settings is not None:
            self._settings = settings
        self._known.clear()
        self._core.forget()

    def on_question(self, question: Question) -> None:
        """Answer, now or later."""
        verdict: Verdict | Need
        try:
            verdict = self._decide(question)
        except Exception:
            verdict = _bug()
        if isinstance(verdict, Verdict):
            self._answer(question, verdict)
        else:
            self._wait(question, verdict)

    def on_withdrawn(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        for need, wait in self._waits.items():
            if wait.questions.pop(question.ticket, None) is None:
                continue
            if not wait.questions and wait.task is not None:
                wait.task.cancel()
                del self._waits[need]
            return

    async def close(self) -> None:
        """Leave what waits without an answer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _decide(self, question: Question) -> Verdict | Need:
        now = asyncio.get_running_loop().time()
        known = {
            context: replace(credential, ttl_s=ends_at - now)
            for context, (credential, ends_at) in self._known.items()
            if ends_at > now
        }
        return decide(question, self._settings, known)

    def _wait(self, question: Question, need: Need) -> None:
        wait = self._waits.get(need)
        if wait is None:
            wait = self._waits[need] = Wait()
            wait.task = asyncio.create_task(self._answer_later(need, wait))
            self._tasks.add(wait.task)
            wait.task.add_done_callback(self._tasks.discard)
        wait.questions[question.ticket] = question

    async def _answer_later(self, need: Need, wait: Wait) -> None:
        try:
            outcome = await self._obtain_for(need)
        except PyproxyError as error:
            logger.warning("no credentials", extra={"why": str(error)})
            outcome = Verdict(replies.plain(500, str(error)))
        except Exception:
            outcome = _bug()
        finally:
            # A question from now on finds what is known, or waits anew.
            if self._waits.get(need) is wait:
                del self._waits[need]
        left = 0
        while wait.questions:
            _, question = wait.questions.popitem()
            self._settle(question, need, outcome)
            left = (left + 1) % SLICE
            if left == 0:
                await asyncio.sleep(0)

    async def _obtain_for(self, need: Need) -> Credential | Verdict:
        credential = await self._obtain(need.context, need.rejected)
        self._known.pop(need.context, None)
        if credential.ttl_s > 0:
            ends_at = asyncio.get_running_loop().time() + credential.ttl_s
            self._known[need.context] = (credential, ends_at)
        return credential

    def _settle(
        self, question: Question, need: Need, outcome: Credential | Verdict
    ) -> None:
        """Answer one that waited."""
        if isinstance(outcome, Verdict):
            # The client learns no more from that than from the 401 that it got.
            self._answer(question, Verdict(None) if question.refused else outcome)
            return
        # Decided once more: what was read to see the need is no part of that.
        question = question.again()
        verdict: Verdict | Need
        try:
            verdict = decide(question, self._settings, {need.context: outcome})
        except Exception:
            verdict = _bug()
        if isinstance(verdict, Need):
            verdict = Verdict(replies.NOT_FOUND)
        self._answer(question, verdict)

    def _answer(self, question: Question, verdict: Verdict) -> None:
        self._core.answer(
            question, verdict.answer, ttl_s=verdict.ttl_s, key=verdict.key
        )


def _bug() -> Verdict:
    logger.exception("question not answered", extra={"bug": True})
    return Verdict(replies.plain(500, "internal error"))
