"""Leases in memory, behind what an elector needs of a client."""

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import msgspec

from pyproxy.kube.errors import KubeError
from pyproxy.kube.records import Lease
from tests.support.kube_time import FakeTime


class Leases:
    """What several clients share."""

    def __init__(self) -> None:
        self.there: dict[str, Lease] = {}
        self.writes = 0
        self.versions = itertools.count(1)

    def client(self, clock: FakeTime) -> "LeaseClient":
        """Return one of its clients."""
        return LeaseClient(self, clock)


class LeaseClient:
    """A client that can be cut off, or made to wait for ever."""

    def __init__(self, leases: Leases, clock: FakeTime) -> None:
        self._leases = leases
        self.wire = SimpleNamespace(clock=clock)
        self.is_cut_off = False
        self.hangs = False

    async def get(self, resource: Any, key: str) -> Lease:
        """Return the Lease."""
        await self._travel()
        if key not in self._leases.there:
            raise KubeError("gone", 404, "NotFound")
        return self._leases.there[key]

    async def create(self, resource: Any, made: Lease) -> Lease:
        """Create it, unless it is there."""
        await self._travel()
        if made.key in self._leases.there:
            raise KubeError("there", 409, "AlreadyExists")
        return self._put(made)

    async def update(self, resource: Any, made: Lease) -> Lease:
        """Replace it, if it is still this version."""
        await self._travel()
        old = self._leases.there.get(made.key)
        if old is None:
            raise KubeError("gone", 404, "NotFound")
        if old.metadata.resource_version != made.metadata.resource_version:
            raise KubeError("other", 409, "Conflict")
        return self._put(made)

    def _put(self, made: Lease) -> Lease:
        version = str(next(self._leases.versions))
        metadata = msgspec.structs.replace(made.metadata, resource_version=version)
        made = Lease(metadata=metadata, spec=made.spec)
        self._leases.there[made.key] = made
        self._leases.writes += 1
        return made

    async def _travel(self) -> None:
        if self.is_cut_off:
            raise KubeError("cut off", 0, "Unreachable")
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
