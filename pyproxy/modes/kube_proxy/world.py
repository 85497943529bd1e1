"""The cluster as this node sees it: four kinds of objects, followed into stores."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pyproxy.kube.machines import Node
from pyproxy.kube.objects import Service, ServiceCIDR
from pyproxy.kube.reflector import Reflector
from pyproxy.kube.resource import NODES, SERVICE_CIDRS, SERVICES
from pyproxy.kube.store import Store
from pyproxy.kube.watching import Selection
from pyproxy.kube.wire import Wire
from pyproxy.modes.kube_proxy.config import KubeProxy
from pyproxy.modes.kube_proxy.parts import Parts


class World(NamedTuple):
    """What the cluster has, kept by reflectors."""

    services: Store[Service]
    slices: Store[Any]
    nodes: Store[Node]  # the own one alone
    cidrs: Store[ServiceCIDR]

    @classmethod
    def empty(cls, parts: Parts) -> "World":
        """Return stores of nothing."""
        return cls(Store(), Store(parts.indexes), Store(), Store())

    def unsynced(self) -> list[str]:
        """Name what must be listed before anything is served, and is not yet."""
        needed = {"services": self.services, "endpointslices": self.slices}
        return [name for name, store in needed.items() if not store.is_synced]

    def reflectors(
        self,
        wire: Wire,
        parts: Parts,
        config: KubeProxy,
        on_restart: Callable[[str], None],
    ) -> Iterator[tuple[str, Reflector[Any]]]:
        """Yield what follows each kind, by its plural; run them all."""
        labels = parts.selector(config)
        own = f"metadata.name={config.node_name}"
        selections: list[tuple[Selection[Any], Store[Any]]] = [
            (Selection(SERVICES, labels=labels), self.services),
            (Selection(parts.slices, labels=labels), self.slices),
            (Selection(NODES, fields=own), self.nodes),
            (Selection(SERVICE_CIDRS), self.cidrs),
        ]
        for selection, store in selections:
            reflector = Reflector(wire, selection, store, on_restart=on_restart)
            yield selection.resource.plural, reflector


class CidrHandler:
    """Tells when networks of cluster IPs come or go."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.on_synced = on_change
        self._on_change = on_change

    def on_upsert(self, key: str, old: ServiceCIDR | None, new: ServiceCIDR) -> None:
        """One came, or is another."""
        if old != new:
            self._on_change()

    def on_delete(self, key: str, last: ServiceCIDR) -> None:
        """One has gone."""
        self._on_change()


class NodeHandler:
    """Tells what becomes of the own Node."""

    def __init__(
        self, on_change: Callable[[Node], None], on_gone: Callable[[], None]
    ) -> None:
        self._on_change, self._on_gone = on_change, on_gone

    def on_upsert(self, key: str, old: Node | None, new: Node) -> None:
        """It is there, or has changed in what we read."""
        if old != new:
            self._on_change(new)

    def on_delete(self, key: str, last: Node) -> None:
        """It is gone."""
        self._on_gone()

    def on_synced(self) -> None:
        """All that there is has been seen."""
