"""Answers the core's questions: at once where it can, or when a credential has come.

Questions that need the same credential wait together: one task obtains it for all of
them. A client that leaves takes its question along, and the last one the task.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.errors import PyproxyError
from pyproxy.http import replies
from pyproxy.http.policy import Credential, Key, Need, Settings, Verdict, decide
from pyproxy.http.waits import Waits

logger = logging.getLogger(__name__)

# context, whether the last one was rejected -> the one to use now, by the settings that
# are in force when it is returned
Obtain = Callable[[str, bool], Awaitable[Credential]]


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


class Judge:
    """Knows the settings and the credentials of now."""

    def __init__(self, core: Core, settings: Settings, obtain: Obtain) -> None:
        """`obtain` may raise PyproxyError, whose text the client then reads."""
        self._core = core
        self._settings = settings
        self._obtain = obtain
        self._known: dict[str, tuple[Credential, float]] = {}  # and until when
        self._waits = Waits(self._get, self._settle)

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
            self._waits.add(verdict, question.ticket, question)

    def on_withdrawn(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        self._waits.withdraw(question.ticket)

    async def close(self) -> None:
        """Leave what waits without an answer."""
        await self._waits.close()

    def _decide(self, question: Question) -> Verdict | Need:
        now = asyncio.get_running_loop().time()
        known = {
            context: replace(credential, ttl_s=ends_at - now)
            for context, (credential, ends_at) in self._known.items()
            if ends_at > now
        }
        return decide(question, self._settings, known)

    async def _get(self, need: Need) -> Credential | Verdict:
        try:
            return await self._obtain_for(need)
        except PyproxyError as error:
            logger.warning("no credentials", extra={"why": str(error)})
            return Verdict(replies.plain(500, str(error)))
        except Exception:
            return _bug()

    async def _obtain_for(self, need: Need) -> Credential:
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
