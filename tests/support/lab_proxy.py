"""A node's proxy as far as it is there: core and capture, with fronts by hand."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fastpath import Backend, Delta, Engine, Listener, Pool, Vip
from pyproxy.capture import LISTENERS, Fronts, Layout, Tproxy
from pyproxy.model import Front, VipKey
from tests.support.lab import HTTP, Node, Place, Transparent

PORT = 15001  # of the listeners


class Proxy:
    """One on a node, for TCP by the core and for datagrams by an echo.

    A context manager. At its end nothing of it is left on the node.
    """

    def __init__(self, node: Node, near: Sequence[str]) -> None:
        self.node = node
        self.near = near
        self.layout = Layout(PORT, PORT)
        self.capture = Tproxy(self.layout)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack, self.node.entered():
            self.engine = stack.enter_context(Engine(workers=2))
            listeners = [Listener(host, PORT) for host in LISTENERS]
            self.engine.update(Delta(listeners=listeners), wait_s=5)
            for host in LISTENERS:
                stack.enter_context(Transparent(host, PORT))
            self.capture.open(here(self.near))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.node.entered():
            self.capture.close(leave=False)
        self._stack.close()

    def put(self, *fronts: Front, to: Sequence[Place] = ()) -> None:
        """Put fronts in force; those of TCP lead to places."""
        for front in fronts:
            if to and front.protocol == "tcp" and front.port:
                self.engine.update(Delta(vips=[vip(front, to)]), wait_s=5)
        self.capture.update(Fronts(put=fronts))

    def remove(self, *keys: VipKey) -> None:
        """Remove fronts, and leave their vips."""
        self.capture.update(Fronts(remove=keys))


@dataclass(frozen=True)
class Side:
    """A node in one family, as far as capture looks."""

    near: tuple[str, ...]


@dataclass(frozen=True)
class Here:
    """A node."""

    ipv4: Side
    ipv6: Side


def here(near: Sequence[str]) -> Here:
    """A node with these networks near."""
    four, six = ([n for n in near if (":" in n) == is_six] for is_six in (False, True))
    return Here(Side(tuple(four)), Side(tuple(six)))


def vip(front: Front, places: Sequence[Place]) -> Vip:
    """The core's half of a front."""
    family = "ipv6" if ":" in front.host else "ipv4"
    backends = tuple(Backend(place.hosts[family], HTTP) for place in places)
    return Vip(front.host, front.port, "tcp", Pool(backends), bind=False)
