"""From a plan to the core, and from the probes to the core: what `sync` means here.

Probe what is new, apply one table, tell the core which are ready; then each change of
a state goes to the core at once, and relays of a backend that died are reset.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pyproxy.dataplane import Dataplane, NoticeKind
from pyproxy.errors import PyproxyError
from pyproxy.model import Health, Key, Pool, State, Vip, format_address
from pyproxy.probe import (
    Checker,
    Finding,
    Pace,
    Remembered,
    Result,
    Target,
    Watched,
    health_of,
)

logger = logging.getLogger(__name__)

# Before a table is applied, slow new backends get this long once every pool has one
# that is ready; without such a one, the timeout of their probe.
GRACE_S = 0.25


class Counters(Protocol):
    """What counts how long things took."""

    def note_finding(self, key: Key, finding: Finding) -> None:
        """One probe ended."""

    def note_sync(self, took_s: float, apply_s: float) -> None:
        """One sync ended well."""

    def forget_all_but(self, keys: set[Key]) -> None:
        """Other backends are gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to forward and what to probe; every name resolved, every file read."""

    vips: tuple[Vip, ...] = ()
    targets: tuple[tuple[Target, Pace], ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Pools that a vip uses, each once."""
        return tuple({vip.pool.name: vip.pool for vip in self.vips}.values())


class Sync:
    """Keeps the core at the plan in use and at what the probes find."""

    def __init__(self, dataplane: Callable[[], Dataplane], counters: Counters) -> None:
        """Take the core as a function: probes may be set up before it runs."""
        self._dataplane = dataplane
        self._counters = counters
        self._served: dict[str, bool] = {}  # pool -> has a ready backend
        self._checker = Checker(self._on_change, self._on_finding)
        self.on_lost: Callable[[], None] = lambda: None  # an address of a name fails
        self.changed = asyncio.Event()  # backends or states; the waiter clears it
        self.plan = Plan()

    def remember(self, what: Mapping[Key, Remembered]) -> None:
        """Let the first `apply` begin with what was known before the restart."""
        self._checker.remember(what)

    @property
    def watched(self) -> dict[Key, Watched]:
        """What is known about each backend; read only."""
        return self._checker.watched

    async def apply(self, plan: Plan) -> None:
        """Make `plan` the one in use. On error the one before stays, untouched.

        Raises:
            StartError, ConfigError: as `Dataplane.apply`.
        """
        began = time.perf_counter()
        # Old backends are watched until the table without them is out.
        fresh = {target.key for target, _ in plan.targets}
        leaving = [pair for pair in self.plan.targets if pair[0].key not in fresh]
        self._checker.follow([*plan.targets, *leaving])
        try:
            await self._checker.settle(lambda: self._all_served(plan), GRACE_S)
            # Before clients come: some may wait already, in a socket that was given.
            health = self._health_of(plan)
            self._dataplane().apply(plan.vips, health=health)
        except (PyproxyError, asyncio.CancelledError):
            self._checker.follow(self.plan.targets)
            raise
        self.plan = plan
        self._checker.follow(plan.targets)
        self._tell()
        self.changed.set()
        self._counters.forget_all_but(fresh)
        took_s = time.perf_counter() - began
        self._counters.note_sync(took_s, self._dataplane().last_apply_s)

    def on_notice(self, kind: NoticeKind, key: Key) -> None:
        """Probe at once what the core could not connect to."""
        if kind != "recovered":
            self._checker.hurry(key)
            self._lost(key)
        if kind != "connect-failed":
            extra = {"backend": format_address(*key), "kind": kind}
            logger.info("backend seen by the core", extra=extra)

    def why_not_served(self, pool: str) -> str | None:
        """Say why a pool has no ready backend; None when it has one."""
        for each in self.plan.pools:
            if each.name == pool and not self._is_served(each):
                return f"none of {len(each.backends)} servers is ready"
        return None

    async def close(self) -> None:
        """Stop probing."""
        await self._checker.close()

    def states(self) -> dict[Key, State]:
        """Return the state of each backend."""
        return self._checker.states()

    def suspects(self) -> set[Key]:
        """Return the backends that do not answer, and are not dead yet."""
        return self._checker.suspects()

    def _on_finding(self, key: Key, finding: Finding) -> None:
        self._counters.note_finding(key, finding)
        if finding.result is Result.DEAD:
            self._lost(key)

    def _lost(self, key: Key) -> None:
        every = (b for pool in self.plan.pools for b in pool.backends)
        if any(b.key == key and b.name not in ("", b.host) for b in every):
            self.on_lost()

    def _on_change(self, watched: Watched, before: State) -> None:
        self.changed.set()
        self._tell()
        key, now = watched.target.key, watched.state.state
        if now is State.DOWN and before not in (State.UNCHECKED, now):
            self._dataplane().reset(key)
        elif watched.state.suspect and self._health_of(self.plan).get(key) != "ready":
            # Clients that came in its first silent seconds: a new connection of theirs
            # goes elsewhere. Those that it has answered before wait until it is dead.
            self._dataplane().reset(key, silent=True)

    def _tell(self) -> None:
        self._dataplane().tell(self._health_of(self.plan))
        for pool in self.plan.pools:
            served = self._is_served(pool)
            if served != self._served.get(pool.name, True):
                level = logging.INFO if served else logging.ERROR
                event = "pool is served again" if served else "pool has no ready server"
                extra = {"pool": pool.name, "policy": pool.on_all_down}
                logger.log(level, event, extra=extra)
            self._served[pool.name] = served

    def _health_of(self, plan: Plan) -> dict[Key, Health]:
        checker = self._checker
        return health_of(plan.pools, checker.states(), checker.suspects())

    def _is_served(self, pool: Pool) -> bool:
        states = self._checker.states()
        return any(states.get(b.key) is State.UP for b in pool.backends)

    def _all_served(self, plan: Plan) -> bool:
        """Whether every pool has a ready backend, as far as we know, not by hints."""
        ready = {
            key
            for key, watched in self._checker.watched.items()
            if watched.state.known and watched.state.state is State.UP
        }
        return all({b.key for b in pool.backends} & ready for pool in plan.pools)
