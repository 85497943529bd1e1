"""The one door to the forwarding core: our model in, its notices and counters out.

Nothing above imports `fastpath`; nothing below knows what a health check is.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import fastpath
from fastpath import (
    BackendStats,
    Engine,
    Histogram,
    HttpStats,
    Stats,
    VerdictStats,
    VipStats,
)
from fastpath.api.policy import (
    Certificate,
    Failure,
    Forward,
    Http,
    Question,
    Quota,
    Record,
    Reply,
    ResponseEdits,
)
from fastpath.api.question import WORD
from fastpath.api.spec import Backend as UpstreamBackend
from fastpath.api.spec import Listener, Upstream
from fastpath.api.spec import Pool as UpstreamPool
from fastpath.api.tlsspec import ClientTls, ServerTls
from pyproxy.dataplane.words import Change, delta_of, pool_of, pools_of, upstream_of
from pyproxy.errors import ConfigError, StartError, start_error
from pyproxy.model import Health, Key, Pool, Vip, VipKey

__all__ = [
    "WORD",
    "BackendStats",
    "Certificate",
    "Change",
    "ClientTls",
    "Dataplane",
    "Failure",
    "Forward",
    "Histogram",
    "Http",
    "HttpStats",
    "Listener",
    "Question",
    "Quota",
    "Record",
    "Reply",
    "ResponseEdits",
    "ServerTls",
    "Stats",
    "Upstream",
    "UpstreamBackend",
    "UpstreamPool",
    "VerdictStats",
    "VipStats",
    "pool_of",
    "upstream_of",
]

logger = logging.getLogger(__name__)

NoticeKind = Literal["connect-failed", "ejected", "recovered"]
OnQuestion = Callable[[Question], None]
OnNotice = Callable[[NoticeKind, Key], None]


class Dataplane:
    """The core with the table that it works on, and the health that it was told."""

    def __init__(self, engine: Engine) -> None:
        """Own `engine` from now on; `close` ends it."""
        self._engine = engine
        self._vips: dict[VipKey, Vip] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._pools: dict[str, Pool] = {}  # of vips, by name
        self._told: dict[Key, Health] = {}
        self._users: Counter[Key] = Counter()  # pools that name a backend
        self._bound: dict[VipKey, Key] = {}  # key of a vip -> where it listens
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: list[int] = []  # descriptors of the engine in our loop
        self.last_apply_s = 0.0  # how long the last apply took
        # Borrowed; used in place of sockets of our own. Of TCP and of UDP.
        self.sockets: Mapping[Key, Sequence[int]] = {}
        self.datagrams: Mapping[Key, Sequence[int]] = {}
        # Called with records as they come; None = they wait for a call of `records`.
        self.on_records: Callable[[list[Record]], None] | None = None

    @classmethod
    def open(cls, workers: int | None) -> "Dataplane":
        """Start a core. Raise StartError when the system refuses."""
        try:
            return cls(Engine(workers))
        except OSError as error:
            raise start_error(error) from error

    @property
    def workers(self) -> int:
        """Threads that forward."""
        return self._engine.workers

    @property
    def vips(self) -> tuple[Vip, ...]:
        """Those of the table in force."""
        return tuple(self._vips.values())

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Those of the table in force."""
        return tuple(self._upstreams.values())

    def apply(
        self,
        vips: Iterable[Vip],
        upstreams: Iterable[Upstream] = (),
        *,
        health: Mapping[Key, Health] = MappingProxyType({}),
    ) -> int:
        """Make these the table, and return its generation; on error nothing changed.

        Vips whose pools have one name share the pool. `health` is told with the table,
        before the first client comes.

        Raises:
            StartError: an address cannot be bound.
            ConfigError: the core cannot work with such a table.
        """
        wanted = {vip.key: vip for vip in vips}
        named = {upstream.name: upstream for upstream in upstreams}
        pools = {pool.name: pool for vip in wanted.values() for pool in pools_of(vip)}
        return self.update(
            Change(
                vips=[v for k, v in wanted.items() if self._vips.get(k) != v],
                pools=[p for n, p in pools.items() if self._pools.get(n) != p],
                upstreams=[u for n, u in named.items() if self._upstreams.get(n) != u],
                remove_vips=[key for key in self._vips if key not in wanted],
                remove_pools=[name for name in self._pools if name not in pools],
                remove_upstreams=[n for n in self._upstreams if n not in named],
            ),
            health=health,
        )

    def update(
        self, change: Change, *, health: Mapping[Key, Health] = MappingProxyType({})
    ) -> int:
        """Change the table, in time that grows with the change; else as `apply`."""
        began = time.perf_counter()
        fresh, gone = self._backends_of(change)
        known = [key for key in health if self._users[key] + fresh[key] > gone[key]]
        news = {k: health[k] for k in known if self._told.get(k, "ready") != health[k]}
        try:
            generation = self._engine.update(
                delta_of(change),
                health=news,
                sockets=self._borrowed(),
            )
        except fastpath.TableError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise start_error(error) from error
        except fastpath.EngineError as error:
            raise StartError(f"the core refused a table: {error}") from error
        self.last_apply_s = time.perf_counter() - began
        self._keep(change, fresh, gone)
        self._told |= news
        logger.info(
            "table applied",
            extra={
                "generation": generation,
                "vips": len(self._vips),
                "backends": len(self._told),
                "took_ms": round(self.last_apply_s * 1000, 1),
            },
        )
        return generation

    def _borrowed(self) -> dict[VipKey, Sequence[int]]:
        found: dict[VipKey, Sequence[int]] = {}
        for protocol, sockets in ("tcp", self.sockets), ("udp", self.datagrams):
            found |= {(protocol, *key): fds for key, fds in sockets.items()}
        return found

    def _backends_of(self, change: Change) -> tuple[Counter[Key], Counter[Key]]:
        """Uses of backends by pools that come, and by those that go."""
        names = [*change.remove_pools, *(pool.name for pool in change.pools)]
        old = [self._pools[name] for name in names if name in self._pools]
        return (
            Counter(b.key for pool in change.pools for b in pool.backends),
            Counter(b.key for pool in old for b in pool.backends),
        )

    def _keep(self, change: Change, fresh: Counter[Key], gone: Counter[Key]) -> None:
        for key in change.remove_vips:
            del self._vips[key]
            self._bound.pop(key, None)
        for vip in change.vips:
            self._vips[vip.key] = vip
            self._bound[vip.key] = (
                self._engine.address(vip.key) if vip.bind else vip.key[1:]
            )
        for name in change.remove_pools:
            del self._pools[name]
        self._pools.update((pool.name, pool) for pool in change.pools)
        for name in change.remove_upstreams:
            del self._upstreams[name]
        self._upstreams.update((one.name, one) for one in change.upstreams)
        self._users.update(fresh)
        self._users.subtract(gone)
        for backend in fresh.keys() | gone.keys():
            if self._users[backend] > 0:
                self._told.setdefault(backend, "ready")
            else:
                del self._users[backend]
                self._told.pop(backend, None)

    def address(self, vip: VipKey) -> Key:
        """Where the vip of this key listens, or did before the drain."""
        return self._bound.get(vip, vip[1:])

    def tell(self, health: Mapping[Key, Health]) -> None:
        """Tell the core what changed in the health of backends of the table."""
        for key, now in health.items():
            if key in self._told and self._told[key] != now:
                self._engine.set_health(key, now)
                self._told[key] = now

    def reset(self, backend: Key | None = None, *, silent: bool = False) -> None:
        """Reset the live relays of one backend, or all. Unknown ones have none.

        `silent`: those whose clients wait for the first byte of an answer.
        """
        if backend is None or backend in self._told:
            self._try("reset", lambda: self._engine.reset(backend, silent=silent))

    def drain(self) -> None:
        """Stop listening; live relays go on."""
        self._try("drain", lambda: self._engine.drain(wait_s=0.0))

    @property
    def is_idle(self) -> bool:
        """Whether all workers have the table in force, and none has a relay or flow."""
        return self._engine.settle(0.0) and not self.live

    @property
    def live(self) -> int:
        """Relays and flows that there are now."""
        totals = self.totals()
        return totals.relays_active + totals.flows_active

    def stats(self, vips: Sequence[VipKey] | None = None) -> Stats:
        """Return a snapshot of all counters, or of those of some vips."""
        return self._engine.stats(vips=vips, backends=None if vips is None else ())

    def totals(self) -> Stats:
        """Return those that cost no time in proportion to the table."""
        return self._engine.stats(vips=(), backends=())

    def watch(
        self,
        on_notice: OnNotice,
        on_question: OnQuestion | None = None,
        on_withdrawn: OnQuestion = lambda question: None,
    ) -> None:
        """Call back in the running loop for what the workers saw happen, and ask.

        Of a question that nobody waits for any more, `on_withdrawn` is told.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._engine.fileno(), self._pass_on, on_notice)
        self._watched.append(self._engine.fileno())
        if on_question is not None:
            number = self._engine.questions_fileno()
            self._loop.add_reader(number, self._ask, on_question, on_withdrawn)
            self._watched.append(number)

    def answer(
        self,
        question: Question,
        verdict: Forward | Reply | None,
        *,
        ttl_s: float,
        key: tuple[str, ...],
        tag: str = "",
        label: int = 0,
    ) -> None:
        """Let a request go on. An answer for a closed client is ignored.

        None: the response that Python was asked about goes to the client. A verdict
        whose key lacks a part that was read is a bug of its policy: it holds for this
        request, and is not remembered.
        """
        give = self._engine.answer
        try:
            try:
                give(question, verdict, ttl_s=ttl_s, key=key, tag=tag, label=label)
            except ValueError as error:
                extra = {"why": str(error), "bug": True}
                logger.error("core does not remember a verdict", extra=extra)
                give(question, verdict, label=label)
        except (KeyError, fastpath.EngineError) as error:
            logger.error("core did not take a verdict", extra={"why": str(error)})

    def records(self) -> list[Record]:
        """Return the exchanges that ended since, of vips that log theirs."""
        return self._engine.records()

    def forget(self, tag: str | None = None) -> None:
        """Withdraw the verdicts that are remembered with `tag`, or, if None, all."""
        self._engine.forget(tag)

    def close(self) -> None:
        """Stop the workers and reset what still lives."""
        if self._loop is not None:
            for number in self._watched:
                self._loop.remove_reader(number)
            self._watched.clear()
            self._loop = None
        self._engine.close()

    def _try(self, what: str, command: Callable[[], None]) -> None:
        # The engine may be closed by now.
        try:
            command()
        except fastpath.EngineError as error:
            extra = {"command": what, "why": str(error)}
            logger.error("core did not take a command", extra=extra)

    def _pass_on(self, on_notice: OnNotice) -> None:
        for notice in self._engine.notices():
            on_notice(notice.kind, notice.backend)

    def _ask(self, on_question: OnQuestion, on_withdrawn: OnQuestion) -> None:
        questions = self._engine.questions()
        for question in self._engine.withdrawn():
            on_withdrawn(question)
        for question in questions:
            on_question(question)
        if self.on_records is not None and (records := self._engine.records()):
            self.on_records(records)
