"""The wiring of apiserver-proxy: watches and reviews in, table and verdicts out."""

import asyncio
import logging
import os
from dataclasses import replace

from msgspec import structs

from pyproxy.admin import Collector, Sources, describe
from pyproxy.config import masked
from pyproxy.dataplane import Change, ClientTls, Upstream
from pyproxy.discovery.apiservers import Apiservers
from pyproxy.discovery.names import SPACING_S, Due
from pyproxy.discovery.targets import Resolver, Stores
from pyproxy.errors import PyproxyError, StartError
from pyproxy.http.addresses import AddressRules
from pyproxy.http.identity import HeaderNames
from pyproxy.kube.client import Client
from pyproxy.kube.config import Current
from pyproxy.kube.counters import KubeCounters
from pyproxy.kube.reviews import Reviewer
from pyproxy.kube.wire import Wire
from pyproxy.model import Key, Vip, format_address
from pyproxy.modes.apiserver_proxy import forwards, listeners
from pyproxy.modes.apiserver_proxy.answers import Lives, Memory
from pyproxy.modes.apiserver_proxy.audit import Audit
from pyproxy.modes.apiserver_proxy.certificates import Certificates, Held, fingerprint
from pyproxy.modes.apiserver_proxy.config import (
    MODE,
    ApiserverProxy,
    networks,
    warnings,
)
from pyproxy.modes.apiserver_proxy.forwards import Apiserver, Edits
from pyproxy.modes.apiserver_proxy.judge import Judge
from pyproxy.modes.apiserver_proxy.places import ANYBODY, Places, simple_upstream
from pyproxy.modes.apiserver_proxy.policy import Settings
from pyproxy.modes.apiserver_proxy.questions import Asking
from pyproxy.modes.apiserver_proxy.watches import follow
from pyproxy.runtime import Runtime

logger = logging.getLogger(__name__)

POLL_S = 2.0  # how often files are looked at
RESOLVE_S = 30.0  # how often the apiserver's name is looked up
KEPT = ("bind_address", "secure_port", "client")  # until a restart
LOOK_S, SETTLE_LOOKS = 0.01, 100  # for connections that were reset, at the end


async def run(config: ApiserverProxy, runtime: Runtime[ApiserverProxy]) -> None:
    """Serve until a signal, then drain. Raise before anything started."""
    proxy = Proxy(config, runtime)
    async with runtime.started(proxy.sources()):
        try:
            shown = await proxy.open()
            runtime.on_reload(proxy.reload)
            runtime.background("files", proxy.look_at_files)
            runtime.background("names", proxy.look_names_up)
            runtime.background("audit log", proxy.audit.look)
            proxy.follow()
            await runtime.serve([shown])
            await runtime.drain()
            await proxy.settle()
        finally:
            await proxy.close()


class Proxy:
    """The parts in use, and how they change."""

    def __init__(
        self, config: ApiserverProxy, runtime: Runtime[ApiserverProxy]
    ) -> None:
        """Read everything. Raise ConfigError or AccessError."""
        self._config, self._runtime = config, runtime
        self._certificates = Certificates(config)
        self._apiservers = Apiservers(config.client, os.environ)
        self._wire = Wire(Current(config.client, os.environ))
        self._stores = Stores()
        self._counters = KubeCounters()
        self._memory = Memory(_lives(config), _now)
        self._keys: list[Key] = []  # where we listen, as the table has it
        self._bound: list[Key] = []  # ... and as clients do
        self._resolver = self._make_resolver()
        self._judge: Judge | None = None
        self._places: Places | None = None
        self._upstreams: dict[str, Upstream] = {}
        self._due = Due()
        self._one_at_a_time = asyncio.Lock()
        self.audit = Audit(lambda: runtime.dataplane)

    def sources(self) -> Sources:
        """Tell the admin address where to look."""
        runtime = self._runtime
        runtime.collectors.append(Collector(MODE, lambda: runtime.dataplane))
        runtime.collectors += [self._counters, self.audit]
        runtime.health.require("caches", self._why_not_synced)
        runtime.health.mention("apiserver", self._why_not_answered)
        runtime.health.mention("audit log", self.audit.why_not_written)
        return Sources(
            health=runtime.health,
            collectors=runtime.collectors,
            table=lambda: describe(MODE, runtime.dataplane, {}),
            config=lambda: masked(runtime.config),
            history=runtime.history,
        )

    async def open(self) -> str:
        """Listen, and return the address to print. Raise StartError."""
        dataplane = self._runtime.dataplane
        self._speak()
        self.audit.open(self._config.audit_log_path)
        await self._apiservers.prepare()
        self._listen()
        self._resolver = self._make_resolver()
        self._places = Places(
            dataplane,
            lambda: self._resolver,
            self._edits,
            lambda host: self._held.kubelet_tls(host),
            float(self._config.timeouts.connect),
        )
        asking = Asking(Reviewer(Client(self._wire)))
        self._judge = Judge(
            *(dataplane, self._settings(), self._memory),
            *(asking.ask, self._places.prepare, self.audit.number),
        )
        dataplane.watch(
            lambda kind, backend: self._due.hurry() if kind != "recovered" else None,
            self._judge.on_question,
            self._judge.on_withdrawn,
        )
        return format_address(*self._bound[0])

    def _listen(self) -> None:
        """Listen, on the same port of both families where that is wanted."""
        sockets, port = self._runtime.sockets, self._config.secure_port
        hosts = listeners.hosts_of(self._config, sockets.by_key)
        sockets.keep((host, port) for host in hosts)
        for host in hosts:
            self._keys.append((host, port))
            try:
                self._apply()
            except StartError as error:
                if not (self._bound and listeners.is_without_family(error)):
                    raise
                self._keys.pop()
                continue
            bound = self._runtime.dataplane.address(("tcp", host, port))
            self._bound.append(bound)
            port = bound[1]

    def follow(self) -> None:
        """Begin to watch the cluster."""
        assert self._places is not None
        reflectors = follow(
            self._wire,
            self._stores,
            self._places,
            lambda: self._resolver,
            self._counters.watch_restarted,
        )
        for name, reflector in reflectors.items():
            self._runtime.background(f"watch {name}", reflector.run)
        self._runtime.background("credentials", self._wire.follow_files)

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._judge is not None:
            await self._judge.close()
        if self._places is not None:
            self._places.close()
        await self._apiservers.close()
        await self._wire.close()
        self.audit.close()

    async def settle(self) -> None:
        """Wait, not for long, for what the end of the drain resets: it is logged."""
        dataplane = self._runtime.dataplane
        for _ in range(SETTLE_LOOKS):
            if not dataplane.stats().relays_active:
                break
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(LOOK_S)  # their records are read meanwhile
        self.audit.speak()

    async def reload(self, config: ApiserverProxy) -> None:
        """Take other settings; where we listen and which apiserver it is stays.

        Raise ConfigError or StartError; then nothing has changed.
        """
        certificates = Certificates(config, self._certificates.own)
        async with self._one_at_a_time:
            before = self._config, self._certificates
            same = {name: getattr(self._config, name) for name in KEPT}
            self._config = structs.replace(config, **same)
            self._certificates = certificates
            try:
                self.audit.open(config.audit_log_path)
                self._apply()
            except PyproxyError:
                self._config, self._certificates = before
                self.audit.open(self._config.audit_log_path)
                raise
            self._memory.lives = _lives(config)
            self._speak()
            self._take_up()

    async def look_at_files(self) -> None:
        """Follow certificates and credentials on disk."""
        await asyncio.sleep(POLL_S)
        async with self._one_at_a_time:
            renewed = self._certificates.poll()
            if self._apiservers.poll() or renewed:
                await self._try_to_apply(renewed=renewed)

    async def look_names_up(self) -> None:
        """Follow the name of the apiserver."""
        await self._due.wait(SPACING_S if self._apiservers.names_failed else RESOLVE_S)
        async with self._one_at_a_time:
            await self._try_to_apply()

    async def _try_to_apply(self, *, renewed: bool = False) -> None:
        try:
            await self._apiservers.prepare()
            # Not all that is in certificates is in the table that `_apply` compares.
            if self._apply() or renewed:
                self._take_up()
            await self._apiservers.settle()
        except PyproxyError as error:
            logger.error("change not applied", extra={"why": str(error)})

    def _apply(self) -> bool:
        """Bring the table to what is known; return whether it is another one."""
        dataplane = self._runtime.dataplane
        upstreams = {each.name: each for each in self._wanted()}
        vips = [vip for vip in self._vips() if vip not in dataplane.vips]
        news = [u for n, u in upstreams.items() if self._upstreams.get(n) != u]
        gone = [name for name in self._upstreams if name not in upstreams]
        if not (news or gone or vips):
            return False
        pools = [vips[0].pool] if vips else []
        dataplane.update(
            Change(vips=vips, pools=pools, upstreams=news, remove_upstreams=gone)
        )
        self._upstreams = upstreams
        return True

    def _take_up(self) -> None:
        """Decide by what is in force now."""
        assert self._judge is not None
        assert self._places is not None
        self._resolver = self._make_resolver()
        self._places.renew_kubelets()
        self._judge.change(self._settings())

    # What follows from settings and files

    @property
    def _held(self) -> Held:
        return self._certificates.held

    def _names(self) -> HeaderNames:
        return self._config.request_header.names

    def _edits(self) -> Edits:
        extra = [name for name in self._names().all() if name not in Edits().remove]
        return Edits(
            remove=(
                *Edits().remove,
                *filter(None, (*extra, self._config.passed_header)),
            ),
            verifies_kubelets=self._held.kubelet_ca is not None,
            html=self._config.rewrite_html,
        )

    def _make_resolver(self) -> Resolver:
        config = self._config
        rules = AddressRules(
            networks("allowAddress", config.allow_address),
            networks("denyAddress", config.deny_address),
            tuple(self._bound),
        )
        return Resolver(self._stores, rules, config.kubelet.preferred_address_types)

    def _settings(self) -> Settings:
        config = self._config
        return Settings(
            self._resolver,
            self._held.issuers,
            self._apiserver() if config.forward_rest else None,
            edits=self._edits(),
            names=self._names(),
            anonymous=config.anonymous_auth,
            authorize=config.authorization_mode == "webhook",
            clean_paths=config.clean_paths,
            forwarded_uri=config.forwarded_uri,
            suffixes=config.suffixes,
            passed_header=config.passed_header,
            limits=config.limits,
        )

    def _apiserver(self) -> Apiserver:
        target = self._apiservers.targets(with_path=True)[""]
        return Apiserver(target.host, target.path, front=self._held.front is not None)

    def _vips(self) -> list[Vip]:
        config, tls = self._config, self._held.server
        return [listeners.vip_of(config, key, tls) for key in self._keys]

    def _wanted(self) -> list[Upstream]:
        """Return the upstreams that there always are."""
        connect_s = float(self._config.timeouts.connect)
        found = [
            simple_upstream(forwards.PLAIN, None, connect_s),
            simple_upstream(forwards.SECURE, ANYBODY, connect_s),
            simple_upstream(forwards.KUBELET, self._held.kubelet_tls(""), connect_s),
        ]
        # The apiserver, never as ourselves: our certificate would beat users' tokens.
        (apiserver,) = self._apiservers.upstreams(connect_s)
        found.append(_as(apiserver, forwards.REST, None))
        if self._held.front is not None:
            found.append(_as(apiserver, forwards.FRONT, self._held.front))
        return found

    # What is said

    def _speak(self) -> None:
        for text in warnings(self._config):
            logger.warning(text)
        if not self._config.tls_cert_file:
            shown = fingerprint(self._held.server.certificates[0])
            logger.warning("self-signed certificate", extra={"sha256": shown})

    def _why_not_synced(self) -> str | None:
        unsynced = self._stores.unsynced()
        return f"not listed yet: {', '.join(unsynced)}" if unsynced else None

    def _why_not_answered(self) -> str | None:
        return (self._judge.trouble if self._judge is not None else "") or None


def _as(apiserver: Upstream, name: str, pair: tuple[bytes, bytes] | None) -> Upstream:
    certificate, key = pair or (None, None)
    tls: ClientTls | None = apiserver.tls
    if tls is not None:
        tls = replace(tls, certificate=certificate, key=key)
    return replace(apiserver, name=name, tls=tls)


def _lives(config: ApiserverProxy) -> Lives:
    return Lives(
        float(config.token_ttl),
        float(config.authorized_ttl),
        float(config.unauthorized_ttl),
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
