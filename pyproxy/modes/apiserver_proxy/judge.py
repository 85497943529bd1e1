"""Answers the core's questions: at once where it can, or when it knows what it needs.

Questions that need the same answer wait together: an apiserver is asked once for all of
them. A client that leaves takes its question along. What cannot be asked is never
allowed: then the answer is a 503 that says so, and is not remembered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.discovery.targets import Location, Lookup
from pyproxy.errors import PyproxyError
from pyproxy.http.identity import Token
from pyproxy.http.proxypath import ProxyPath
from pyproxy.http.status import status
from pyproxy.modes.apiserver_proxy.answers import NOTHING, Answer, Memory
from pyproxy.modes.apiserver_proxy.policy import Need, Settings, Verdict, decide

logger = logging.getLogger(__name__)

AT_A_TIME = (
    64  # questions to the apiserver: a flood of bad tokens must not be passed on
)
SLICE = 200  # questions that are answered before others of the loop have their turn
SPACED_S = 10.0  # between two lines about an apiserver that does not answer

Ask = Callable[[Need], Awaitable[Answer]]  # raises PyproxyError
Prepare = Callable[[ProxyPath, Location], None]  # likewise
Ticket = tuple[int, ...]
Waiting = tuple[Question, Mapping[Need, Answer]]


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
    ) -> None:
        """Take a verdict."""

    def forget(self, tag: str | None = None) -> None:
        """Remember no verdict that was given before, or none with the tag."""


@dataclass(slots=True)
class Wait:
    """Questions that wait for one answer, with those that came to each before."""

    questions: dict[Ticket, Waiting] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Judge:
    """Decides by the settings and the answers of now."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        memory: Memory,
        ask: Ask,
        prepare: Prepare,
    ) -> None:
        """`prepare` is called before a verdict that leads to a location."""
        self._core = core
        self._settings = settings
        self._memory = memory
        self._ask = ask
        self._prepare = prepare
        self._waits: dict[Need, Wait] = {}
        self._tasks: set[asyncio.Task[None]] = set()
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

    def _go_on(self, question: Question, fresh: Mapping[Need, Answer]) -> None:
        """Decide, by answers that have come if any have; wait for the next one."""
        found: Verdict | Need
        try:
            found = decide(question, self._settings, self._memory.look(fresh))
            if isinstance(found, Verdict) and found.location and found.path:
                self._prepare(found.path, found.location)
        except PyproxyError as error:
            found = _unavailable(str(error))
        except Exception:
            logger.exception("question not answered", extra={"bug": True})
            found = Verdict(status(500, "InternalError", "Internal error occurred"))
        if isinstance(found, Verdict):
            self._answer(question, found)
        else:
            # Decided once more later: what was read to see the need is no part of that.
            self._wait(question.again(), found, fresh)

    def _wait(
        self, question: Question, need: Need, fresh: Mapping[Need, Answer]
    ) -> None:
        wait = self._waits.get(need)
        if wait is None:
            wait = self._waits[need] = Wait()
            wait.task = asyncio.create_task(self._answer_later(need, wait))
            self._tasks.add(wait.task)
            wait.task.add_done_callback(self._tasks.discard)
        wait.questions[question.ticket] = (question, fresh)

    async def _answer_later(self, need: Need, wait: Wait) -> None:
        refusal: Verdict | None = None
        answer: Answer = None
        try:
            async with self._slots:
                answer = await self._ask(need)
            self._memory.keep(need, answer)
            self.trouble = ""
        except PyproxyError as error:
            refusal = self._unanswered(need, error)
        except Exception:
            logger.exception("question not asked", extra={"bug": True})
            refusal = Verdict(status(500, "InternalError", "Internal error occurred"))
        finally:
            # Whoever asks from now on is told what is known, or waits anew.
            if self._waits.get(need) is wait:
                del self._waits[need]
        left = 0
        while wait.questions:
            left = (left + 1) % SLICE
            if left == 0:
                await asyncio.sleep(0)
            _, (question, before) = wait.questions.popitem()
            if refusal is not None:
                self._answer(question, refusal)
            else:
                # An answer that holds for no time must not be asked for again.
                self._go_on(question, {**before, need: answer})

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

    def _answer(self, question: Question, verdict: Verdict) -> None:
        self._core.answer(
            question,
            verdict.answer,
            ttl_s=verdict.ttl_s,
            key=verdict.key,
            tag=verdict.tag if verdict.ttl_s > 0 else "",
        )


def _unavailable(why: str) -> Verdict:
    return Verdict(status(503, "ServiceUnavailable", why))
