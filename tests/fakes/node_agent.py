"""`pyproxy kube-proxy` with a small table of Services and capture by `bind`.

`python -m tests.fakes.node_agent ARGUMENTS...` is the command itself; only the parts
that other packages bring are small ones. The table serves external IPs over TCP.
A file named in $RULES is capture's: what stands in it are its fronts; `fail` in a file
named in $TROUBLE makes capture fail.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pyproxy.capture import Direct, Fronts
from pyproxy.cli import main
from pyproxy.discovery.services import Options
from pyproxy.errors import StartError
from pyproxy.kube.machines import Node
from pyproxy.kube.objects import EndpointSlice, Service
from pyproxy.kube.resource import ENDPOINT_SLICES
from pyproxy.kube.store import Store
from pyproxy.model import Backend, Front, Pool, Vip, VipKey, format_address
from pyproxy.modes.kube_proxy import KubeProxy, parts
from pyproxy.modes.kube_proxy.parts import Marks

LOOPBACK, STAND_IN = "127.0.0.", "192.0.2."  # what endpoints are to the API
CHANGED_AT = "endpoints.kubernetes.io/last-change-trigger-time"


class Side(NamedTuple):
    """Of one family."""

    node_ip: str = ""
    near: tuple[str, ...] = ()
    node_ports: tuple[str, ...] = ()


class Here(NamedTuple):
    """The node, with the addresses that its Node names, as far as they are local."""

    ipv4: Side
    ipv6: Side = Side()
    complaints: tuple[str, ...] = ()


class HealthPort(NamedTuple):
    """Of a Service."""

    port: int
    endpoints: int


@dataclass
class Delta:
    """What has changed."""

    vips: list[Vip] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    fronts: list[Front] = field(default_factory=list)
    remove_vips: list[VipKey] = field(default_factory=list)
    remove_pools: list[str] = field(default_factory=list)
    remove_fronts: list[VipKey] = field(default_factory=list)
    cluster_ips: tuple[str, ...] = ()
    remove_cluster_ips: tuple[str, ...] = ()
    blocks: tuple[str, ...] | None = None
    health: dict[str, HealthPort | None] = field(default_factory=dict)
    options: dict[str, Options] = field(default_factory=dict)
    complaints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    changed_at: dict[str, str] = field(default_factory=dict)


class Made(NamedTuple):
    """What became of a Service."""

    pool: Pool
    vips: dict[VipKey, Vip]
    fronts: dict[VipKey, Front]
    health: HealthPort | None
    complaints: tuple[str, ...]


class SmallTable:
    """Services with external IPs."""

    def __init__(
        self, node: str, services: Store[Service], slices: Store[EndpointSlice]
    ) -> None:
        self._node, self._services, self._slices = node, services, slices
        self._marked: dict[str, str] = {}
        self._made: dict[str, Made] = {}
        self._blocks: tuple[str, ...] | None = None
        self.no_local_endpoints: Mapping[str, int] = Counter(internal=0, external=0)

    def set_here(self, here: Here) -> None:
        """Nothing looks different."""

    def set_blocks(self, cidrs: Iterable[Any]) -> None:
        """Remember them."""
        self._blocks = tuple(text for each in cidrs for text in each.spec.cidrs)

    def mark(self, key: str, changed_at: str = "") -> None:
        """Remember a key."""
        self._marked[key] = changed_at

    def mark_all(self) -> None:
        """Remember all."""
        for key in self._services.objects:
            self.mark(key)

    def take(self) -> Delta:
        """Build what is marked."""
        marked, self._marked = self._marked, {}
        delta = Delta(blocks=self._blocks)
        for key, changed_at in marked.items():
            self._rebuild(key, delta)
            if changed_at:
                delta.changed_at[key] = changed_at
        return delta

    def _rebuild(self, key: str, delta: Delta) -> None:
        service, old = self._services.get(key), self._made.pop(key, None)
        new = self._make(key, service) if service is not None else None
        if old is not None:
            now = new.vips if new is not None else {}
            delta.remove_vips += [each for each in old.vips if each not in now]
            fronts = new.fronts if new is not None else {}
            delta.remove_fronts += [e for e in old.fronts if e not in fronts]
        if new is None:
            delta.remove_pools += [old.pool.name] if old is not None else []
            delta.health[key] = None
            delta.complaints[key] = ()
            return
        self._made[key] = new
        delta.vips += new.vips.values()
        delta.fronts += new.fronts.values()
        delta.pools.append(new.pool)
        delta.health[key] = new.health
        delta.complaints[key] = new.complaints

    def _make(self, key: str, service: Service) -> Made:
        port = service.spec.ports[0]
        found = [each for part in self._slices.by("service", key)
                 for each in self._endpoints(part)]  # fmt: skip
        backends = tuple(backend for backend, _ in found)
        options = service.metadata.annotations
        pool = Pool(
            f"{key}:{port.name}",
            backends,
            balance=options.get("balance", "random"),  # type: ignore[arg-type]
        )
        vips = [Vip(ip, port.port, pool) for ip in service.spec.external_ips]
        access = "serve" if backends else "reject"
        fronts = [Front("tcp", v.host, v.port, access, access) for v in vips]  # type: ignore[arg-type]
        number = service.spec.health_check_node_port
        local = sum(is_local for _, is_local in found)
        said = options.get("complaint", "")
        return Made(
            pool,
            {vip.key: vip for vip in vips if backends},
            {front.key: front for front in fronts},
            HealthPort(number, local) if number else None,
            (said,) if said else (),
        )

    def _endpoints(self, part: EndpointSlice) -> list[tuple[Backend, bool]]:
        port = part.ports[0].port or 0
        return [
            (
                Backend(each.addresses[0].replace(STAND_IN, LOOPBACK), port),
                each.node_name == self._node,
            )
            for each in part.endpoints
            if each.is_ready
        ]

    def explain(self, key: str) -> dict[str, object] | None:
        """Say what was made of it."""
        made = self._made.get(key)
        if made is None:
            return None
        endpoints = [
            {"address": format_address(*b.key), "used": True, "why": "ready"}
            for b in made.pool.backends
        ]
        return {"type": "ClusterIP", "endpoints": endpoints}


class Bind:
    """Capture of addresses of the loopback, with a file for its rules."""

    name = "bind"

    def __init__(self) -> None:
        self._file = Path(os.environ.get("RULES", os.devnull))
        self._trouble = Path(os.environ.get("TROUBLE", os.devnull))
        self.fronts: dict[VipKey, Front] = {}

    def open(self, here: object) -> None:
        """Install."""
        self._write()

    def takes(self, vip: Vip) -> bool:
        """Whether it can be bound."""
        return vip.host.startswith("127.")

    def update(self, change: Fronts) -> None:
        """Change the file."""
        if self._trouble.is_file() and self._trouble.read_text() == "fail":
            raise StartError("rules cannot be written")
        for key in change.remove:
            self.fronts.pop(key, None)
        self.fronts |= {front.key: front for front in change.put}
        self._write()

    def verify(self) -> Sequence[str]:
        """Write the file anew if it is gone."""
        if self._file.exists():
            return []
        self._write()
        return [str(self._file)]

    def obstacles(self) -> Sequence[str]:
        """There are none."""
        return []

    def cleanup(self) -> Sequence[str]:
        """Likewise."""
        return []

    def close(self, *, leave: bool) -> None:
        """Remove it."""
        if not leave and self._file.is_file():
            self._file.unlink()

    def _write(self) -> None:
        texts = [f"{f.host}:{f.port} {f.far}\n" for f in self.fronts.values()]
        self._file.write_text("".join(sorted(texts)))


class ServiceHandler:
    """Marks Services."""

    def __init__(
        self, marks: Marks, then: Callable[[bool], None], synced: Callable[[], None]
    ) -> None:
        self._marks, self._then, self.on_synced = marks, then, synced

    def on_upsert(self, key: str, old: Service | None, new: Service) -> None:
        """Mark it."""
        if old != new:
            self._marks.mark(key)
            self._then(False)

    def on_delete(self, key: str, last: Service) -> None:
        """Mark it."""
        self._marks.mark(key)
        self._then(False)


class SliceHandler(ServiceHandler):
    """Marks the Services of slices."""

    def on_upsert(  # type: ignore[override]
        self, key: str, old: EndpointSlice | None, new: EndpointSlice
    ) -> None:
        """Mark its Service."""
        changed_at = new.metadata.annotations.get(CHANGED_AT, "")
        self._marks.mark(new.service, changed_at)
        self._then(True)

    def on_delete(self, key: str, last: EndpointSlice) -> None:  # type: ignore[override]
        """Mark its Service."""
        self._marks.mark(last.service)
        self._then(True)


def here_of(config: KubeProxy, node: Node | None, local: Iterable[str]) -> Here:
    """Return what the Node says and this machine has."""
    said = node.status.addresses if node is not None else ()
    ips = tuple(each.address for each in said if each.address in set(local))
    return Here(Side(ips[0] if ips else "127.0.0.1", (), ips))


def small() -> parts.Parts:
    """Return the parts."""
    return parts.Parts(
        slices=ENDPOINT_SLICES,
        indexes={"service": lambda each: (each.service,)},
        selector=lambda config: "!service.kubernetes.io/service-proxy-name",
        here=here_of,
        table=lambda config, here, services, slices, binds: SmallTable(
            config.node_name, services, slices
        ),
        handlers=lambda *given: (ServiceHandler(*given), SliceHandler(*given)),
        capture=lambda config, dataplane: Bind(),
        cleanup=lambda config: ["rules of a test"],
        hook=hook,
    )


def hook() -> Direct:
    """Programs at connect(2) for processes of one control group, named elsewhere."""
    group = os.environ.get("CGROUP", "/nowhere")
    return Direct(Path(group), Path(os.environ.get("BPFFS", group)))


def real() -> parts.Parts:
    """Return the real ones, less programs for the whole machine."""
    return USUAL()._replace(hook=hook)


USUAL = parts.usual


if __name__ == "__main__":
    parts.usual = real if "REAL_PARTS" in os.environ else small
    main()
