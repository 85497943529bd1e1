"""Keeps a store equal to what the apiserver has: list, watch, and what goes wrong.

Three layers, each of which knows one kind of end. `watching.watch` is one response.
`_round` is one list, where one is due, and one watch after it. `run` decides what the
end of a round means: go on at once, wait, or list anew.

    no version ----streaming list, or pages----> version ----watch----> version
        ^                                            |
        +---- 410, lines that make no sense, --------+
              a version that the apiserver never reaches
"""

import logging
import math
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pyproxy.kube.backoff import Backoff
from pyproxy.kube.errors import MALFORMED, KubeError, TooLargeVersionError
from pyproxy.kube.objects import ListMeta, Object
from pyproxy.kube.resource import Change
from pyproxy.kube.splitting import Unread
from pyproxy.kube.store import Replacement, Store
from pyproxy.kube.watching import (
    ALL_THERE,
    Misfit,
    Selection,
    StalledError,
    pages,
    watch,
)
from pyproxy.kube.wire import Wire

if TYPE_CHECKING:
    from pyproxy.kube.config import Server

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)

NOT_OFFERED = (400, 422)  # what servers without streaming lists answer


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds, and how often they are tried."""

    quiet_s: float = 200.0  # bookmarks of a quiet kind come every two minutes at worst
    lifetime_s: float = 300.0  # asked of the apiserver: once to twice this, by chance
    grace_s: float = 30.0  # what it may be late with that
    settled_s: float = 1.0  # a watch that ends sooner is a failure, as in client-go
    healthy_s: float = 30.0  # after which earlier failures are forgotten
    page: int = 500  # objects in a page, as in client-go
    tries: int = (
        5  # of a version that the apiserver does not know, or lines without sense
    )


USUAL = Timing()


class Reflector(Generic[T]):
    """Follows a selection of objects into a store."""

    def __init__(
        self,
        wire: Wire,
        selection: Selection[T],
        store: Store[T],
        *,
        timing: Timing = USUAL,
        dice: random.Random | None = None,
        on_restart: Callable[[str], None] = lambda kind: None,
    ) -> None:
        """`on_restart` is called with the plural whenever a watch begins anew."""
        self._wire, self._selection, self._store = wire, selection, store
        self._timing = timing
        self._dice = dice or random.Random()
        self._backoff = Backoff(dice=self._dice)
        self._on_restart = on_restart
        self._server: Server | None = None  # that the version is from
        self._version = ""  # "" = a list is due
        self._streams_lists = True  # until it turns out that they are not offered
        self._limit = timing.page
        self._replacement: Replacement[T] | None = None  # a streaming list on its way
        self._began_at = 0.0  # the watch; 0 = a list comes first
        self._listed_at = 0.0
        self._failures = 0  # in a row, without a change between them
        self._trouble = ""

    @property
    def version(self) -> str:
        """The revision up to which the store is right; "" = not known."""
        return self._version

    async def run(self) -> None:
        """Follow for ever; cancel it to end it."""
        kind = self._selection.resource.plural
        while True:
            self._began_at = 0.0
            error: KubeError | None = None
            try:
                await self._round()
            except KubeError as caught:
                error = caught
            self._replacement, streamed = None, self._streams_lists
            wait_s = self._judge(error)
            if error is not None and streamed == self._streams_lists:
                self._note_trouble(error, wait_s)
            if wait_s:
                await self._wire.clock.sleep(wait_s)
            self._on_restart(kind)

    async def _round(self) -> None:
        """List if that is due, then watch until the watch ends."""
        if (server := self._wire.access.server) != self._server:
            # Of a cluster that may be another one, where our version means nothing.
            self._server, self._version = server, ""
        if not self._version and not self._streams_lists:
            await self._list_pages()
        if not self._version:
            self._replacement = self._store.replace()
        clock, timing = self._wire.clock, self._timing
        self._began_at = clock.monotonic()
        changes = watch(
            self._wire,
            self._selection,
            self._version,
            lifetime_s=timing.lifetime_s * (1 + self._dice.random()),
            quiet_s=timing.quiet_s,
            grace_s=timing.grace_s,
        )
        async with aclosing(changes):
            async for change in changes:
                self._take(change)
        if self._replacement is not None:
            raise KubeError("streaming list ended early", reason=MALFORMED)

    async def _list_pages(self) -> None:
        replacement, meta = self._store.replace(), ListMeta()
        wire, selection = self._wire, self._selection
        found = pages(wire, selection, self._limit, self._timing.quiet_s)
        async with aclosing(found):
            async for each in found:
                if isinstance(each, ListMeta):
                    meta = each
                elif isinstance(each, Unread):
                    self._keep(replacement, each)
                else:
                    replacement.take(each)
        self._limit = self._timing.page
        self._finish(replacement, meta.resource_version)

    def _take(self, change: Change[T] | Misfit) -> None:
        """Do to the store what a line of the watch says."""
        if isinstance(change, Misfit):
            self._take_misfit(change)
            return
        metadata = change.object.metadata
        replacement = self._replacement
        if change.type == "BOOKMARK":
            if replacement is None:
                self._advance(metadata.resource_version)
            elif metadata.annotations.get(ALL_THERE) == "true":
                self._replacement = None
                self._finish(replacement, metadata.resource_version)
        elif replacement is not None:
            replacement.take(change.object)
        elif change.type == "DELETED":
            self._store.delete(metadata.key)
            self._advance(metadata.resource_version)
        else:
            self._store.upsert(change.object)
            self._advance(metadata.resource_version)

    def _take_misfit(self, change: Misfit) -> None:
        unread = change.unread
        if self._replacement is not None:
            self._keep(self._replacement, unread)
            return
        if change.type == "DELETED":
            self._store.delete(unread.metadata.key)
        elif change.type != "BOOKMARK":
            self._complain(unread)
        self._advance(unread.metadata.resource_version)

    def _keep(self, replacement: Replacement[T], unread: Unread) -> None:
        replacement.keep(unread.metadata.key)
        self._complain(unread)

    def _complain(self, unread: Unread) -> None:
        extra = {
            "kind": self._selection.resource.plural,
            "key": unread.metadata.key,
            "why": unread.why,
        }
        logger.error("object not read, keeping the last", extra=extra)

    def _advance(self, version: str) -> None:
        old, self._version = self._version, version or self._version
        self._failures = 0
        if old and _is_older(version, old):
            # etcd was restored from a backup: there may be no end of what we missed.
            why = f"revision {version} came after {old}"
            raise KubeError(why, 410, "Expired")
        if self._trouble:
            self._note_recovery()

    def _finish(self, replacement: Replacement[T], version: str) -> None:
        is_first = not self._store.is_synced
        replacement.finish()
        self._listed_at = self._wire.clock.monotonic()
        self._advance(version)
        extra = {
            "kind": self._selection.resource.plural,
            "objects": len(self._store),
            "version": version,
        }
        logger.info("synced" if is_first else "listed anew", extra=extra)

    def _judge(self, error: KubeError | None) -> float:
        """Decide what is to be done next; return how long to wait before."""
        now, timing = self._wire.clock.monotonic(), self._timing
        lived_s = now - self._began_at if self._began_at else 0.0
        if lived_s >= timing.healthy_s:
            self._backoff.reset()
        if not self._version:
            return self._judge_list(error)
        if error is None:
            return 0.0 if lived_s >= timing.settled_s else self._backoff.next_s()
        if error.is_expired:
            self._version = ""
            is_new = now - self._listed_at >= timing.healthy_s
            return 0.0 if is_new else self._backoff.next_s()
        self._failures += 1
        if self._failures >= self._tries(error):
            self._version, self._failures = "", 0
        if error.retry_after_s and isinstance(error, TooLargeVersionError):
            return error.retry_after_s
        return self._backoff.next_s(error.retry_after_s)

    def _tries(self, error: KubeError) -> float:
        """Return after how many failures in a row a list is due."""
        if isinstance(error, StalledError):
            return 2  # a server that went back waits for our version, and says nothing
        is_about_version = isinstance(error, TooLargeVersionError)
        if is_about_version or error.reason == MALFORMED:
            return self._timing.tries
        return math.inf

    def _judge_list(self, error: KubeError | None) -> float:
        """A list did not come to its end."""
        streamed = self._streams_lists
        if streamed and error is not None:
            is_refused = error.status in NOT_OFFERED
            if is_refused or isinstance(error, StalledError):
                self._streams_lists = False
                extra = {"kind": self._selection.resource.plural, "why": str(error)}
                logger.debug("no streaming list, listing in pages", extra=extra)
                return 0.0 if is_refused else self._backoff.next_s()
        if error is not None and error.is_expired and not streamed:
            # Its pages took longer than history is kept: the next one is one page.
            self._limit = 0
        at_least_s = error.retry_after_s if error is not None else 0.0
        return self._backoff.next_s(at_least_s)

    def _note_trouble(self, error: KubeError, wait_s: float) -> None:
        """Log once what is wrong, not again at each try."""
        why, kind = str(error), self._selection.resource.plural
        extra = {"kind": kind, "why": why, "retry_s": round(wait_s, 1)}
        if error.is_expired:
            logger.info("history forgotten, listing anew", extra=extra)
        elif why != self._trouble:
            self._trouble = why
            logger.warning("watch lost", extra=extra)

    def _note_recovery(self) -> None:
        self._trouble = ""
        extra = {"kind": self._selection.resource.plural}
        logger.info("watch regained", extra=extra)


def _is_older(version: str, than: str) -> bool:
    """Whether a version was before another; versions compare as numbers (KEP-5504)."""
    if len(version) != len(than):
        shorter = len(version) < len(than)
        return shorter and version.isdecimal() and than.isdecimal()
    return version < than and version.isdecimal() and than.isdecimal()
