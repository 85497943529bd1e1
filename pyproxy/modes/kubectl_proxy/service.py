"""The wiring of kubectl-proxy: settings and apiservers in, table and verdicts out."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyproxy.admin import Collector, Sources, describe
from pyproxy.config import masked
from pyproxy.dataplane import (
    Http,
    NoticeKind,
    Record,
    Upstream,
    pool_of,
    upstream_of,
)
from pyproxy.discovery.apiservers import Apiservers, obtain
from pyproxy.discovery.names import SPACING_S, Due
from pyproxy.errors import PyproxyError, StartError
from pyproxy.http.files import Directory
from pyproxy.http.filter import Filter
from pyproxy.http.judge import Judge
from pyproxy.http.policy import STATIC, Credential, Settings, parts_of
from pyproxy.http.route import Router, with_slash
from pyproxy.http.static import StaticFiles
from pyproxy.kube.config import user_agent
from pyproxy.logs import ACCESS
from pyproxy.model import Backend, Key, Pool, Vip
from pyproxy.modes.kubectl_proxy import place
from pyproxy.modes.kubectl_proxy.command import run_command
from pyproxy.modes.kubectl_proxy.config import (
    MODE,
    PORT,
    KubectlProxy,
    warnings,
)
from pyproxy.modes.kubectl_proxy.reach import Reach
from pyproxy.runtime import Runtime

logger = logging.getLogger(__name__)
access = logging.getLogger(ACCESS)

POLL_S = 2.0  # how often files are looked at
WRITE_S = 0.2  # how often the access log is written
RESOLVE_S = 30.0  # how often names are looked up while nothing fails
KEEPALIVE_S = 30.0  # TCP's, unless said otherwise; Go's
PARK_S = 660.0  # longer than a person may take to log in
MOST_CHANGES = 3  # of a context, while its credential is obtained
GATEWAY_STATUS = 500  # kubectl's, whatever is wrong with the upstream


async def run(
    config: KubectlProxy, runtime: Runtime[KubectlProxy], command: Sequence[str] = ()
) -> None:
    """Serve until a signal or the end of the command. Raise before anything started."""
    proxy = Proxy(config, runtime)
    async with runtime.started(proxy.sources()):
        try:
            shown = await proxy.open()
            runtime.on_reload(proxy.reload)
            runtime.background("files", proxy.look_at_files)
            runtime.background("names", proxy.look_names_up)
            if config.access_log:
                runtime.background("access log", proxy.write_records)
            if command:
                await _serve_command(shown, command, config, runtime)
            else:
                await runtime.serve([shown])
            await runtime.drain()
            proxy.write_down()
        finally:
            await proxy.close()


async def _serve_command(
    shown: str,
    command: Sequence[str],
    config: KubectlProxy,
    runtime: Runtime[KubectlProxy],
) -> None:
    ended = asyncio.Event()
    socket = place.absolute(shown) if config.unix_socket else ""
    url = "http://localhost" if socket else f"http://{place.local(shown)}"
    patience_s = float(config.timeouts.drain)

    async def work() -> int:
        try:
            return await run_command(command, url, socket, ended, patience_s)
        finally:
            runtime.stop()

    running = asyncio.create_task(work())
    try:
        # The command's output is its own.
        await runtime.serve([shown], out=sys.stderr)
    finally:
        ended.set()
        runtime.exit_code = await running


def facts(record: Record) -> dict[str, object]:
    """Return a line of the access log; what it is about holds no secret."""
    return {
        "client": record.source or "unix",
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "sent": record.bytes_up,
        "received": record.bytes_down,
        "took_ms": round(record.took_us / 1000, 1),
    }


@dataclass(frozen=True, slots=True)
class Parts:
    """What is in use together, and replaced together."""

    config: KubectlProxy
    apiservers: Apiservers
    rules: Filter | None = None
    static: StaticFiles | None = None
    static_socket: str = ""

    @classmethod
    def read(cls, config: KubectlProxy) -> "Parts":
        """Read everything. Raise AccessError, PatternError, or StartError."""
        if config.unix_socket and config.port != PORT:
            raise StartError("cannot set --unix-socket and --port at the same time")
        rules = config.make_filter()
        apiservers = Apiservers(config.client, os.environ, config.contexts)
        for text in apiservers.access.warnings:
            logger.warning(text)
        for text in warnings(config, apiservers.access.server):
            logger.warning(text)
        return cls(config, apiservers, rules)

    async def opened(self) -> "Parts":
        """Serve what there is to serve."""
        if not self.config.www:
            return self
        directory = Directory(self.config.www, listing=self.config.www_listing)
        static = StaticFiles(directory)
        return replace(self, static=static, static_socket=await static.open())

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.static is not None:
            await self.static.close()
        await self.apiservers.close()

    def upstreams(self) -> tuple[Upstream, ...]:
        """Return where the core may send requests."""
        found = self.apiservers.upstreams(float(self.config.timeouts.connect))
        if self.static is None:
            return found
        backend = Backend(f"unix:{self.static_socket}", 1)
        return (*found, upstream_of(Pool(STATIC, (backend,)), None))

    def settings(self) -> Settings:
        """Return what policies go by."""
        config, apiservers = self.config, self.apiservers
        static = with_slash(config.www_prefix) if config.www else ""
        return Settings(
            Router(
                with_slash(config.api_prefix),
                static,
                apiservers.others if config.contexts else None,
            ),
            apiservers.targets(with_path=config.append_server_path),
            self.rules,
            allow_cross_site=config.allow_cross_site,
            user_agent=user_agent(),
            current=apiservers.access.context,
        )

    def vip(self, key: Key) -> Vip:
        """Return what listens at an address."""
        said_s = float(self.config.keepalive)
        # The kernel has whole seconds, and 0 means none to the core.
        keepalive_s = max(1.0, said_s) if said_s > 0 else 0.0
        return Vip(
            *key,
            pool=Pool(MODE, ()),
            idle_timeout_s=float(self.config.timeouts.tcp_idle),
            keepalive_s=keepalive_s if said_s else KEEPALIVE_S,
            client_first=True,
            http=Http(
                key=parts_of(self.rules),
                park_timeout_s=PARK_S,
                stall_timeout_s=0.0,  # `logs -f | less` may pause for hours
                gateway_status=GATEWAY_STATUS,
                log=self.config.access_log,
            ),
        )


class Proxy:
    """The parts in use, and how they change.

    The lock is held wherever they do: while it is free, verdicts, table and files agree
    and no credential of one apiserver can meet the address of another.
    """

    def __init__(self, config: KubectlProxy, runtime: Runtime[KubectlProxy]) -> None:
        """Read everything, as `Parts.read`."""
        self._runtime = runtime
        self._parts = Parts.read(config)
        self._judge: Judge | None = None
        self._keys: list[Key] = []
        self._unix: place.UnixPlace | None = None
        self._applied: object = None
        self._judged: object = None
        self._synced: object = None
        self._trouble = ""
        self._reach = Reach()
        self._due = Due()
        self._one_at_a_time = asyncio.Lock()

    def sources(self) -> Sources:
        """Tell the admin address where to look."""
        self._runtime.collectors.append(
            Collector(MODE, lambda: self._runtime.dataplane)
        )
        self._runtime.health.require("apiserver", self._why_not_reached)
        return Sources(
            health=self._runtime.health,
            collectors=self._runtime.collectors,
            table=lambda: describe(MODE, self._runtime.dataplane, {}),
            config=lambda: masked(self._runtime.config),
            history=self._runtime.history,
        )

    async def open(self) -> str:
        """Listen, and return the address to print. Raise StartError."""
        dataplane = self._runtime.dataplane
        self._parts = await self._parts.opened()
        self._judge = Judge(dataplane, self._parts.settings(), self._obtain)
        dataplane.watch(
            self._on_notice, self._judge.on_question, self._judge.on_withdrawn
        )
        config = self._parts.config
        if config.unix_socket:
            return await self._open_unix(config.unix_socket)
        hosts = await place.hosts_of(config.address)
        self._keys = [(hosts[0], config.port)]
        with place.refusals(f"tcp {config.address}:{config.port}"):
            await self.sync()
        bound = [dataplane.address(("tcp", *self._keys[0]))]
        if len(hosts) > 1:
            bound += await self._open_second(hosts[1], bound[0][1])
        return place.shown(bound)

    async def _open_second(self, host: str, port: int) -> list[Key]:
        """Listen on the same port of the other family, where there is one."""
        self._keys.append((host, port))
        try:
            with place.refusals(f"tcp [{host}]:{port}"):
                await self.sync()
        except place.NoSuchFamilyError:
            self._keys.pop()
        return self._keys[1:]

    async def _open_unix(self, path: str) -> str:
        self._unix = place.UnixPlace(path)
        self._unix.clear()
        self._keys = [self._unix.key]
        before = os.umask(place.UMASK)
        try:
            with place.refusals(f"unix {path}"):
                await self.sync()
        finally:
            os.umask(before)
        self._unix.claim()
        return path

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._unix is not None:
            self._unix.remove()
        if self._judge is not None:
            await self._judge.close()
        await self._parts.close()

    async def reload(self, config: KubectlProxy) -> None:
        """Take other settings; on error the old ones stay. Where we listen stays."""
        new = await Parts.read(config).opened()
        async with self._one_at_a_time:
            old = self._parts
            try:
                await self._sync(new)
            except PyproxyError:
                await new.close()
                raise
            await old.close()

    async def sync(self) -> None:
        """Bring table and verdicts to what is known now.

        Raise StartError or ConfigError; then nothing has changed.
        """
        async with self._one_at_a_time:
            await self._sync(self._parts)

    async def look_at_files(self) -> None:
        """Follow kubeconfig and credentials on disk."""
        await asyncio.sleep(POLL_S)
        async with self._one_at_a_time:
            if self._parts.apiservers.poll() or self._trouble:
                await self._try_to_sync()

    async def look_names_up(self) -> None:
        """Follow the names of apiservers."""
        lost = self._parts.apiservers.names_failed
        await self._due.wait(SPACING_S if lost else RESOLVE_S)
        async with self._one_at_a_time:
            await self._try_to_sync()

    async def write_records(self) -> None:
        """Write the access log, a little later than it happens."""
        await asyncio.sleep(WRITE_S)
        self.write_down()

    def write_down(self) -> None:
        """Write down which exchanges have ended."""
        for record in self._runtime.dataplane.records():
            access.info("exchange", extra=facts(record))

    async def _try_to_sync(self) -> None:
        try:
            await self._sync(self._parts)
        except PyproxyError as error:
            self._trouble = str(error)
            logger.error("change not applied", extra={"why": self._trouble})

    async def _sync(self, parts: Parts) -> None:
        assert self._judge is not None
        await parts.apiservers.prepare()
        # No await until verdicts fit the table: no other task sees half of it.
        upstreams = parts.upstreams()
        vips = tuple(parts.vip(key) for key in self._keys)
        if (vips, upstreams) != self._applied:
            self._runtime.dataplane.apply(vips, upstreams)
            self._applied = (vips, upstreams)
            self._reach.keep({b.key for up in upstreams for b in pool_of(up).backends})
        self._parts, self._trouble = parts, ""
        settings = parts.settings()
        judged = (parts, parts.apiservers.generation, settings.targets)
        if judged != self._judged:
            self._judge.change(settings)
            self._judged = judged
        self._synced = parts.apiservers.generation
        await parts.apiservers.settle()

    async def _obtain(self, context: str, rejected: bool) -> Credential:
        """Return a credential that fits the table in force. Raise PyproxyError."""
        for _ in range(MOST_CHANGES):
            async with self._one_at_a_time:
                if self._trouble:
                    raise PyproxyError(self._trouble)
                credentials = self._parts.apiservers.credentials(context)
            credential = await obtain(credentials, rejected=rejected)
            async with self._one_at_a_time:
                # A plugin may give certificates, too. One sync does for all that wait.
                if self._parts.apiservers.generation != self._synced:
                    await self._sync(self._parts)
                if self._parts.apiservers.credentials(context) is credentials:
                    return credential
            rejected = False  # of another apiserver, or of another user
        raise PyproxyError("credentials change faster than they can be used")

    def _on_notice(self, kind: NoticeKind, backend: Key) -> None:
        self._reach.on_notice(kind, backend)
        if kind != "recovered":
            self._due.hurry()  # its name may have moved

    def _why_not_reached(self) -> str | None:
        lost = [f"{n}: {why}" for n, why in self._parts.apiservers.unresolved.items()]
        lost += self._reach.complaints()
        return self._trouble or "; ".join(lost) or None
