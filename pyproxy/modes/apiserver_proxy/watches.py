"""Four kinds of objects, followed into stores: one list at the start, then watches."""

from collections.abc import Callable
from typing import Any

from pyproxy.discovery.targets import Resolver, Stores
from pyproxy.kube.reflector import Reflector
from pyproxy.kube.resource import ENDPOINT_SLICES, NODES, PODS, SERVICES
from pyproxy.kube.watching import Selection
from pyproxy.kube.wire import Wire
from pyproxy.modes.apiserver_proxy.places import (
    NodeHandler,
    Places,
    PodHandler,
    ServiceHandler,
    SliceHandler,
)


def follow(
    wire: Wire,
    stores: Stores,
    places: Places,
    resolver: Callable[[], Resolver],
    on_restart: Callable[[str], None],
) -> dict[str, Reflector[Any]]:
    """Return what follows each kind, by its plural; run them all."""
    stores.pods.add_handler(PodHandler(places, resolver))
    stores.services.add_handler(ServiceHandler(places))
    stores.slices.add_handler(SliceHandler(places))
    stores.nodes.add_handler(NodeHandler(places))
    return {
        "pods": Reflector(wire, Selection(PODS), stores.pods, on_restart=on_restart),
        "services": Reflector(
            wire, Selection(SERVICES), stores.services, on_restart=on_restart
        ),
        "endpointslices": Reflector(
            wire, Selection(ENDPOINT_SLICES), stores.slices, on_restart=on_restart
        ),
        "nodes": Reflector(wire, Selection(NODES), stores.nodes, on_restart=on_restart),
    }
