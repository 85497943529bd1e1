"""Events about Services and this node, under kube-proxy's reasons where it has one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyproxy.kube.events import Recorder, reference
from pyproxy.kube.objects import ObjectReference
from pyproxy.kube.resource import NODES, SERVICES

if TYPE_CHECKING:
    from pyproxy.modes.kube_proxy.world import World

STARTING = "Starting"  # upstream's
HEALTH_PORT = "FailedToStartServiceHealthcheck"  # upstream's
NOT_SERVED = "ServiceNotServed"
PARTLY_SERVED = "ServiceProblem"


class Voice:
    """Says each thing once, as long as it is true."""

    def __init__(self, recorder: Recorder, world: "World", node: str) -> None:
        """`node` is the name of the own Node."""
        self._recorder, self._world, self._node = recorder, world, node
        self._said: dict[str, frozenset[str]] = {}  # complaints by Service
        self.run = recorder.run

    def starting(self) -> None:
        """Say that Services are served here from now on."""
        node = self._world.nodes.get(self._node)
        if node is not None:
            about = reference(NODES, node)
            self._recorder.event(about, "Normal", STARTING, "Services are served")

    def health_port_taken(self, key: str, why: str) -> None:
        """Say that a health port cannot be opened."""
        text = f"node {self._node} failed to start healthcheck {key!r} on {why}"
        self._warn(key, HEALTH_PORT, text)

    def not_served(self, key: str, why: str) -> None:
        """Say that the core refused a Service, which is as it was before."""
        self._warn(key, NOT_SERVED, f"node {self._node}: {why}")

    def complaints(self, every: Mapping[str, tuple[str, ...]]) -> None:
        """Say what is wrong with Services and was not before."""
        for key, said in every.items():
            for text in said:
                if text not in self._said.get(key, ()):
                    self._warn(key, PARTLY_SERVED, text)
            if said:
                self._said[key] = frozenset(said)
            else:
                self._said.pop(key, None)

    def _warn(self, key: str, reason: str, message: str) -> None:
        service = self._world.services.get(key)
        if service is not None:
            about = reference(SERVICES, service)
        else:  # gone since
            namespace, _, name = key.partition("/")
            about = ObjectReference(
                kind="Service", api_version="v1", namespace=namespace, name=name
            )
        self._recorder.event(about, "Warning", reason, message)
