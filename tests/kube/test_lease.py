"""Who leads, and when: client-go's leader election, in fake time.

Expectations are those of tools/leaderelection (leaderelection.go and its tests).
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import msgspec
import pytest

from pyproxy.kube.lease import Elector, Terms
from pyproxy.sandbox.certificates import Authority
from tests.support.kube_leases import LeaseClient, Leases
from tests.support.kube_sandbox import sandbox
from tests.support.kube_server import until
from tests.support.kube_time import FakeTime

KEY = "x/lock"


class Candidate:
    """An elector, what it was told, and whether its work runs."""

    def __init__(self, leases: Leases, clock: FakeTime, name: str) -> None:
        self.client: LeaseClient = leases.client(clock)
        self.told: list[str] = []
        self.starts = 0
        self.works = False
        self.done = asyncio.Event()
        self.elector = Elector(
            cast("Any", self.client),
            *(KEY, name),
            on_leader=self.told.append,
            dice=random.Random(1),
        )

    async def lead(self) -> None:
        """Work until told to end."""
        self.starts += 1
        self.works = True
        try:
            await self.done.wait()
        finally:
            self.works = False


@asynccontextmanager
async def running(candidate: Candidate) -> AsyncIterator[Candidate]:
    """Let it take part."""
    task = asyncio.create_task(candidate.elector.run(candidate.lead))
    try:
        yield candidate
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def clock() -> FakeTime:
    """The one clock of everybody."""
    return FakeTime()


@pytest.fixture
def leases() -> Leases:
    """What everybody shares."""
    return Leases()


async def test_first_one_leads_and_the_others_wait(
    clock: FakeTime, leases: Leases
) -> None:
    a, b = Candidate(leases, clock, "a"), Candidate(leases, clock, "b")
    async with running(a):
        await clock.settle()
        async with running(b):
            await clock.advance(60)
            assert (a.works, b.works) == (True, False)
            assert (a.elector.is_leader, b.elector.is_leader) == (True, False)
            assert a.told == b.told == ["a"]
            spec = leases.there[KEY].spec
            assert spec.lease_duration_seconds == 15
            assert spec.lease_transitions == 0
            assert spec.acquire_time == "1970-01-12T13:46:40.000000Z"
            assert spec.renew_time == "1970-01-12T13:47:40.000000Z"


async def test_lease_is_given_back_at_the_end(clock: FakeTime, leases: Leases) -> None:
    a, b = Candidate(leases, clock, "a"), Candidate(leases, clock, "b")
    async with running(b):
        async with running(a):
            await clock.settle()
            await clock.advance(10)
            first = (a, b) if a.works else (b, a)
            assert first[0].works
        await clock.advance(5)  # one retry, and not the length of a lease
        assert b.works
        assert not a.works


async def test_released_lease_is_taken_with_one_more_transition(
    clock: FakeTime, leases: Leases
) -> None:
    a, b = Candidate(leases, clock, "a"), Candidate(leases, clock, "b")
    async with running(a):
        await clock.settle()
    spec = leases.there[KEY].spec
    assert (spec.holder_identity, spec.lease_duration_seconds) == ("", 1)
    async with running(b):
        await clock.settle()
        assert b.works
        assert leases.there[KEY].spec.lease_transitions == 1


async def test_work_that_ends_gives_the_lease_back(
    clock: FakeTime, leases: Leases
) -> None:
    a = Candidate(leases, clock, "a")
    a.done.set()
    await a.elector.run(a.lead)
    assert leases.there[KEY].spec.holder_identity == ""
    assert not a.elector.is_leader


async def test_work_that_fails_gives_the_lease_back_and_is_raised(
    clock: FakeTime, leases: Leases
) -> None:
    async def fail() -> None:
        raise RuntimeError("work")

    a = Candidate(leases, clock, "a")
    with pytest.raises(RuntimeError, match="work"):
        await a.elector.run(fail)
    assert leases.there[KEY].spec.holder_identity == ""


@pytest.mark.parametrize("how", ["is_cut_off", "hangs"])
async def test_leader_that_cannot_renew_stops_before_another_begins(
    clock: FakeTime, leases: Leases, how: str
) -> None:
    a, b = Candidate(leases, clock, "a"), Candidate(leases, clock, "b")
    async with running(a):
        await clock.settle()
        async with running(b):
            await clock.advance(6)
            setattr(a.client, how, True)
            stopped_at = began_at = 0.0
            for _ in range(600):
                await clock.advance(0.1)
                assert not (a.works and b.works)
                assert not (a.elector.is_leader and b.elector.is_leader)
                if not stopped_at and not a.works:
                    stopped_at = clock.now
                if not began_at and b.works:
                    began_at = clock.now
            # Last renewed at 6 s at the latest: 10 s to renew it, 15 s until it is
            # free, then a retry of at most 4.4 s.
            assert stopped_at - 1_000_000 == pytest.approx(16, abs=2.2)
            assert began_at - 1_000_000 == pytest.approx(23, abs=4.5)
            assert leases.there[KEY].spec.lease_transitions == 1
            setattr(a.client, how, False)
            await clock.advance(30)
            assert (a.works, b.works) == (False, True)
            assert a.told == ["a", "b"]


async def test_leader_that_slept_does_not_lead_when_it_wakes(
    clock: FakeTime, leases: Leases
) -> None:
    # A process under SIGSTOP: no timer runs, and time goes on.
    a = Candidate(leases, clock, "a")
    async with running(a):
        await clock.settle()
        assert a.elector.is_leader
        clock.now += 11
        assert not a.elector.is_leader


async def test_clock_of_the_holder_does_not_count(
    clock: FakeTime, leases: Leases
) -> None:
    # What the record says of the time may be years off: only changes that we see count.
    a, b = Candidate(leases, clock, "a"), Candidate(leases, clock, "b")
    async with running(a):
        await clock.settle()
    old = leases.there[KEY]
    spec = msgspec.structs.replace(
        *(old.spec,),
        holder_identity="a",
        renew_time="1971-01-01T00:00:00.000000Z",
        lease_duration_seconds=15,
    )
    leases.there[KEY] = msgspec.structs.replace(old, spec=spec)
    async with running(b):
        await clock.advance(14)
        assert not b.works
        await clock.advance(6)
        assert b.works


async def test_lease_that_vanishes_is_made_anew(
    clock: FakeTime, leases: Leases
) -> None:
    a = Candidate(leases, clock, "a")
    async with running(a):
        await clock.settle()
        leases.there.clear()
        await clock.advance(5)
        assert a.works
        assert a.starts == 1
        assert leases.there[KEY].spec.holder_identity == "a"


async def test_lease_changed_by_somebody_is_renewed_without_a_stop(
    clock: FakeTime, leases: Leases
) -> None:
    a = Candidate(leases, clock, "a")
    async with running(a):
        await clock.settle()
        old = leases.there[KEY]
        meta = msgspec.structs.replace(old.metadata, resource_version="other")
        leases.there[KEY] = msgspec.structs.replace(old, metadata=meta)
        await clock.advance(15)
        assert a.works
        assert a.starts == 1


async def test_lease_taken_by_another_is_lost_at_the_next_renewal(
    clock: FakeTime, leases: Leases
) -> None:
    a = Candidate(leases, clock, "a")
    async with running(a):
        await clock.settle()
        old = leases.there[KEY]
        meta = msgspec.structs.replace(old.metadata, resource_version="other")
        spec = msgspec.structs.replace(old.spec, holder_identity="b")
        leases.there[KEY] = msgspec.structs.replace(old, metadata=meta, spec=spec)
        await clock.advance(2.1)
        assert not a.elector.is_leader
        await clock.advance(8)
        assert not a.works


async def test_renewals_cost_one_request_each(clock: FakeTime, leases: Leases) -> None:
    a = Candidate(leases, clock, "a")
    async with running(a):
        await clock.settle()
        before = leases.writes
        await clock.advance(20)
        assert leases.writes - before == 10


@pytest.mark.parametrize("seed", range(6))
async def test_two_never_lead_at_once(
    clock: FakeTime, leases: Leases, seed: int
) -> None:
    # Three candidates whose way to the API comes and goes, for ten minutes.
    dice = random.Random(seed)
    three = [Candidate(leases, clock, name) for name in "abc"]
    async with running(three[0]), running(three[1]), running(three[2]):
        for _ in range(200):
            each = dice.choice(three)
            each.client.is_cut_off = dice.random() < 0.6
            each.client.hangs = dice.random() < 0.3
            await clock.advance(dice.random() * 6)
            assert sum(one.elector.is_leader for one in three) <= 1
            assert sum(one.works for one in three) <= 1
        for each in three:
            each.client.is_cut_off = each.client.hangs = False
        await clock.advance(60)
        assert sum(one.works for one in three) == 1


@pytest.mark.parametrize(
    "times", [(10.0, 10.0, 2.0), (15.0, 2.0, 2.0), (15.0, 10.0, 0.0)]
)
def test_terms_that_cannot_work_are_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        Terms(*times)


async def test_election_over_an_api_server(issuer: Authority) -> None:
    terms = Terms(lease_s=3, renew_deadline_s=2, retry_s=0.1)
    ended = asyncio.Event()
    async with sandbox(issuer) as (_, client):
        electors = [Elector(client, "default/lock", n, terms=terms) for n in "ab"]
        tasks = [asyncio.create_task(each.run(ended.wait)) for each in electors]  # type: ignore[arg-type]
        await until(lambda: any(each.is_leader for each in electors))
        await until(lambda: len({each.leader for each in electors}) == 1)
        first = electors.index(next(e for e in electors if e.is_leader))
        tasks[first].cancel()
        await until(lambda: electors[1 - first].is_leader)
        ended.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(each.is_leader for each in electors)
