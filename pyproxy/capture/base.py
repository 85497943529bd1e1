"""What every way of capture offers."""

from collections.abc import Sequence
from typing import Protocol

from pyproxy.model import Front, VipKey


class Capture(Protocol):
    """How packets to the addresses of Services reach our listeners.

    A vip must be known to the core before its front says "serve", and be removed after
    its front: then no client meets one without the other.
    """

    async def open(self, fronts: Sequence[Front] = ()) -> None:
        """Install what there is to install, with all fronts that are known.

        What a predecessor left in force is replaced in one step.

        Raises:
            StartError: the machine cannot do it; the message says what would help.
        """

    async def update(self, put: Sequence[Front], remove: Sequence[VipKey] = ()) -> None:
        """Put and remove fronts: every packet sees all of it or nothing.

        What is put replaces a front of the same key. What is not there is removed
        already.

        Raises:
            ValueError: a front cannot be; nothing has changed.
            StartError: the kernel refused; nothing has changed.
        """

    async def set_near(self, networks: Sequence[str]) -> None:
        """Say anew which networks are near."""

    async def verify(self) -> list[str]:
        """Repair what others deleted or changed, and say what it was."""

    def obstacles(self) -> list[str]:
        """What stands in the way and is not ours to change, with what would help."""

    async def close(self) -> None:
        """Let go, and leave all in force for a successor."""

    async def cleanup(self) -> bool:
        """Remove all that was ever installed, also by a predecessor; false if nothing.

        Nothing needs to be open.
        """
