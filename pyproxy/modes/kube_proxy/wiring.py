"""The real parts: the table of Services, this node, and how they are configured."""

import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

from pyproxy.capture import LISTENERS, Bind, Capture, Direct, Layout, Tproxy
from pyproxy.dataplane import Change, Dataplane, Listener
from pyproxy.discovery.services import (
    BY_SERVICE,
    Here,
    ServiceHandler,
    ServiceTable,
    Settings,
    SliceHandler,
    by_service,
    explain,
    here_of,
    render,
)
from pyproxy.errors import StartError
from pyproxy.kube.machines import Node
from pyproxy.kube.objects import Service
from pyproxy.kube.slices import BRIEF_SLICES, BriefSlice
from pyproxy.kube.store import Store
from pyproxy.model import Protocol
from pyproxy.modes.kube_proxy.config import KubeProxy
from pyproxy.modes.kube_proxy.node import local_addresses
from pyproxy.modes.kube_proxy.parts import Marks

DETECTION: Mapping[str, Literal["cluster-cidr", "node-cidr", "none"]] = {
    "ClusterCIDR": "cluster-cidr",
    "NodeCIDR": "node-cidr",
}

CARRIED: tuple[Protocol, ...] = ("tcp", "udp")
CAP_NET_ADMIN = 12
TRIES = 20  # to find a free port

Slices = Store[BriefSlice]
Shape = tuple[bool, bool, bool]  # of a port: has endpoints in both sets, and anywhere
SLICES = BRIEF_SLICES
INDEXES = {BY_SERVICE: by_service}


class NodeTable(ServiceTable):
    """A table that can be asked about itself, in plain data."""

    @property
    def no_local_endpoints(self) -> Mapping[str, int]:
        """Ports of Services with a policy Local whose endpoints are all elsewhere."""
        found = {"internal": 0, "external": 0}
        for made in self._made.values():
            want = made.wanted
            shapes = cast("tuple[Shape, ...]", made.shape)
            missing = sum(has_any and not is_here for _, is_here, has_any in shapes)
            if want is not None and missing:
                found["internal"] += missing * want.internal_local
                found["external"] += missing * want.external_local
        return found

    def explain(self, key: str) -> Mapping[str, object] | None:
        """Say why a Service is as it is, as data and as text; None = there is none."""
        if self.services.get(key) is None:
            return None
        said = explain(self, key)
        plain = cast("dict[str, object]", _plain(asdict(said)))
        return {**plain, "text": render(said)}


def settings_of(config: KubeProxy, *, bind: bool = False) -> Settings:
    """Return what is the same for all Services. `bind`: listen at the addresses."""
    timeouts = config.timeouts
    own = () if config.bind_address in ("0.0.0.0", "::") else (config.bind_address,)
    return Settings(
        node_name=config.node_name,
        node_port_addresses=config.node_port_addresses,
        node_ips=own,
        detect_local=DETECTION.get(config.detect_local_mode, "none"),
        cluster_cidrs=config.cluster_cidrs,
        masquerade_all=config.masquerade_all,
        external_ips=config.external_ips,
        service_proxy_name=config.service_proxy_name,
        bind=bind,
        connect_timeout_s=float(timeouts.connect),
        tcp_idle_s=float(timeouts.tcp_idle),
        udp_one_way_s=float(config.udp_timeout),
        udp_two_way_s=float(config.udp_stream_timeout),
    )


def selector(config: KubeProxy) -> str:
    """Return the labels of Services and slices that are ours."""
    return settings_of(config).selector


def here(config: KubeProxy, node: Node | None, local: Iterable[str]) -> Here:
    """Return what this node is."""
    return here_of(settings_of(config), node, local)


def table(
    config: KubeProxy, at: Any, services: Store[Service], slices: Slices, bind: bool
) -> NodeTable:
    """Return an empty table over the stores."""
    return NodeTable(services, slices, settings_of(config, bind=bind), at)


def handlers(
    marks: Marks, then: Callable[[bool], None], synced: Callable[[], None]
) -> tuple[ServiceHandler, SliceHandler]:
    """Return what stores tell of changes."""
    return (
        ServiceHandler(marks, lambda: then(False), synced),
        SliceHandler(marks, lambda: then(True), synced),
    )


def capture(config: KubeProxy, dataplane: Callable[[], Dataplane]) -> Capture:
    """Return how clients come here; for tproxy, with the listeners that take them.

    Raises:
        StartError: listeners cannot be opened.
    """
    way = config.capture
    if way == "auto":
        way = "tproxy" if may_change_rules() else "bind"
    if way == "bind":
        return Bind()
    local = local_addresses()
    hosts = [host for host in LISTENERS if host in local]
    port = _free_port(hosts)
    listeners = [Listener(host, port, kind) for kind in CARRIED for host in hosts]
    dataplane().update(Change(listeners=listeners))
    return Tproxy(Layout(port, port))


def cleanup(config: KubeProxy) -> Sequence[str]:
    """Remove what any of us has installed; return what that was."""
    return [*Tproxy(Layout(0, 0)).cleanup(), *Direct().cleanup()]


def may_change_rules() -> bool:
    """Whether this process has CAP_NET_ADMIN. Source: capabilities(7), proc(5)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_NET_ADMIN & 1)
    return False


def _free_port(hosts: Sequence[str]) -> int:
    """Return a port that is free on all of them, of TCP and UDP: rules name one."""
    for _ in range(TRIES):
        port = 0
        with contextlib.ExitStack() as stack:
            try:
                for host in hosts:
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        family = socket.AF_INET6 if ":" in host else socket.AF_INET
                        trying = stack.enter_context(socket.socket(family, kind))
                        trying.bind((host, port))
                        port = int(trying.getsockname()[1])
            except OSError:
                continue  # somebody has that number elsewhere
        return port
    raise StartError(f"no port is free on all of {', '.join(hosts)}")


def _plain(value: object) -> object:
    """Return what JSON can say, without what says nothing."""
    if isinstance(value, dict):
        return {_camel(k): _plain(v) for k, v in value.items() if v not in _NOTHING}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


_NOTHING: tuple[object, ...] = (None, "", (), [], {})


def _camel(name: str) -> str:
    first, *rest = name.removesuffix("_s").split("_")
    more = "Seconds" if name.endswith("_s") else ""
    return first + "".join(word.title() for word in rest) + more
