"""Capture without privileges: vips bind their own addresses, nothing is installed.

What has no listener is rejected by the kernel itself. Nothing is ever dropped, far and
near clients are one, and sources are not limited: a front that asks for one of these is
named once.
"""

import logging
import socket

from pyproxy.capture.base import Fronts, Here
from pyproxy.model import Front, Vip, VipKey

logger = logging.getLogger(__name__)


class Bind:
    """Addresses are listened at, one by one."""

    name = "bind"

    def __init__(self) -> None:
        self._weaker: set[VipKey] = set()

    def open(self, here: Here) -> None:
        """Nothing is installed."""

    def takes(self, vip: Vip) -> bool:
        """Whether this machine has the address."""
        family = socket.AF_INET6 if ":" in vip.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as trying:
            try:
                trying.bind((vip.host, 0))
            except OSError:
                return False
        return True

    def update(self, change: Fronts) -> None:
        """Note what cannot be done."""
        self._weaker.difference_update(change.remove)
        for front in change.put:
            if not is_weaker(front):
                self._weaker.discard(front.key)
            elif front.key not in self._weaker:
                self._weaker.add(front.key)
                where = {"host": front.host, "port": front.port}
                logger.warning("front is weaker without capture", extra=where)

    def verify(self) -> list[str]:
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

    def close(self, *, leave: bool) -> None:
        """Nothing is held."""

    def cleanup(self) -> list[str]:
        """Nothing was installed."""
        return []


def is_weaker(front: Front) -> bool:
    """Whether a front asks for what a bound socket cannot do."""
    mixed = front.near != front.far and front.port != 0
    return mixed or "drop" in (front.near, front.far) or front.sources is not None
