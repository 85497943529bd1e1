"""The balancer in front of apiservers, the part of it that needs no cluster.

Listeners and servers come from flags and a file; names in them are looked up again from
time to time. Probes decide which servers take connections, the core moves the bytes.
"""

import asyncio
import logging
import os
import resource
from functools import partial
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, structs

from pyproxy.admin import Collector, Sources, describe
from pyproxy.config import (
    Config,
    Listener,
    ModeConfig,
    Pool,
    Seconds,
    Server,
    format_duration,
    lint,
    lint_descriptors,
    lint_trust,
    masked,
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

if TYPE_CHECKING:
    from pyproxy.discovery.members import Members
    from pyproxy.kube.config import Access, ClientFlags
    from pyproxy.kube.wire import Wire

logger = logging.getLogger(__name__)

MODE = "apiserver-lb"

StateFilePath = Annotated[str, Meta(min_length=1)]


class Kubeconfig(Config, frozen=True, kw_only=True):
    """Who we are to apiservers."""

    kubeconfig: str = ""  # read this file alone
    context: str = ""  # to use instead of the current one


class ApiserverLb(ModeConfig, frozen=True, kw_only=True):
    """Listeners in front of pools of servers."""

    listeners: tuple[Listener, ...] = ()  # each a mapping, or HOST:PORT alone
    pools: tuple[Pool, ...] = ()  # at least one
    # HOST:PORT of health, metrics and the live page; "" = off. Needs a restart.
    admin_address: str = "127.0.0.1:9791"
    resolve_interval: Seconds = Seconds(30)  # how often names are looked up again
    # File that tells a restart which servers are ready; null = none.
    state_file: StateFilePath | None = None
    # Follow the apiservers that announce themselves, too, through the first listener
    # and into its pool. Needs a restart.
    discover: bool = False
    client: Kubeconfig = Kubeconfig()  # who we are to them; empty = as for kubectl

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
        self.discovered: tuple[str, ...] = ()  # HOST:PORT of more servers
        self._shelf = TlsShelf()

    async def until_names_are_due(self, period_s: float) -> None:
        """Return when names are to be looked up; soon if one had no answer."""
        failed = bool(self._names.errors)
        await self.due.wait(min(SPACING_S, period_s) if failed else period_s)

    async def plan(self, config: ApiserverLb) -> Plan:
        """Resolve and read everything. Raise ConfigError with all that is wrong."""
        config = _with(config, self.discovered)
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


def _with(config: ApiserverLb, discovered: tuple[str, ...]) -> ApiserverLb:
    """Return the configuration with more servers in the pool of the first listener."""
    name = config.listeners[0].pool or config.pools[0].name
    pools = []
    for pool in config.pools:
        if pool.name == name:
            written = {server.address for server in pool.servers}
            more = [Server(address=one) for one in discovered if one not in written]
            pool = structs.replace(pool, servers=(*pool.servers, *more))
        pools.append(pool)
    return structs.replace(config, pools=tuple(pools))


async def check(config: ApiserverLb) -> list[str]:
    """Find out whether `run` could begin; return warnings. Raise ConfigError."""
    refuse_obstacles(config)
    access_to(config)
    await Planner().plan(config)
    return warnings(config)


def flags_of(config: ApiserverLb) -> "ClientFlags":
    """Return who we are, in the words of kubectl."""
    from pyproxy.kube.config import ClientFlags

    client = config.client
    return ClientFlags(kubeconfig=client.kubeconfig, context=client.context)


def access_to(config: ApiserverLb) -> "Access | None":
    """Return who we are to apiservers, if they are followed. Raise AccessError."""
    if not config.discover:
        return None
    # Here: only with it the client of apiservers is needed.
    from pyproxy.discovery.members import access_of

    return access_of(flags_of(config), os.environ)


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
    """Serve until a signal, then drain. Raise before anything started."""
    refuse_obstacles(config)
    access = access_to(config)
    balancer = Balancer(config, runtime)
    await balancer.prepare()
    async with runtime.started(balancer.sources()):
        try:
            bound = await balancer.open()
            runtime.on_reload(balancer.reload)
            if access is not None:
                balancer.discover(bound[0], access)
            await runtime.serve([format_address(*address) for address in bound])
            await runtime.drain()
            await balancer.save()
        finally:
            await balancer.close()


class Balancer:
    """The parts in use, and how they change."""

    def __init__(self, config: ApiserverLb, runtime: Runtime[ApiserverLb]) -> None:
        self._config, self._runtime = config, runtime
        self._planner = Planner()
        self._collector = Collector(MODE, lambda: runtime.dataplane)
        self._sync = Sync(lambda: runtime.dataplane, self._collector)
        self._collector.states = self._sync.states
        self._collector.suspects = self._sync.suspects
        self._state_file = StateFile(config.state_file)
        self._plan = Plan()
        self._members: Members | None = None
        self._wire: Wire | None = None
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self) -> None:
        """Read what was known, and make the plan. Raise ConfigError."""
        self._sync.remember(self._state_file.read())
        if self._config.discover:
            self._planner.discovered = self._state_file.discovered
        self._plan = await self._planner.plan(self._config)

    def sources(self) -> Sources:
        """Tell the admin address where to look."""
        runtime, sync = self._runtime, self._sync
        return Sources(
            health=runtime.health,
            collectors=runtime.collectors,
            table=lambda: describe(MODE, runtime.dataplane, sync.watched),
            config=lambda: masked(runtime.config),
            history=runtime.history,
        )

    async def open(self) -> list[Key]:
        """Listen, and return where. Raise StartError."""
        runtime, plan = self._runtime, self._plan
        runtime.collectors.append(self._collector)
        self._sync.on_lost = self._planner.due.hurry
        runtime.dataplane.watch(self._sync.on_notice)
        runtime.sockets.keep((vip.host, vip.port) for vip in plan.vips)
        await self._sync.apply(plan)
        _speak_of(self._config, runtime, self._sync, self._collector)
        runtime.background("names", self._look_names_up)
        runtime.background("state", partial(self._state_file.follow, self._sync))
        return [runtime.dataplane.address(vip.key) for vip in plan.vips]

    async def reload(self, new: ApiserverLb) -> None:
        """Serve by other settings. On error all is as before."""
        async with self._one_at_a_time:
            refuse_obstacles(new)
            await self._sync.apply(await self._planner.plan(new))
            self._state_file.path = new.state_file
            _speak_of(new, self._runtime, self._sync, self._collector)

    def discover(self, listener: Key, access: "Access") -> None:
        """Follow the apiservers that announce themselves."""
        from pyproxy.discovery.members import Members, reflector_of, wire_through

        runtime = self._runtime
        flags = flags_of(self._config)
        self._wire = wire_through(listener, flags, access, os.environ)
        self._members = Members(self._planner.discovered)
        runtime.health.mention("discovery", self._why_not_synced)
        reflector = reflector_of(self._wire, self._members)
        runtime.background("apiservers", reflector.run)
        runtime.background("credentials", self._wire.follow_files)
        runtime.background("members", self._follow_members)

    async def save(self) -> None:
        """Leave for the next start what is known."""
        await self._state_file.save(self._sync.watched)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._sync.close()
        if self._wire is not None:
            await self._wire.close()

    async def _look_names_up(self) -> None:
        period_s = float(self._runtime.config.resolve_interval)
        await self._planner.until_names_are_due(period_s)
        async with self._one_at_a_time:
            await follow_names(self._runtime.config, self._planner, self._sync)

    async def _follow_members(self) -> None:
        assert self._members is not None
        found = await self._members.next()
        async with self._one_at_a_time:
            before = self._planner.discovered
            # Before it is in use: a stop in between should not forget it.
            self._planner.discovered = self._state_file.discovered = found
            try:
                await self._sync.apply(await self._planner.plan(self._runtime.config))
            except PyproxyError as error:
                self._planner.discovered = self._state_file.discovered = before
                extra = {"apiservers": ", ".join(found), "why": str(error)}
                logger.error("apiservers not followed", extra=extra)
                return
        self._members.take(found)

    def _why_not_synced(self) -> str | None:
        synced = self._members is not None and self._members.store.is_synced
        return None if synced else "the apiservers were not listed yet"


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
