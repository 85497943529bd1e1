"""Upstreams for what is behind proxy URLs, made at first use and kept up to date.

Of a Service all ready endpoints are one pool: the core picks the one with the fewest
requests, and another one if that cannot be connected. A Pod or a Node is one address,
which its verdict names. Verdicts about what has changed since are withdrawn.
"""

import asyncio
import logging
from collections.abc import Callable

from pyproxy.dataplane import Change, ClientTls, Dataplane, Upstream, upstream_of
from pyproxy.discovery.targets import BY_POD, Location, Resolver
from pyproxy.errors import PyproxyError
from pyproxy.http.proxypath import ProxyPath
from pyproxy.kube.machines import Node, Pod
from pyproxy.kube.objects import EndpointSlice, Service
from pyproxy.model import Backend, Pool
from pyproxy.modes.apiserver_proxy import forwards
from pyproxy.modes.apiserver_proxy.forwards import Edits
from pyproxy.modes.apiserver_proxy.policy import tag_of

logger = logging.getLogger(__name__)

SETTLE_S = 0.02  # changes that come together are taken over together
ANYBODY = ClientTls(ca=b"", verify=False)  # a peer verifies neither Pods nor Services


def simple_upstream(
    name: str, tls: ClientTls | None, connect_s: float = 5.0
) -> Upstream:
    """Return an upstream whose verdicts say what to dial."""
    pool = Pool(name, (), connect_timeout_s=connect_s, slow_start_s=0.0)
    return upstream_of(pool, tls)


class Places:
    """The upstreams that verdicts name, and what they were made for."""

    def __init__(
        self,
        dataplane: Dataplane,
        resolver: Callable[[], Resolver],
        edits: Callable[[], Edits],
        kubelet: Callable[[str], ClientTls],
        connect_s: float,
    ) -> None:
        """`kubelet` returns how to speak with the one of a host; resolver is now's."""
        self._dataplane = dataplane
        self._resolver, self._edits, self._kubelet = resolver, edits, kubelet
        self._connect_s = connect_s
        self._made: dict[str, tuple[ProxyPath, Location]] = {}
        self._tags: dict[str, set[str]] = {}  # in use -> upstreams that hang on it
        self._changed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def prepare(self, path: ProxyPath, location: Location) -> None:
        """Make sure that the upstream is there. Raise PyproxyError."""
        tag = tag_of(path)
        uses = self._tags.setdefault(tag, set())
        name = forwards.upstream_of(path, location, self._edits())
        if path.kind == "services":
            if self._made.get(name, (path, None))[1] != location:
                self._publish(name, path, location)
            uses.add(name)
        elif location.kubelet and self._edits().verifies_kubelets:
            if name not in self._made:
                tls = self._kubelet(location.kubelet)
                upstream = simple_upstream(name, tls, self._connect_s)
                self._dataplane.update(Change(upstreams=[upstream]))
                self._made[name] = (path, location)
            uses.add(name)

    def _publish(self, name: str, path: ProxyPath, location: Location) -> None:
        backends = [Backend(*key) for key in location.addresses]
        backends += [Backend(*key, tier=1) for key in location.others]
        pool = Pool(
            name,
            tuple(backends),
            balance="least",
            connect_timeout_s=self._connect_s,
            slow_start_s=0.0,
        )
        tls = ANYBODY if location.scheme == "https" else None
        self._dataplane.update(Change(upstreams=[upstream_of(pool, tls)]))
        self._made[name] = (path, location)

    def renew_kubelets(self) -> None:
        """Speak with kubelets as one does now: certificates have changed."""
        for name, (_, location) in self._made.items():
            if location.kubelet:
                tls = self._kubelet(location.kubelet)
                upstream = simple_upstream(name, tls, self._connect_s)
                self._dataplane.update(Change(upstreams=[upstream]))

    # Changes

    def mark(self, tag: str) -> None:
        """Look at an object again, soon."""
        if tag not in self._tags:
            return
        self._changed.add(tag)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SETTLE_S, self._settle)

    def close(self) -> None:
        """Look at nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _settle(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, set()
        for tag in changed:
            try:
                self._look_again(tag)
            except PyproxyError as error:
                extra = {"object": tag, "why": str(error)}
                logger.error("change not applied", extra=extra)

    def _look_again(self, tag: str) -> None:
        """Bring what hangs on an object up to date.

        A pool follows its endpoints, so that verdicts that name it stay good. All other
        verdicts name an address: they are withdrawn.
        """
        names = self._tags.get(tag, set())
        gone = [name for name in names if not self._follow(name)]
        if gone or not names or not tag.startswith("services "):
            self._dataplane.forget(tag)
            del self._tags[tag]
        if gone:
            for name in gone:
                del self._made[name]
            self._dataplane.update(Change(remove_upstreams=gone))

    def _follow(self, name: str) -> bool:
        """Whether the upstream still leads somewhere, and to where it should."""
        path, before = self._made[name]
        if path.kind != "services":
            return True
        location = self._resolver().resolve(path, {})
        if not isinstance(location, Location):
            return False
        if location != before:
            self._publish(name, path, location)
        return True


class PodHandler:
    """Marks a Pod, and the Services that it is an endpoint of."""

    def __init__(self, places: Places, resolver: Callable[[], Resolver]) -> None:
        self._places, self._resolver = places, resolver

    def on_upsert(self, key: str, old: Pod | None, new: Pod) -> None:
        """Heartbeats and the like change nothing for us."""
        same = old is not None and old.status.pod_ips == new.status.pod_ips
        if old is None or not same or old.spec.containers != new.spec.containers:
            self._mark(key)

    def on_delete(self, key: str, last: Pod) -> None:
        """Its address may be another one's soon."""
        self._mark(key)

    def on_synced(self) -> None:
        """Nothing to do."""

    def _mark(self, key: str) -> None:
        self._places.mark(f"pods {key}")
        for each in self._resolver().stores.slices.by(BY_POD, key):
            self._places.mark(f"services {each.service}")


class ServiceHandler:
    """Marks a Service."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def on_upsert(self, key: str, old: Service | None, new: Service) -> None:
        """Mark it if anything that we read has changed."""
        if old != new:
            self._places.mark(f"services {key}")

    def on_delete(self, key: str, last: Service) -> None:
        """Mark it."""
        self._places.mark(f"services {key}")

    def on_synced(self) -> None:
        """Nothing to do."""


class SliceHandler:
    """Marks the Service of a slice."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def on_upsert(
        self, key: str, old: EndpointSlice | None, new: EndpointSlice
    ) -> None:
        """Mark that of now and that of before."""
        if old != new:
            for each in {new.service, old.service if old is not None else ""}:
                self._places.mark(f"services {each}")

    def on_delete(self, key: str, last: EndpointSlice) -> None:
        """Mark it."""
        self._places.mark(f"services {last.service}")

    def on_synced(self) -> None:
        """Nothing to do."""


class NodeHandler:
    """Marks a Node."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def on_upsert(self, key: str, old: Node | None, new: Node) -> None:
        """Mark it if its addresses or the port of its kubelet have changed."""
        said = (new.status.addresses, new.status.daemon_endpoints)
        if old is None or said != (old.status.addresses, old.status.daemon_endpoints):
            self._places.mark(f"nodes /{key}")

    def on_delete(self, key: str, last: Node) -> None:
        """Mark it."""
        self._places.mark(f"nodes /{key}")

    def on_synced(self) -> None:
        """Nothing to do."""
