"""Which addresses are dialled past us: plain Services of TCP whose path is `direct`.

The program at connect(2) knows an address and its endpoints, and nothing else. So a
Service is plain where that is all there is to it: endpoints for clients of this
machine, any client allowed, no affinity, no options of its own. All others, and all
where the machine cannot do it, stay with the capture that is there anyway.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from pyproxy.dataplane import Change
from pyproxy.discovery.services import Options
from pyproxy.errors import PyproxyError, StartError
from pyproxy.model import Backend, Front, Key, Pool, Vip, VipKey
from pyproxy.modes.kube_proxy.config import KubeProxy

logger = logging.getLogger(__name__)

PLAIN = Options()
NAME = "direct"


class Hook(Protocol):
    """The programs at connect(2): `capture.Direct`."""

    def open(self, services: Mapping[Key, Sequence[Backend]]) -> list[Key]:
        """Begin with these; return what has no room. Raise StartError."""

    def update(
        self, put: Mapping[Key, Sequence[Backend]], remove: Sequence[Key] = ()
    ) -> list[Key]:
        """Change sets; return what has no room. Raise OSError."""

    def counters(self) -> dict[Key, int]:
        """Connections by address."""

    def verify(self) -> list[str]:
        """Repair, and say what."""

    def close(self, *, leave: bool) -> None:
        """Let go, or remove everything."""

    def cleanup(self) -> list[str]:
        """Remove everything, also a predecessor's."""


class Shortcuts:
    """Follows what is in force, and tells the hook what is plain of it."""

    def __init__(self, hook: Hook | None, config: KubeProxy) -> None:
        """`hook` is opened when the first Service is to be direct; None = never."""
        self._hook = hook
        self._config = config
        self._vips: dict[VipKey, Vip] = {}
        self._fronts: dict[VipKey, Front] = {}
        self._pools: dict[str, Pool] = {}
        self._users: dict[str, dict[VipKey, None]] = {}  # of pools, and of Services
        self._options: dict[str, Options] = {}
        self._marked: dict[VipKey, None] = {}
        self._in: set[VipKey] = set()  # dialled past us
        self._full: set[VipKey] = set()  # there was no room for them
        self._is_open = self._has_begun = False
        self.trouble = ""  # why nothing is

    def note(self, change: Change, fronts: Mapping[VipKey, Front | None]) -> None:
        """Learn what came into force."""
        for key in change.remove_vips:
            self._leave(self._vips.pop(key))
            self._marked[key] = None
        for name in change.remove_pools:
            self._pools.pop(name, None)
        for vip in change.vips:
            if (old := self._vips.get(vip.key)) is not None:
                self._leave(old)
            self._vips[vip.key] = vip
            for name in names_of(vip):
                self._users.setdefault(name, {})[vip.key] = None
            self._marked[vip.key] = None
        for pool in change.pools:
            self._pools[pool.name] = pool
            self._marked.update(self._users.get(pool.name, {}))
        for key, front in fronts.items():
            if front is None:
                self._fronts.pop(key, None)
            else:
                self._fronts[key] = front
            self._marked[key] = None

    def note_options(self, options: Mapping[str, Options]) -> None:
        """Learn what Services want for themselves; PLAIN = nothing any more."""
        for service, wanted in options.items():
            if wanted == PLAIN:
                self._options.pop(service, None)
            else:
                self._options[service] = wanted
            self._marked.update(self._users.get(service, {}))

    def restart(self, config: KubeProxy) -> None:
        """Everything is told anew, with other settings perhaps."""
        self._config = config
        self._options.clear()
        self._marked.update(dict.fromkeys(self._vips))

    def flush(self) -> bool:
        """Bring what was noted into force; False = it has to be tried again."""
        if self.trouble or self._hook is None:
            self._marked.clear()
            return True
        wanted = {key: self._backends(key) for key in self._marked}
        put = {key: found for key, found in wanted.items() if found}
        remove = [key for key in wanted if key not in put and key in self._in]
        try:
            full = self._ask(self._hook, put, remove)
        except StartError as error:
            self._is_open, self.trouble = False, str(error)
            logger.warning("no Service is direct", extra={"why": self.trouble})
            self._in.clear()
            return True
        except (OSError, PyproxyError) as error:
            logger.error("direct not changed", extra={"why": str(error)})
            return False
        self._marked.clear()
        self._full = (self._full - wanted.keys()) | {("tcp", *key) for key in full}
        self._in = (self._in | put.keys()) - set(remove) - self._full
        return True

    def _ask(
        self,
        hook: Hook,
        put: Mapping[VipKey, Sequence[Backend]],
        remove: Sequence[VipKey],
    ) -> list[Key]:
        services = {key[1:]: backends for key, backends in put.items()}
        if self._is_open:
            gone = [key[1:] for key in remove]
            return hook.update(services, gone) if services or gone else []
        if not services:
            if not self._has_begun:  # a predecessor's, whose settings were others
                self._has_begun = True
                hook.cleanup()
            return []
        full = hook.open(services)
        self._is_open = self._has_begun = True
        return full

    def path(self, key: VipKey) -> str:
        """Return "direct", or why an address is not; "" = it is not asked for."""
        if key in self._in:
            return NAME
        if not self._is_asked(key):
            return ""
        return self.trouble or self._why_not(key) or "no room in the map"

    def counts(self) -> Mapping[str, int]:
        """Connections by Service, since it is direct."""
        found: Counter[str] = Counter()
        if self._hook is not None and self._is_open:
            for host, count in self._hook.counters().items():
                if (vip := self._vips.get(("tcp", *host))) is not None:
                    found[owner_of(vip)] += count
        return found

    def verify(self) -> list[str]:
        """Repair, and say what it was."""
        if self._hook is None or not self._is_open:
            return []
        return self._hook.verify()

    def close(self, *, leave: bool) -> None:
        """Remove everything; with `leave` it goes on without us."""
        if self._hook is not None and self._is_open:
            self._hook.close(leave=leave)
            self._is_open = False

    def _leave(self, vip: Vip) -> None:
        for name in names_of(vip):
            users = self._users.get(name, {})
            users.pop(vip.key, None)
            if not users:
                self._users.pop(name, None)

    def _is_asked(self, key: VipKey) -> bool:
        vip = self._vips.get(key)
        if vip is None:
            return False
        own = self._options.get(owner_of(vip), PLAIN).path
        return (own or self._config.path) == NAME

    def _backends(self, key: VipKey) -> Sequence[Backend]:
        """Return where to dial; () = not past us."""
        if not self._is_asked(key) or self._why_not(key):
            return ()
        return self._pool(self._vips[key]).backends

    def _pool(self, vip: Vip) -> Pool:
        """Return that of clients of this machine, which are near."""
        stub = vip.near_pool or vip.pool
        return self._pools.get(stub.name, stub)

    def _why_not(self, key: VipKey) -> str:
        """Say what is not plain about a vip; "" = nothing."""
        vip, front = self._vips[key], self._fronts.get(key)
        pool = self._pool(vip)
        options = self._options.get(owner_of(vip), PLAIN)
        reasons = {
            "it is not TCP": vip.protocol != "tcp",
            "clients keep their endpoint": bool(pool.affinity_s),
            "sources are limited": front is not None and front.sources is not None,
            "clients are turned away": front is not None and front.near != "serve",
            "it has options of its own": has_more(options),
            "endpoints are to see the node": self._config.masquerade_all,
            "no endpoints": not pool.backends,
        }
        return next((why for why, is_so in reasons.items() if is_so), "")


def has_more(options: Options) -> bool:
    """Whether a Service wants what only we can do."""
    return Options(path=options.path) != options


def owner_of(vip: Vip) -> str:
    """Return the key of its Service."""
    return vip.pool.name.partition(":")[0]


def names_of(vip: Vip) -> Iterator[str]:
    """Yield what a vip depends on: pools, by name, and its Service, by key."""
    yield vip.pool.name
    if vip.near_pool is not None:
        yield vip.near_pool.name
    yield owner_of(vip)
