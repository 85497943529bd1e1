"""The apiservers behind contexts of a kubeconfig: where to dial, how, and as whom.

Names are resolved, proxies get a tunnel, files are looked at again; what comes of it is
one value for the core, its upstreams, and one for policies, their targets.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from pyproxy.config import Address
from pyproxy.dataplane import ClientTls, Forward, Upstream, upstream_of
from pyproxy.discovery.names import Names
from pyproxy.http.policy import REMEMBER_S, Credential, Target
from pyproxy.http.tunnel import Tunnel
from pyproxy.kube.config import (
    Access,
    AccessError,
    ClientFlags,
    Credentials,
    Current,
    Kubeconfigs,
    Server,
)
from pyproxy.model import Backend, Pool

logger = logging.getLogger(__name__)

ALL = "*"
LONGEST_NAME = 200  # of an upstream, in bytes
HOLDS_S = 1.0  # at least, for those that waited: a sync may lie between

Dial = tuple[str, int]


class Apiservers:
    """The apiserver of the context in use (""), and those of others by their names."""

    def __init__(
        self, flags: ClientFlags, env: Mapping[str, str], others: Sequence[str] = ()
    ) -> None:
        """Load everything. Raise AccessError if the first one cannot be used."""
        self._flags, self._env, self._others = flags, env, others
        self._files = Kubeconfigs(flags.kubeconfig, env)
        self._seen = self._files.version
        first = Current(flags, env, check=_check, files=self._files)
        self._current = {"": first}
        self._gone: list[Current] = []
        self._names = Names()
        self._tunnels: dict[tuple[str, str, int], tuple[Tunnel, str]] = {}
        self._broken: dict[str, str] = {}  # contexts that cannot be served, and why
        self._take_up(self._wanted())

    def _take_up(self, wanted: Iterable[str]) -> None:
        """Serve these; log once why one cannot be served."""
        before, self._broken = self._broken, {}
        for name in wanted:
            if name in self._current:
                continue
            try:
                self._current[name] = self._context(name)
            except AccessError as error:
                why = self._broken[name] = str(error)
                if before.get(name) != why:
                    extra = {"context": name, "why": why}
                    logger.warning("context not served", extra=extra)

    def _context(self, name: str) -> Current:
        # Flags for server, user and token are for the first context only.
        own = ClientFlags(kubeconfig=self._flags.kubeconfig, context=name)
        return Current(own, self._env, check=_check, files=self._files)

    def _wanted(self) -> list[str]:
        found = self._files.loaded[0].contexts if ALL in self._others else ()
        named = (name for name in self._others if name != ALL)
        return list(dict.fromkeys((*found, *named)))

    @property
    def access(self) -> Access:
        """Of the context in use."""
        return self._current[""].access

    @property
    def others(self) -> tuple[str, ...]:
        """Contexts that are served beside it."""
        return tuple(name for name in self._current if name)

    @property
    def names_failed(self) -> bool:
        """Whether a name had no answer the last time: it may have one soon."""
        return bool(self._names.errors)

    @property
    def unresolved(self) -> Mapping[str, str]:
        """Names without an address, and why."""
        known, errors = self._names.known, self._names.errors
        return {name: why for name, why in errors.items() if name not in known}

    async def prepare(self) -> None:
        """Resolve names and open tunnels; then `upstreams` is up to date."""
        accesses = [each.access for each in self._current.values()]
        direct = [access.server.host for access in accesses if not _tunnels(access)]
        await self._names.refresh(host for host in direct if Address(host, 1).is_name)
        for access in accesses:
            route = _route(access)
            if _tunnels(access) and route not in self._tunnels:
                tunnel = Tunnel(*route)
                self._tunnels[route] = (tunnel, await tunnel.open())

    def upstreams(self, connect_timeout_s: float) -> tuple[Upstream, ...]:
        """Return where the core may send requests."""
        found = {}
        for name, current in self._current.items():
            access = current.access
            pool = Pool(
                _label(name, access.server),
                tuple(Backend(*dial) for dial in self._dials(access)),
                balance="two-choices",
                connect_timeout_s=connect_timeout_s,
                slow_start_s=0.0,
            )
            found[pool.name] = upstream_of(pool, _tls(access))
        return tuple(found.values())

    def targets(self, *, with_path: bool) -> dict[str, Target]:
        """Return what policies need to know, by context."""
        return {
            name: Target(
                _label(name, current.access.server),
                current.access.server.authority,
                path=current.access.server.path if with_path else "",
                impersonate=current.access.impersonation,
                takes_credential=current.access.server.scheme == "https",
                lost=self._why_lost(current.access),
            )
            for name, current in self._current.items()
        }

    def credentials(self, context: str) -> Credentials:
        """Return who we are to a context, as of now. Raise AccessError if it went."""
        if context not in self._current:
            raise AccessError(f"context {context!r} is not there any more")
        return self._current[context].access.credentials

    @property
    def generation(self) -> tuple[int, ...]:
        """What differs whenever any of the credentials does."""
        every = self._current.values()
        return tuple(each.access.credentials.generation for each in every)

    def poll(self) -> bool:
        """Look at files. Return whether anything changed."""
        self._files.poll()
        followed = self._follow()
        changed = [current.poll() for current in self._current.values()]
        return followed or any(changed)

    def _follow(self) -> bool:
        """Take up contexts that came or were mended; let go of those that went."""
        # What a kubeconfig names may be written after it: try until it works.
        if self._files.version == self._seen and not self._broken:
            return False
        self._seen = self._files.version
        before, wanted = self.others, self._wanted()
        for name in set(before).difference(wanted):
            self._gone.append(self._current.pop(name))
        self._take_up(wanted)
        if self.others == before:
            return False
        logger.info("contexts changed", extra={"contexts": ", ".join(self.others)})
        return True

    async def settle(self) -> None:
        """Let go of what is no longer in use."""
        used = {_route(current.access) for current in self._current.values()}
        for route in self._tunnels.keys() - used:
            tunnel, _ = self._tunnels.pop(route)
            await tunnel.close()
        for current in self._current.values():
            await current.settle()
        while self._gone:
            await self._gone.pop().close()

    async def close(self) -> None:
        """End everything that runs."""
        for tunnel, _ in self._tunnels.values():
            await tunnel.close()
        for current in (*self._current.values(), *self._gone):
            await current.close()

    def _why_lost(self, access: Access) -> str:
        host = access.server.host
        if access.proxy_url or host not in self.unresolved:
            return ""
        return f"dial tcp: lookup {host}: no such host"

    def _dials(self, access: Access) -> Iterable[Dial]:
        if _tunnels(access):
            return [(f"unix:{self._tunnels[_route(access)][1]}", 1)]
        host, port = access.server.host, access.server.port
        if not Address(host, port).is_name:
            # A zone matters to link-local addresses alone.
            return [(host.partition("%")[0], port)]
        return [(address, port) for address in self._names.known.get(host, ())]


async def obtain(credentials: Credentials, *, rejected: bool) -> Credential:
    """Return the credential, another one after a 401. Raise CredentialsError."""
    if rejected:
        credentials.rejected()
    headers = dict(await credentials.headers())
    return Credential(
        headers.get("Authorization", ""),
        ttl_s=max(HOLDS_S, min(REMEMBER_S, credentials.fresh_for_s())),
        renewable=credentials.refreshable,
    )


def _check(access: Access) -> None:
    """Raise AccessError for what the core could not take: it is one of many there."""
    server = access.server
    try:
        pool = Pool(_label("", server), (Backend("127.0.0.1", server.port),))
        upstream_of(pool, _tls(access))
        Forward(
            pool.name,
            host=server.authority,
            prefix=server.path,
            set=access.impersonation,
        )
    except ValueError as error:
        raise AccessError(f"server {server.url}: {error}") from None


def _route(access: Access) -> tuple[str, str, int]:
    return (access.proxy_url, access.server.host, access.server.port)


def _tunnels(access: Access) -> bool:
    """Whether the core dials a socket of ours, since it cannot dial the server."""
    return bool(access.proxy_url) or access.server.needs_zone


def _label(context: str, server: Server) -> str:
    """Name an upstream by context and server: another server never gets its token."""
    name = f"{context or 'apiserver'} at {server.scheme}://{server.authority}"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[:40]}… {sha256(name.encode()).hexdigest()}"


def _tls(access: Access) -> ClientTls | None:
    tls = access.tls
    if tls is None:
        return None
    return ClientTls(
        ca=tls.ca,
        certificate=tls.certificate,
        key=tls.key,
        server_name=tls.server_name,
        verify=tls.verify,
    )
