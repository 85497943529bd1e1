"""Answers the core's questions: at once where it can, or when it knows what it needs.

Questions that need the same answer wait together: an apiserver is asked once for all of
them. A client that leaves takes its question along. What cannot be asked is never
allowed: then the answer is a 503 that says so, and is not remembered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.discovery.targets import Location, Lookup
from pyproxy.errors import PyproxyError
from pyproxy.http.audit import Refusal, Trail
from pyproxy.http.identity import Token
from pyproxy.http.proxypath import ProxyPath
from pyproxy.http.status import status
from pyproxy.http.waits import Waits
from pyproxy.modes.apiserver_proxy.answers import NOTHING, Answer, Memory
from pyproxy.modes.apiserver_proxy.policy import Need, Settings, Verdict, decide

logger = logging.getLogger(__name__)

AT_A_TIME = 64  # questions to the apiserver: no flood of bad tokens is passed on
SPACED_S = 10.0  # between two lines about an apiserver that does not answer

Ask = Callable[[Need], Awaitable[Answer]]  # raises PyproxyError
Prepare = Callable[[ProxyPath, Location], None]  # likewise
# With the answers that came before, and what was found out about it.
Waiting = tuple[Question, Mapping[Need, Answer], Trail]


class Label(Protocol):
    """Returns what records call the trail of a decision; 0 = nothing."""

    def __call__(self, trail: Trail, *, is_kept: bool) -> int:
        """`is_kept`: more than one request goes by the decision."""


def _unlabelled(trail: Trail, *, is_kept: bool) -> int:
    return 0


class Core(Protocol):
    """The part of the engine that takes verdicts."""

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
        """Take a verdict."""

    def forget(self, tag: str | None = None) -> None:
        """Remember no verdict that was given before, or none with the tag."""


class Judge:
    """Decides by the settings and the answers of now."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        memory: Memory,
        ask: Ask,
        prepare: Prepare,
        label: Label = _unlabelled,
    ) -> None:
        """`prepare` is called before a verdict that leads to a location.

        `label` returns what records call the trail of a decision.
        """
        self._core = core
        self._settings = settings
        self._memory = memory
        self._ask = ask
        self._prepare = prepare
        self._label = label
        self._waits: Waits[Need, Waiting, Answer | Verdict]
        self._waits = Waits(self._get, self._settle)
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._told_at = -SPACED_S
        self.trouble = ""  # why the last question had no answer

    def change(self, settings: Settings) -> None:
        """Withdraw every verdict and answer; from now on decide by `settings`."""
        self._settings = settings
        self._memory.clear()
        self._core.forget()

    def on_question(self, question: Question) -> None:
        """Answer, now or later."""
        self._go_on(question, NOTHING)

    def on_withdrawn(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        self._waits.withdraw(question.ticket)

    async def close(self) -> None:
        """Leave what waits without an answer."""
        await self._waits.close()

    def _go_on(self, question: Question, fresh: Mapping[Need, Answer]) -> None:
        """Decide, by answers that have come if any have; wait for the next one."""
        found: Verdict | Need
        trail = Trail()
        try:
            found = decide(question, self._settings, self._memory.look(fresh), trail)
            if isinstance(found, Verdict) and found.location and found.path:
                self._prepare(found.path, found.location)
        except PyproxyError as error:
            found = _unavailable(str(error))
        except Exception:
            logger.exception("question not answered", extra={"bug": True})
            found = Verdict(status(500, "InternalError", "Internal error occurred"))
        if isinstance(found, Verdict):
            self._answer(question, found, trail)
        else:
            # Decided once more later: what was read to see the need is no part of that.
            self._waits.add(found, question.ticket, (question.again(), fresh, trail))

    async def _get(self, need: Need) -> Answer | Verdict:
        try:
            async with self._slots:
                answer = await self._ask(need)
            self._memory.keep(need, answer)
            self.trouble = ""
            return answer
        except PyproxyError as error:
            return self._unanswered(need, error)
        except Exception:
            logger.exception("question not asked", extra={"bug": True})
            return Verdict(status(500, "InternalError", "Internal error occurred"))

    def _settle(self, waiting: Waiting, need: Need, outcome: Answer | Verdict) -> None:
        question, before, trail = waiting
        if isinstance(outcome, Verdict):
            self._answer(question, outcome, trail)
        else:
            # An answer that holds for no time must not be asked for again.
            self._go_on(question, {**before, need: outcome})

    def _unanswered(self, need: Need, error: PyproxyError) -> Verdict:
        what = {Token: "who you are", Lookup: "where a node is"}
        said = what.get(type(need), "what you may do")
        now = asyncio.get_running_loop().time()
        self.trouble = str(error)
        if now - self._told_at >= SPACED_S:
            self._told_at = now
            extra = {"question": said, "why": str(error)}
            logger.warning("question without an answer", extra=extra)
        return _unavailable(f"there is no answer to the question {said}")

    def _answer(self, question: Question, verdict: Verdict, trail: Trail) -> None:
        trail.refusal = verdict.refusal
        self._core.answer(
            question,
            verdict.answer,
            ttl_s=verdict.ttl_s,
            key=verdict.key,
            tag=verdict.tag if verdict.ttl_s > 0 else "",
            label=self._label(trail, is_kept=verdict.ttl_s > 0),
        )


def _unavailable(why: str) -> Verdict:
    reason = "ServiceUnavailable"
    return Verdict(status(503, reason, why), refusal=Refusal(reason, why))
