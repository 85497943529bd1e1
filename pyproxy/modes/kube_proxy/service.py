"""The wiring of kube-proxy: watches in; table, capture, health and Events out."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from msgspec import structs

from pyproxy.admin import Collector, Page, Sources
from pyproxy.capture import Capture
from pyproxy.config import masked
from pyproxy.errors import PyproxyError, StartError
from pyproxy.kube.client import Client
from pyproxy.kube.config import Current
from pyproxy.kube.counters import KubeCounters
from pyproxy.kube.events import Recorder
from pyproxy.kube.machines import Node
from pyproxy.kube.wire import Wire
from pyproxy.modes.kube_proxy import parts as parts_
from pyproxy.modes.kube_proxy.config import MODE, KubeProxy, warnings
from pyproxy.modes.kube_proxy.gates import Gates
from pyproxy.modes.kube_proxy.health import ProxyHealth
from pyproxy.modes.kube_proxy.metrics import (
    DirectCounters,
    KubeProxyCounters,
    ServiceCounters,
)
from pyproxy.modes.kube_proxy.node import Arrival, local_addresses
from pyproxy.modes.kube_proxy.parts import CurrentMarks, Delta, Here, Parts, Table
from pyproxy.modes.kube_proxy.process import ConfigFile, apply_oom_score, rare_gc
from pyproxy.modes.kube_proxy.programmer import Programmer, timed
from pyproxy.modes.kube_proxy.shortcuts import Shortcuts
from pyproxy.modes.kube_proxy.shown import describe, explained
from pyproxy.modes.kube_proxy.voice import Voice
from pyproxy.modes.kube_proxy.world import CidrHandler, NodeHandler, World
from pyproxy.runtime import Runtime

logger = logging.getLogger(__name__)

RETRY_S = 1.0  # until capture is asked again after it failed
LOOK_S = 10.0  # how often rules, addresses and what failed are looked at
# Until a restart; the file may say otherwise.
KEPT = (
    "client",
    "healthz_bind_address",
    "hostname_override",
    "capture",
    "service_proxy_name",
)
Notes = Callable[[], Sequence[str]]


def run(
    notes: Notes = tuple,
    file: str | None = None,
    parts: Callable[[], Parts] | None = None,
) -> Callable[[KubeProxy, Runtime[KubeProxy]], Coroutine[Any, Any, None]]:
    """Return what serves until a signal, then drains.

    `notes` are about the configuration that was read last, from `file` if there is one:
    when the file changes, it is read anew. (Upstream ends, to be started again.)
    """

    async def serve(config: KubeProxy, runtime: Runtime[KubeProxy]) -> None:
        runtime.needs_admin = config.bind_address_hard_fail
        agent = Agent(config, runtime, (parts or parts_.usual)(), notes)
        async with runtime.started(agent.sources()):
            try:
                shown = await agent.open()
                runtime.on_reload(agent.reload)
                if file is not None:
                    runtime.background("file", ConfigFile(file, runtime.reload).look)
                await runtime.serve([shown])
                agent.freeze()
                await runtime.drain()
            finally:
                await agent.close()

    return serve


def cleanup(config: KubeProxy) -> Sequence[str]:
    """Remove what was installed on this machine; return what that was."""
    return parts_.usual().cleanup(config)


class Agent:
    """The parts in use, and how they change."""

    def __init__(
        self,
        config: KubeProxy,
        runtime: Runtime[KubeProxy],
        parts: Parts,
        notes: Notes,
    ) -> None:
        """Read the kubeconfig. Raise AccessError."""
        self._config, self._runtime, self._parts = config, runtime, parts
        self._notes = notes
        self._wire = Wire(Current(config.client, os.environ))
        self._world = World.empty(parts)
        client = Client(self._wire)
        recorder = Recorder(client, MODE, config.node_name)
        self._voice = Voice(recorder, self._world, config.node_name)
        self._health = ProxyHealth(config.health_timeout_s, time.monotonic, time.time)
        self._counters = KubeProxyCounters()
        self._kube_counters = KubeCounters(
            lambda: {str(why): count for why, count in recorder.dropped.items()}
        )
        self._collector = Collector(MODE, lambda: runtime.dataplane, each=False)
        self._gates = Gates(
            runtime.listen, self._health, self._counters, self._voice.health_port_taken
        )
        self._here: Here | None = None
        self._programmer: Programmer | None = None
        runtime.on_superseded.append(self._gates.close)
        self._is_due = False  # a sync comes at the end of this turn
        self._is_frozen = False

    def sources(self) -> Sources:
        """Tell the admin address where to look."""
        runtime = self._runtime
        services = ServiceCounters(
            lambda: runtime.dataplane.stats(self._vips()).vips, self._owner
        )
        runtime.collectors += [
            self._collector,
            services,
            self._counters,
            DirectCounters(self._direct_counts),
            self._kube_counters,
        ]
        runtime.health.require("synced", self._why_not_synced)
        runtime.health.require("rules", self._why_not_captured)
        return Sources(
            health=runtime.health,
            collectors=runtime.collectors,
            table=lambda: describe(runtime.dataplane, self._programmer),
            config=lambda: masked(runtime.config),
            history=runtime.history,
            more={
                "/proxyMode": lambda query: Page(self._mode()),
                "/configz": lambda query: Page(
                    {"kubeproxy.config.k8s.io": masked(runtime.config)}
                ),
                "/debug/explain": lambda query: self._explain(query.get("service", "")),
            },
        )

    async def open(self) -> str:
        """Serve, once Services and slices are known; return what to print.

        Raises:
            StartError: there is no such Node, or something of ours cannot be opened.
        """
        self._speak()
        apply_oom_score(self._config.oom_score_adj)
        # One line for each change of an endpoint is too much at INFO.
        logging.getLogger("pyproxy.dataplane").setLevel(
            logging.NOTSET if self._config.log.level == "debug" else logging.WARNING
        )
        background = self._runtime.background
        shown = await self._gates.open(
            self._config.healthz_bind_address, self._config.bind_address_hard_fail
        )
        background("health ports", self._gates.follow)
        arrival = Arrival()
        self._world.nodes.add_handler(NodeHandler(self._see_node, self._miss_node))
        self._world.nodes.add_handler(arrival)
        for name, reflector in self._world.reflectors(
            *(self._wire, self._parts, self._config),
            self._kube_counters.watch_restarted,
        ):
            background(f"watch {name}", reflector.run)
        background("credentials", self._wire.follow_files)
        background("events", self._voice.run)
        config = self._config
        timeout_s = float(config.node_timeout)
        await arrival.of(config.node_name, self._world.nodes, timeout_s)
        with rare_gc():
            await self._world.services.wait_synced()
            await self._world.slices.wait_synced()
            self._begin()
        background("look", self._look)
        self._voice.starting()
        return shown or f"node {config.node_name}"

    def _begin(self) -> None:
        """Bring everything into force for the first time. Raise StartError."""
        capture = self._parts.capture(self._config, lambda: self._runtime.dataplane)
        self._here = here = self._find_here()
        table = self._make_table(here, capture)
        self._programmer = Programmer(
            *(table, capture, lambda: self._runtime.dataplane),
            *(self._voice.not_served, self._take_delta),
            Shortcuts(self._parts.hook(), self._config),
        )
        self._counters.no_local_endpoints = lambda: self._table().no_local_endpoints
        handlers = self._parts.handlers(CurrentMarks(self._table), self._mark, _nothing)
        self._world.services.add_handler(handlers[0])
        self._world.slices.add_handler(handlers[1])
        self._world.cidrs.add_handler(CidrHandler(self._mark_blocks))
        self._gates.hosts = hosts_of(here)
        if self._runtime.has_predecessor:
            self._programmer.prepare()
        self._open(capture, here)
        self._sync()
        if self._programmer.trouble:
            raise StartError(self._programmer.trouble)
        self._runtime.sockets.keep(key[1:] for key in self._programmer.vips)

    def _open(self, capture: Capture, here: Here) -> None:
        try:
            capture.open(here)
        except StartError:
            self._programmer = None  # what a predecessor has installed stays
            raise
        for obstacle in capture.obstacles():
            logger.warning("in the way of capture", extra={"what": obstacle})

    def _make_table(self, here: Here, capture: Capture) -> Table:
        world, binds = self._world, capture.name == "bind"
        services, slices = world.services, world.slices
        return self._parts.table(self._config, here, services, slices, binds)

    def freeze(self) -> None:
        """Change nothing any more: the rules may be a successor's by now."""
        self._is_frozen = True

    async def close(self) -> None:
        """Leave nothing behind, unless a successor uses it."""
        self.freeze()
        if self._programmer is not None:
            self._programmer.close(leave=self._runtime.is_superseded)
        await self._gates.close()
        await self._wire.close()

    async def reload(self, config: KubeProxy) -> None:
        """Take other settings, less those that last until a restart."""
        for name in KEPT:
            if getattr(config, name) != getattr(self._config, name):
                logger.warning("change needs a restart", extra={"setting": name})
        same = {name: getattr(self._config, name) for name in KEPT}
        self._config = structs.replace(config, **same)
        self._health.timeout_s = config.health_timeout_s
        apply_oom_score(config.oom_score_adj)
        self._speak()
        self._rebuild()

    # What changes

    def _mark(self, is_slice: bool) -> None:
        """Sync at the end of this turn: what comes together changes together."""
        self._counters.note_change(is_slice=is_slice)
        self._soon()

    def _mark_blocks(self) -> None:
        self._table().set_blocks(self._world.cidrs.objects.values())
        self._soon()

    def _soon(self) -> None:
        self._health.queued()
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if self._is_due:
            self._sync()

    def _sync(self, *, again: bool = False) -> None:
        self._is_due = False
        programmer = self._programmer
        if programmer is None or self._is_frozen:
            return
        loop = asyncio.get_running_loop()
        try:
            is_done = timed(lambda: programmer.sync(again=again), self._note_sync)
        except Exception:
            # What is in force is not known: begin anew, from what the stores have.
            logger.exception("not synced", extra={"bug": True})
            loop.call_later(RETRY_S, self._rebuild)
            return
        if is_done:
            self._health.updated()
        else:
            loop.call_later(RETRY_S, self._soon)

    def _note_sync(self, took_s: float) -> None:
        self._counters.note_sync(took_s)
        self._collector.note_sync(took_s, self._runtime.dataplane.last_apply_s)

    def _take_delta(self, delta: Delta) -> None:
        self._gates.want(delta.health)
        self._voice.complaints(delta.complaints)
        for changed_at in delta.changed_at.values():
            self._counters.note_programmed(changed_at)

    def _see_node(self, node: Node) -> None:
        self._health.see_node(node)
        self._look_here()

    def _miss_node(self) -> None:
        logger.warning("the Node is gone, going on as it was")

    def _look_here(self) -> None:
        """Follow the Node's addresses, zone and networks, and those of the machine."""
        if self._programmer is None or self._find_here() == self._here:
            return
        logger.info("the node has changed", extra={"node": self._config.node_name})
        self._rebuild()

    def _find_here(self) -> Here:
        node = self._world.nodes.get(self._config.node_name)
        here = self._parts.here(self._config, node, local_addresses())
        if here != self._here:
            for complaint in here.complaints:
                logger.warning("this node", extra={"what": complaint})
        return here

    def _rebuild(self) -> None:
        """Make everything anew, as settings and node are now."""
        programmer = self._programmer
        if programmer is None or self._is_frozen:
            return
        self._here = here = self._find_here()
        table = self._make_table(here, programmer.capture)
        table.set_blocks(self._world.cidrs.objects.values())
        try:
            programmer.capture.open(here)
        except PyproxyError as error:
            logger.error("rules not changed", extra={"why": str(error)})
        programmer.restart(table, self._config)
        self._gates.hosts = hosts_of(here)
        self._soon()

    async def _look(self) -> None:
        """Repair, and try again what failed."""
        await asyncio.sleep(LOOK_S)
        programmer = self._programmer
        if programmer is None or self._is_frozen:
            return
        try:
            for repaired in programmer.verify():
                logger.warning("rules were repaired", extra={"what": repaired})
        except PyproxyError as error:
            logger.error("rules not verified", extra={"why": str(error)})
        self._look_here()
        if programmer.failed:
            self._sync(again=True)

    # What is said

    def _speak(self) -> None:
        for text in [*self._notes(), *warnings(self._config)]:
            logger.warning("check the configuration", extra={"what": text})

    def _why_not_synced(self) -> str | None:
        unsynced = self._world.unsynced()
        return f"not listed yet: {', '.join(unsynced)}" if unsynced else None

    def _why_not_captured(self) -> str | None:
        return (self._programmer.trouble if self._programmer else "") or None

    def _mode(self) -> str:
        return self._programmer.capture.name if self._programmer else "starting"

    def _table(self) -> Table:
        assert self._programmer is not None
        return self._programmer.table

    def _vips(self) -> Sequence[Any]:
        return list(self._programmer.vips) if self._programmer else []

    def _owner(self, vip: Any) -> str:
        return self._programmer.owner(vip) if self._programmer else ""

    def _direct_counts(self) -> Mapping[str, int]:
        programmer = self._programmer
        return programmer.shortcuts.counts() if programmer is not None else {}

    def _explain(self, key: str) -> Page:
        if self._programmer is None:
            return Page({"error": "not serving yet"}, 503)
        return explained(key, self._runtime.dataplane, self._programmer)


def hosts_of(here: Here) -> tuple[str, ...]:
    """Return the addresses of health ports: those of node ports."""
    return (*here.ipv4.node_ports, *here.ipv6.node_ports)


def _nothing() -> None:
    """Do it."""
