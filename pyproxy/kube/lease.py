"""One of several processes leads: client-go's leader election over a Lease.

Restates tools/leaderelection: the holder renews the Lease every `retry_s`; another
process takes the Lease over when it has not seen it change for `lease_s`. Times in the
record come from its writer's clock, so only our own clock counts, from the moment when
we saw the record change.

A leader that cannot renew for `renew_deadline_s` stops leading, before another may
begin: `renew_deadline_s` < `lease_s`. `is_leader` turns false by the clock alone, also
in a process that was stopped and does not know it yet.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from pyproxy.kube.client import Client
from pyproxy.kube.errors import KubeError
from pyproxy.kube.objects import ObjectMeta
from pyproxy.kube.records import Lease, LeaseSpec
from pyproxy.kube.resource import LEASES

logger = logging.getLogger(__name__)

JITTER = 1.2  # of waits before a try to take over, as in client-go

Lead = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """Times of an election, in seconds; the defaults are client-go's."""

    lease_s: float = 15.0  # for how long a Lease is good after it was seen to change
    renew_deadline_s: float = 10.0  # a leader that fails for this long stops
    retry_s: float = 2.0  # between two tries

    def __post_init__(self) -> None:
        if not self.lease_s > self.renew_deadline_s > JITTER * self.retry_s > 0:
            raise ValueError(f"lease > renew deadline > {JITTER} x retry does not hold")


USUAL = Terms()


class Elector:
    """Takes part in one election."""

    def __init__(
        self,
        client: Client,
        key: str,
        identity: str,
        *,
        terms: Terms = USUAL,
        on_leader: Callable[[str], None] = lambda identity: None,
        dice: random.Random | None = None,
    ) -> None:
        """`on_leader` is told the name of each new leader; "" = there is none."""
        self._client, self._key, self.identity = client, key, identity
        self._clock = client.wire.clock
        self._terms = terms
        self._on_leader = on_leader
        self._dice = dice or random.Random()
        self._seen: Lease | None = None
        self._seen_at = 0.0  # when it was seen to change
        self._leads_until = 0.0  # we, unless we renew
        self._reported = ""
        self._failure = ""

    @property
    def is_leader(self) -> bool:
        """Whether no other process can lead at this moment."""
        return self._clock.monotonic() < self._leads_until

    @property
    def leader(self) -> str:
        """The holder of the Lease when it was last seen; "" = none."""
        return self._seen.spec.holder_identity if self._seen is not None else ""

    async def run(self, lead: Lead) -> None:
        """Take part for ever: run `lead` whenever we lead, cancel it when we do not.

        When this is cancelled, or `lead` returns, the Lease is given back, so that
        another need not wait for its end.
        """
        try:
            while True:
                await self._acquire()
                logger.info("leader won", extra=self._extra())
                if await self._lead(lead):
                    return
                logger.warning("leader lost", extra=self._extra())
        finally:
            await self._release()

    async def _acquire(self) -> None:
        """Return when we lead."""
        while not await self._try_in_time():
            wait_s = self._terms.retry_s * (1 + JITTER * self._dice.random())
            await self._clock.sleep(wait_s)

    async def _try_in_time(self) -> bool:
        try:
            async with self._clock.timeout(self._terms.renew_deadline_s):
                return await self._try()
        except TimeoutError:
            self._note_failure("no answer")
            return False

    async def _lead(self, lead: Lead) -> bool:
        """Lead until it is lost or done; return whether it is done."""
        work = asyncio.create_task(lead())
        renewal = asyncio.create_task(self._renew())
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            is_done = work.done()
        finally:
            for task in (renewal, work):
                task.cancel()
            await asyncio.gather(renewal, work, return_exceptions=True)
        if is_done:
            work.result()
        return is_done

    async def _renew(self) -> None:
        """Renew the Lease; return when that has failed for too long."""
        terms, clock = self._terms, self._clock
        while True:
            await clock.sleep(terms.retry_s)
            try:
                async with clock.timeout(self._leads_until - clock.monotonic()):
                    while not await self._try():
                        await clock.sleep(terms.retry_s)
            except TimeoutError:
                self._leads_until = 0.0
                return
            if not self.is_leader:
                return

    async def _try(self) -> bool:
        """Take or renew the Lease if that is possible; return whether we hold it."""
        try:
            held = await self._renew_ours() or await self._take()
        except KubeError as error:
            # Another candidate was quicker: no failure, and the next look shows which.
            if not error.is_conflict and not error.is_taken:
                self._note_failure(str(error))
            return False
        self._failure = ""
        return held

    async def _renew_ours(self) -> bool:
        """Renew without looking: while we lead, our own record is the newest."""
        if not self.is_leader or self._seen is None:
            return False
        began_at = self._clock.monotonic()
        try:
            made = await self._client.update(LEASES, self._record(self._seen))
        except KubeError as error:
            if error.is_conflict or error.is_missing:
                return False
            raise
        self._hold(made, began_at)
        return True

    async def _take(self) -> bool:
        """Read the Lease, and take it if it is free or ours."""
        began_at = self._clock.monotonic()
        try:
            self._see(await self._client.get(LEASES, self._key))
        except KubeError as error:
            if not error.is_missing:
                raise
            made = await self._client.create(LEASES, self._record(None))
        else:
            if self._is_held_by_another():
                self._leads_until = 0.0
                return False
            made = await self._client.update(LEASES, self._record(self._seen))
        self._hold(made, began_at)
        return True

    def _see(self, found: Lease) -> None:
        if self._seen is None or found.spec != self._seen.spec:
            self._seen_at = self._clock.monotonic()
        self._seen = found
        self._report()

    def _hold(self, made: Lease, began_at: float) -> None:
        self._see(made)
        # From when we asked: the answer may have been long under way.
        self._leads_until = began_at + self._terms.renew_deadline_s

    def _is_held_by_another(self) -> bool:
        if self._seen is None or self.leader in ("", self.identity):
            return False
        good_s = float(self._seen.spec.lease_duration_seconds)
        return self._clock.monotonic() < self._seen_at + good_s

    def _record(self, old: Lease | None) -> Lease:
        """Return what to write in place of what is there."""
        now = _micro_time(self._clock.wall())
        namespace, _, name = self._key.rpartition("/")
        metadata = ObjectMeta(name=name, namespace=namespace)
        acquired, transitions = now, 0
        if old is not None:
            metadata, transitions = old.metadata, old.spec.lease_transitions
            if old.spec.holder_identity == self.identity:
                acquired = old.spec.acquire_time or now
            else:
                transitions += 1
        spec = LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=round(self._terms.lease_s),
            acquire_time=acquired,
            renew_time=now,
            lease_transitions=transitions,
        )
        return Lease(metadata=metadata, spec=spec)

    async def _release(self) -> None:
        """Give the Lease back if it is ours."""
        self._leads_until = 0.0
        old = self._seen
        if old is None or old.spec.holder_identity != self.identity:
            return
        now = _micro_time(self._clock.wall())
        spec = msgspec.structs.replace(
            *(old.spec,),
            holder_identity="",
            lease_duration_seconds=1,
            acquire_time=now,
            renew_time=now,
        )
        with suppress(KubeError, TimeoutError):  # then it ends by itself
            async with self._clock.timeout(self._terms.retry_s):
                freed = Lease(metadata=old.metadata, spec=spec)
                self._see(await self._client.update(LEASES, freed))
            logger.info("leader released", extra=self._extra())

    def _report(self) -> None:
        if self.leader == self._reported:
            return
        self._reported = self.leader
        logger.info("leader changed", extra=self._extra())
        self._on_leader(self.leader)

    def _note_failure(self, why: str) -> None:
        if why != self._failure:
            self._failure = why
            extra = {**self._extra(), "why": why}
            logger.warning("lease not reached", extra=extra)

    def _extra(self) -> dict[str, str]:
        return {"lease": self._key, "identity": self.identity, "leader": self.leader}


def _micro_time(wall_s: float) -> str:
    """Write a time as the API's MicroTime."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
