"""Capture without privileges: vips bind their own addresses, nothing is installed.

What has no listener is rejected by the kernel itself. Nothing is ever dropped, far and
near clients are one, and sources are not limited: a front that asks for one of these
is told, once.
"""

import logging
from collections.abc import Sequence

from pyproxy.model import Front, VipKey

logger = logging.getLogger(__name__)


class Bind:
    """Addresses are listened at, one by one."""

    def __init__(self) -> None:
        self._weaker: set[VipKey] = set()

    async def open(self, fronts: Sequence[Front] = ()) -> None:
        """Nothing is installed."""
        await self.update(fronts)

    async def update(self, put: Sequence[Front], remove: Sequence[VipKey] = ()) -> None:
        """Note what cannot be done."""
        self._weaker.difference_update(remove)
        for front in put:
            if weakened(front):
                if front.key not in self._weaker:
                    logger.warning("front is weaker without capture", extra=say(front))
                self._weaker.add(front.key)
            else:
                self._weaker.discard(front.key)

    async def set_near(self, networks: Sequence[str]) -> None:
        """All clients are alike."""

    async def verify(self) -> list[str]:
        """Nothing of ours can be changed."""
        return []

    def obstacles(self) -> list[str]:
        """What is missing compared to a capture by the kernel."""
        if not self._weaker:
            return []
        first = min(self._weaker)
        many = f"{len(self._weaker)} addresses are not dropped or limited as their"
        return [
            f"{many} Services say, {first} for one: capture by tproxy does, as root"
        ]

    async def close(self) -> None:
        """Nothing is held."""

    async def cleanup(self) -> bool:
        """Nothing was installed."""
        return False


def weakened(front: Front) -> bool:
    """Whether a front asks for what a bound socket cannot do."""
    mixed = front.near != front.far and front.port != 0
    return mixed or "drop" in (front.near, front.far) or front.sources is not None


def say(front: Front) -> dict[str, object]:
    """A front for a log line."""
    host, port = front.host, front.port
    return {"protocol": front.protocol, "host": host, "port": port}
