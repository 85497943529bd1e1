"""Answers the core's questions: at once where it can, or when a credential has come."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.errors import PyproxyError
from pyproxy.http import replies
from pyproxy.http.policy import Credential, Key, Need, Settings, Verdict, decide

logger = logging.getLogger(__name__)

# While one credential is waited for; after so many the last one is used.
MOST_CHANGES = 3

# context, whether the last one was rejected -> the one to use now
Obtain = Callable[[str, bool], Awaitable[Credential]]


class Core(Protocol):
    """The part of the engine that takes verdicts."""

    def answer(
        self, question: Question, answer: Forward | Reply, *, ttl_s: float, key: Key
    ) -> None:
        """Take a verdict."""

    def forget(self) -> None:
        """Remember no verdict that was given before."""


class Judge:
    """Knows the settings and the credentials of now."""

    def __init__(self, core: Core, settings: Settings, obtain: Obtain) -> None:
        """`obtain` may raise PyproxyError, whose text the client then reads."""
        self._core = core
        self._settings = settings
        self._obtain = obtain
        self._known: dict[str, tuple[Credential, float]] = {}  # and until when
        self._changes = 0
        self._waiting: set[asyncio.Task[None]] = set()

    def change(self, settings: Settings | None = None) -> None:
        """Withdraw every verdict and credential; from now on decide by `settings`."""
        if settings is not None:
            self._settings = settings
        self._changes += 1
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
            return
        task = asyncio.create_task(self._answer_later(question, verdict))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        """Leave what waits without an answer."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _decide(self, question: Question) -> Verdict | Need:
        now = asyncio.get_running_loop().time()
        known = {
            context: replace(credential, ttl_s=ends_at - now)
            for context, (credential, ends_at) in self._known.items()
            if ends_at > now
        }
        return decide(question, self._settings, known)

    async def _answer_later(self, question: Question, need: Need) -> None:
        # Decide again: what was read to find the need must not be in the key.
        question = question.again()
        try:
            verdict = await self._decide_later(question, need)
        except PyproxyError as error:
            logger.warning("no credentials", extra={"why": str(error)})
            verdict = Verdict(replies.plain(500, str(error)))
        except Exception:
            verdict = _bug()
        self._answer(question, verdict)

    async def _decide_later(self, question: Question, need: Need) -> Verdict:
        rejected = need.rejected
        for _ in range(MOST_CHANGES):
            changes = self._changes
            credential = await self._obtain(need.context, rejected)
            if changes == self._changes:
                break
            rejected = False  # settings or credentials have changed since
        self._known.pop(need.context, None)
        if credential.ttl_s > 0:
            ends_at = asyncio.get_running_loop().time() + credential.ttl_s
            self._known[need.context] = (credential, ends_at)
        verdict = decide(question, self._settings, {need.context: credential})
        return Verdict(replies.NOT_FOUND) if isinstance(verdict, Need) else verdict

    def _answer(self, question: Question, verdict: Verdict) -> None:
        self._core.answer(
            question, verdict.answer, ttl_s=verdict.ttl_s, key=verdict.key
        )


def _bug() -> Verdict:
    logger.exception("question not answered", extra={"bug": True})
    return Verdict(replies.plain(500, "internal error"))
