"""The one door to the forwarding core: our model in, its table and its news out.

Nothing above imports `fastpath`; nothing below knows what a health check is.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import fastpath
from fastpath import (
    BackendStats,
    Engine,
    Histogram,
    Stats,
    VipStats,
    WebStats,
)
from fastpath.api.policy import Forward, Http, Question, Record, Reply
from fastpath.api.spec import Backend as UpstreamBackend
from fastpath.api.spec import Pool as UpstreamPool
from fastpath.api.spec import Upstream
from fastpath.api.tlsspec import ClientTls
from pyproxy.errors import ConfigError, StartError
from pyproxy.model import Health, Key, Pool, Vip

__all__ = [
    "BackendStats",
    "ClientTls",
    "Dataplane",
    "Forward",
    "Histogram",
    "Http",
    "Question",
    "Record",
    "Reply",
    "Stats",
    "Upstream",
    "UpstreamBackend",
    "UpstreamPool",
    "VipStats",
    "WebStats",
    "upstream_of",
]

logger = logging.getLogger(__name__)

NoticeKind = Literal["connect-failed", "ejected", "recovered"]
OnQuestion = Callable[[Question], None]
OnNotice = Callable[[NoticeKind, Key], None]

_HINTS = {
    errno.EADDRINUSE: "another program listens there (ss -ltnp shows which)",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address (ip address)",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE (setcap, or systemd's"
    " AmbientCapabilities=)",
    errno.EMFILE: "no file descriptor left (ulimit -n, systemd's LimitNOFILE=)",
}


class Dataplane:
    """The core with the table that it works on, and the health that it was told."""

    def __init__(self, engine: Engine) -> None:
        """Own `engine` from now on; `close` ends it."""
        self._engine = engine
        self._told: dict[Key, Health] = {}
        self._bound: dict[Key, Key] = {}  # key of a vip -> where it listens
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: list[int] = []  # descriptors of the engine in our loop
        self.vips: tuple[Vip, ...] = ()
        self.upstreams: tuple[Upstream, ...] = ()
        self.last_apply_s = 0.0  # how long the last apply took
        self.sockets: Mapping[Key, Sequence[int]] = {}  # borrowed; used, not bound

    @classmethod
    def open(cls, workers: int | None) -> "Dataplane":
        """Start a core. Raise StartError when the system refuses."""
        try:
            return cls(Engine(workers))
        except OSError as error:
            raise _start_error(error) from error

    @property
    def workers(self) -> int:
        """Threads that forward."""
        return self._engine.workers

    def apply(
        self,
        vips: Iterable[Vip],
        upstreams: Iterable[Upstream] = (),
        *,
        health: Mapping[Key, Health] = MappingProxyType({}),
    ) -> int:
        """Publish a new table and return its generation; on error nothing changed.

        `health` is told with it, before the first client comes.

        Raises:
            StartError: an address cannot be bound.
            ConfigError: the core cannot work with such a table.
        """
        vips, upstreams = tuple(vips), tuple(upstreams)
        backends = {b.key for vip in vips for b in vip.pool.backends}
        told = {key: self._told.get(key, "ready") for key in backends}
        news = {k: now for k, now in health.items() if told.get(k, now) != now}
        began = time.perf_counter()
        try:
            table = fastpath.Table([_vip(vip) for vip in vips], upstreams=upstreams)
            generation = self._engine.apply(table, health=news, sockets=self.sockets)
        except fastpath.TableError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise _start_error(error) from error
        except fastpath.EngineError as error:
            raise StartError(f"the core refused a table: {error}") from error
        self.last_apply_s = time.perf_counter() - began
        self.vips, self.upstreams = vips, upstreams
        self._bound = {vip.key: self._engine.address(vip.key) for vip in vips}
        self._told = told | news
        logger.info(
            "table applied",
            extra={
                "generation": generation,
                "vips": len(vips),
                "backends": len(backends),
                "took_ms": round(self.last_apply_s * 1000, 1),
            },
        )
        return generation

    def address(self, vip: Key) -> Key:
        """Where the vip of this key listens, or did before the drain."""
        return self._bound.get(vip, vip)

    def tell(self, health: Mapping[Key, Health]) -> None:
        """Tell the core what changed in the health of backends of the table."""
        for key, now in health.items():
            if key in self._told and self._told[key] != now:
                self._engine.set_health(key, now)
                self._told[key] = now

    def reset(self, backend: Key | None = None) -> None:
        """Reset the live relays of one backend, or all. Unknown ones have none."""
        if backend is None or backend in self._told:
            self._try("reset", lambda: self._engine.reset(backend))

    def drain(self) -> None:
        """Stop listening; live relays go on."""
        self._try("drain", self._engine.drain)

    def stats(self) -> Stats:
        """Return a snapshot of all counters."""
        return self._engine.stats()

    def watch(self, on_notice: OnNotice, on_question: OnQuestion | None = None) -> None:
        """Call back in the running loop for what the workers saw happen, and ask."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._engine.fileno(), self._pass_on, on_notice)
        self._watched.append(self._engine.fileno())
        if on_question is not None:
            number = self._engine.questions_fileno()
            self._loop.add_reader(number, self._pass_questions_on, on_question)
            self._watched.append(number)

    def answer(
        self,
        question: Question,
        verdict: Forward | Reply,
        *,
        ttl_s: float,
        key: tuple[str, ...],
        tag: str = "",
    ) -> None:
        """Let a request go on; a client that has gone since needs no answer.

        A verdict whose key lacks a part that was read is a bug of its policy: it holds
        for this request, and is not remembered.
        """
        try:
            try:
                self._engine.answer(question, verdict, ttl_s=ttl_s, key=key, tag=tag)
            except ValueError as error:
                extra = {"why": str(error), "bug": True}
                logger.error("core does not remember a verdict", extra=extra)
                self._engine.answer(question, verdict)
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
        # A worker that hangs must not keep us from going on with the others.
        try:
            command()
        except fastpath.EngineError as error:
            extra = {"command": what, "why": str(error)}
            logger.error("core did not take a command", extra=extra)

    def _pass_on(self, on_notice: OnNotice) -> None:
        for notice in self._engine.notices():
            on_notice(notice.kind, notice.backend)

    def _pass_questions_on(self, on_question: OnQuestion) -> None:
        for question in self._engine.questions():
            on_question(question)


def _vip(vip: Vip) -> fastpath.Vip:
    if not isinstance(vip.http, Http | None):
        raise ConfigError(f"{vip.host}: {vip.http!r} is no Http")
    return fastpath.Vip(
        vip.host,
        vip.port,
        "tcp",
        _pool(vip.pool),
        idle_timeout_s=vip.idle_timeout_s,
        max_connections=vip.limits.max_connections,
        max_connections_per_source=vip.limits.max_connections_per_source,
        max_new_per_s=vip.limits.max_new_per_s,
        max_new_per_s_per_source=vip.limits.max_new_per_s_per_source,
        keepalive_s=vip.keepalive_s,
        # Who reads a watch slowly is not gone: keepalive tells the two apart.
        user_timeout_s=0.0 if vip.http is not None else 30.0,
        http=vip.http,
        proxy_protocol_from=vip.proxy_protocol_from,
        client_first=True,  # what stands behind an apiserver's address speaks TLS
    )


def _pool(pool: Pool) -> fastpath.Pool:
    return fastpath.Pool(
        tuple(
            fastpath.Backend(b.host, b.port, weight=b.weight, tier=b.tier)
            for b in pool.backends
        ),
        balance=pool.balance,
        ring_key=pool.ring_key,
        on_all_down=pool.on_all_down,
        connect_timeout_s=pool.connect_timeout_s,
        slow_start_s=pool.slow_start_s,
    )


def _start_error(error: OSError) -> StartError:
    return StartError(error.strerror or str(error), _HINTS.get(error.errno or 0, ""))


def upstream_of(pool: Pool, tls: ClientTls | None) -> Upstream:
    """Return a place that verdicts may name, by the name of its pool."""
    return Upstream(pool.name, _pool(pool), tls)
