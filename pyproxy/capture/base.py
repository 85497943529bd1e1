"""What every way of capture offers, and what it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pyproxy.model import Front, Vip, VipKey


class Side(Protocol):
    """This node in one family."""

    @property
    def near(self) -> tuple[str, ...]:
        """Networks of Pods, and of this node itself."""


class Here(Protocol):
    """This node."""

    @property
    def ipv4(self) -> Side:
        """Of one family."""

    @property
    def ipv6(self) -> Side:
        """Of the other."""


@dataclass(frozen=True, slots=True)
class Fronts:
    """A change of what becomes of clients before a vip takes them."""

    put: Sequence[Front] = ()
    remove: Sequence[VipKey] = ()
    # Of these, ports that no front names are refused.
    cluster_ips: Sequence[str] = ()
    remove_cluster_ips: Sequence[str] = ()
    # Networks whose addresses without a Service are dropped; None = as before.
    blocks: tuple[str, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        ips = self.cluster_ips or self.remove_cluster_ips
        return not (self.put or self.remove or ips) and self.blocks is None


class Capture(Protocol):
    """How packets to the addresses of Services come to the core.

    A vip must be known to the core before its front serves, and go after its front:
    then no client meets one without the other. All of it may be asked twice: what is
    there is left, what is gone is not missed.

    Raises:
        StartError: the machine cannot do it, or refused; nothing has changed, and the
            message says what would help.
        ValueError: a front cannot be; nothing has changed.
    """

    @property
    def name(self) -> str:
        """What it is called in settings."""

    def open(self, here: Here) -> None:
        """Install, for this node; again when the node has changed.

        What a predecessor left stays in force, until the first `verify` removes what
        was not put meanwhile.
        """

    def takes(self, vip: Vip) -> bool:
        """Whether clients of a vip can come to the core at all."""

    def update(self, change: Fronts) -> None:
        """Change fronts: every packet sees all of it or nothing."""

    def verify(self) -> Sequence[str]:
        """Repair what others deleted or changed, and say what it was."""

    def obstacles(self) -> Sequence[str]:
        """What stands in the way and is not ours to change, with what would help."""

    def close(self, *, leave: bool) -> None:
        """Remove everything; with `leave` nothing, because a successor uses it."""

    def cleanup(self) -> Sequence[str]:
        """Remove what was ever installed, also by others of us; say what it was.

        Nothing needs to be open.
        """
