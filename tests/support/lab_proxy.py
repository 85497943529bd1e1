"""A node's proxy as far as it is there: core and capture, with fronts by hand."""

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from fastpath import Backend, Delta, Engine, Listener, Pool, Vip
from pyproxy.capture import LISTENERS, Layout, Tproxy
from pyproxy.model import Front, VipKey
from tests.support.lab import HTTP, Node, Place, Transparent

PORT = 15001  # of the listeners


class Proxy:
    """One on a node, for TCP by the core and for datagrams by an echo.

    An asynchronous context manager. At its end nothing of it is left on the node.
    """

    def __init__(self, node: Node, near: Sequence[str], **layout: int) -> None:
        self.node = node
        self.layout = Layout(PORT, PORT, near=tuple(near), **layout)  # type: ignore[arg-type]
        self.capture = Tproxy(self.layout)
        self._stack = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        with contextlib.ExitStack() as stack, self.node.entered():
            self.engine = stack.enter_context(Engine(workers=2))
            listeners = [Listener(host, PORT) for host in LISTENERS]
            self.engine.update(Delta(listeners=listeners), wait_s=5)
            for host in LISTENERS:
                stack.enter_context(Transparent(host, PORT))
            await self.capture.open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.node.entered():
            await self.capture.cleanup()
        self._stack.close()

    async def put(self, *fronts: Front, to: Sequence[Place] = ()) -> None:
        """Put fronts in force; those of TCP lead to places."""
        for front in fronts:
            if to and front.protocol == "tcp" and front.port:
                self.engine.update(Delta(vips=[vip(front, to)]), wait_s=5)
        await self.capture.update(fronts)

    async def remove(self, *keys: VipKey) -> None:
        """Remove fronts, and leave their vips."""
        await self.capture.update([], keys)


def vip(front: Front, places: Sequence[Place]) -> Vip:
    """The core's half of a front."""
    family = "ipv6" if ":" in front.host else "ipv4"
    backends = tuple(Backend(place.hosts[family], HTTP) for place in places)
    return Vip(front.host, front.port, "tcp", Pool(backends), bind=False)
