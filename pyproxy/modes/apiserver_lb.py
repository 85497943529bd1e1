"""The balancer in front of apiservers, the part of it that needs no cluster.

Listeners and servers come from flags and a file; names in them are looked up again from
time to time. Probes decide which servers take connections, the core moves the bytes.
"""

import asyncio
import logging
import resource
from functools import partial
from typing import Annotated

from msgspec import Meta

from pyproxy.admin import Collector, Sources, describe
from pyproxy.config import (
    Listener,
    ModeConfig,
    Pool,
    Seconds,
    effective,
    format_duration,
    lint,
    lint_descriptors,
    lint_trust,
    parse_address,
)
from pyproxy.discovery.memory import StateFile, obstacles
from pyproxy.discovery.names import SPACING_S, Due, Names
from pyproxy.discovery.static import (
    build_pools,
    build_vips,
    complaints,
    names_in,
    unresolved,
)
from pyproxy.discovery.sync import Plan, Sync
from pyproxy.errors import ConfigError, PyproxyError
from pyproxy.model import Key, format_address
from pyproxy.probe import (
    Pace,
    Target,
    TlsShelf,
    complaints_about_files,
    targets_of,
)
from pyproxy.runtime import Runtime

logger = logging.getLogger(__name__)

MODE = "apiserver-lb"

StateFilePath = Annotated[str, Meta(min_length=1)]


class ApiserverLb(ModeConfig, frozen=True, kw_only=True):
    """Listeners in front of pools of servers."""

    listeners: tuple[Listener, ...] = ()  # each a mapping, or HOST:PORT alone
    pools: tuple[Pool, ...] = ()  # at least one
    # HOST:PORT of health, metrics and the live page; "" = off. Needs a restart.
    admin_address: str = "127.0.0.1:9791"
    resolve_interval: Seconds = Seconds(30)  # how often names are looked up again
    # File that tells a restart which servers are ready; null = none.
    state_file: StateFilePath | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.listeners:
            raise ValueError(".listeners: at least one is needed (--listen HOST:PORT)")
        if not self.pools:
            raise ValueError(".pools: at least one is needed (--server HOST:PORT)")
        names = [pool.name for pool in self.pools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f".pools: two are named {name!r}")
        for index, listener in enumerate(self.listeners):
            place = f".listeners[{index}].pool"
            if listener.pool is None and len(names) > 1:
                raise ValueError(f"{place}: say which of {', '.join(names)}")
            if listener.pool is not None and listener.pool not in names:
                raise ValueError(f"{place}: there is no pool {listener.pool!r}")


class Planner:
    """Makes plans; remembers addresses and certificates from one to the next."""

    def __init__(self) -> None:
        self._names = Names()
        self.due = Due()
        self._shelf = TlsShelf()

    async def until_names_are_due(self, period_s: float) -> None:
        """Return when names are to be looked up; soon if one had no answer."""
        failed = bool(self._names.errors)
        await self.due.wait(min(SPACING_S, period_s) if failed else period_s)

    async def plan(self, config: ApiserverLb) -> Plan:
        """Resolve and read everything. Raise ConfigError with all that is wrong."""
        await self._names.refresh(names_in(config.listeners, config.pools))
        found = self._complaints(config)
        if found:
            raise ConfigError(found)
        known = self._names.known
        pools = build_pools(config.pools, config.timeouts, known)
        targets: dict[Key, tuple[Target, Pace]] = {}
        for pool in config.pools:
            backends = pools[pool.name].backends
            tls = self._shelf.get(pool.check)
            for target, pace in targets_of(pool.check, backends, tls):
                targets.setdefault(target.key, (target, pace))
        checks = {pool.name: pool.check for pool in config.pools}
        vips = build_vips(config.listeners, pools, checks, config.timeouts, known)
        return Plan(vips, tuple(targets.values()))

    def _complaints(self, config: ApiserverLb) -> list[str]:
        known = self._names.known
        errors = {n: why for n, why in self._names.errors.items() if n not in known}
        found = list(unresolved(config.listeners, config.pools, errors))
        if not found:
            admin = config.admin_address
            address = parse_address(admin, zero_port=True) if admin else None
            found += complaints(config.listeners, config.pools, known, address)
        for index, pool in enumerate(config.pools):
            place = f"$.pools[{index}].check"
            found += complaints_about_files(pool.check, place, self._shelf)
        return found


async def check(config: ApiserverLb) -> list[str]:
    """Find out whether `run` could begin; return warnings. Raise ConfigError."""
    refuse_obstacles(config)
    await Planner().plan(config)
    return warnings(config)


def refuse_obstacles(config: ApiserverLb) -> None:
    """Raise ConfigError if the state file could never be written.

    Later troubles with it, as a full disk, are a line of the log.
    """
    found = obstacles(config.state_file) if config.state_file is not None else []
    if found:
        raise ConfigError([f"$.stateFile: {why}" for why in found])


def warnings(config: ApiserverLb) -> list[str]:
    """Return what is possible and yet usually a mistake."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [
        *lint(config, config.pools),
        *lint_trust(config.listeners),
        *lint_descriptors(config.listeners, descriptors),
    ]


async def run(config: ApiserverLb, runtime: Runtime[ApiserverLb]) -> None:
    """Serve until a signal, then drain. Raise ConfigError before anything started."""
    refuse_obstacles(config)
    planner = Planner()
    plan = await planner.plan(config)
    collector = Collector(MODE, lambda: runtime.dataplane)
    sync = Sync(lambda: runtime.dataplane, collector)
    collector.states, collector.suspects = sync.states, sync.suspects
    state_file = StateFile(config.state_file)
    sync.remember(state_file.read())
    one_at_a_time = asyncio.Lock()

    async def reload(new: ApiserverLb) -> None:
        async with one_at_a_time:
            refuse_obstacles(new)
            await sync.apply(await planner.plan(new))
            state_file.path = new.state_file
            _speak_of(new, runtime, sync, collector)

    async def look_names_up() -> None:
        await planner.until_names_are_due(float(runtime.config.resolve_interval))
        async with one_at_a_time:
            await follow_names(runtime.config, planner, sync)

    async with runtime.started(_sources(runtime, sync)):
        runtime.collectors.append(collector)
        try:
            sync.on_lost = planner.due.hurry
            runtime.dataplane.watch(sync.on_notice)
            runtime.sockets.keep((vip.host, vip.port) for vip in plan.vips)
            await sync.apply(plan)
            _speak_of(config, runtime, sync, collector)
            runtime.on_reload(reload)
            runtime.background("names", look_names_up)
            runtime.background("state", partial(state_file.follow, sync))
            bound = [runtime.dataplane.address(vip.key) for vip in plan.vips]
            await runtime.serve([format_address(*address) for address in bound])
            await runtime.drain()
            await state_file.save(sync.watched)
        finally:
            await sync.close()


def _sources(runtime: Runtime[ApiserverLb], sync: Sync) -> Sources:
    """What the admin address shows."""
    return Sources(
        health=runtime.health,
        collectors=runtime.collectors,
        table=lambda: describe(MODE, runtime.dataplane, sync.watched),
        config=lambda: effective(runtime.config),
        history=runtime.history,
    )


async def follow_names(config: ApiserverLb, planner: Planner, sync: Sync) -> None:
    """Look names up again; sync when one of them moved."""
    if not names_in(config.listeners, config.pools):
        return
    try:
        plan = await planner.plan(config)
        if plan.vips != sync.plan.vips:
            logger.info("names have other addresses now")
            await sync.apply(plan)
    except PyproxyError as error:
        logger.error("names not followed", extra={"why": str(error)})


def _speak_of(
    config: ApiserverLb,
    runtime: Runtime[ApiserverLb],
    sync: Sync,
    collector: Collector,
) -> None:
    """Warn, and let readiness and metrics know the pools in use."""
    for warning in warnings(config):
        logger.warning("check the configuration", extra={"what": warning})
    for name in runtime.health.named("pool/"):
        runtime.health.drop(name)
    collector.worst_detection_s.clear()
    for pool in config.pools:
        name = f"pool/{pool.name}"
        runtime.health.require(name, partial(sync.why_not_served, pool.name))
        collector.worst_detection_s[pool.name] = pool.check.worst_detection_s
        worst = format_duration(pool.check.worst_detection_s)
        extra = {"pool": pool.name, "hung_server_noticed_within": worst}
        logger.info("pool in use", extra=extra)
