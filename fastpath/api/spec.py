"""The words in which Python tells the core what to forward: Backend, Pool, Vip, Delta.

Frozen values, compared by content: the engine keeps what did not change between
two tables. Addresses are IP literals; names are resolved above the wall. What the
core cannot work with is a TableError here, which names it, before anything is bound.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from fastpath.api.checks import (
    UNIX,
    check,
    check_count,
    check_seconds,
    check_text,
    check_unix_path,
    check_word,
    split_network,
)
from fastpath.api.errors import TableError
from fastpath.api.policy import Http
from fastpath.api.tlsspec import ClientTls, ServerTls

Balance = Literal["random", "two-choices", "least", "round-robin", "ring"]
RingKey = Literal["source", "5-tuple"]
OnAllDown = Literal["try", "refuse"]
Protocol = Literal["tcp", "udp"]
KeepSource = Literal["none", "near", "far", "all"]

BALANCES, RING_KEYS = get_args(Balance), get_args(RingKey)
ON_ALL_DOWN, KEEP_SOURCES = get_args(OnAllDown), get_args(KeepSource)
PROTOCOLS = get_args(Protocol)

MAX_WEIGHT = 1000
MAX_TIER = 7
MAX_BACKENDS = 65_536
MAX_RING_BACKENDS = 8192  # built in half a second; 16,384 take 14
MAX_TRIES = 4
MAX_DURATION_S = 2_000_000  # 23 days; the core counts milliseconds in 31 bits
MAX_KEEPALIVE_S = 32_767  # the kernel's, for TCP_KEEPIDLE
MAX_BACKLOG = 65_535
MAX_COUNT = 2**31 - 1
MAX_NAME = 255
MAX_NETWORKS = 256
MAX_HEAD_BYTES = 1_048_576  # of a response
MAX_HEAD_LINES = 4_096

BackendKey = tuple[str, int]  # host, port
VipKey = tuple[str, str, int]  # protocol, host, port
ListenerKey = VipKey


@dataclass(frozen=True, slots=True)
class Backend:
    """One address that takes traffic."""

    host: str  # IPv4 or IPv6 literal
    port: int
    weight: int = 1  # share of new relays; 0 = none
    tier: int = 0  # the lowest tier with a usable backend takes all traffic

    def __post_init__(self) -> None:
        # A table may have 100,000 of them: what is fine is found so at once, and what
        # is not gets its complaint below.
        if (
            type(self.host) is str
            and self.host[:5] != UNIX
            and type(self.port) is type(self.weight) is type(self.tier) is int
            and 0 < self.port < 65536
            and 0 <= self.weight <= MAX_WEIGHT
            and 0 <= self.tier <= MAX_TIER
        ):
            return
        check_text("host of a backend", self.host)
        me = f"backend {self.host}"
        check_unix_path(me, self.host)
        check_count(f"{me}: port", self.port, 1, 65535)
        check_count(f"{me}: weight", self.weight, 0, MAX_WEIGHT)
        check_count(f"{me}: tier", self.tier, 0, MAX_TIER)

    @property
    def key(self) -> BackendKey:
        """Identity across tables: health and counters belong to the address."""
        return (self.host, self.port)


@dataclass(frozen=True, slots=True)
class Pool:
    """Backends of a vip and how to choose among them. Durations in seconds."""

    backends: Sequence[Backend]  # kept as a tuple
    balance: Balance = "two-choices"
    ring_key: RingKey = "source"
    on_all_down: OnAllDown = "try"  # "try": a wrong health opinion must not cut all
    connect_timeout_s: float = 5.0  # per backend tried, not per relay
    connect_tries: int = 3
    slow_start_s: float = 0.0  # ramp of the weight after recovery; not at start
    eject_after: int = 3  # connect failures in a row; 0 = never
    eject_s: float = 10.0  # doubled on each ejection in a row, at most 8 times this
    # A source keeps its backend, as long as that is usable, for so long after its last
    # connection. Best effort: the engine remembers 131,072 sources. 0 = not at all.
    affinity_s: float = 0.0

    def __post_init__(self) -> None:
        self._check_backends()
        check_word("balance", self.balance, BALANCES)
        check_word("ring key", self.ring_key, RING_KEYS)
        check_word("on all down", self.on_all_down, ON_ALL_DOWN)
        longest = MAX_DURATION_S
        check_seconds("connect timeout", self.connect_timeout_s, longest, zero=False)
        check_count("connect tries", self.connect_tries, 1, MAX_TRIES)
        check_seconds("slow start", self.slow_start_s, longest, zero=True)
        check_count("eject after", self.eject_after, 0, MAX_COUNT)
        check_seconds("eject time", self.eject_s, longest, zero=True)
        check_seconds("affinity", self.affinity_s, longest, zero=True)

    def _check_backends(self) -> None:
        try:
            object.__setattr__(self, "backends", tuple(self.backends))
        except TypeError as error:
            raise TableError(f"backends {self.backends!r} are no list") from error
        for backend in self.backends:
            if type(backend) is not Backend:
                raise TableError(f"{backend!r} is not a Backend")
        most = MAX_RING_BACKENDS if self.balance == "ring" else MAX_BACKENDS
        kind = "ring" if self.balance == "ring" else "pool"
        many = f"more than {most} backends in a {kind}"
        check(len(self.backends) <= most, many)
        keys = [(backend.host, backend.port) for backend in self.backends]
        if len(set(keys)) < len(keys):
            host, port = next(key for key in keys if keys.count(key) > 1)
            raise TableError(f"backend {host} port {port} stands twice in a pool")


@dataclass(frozen=True, slots=True)
class Upstream:
    """How requests are spoken with a place, and by default where to: a pool.

    `pool` is a Pool, or the name of one of the table.
    """

    name: str
    pool: Pool | str
    tls: ClientTls | None = None  # None = plain HTTP
    keepalive: int = 1024  # idle connections kept by each worker, the last used first
    keepalive_s: float = 90.0  # unused for so long, one is closed
    # Of the head of a response; one that is larger becomes a 502.
    response_head_bytes: int = 262_144
    response_head_lines: int = 1_024

    def __post_init__(self) -> None:
        check_text("name of an upstream", self.name)
        me = f"upstream {self.name}"
        check(0 < len(self.name.encode()) <= MAX_NAME, f"{me}: odd length of a name")
        _check_pool(me, self.pool)
        tls = self.tls is None or isinstance(self.tls, ClientTls)
        check(tls, f"{me}: {self.tls!r} is not a ClientTls")
        check_count(f"{me}: keepalive", self.keepalive, 0, 65_535)
        longest = MAX_DURATION_S
        check_seconds(f"{me}: keepalive time", self.keepalive_s, longest, zero=False)
        size, lines = self.response_head_bytes, self.response_head_lines
        check_count(f"{me}: response head bytes", size, 1_024, MAX_HEAD_BYTES)
        check_count(f"{me}: response head lines", lines, 1, MAX_HEAD_LINES)


@dataclass(frozen=True, slots=True)
class Listener:
    """Sockets that take clients of many vips: a transparent listener.

    The kernel gives it connections or datagrams to addresses that are not ours (TPROXY
    rules of nftables, or a route); the address that the client dialled tells the vip,
    one with `bind=False`. Needs CAP_NET_ADMIN. Durations in seconds.
    """

    host: str
    port: int  # 0 = any free one, see Engine.address
    protocol: Protocol = "tcp"
    keepalive_s: float = 30.0
    user_timeout_s: float = 30.0
    client_first: bool = False
    backlog: int = 4096

    def __post_init__(self) -> None:
        check_text("host of a listener", self.host)
        me = f"listener {self.host}"
        check(not self.host.startswith(UNIX), f"{me}: no address")
        _check_listening(me, self)

    @property
    def key(self) -> ListenerKey:
        """Identity across tables."""
        return (self.protocol, self.host, self.port)


@dataclass(frozen=True, slots=True)
class Vip:
    """An address that clients dial, its pool and its limits. Durations in seconds.

    `pool` is a Pool, or the name of one of the table, which may serve many vips.
    """

    host: str
    port: int  # 0 = any free one, see Engine.address
    protocol: Protocol
    pool: Pool | str = field(default_factory=lambda: Pool(()))
    bind: bool = True  # False: reached by a transparent Listener only
    idle_timeout_s: float = 3600.0  # no byte in either direction; TCP
    udp_one_way_s: float = 30.0  # no datagram, of a flow that was not answered
    udp_two_way_s: float = 180.0  # likewise, of one that was
    keepalive_s: float = 30.0  # first TCP keepalive probe; then every third of it
    user_timeout_s: float = 30.0  # sent data unacknowledged for this long: reset
    client_first: bool = False  # TLS, HTTP: accept with the first bytes, ACK later
    max_connections: int = 0  # live relays or flows; 0 = no limit
    max_connections_per_source: int = 0
    max_new_per_s: int = 0
    max_new_per_s_per_source: int = 0
    backlog: int = 4096
    http: Http | None = None  # speak HTTP; the pool is not used then
    tls: ServerTls | None = None  # with clients; for HTTP only
    # Networks: a connection from there must begin with a PROXY header (version 1 or 2),
    # and the address in it is the client's from then on. Kept as a tuple.
    proxy_protocol_from: Sequence[str] = ()
    # Clients of these networks are near, all others far. Kept as a tuple.
    near: Sequence[str] = ()
    near_pool: Pool | str | None = None  # of near clients; None = `pool` is
    # Backends see the addresses of these clients. Needs CAP_NET_RAW, and the way back
    # from the backends must lead through us. "far" and "near" are by `near`.
    keep_source: KeepSource = "none"

    def __post_init__(self) -> None:
        check_text("host of a vip", self.host)
        me = f"vip {self.host}"
        check_unix_path(me, self.host)
        _check_listening(me, self)
        _check_pool(me, self.pool)
        strange = f"{me}: bind {self.bind!r} is not True or False"
        check(isinstance(self.bind, bool), strange)
        dialled = self.bind or (self.port > 0 and not self.host.startswith(UNIX))
        check(dialled, f"{me}: a vip that is not bound needs an address and a port")
        if self.http is not None:
            check(isinstance(self.http, Http), f"{me}: {self.http!r} is not a Http")
        if self.tls is not None:
            tls = isinstance(self.tls, ServerTls)
            check(tls, f"{me}: {self.tls!r} is not a ServerTls")
        plain = f"{me}: TLS without HTTP: relays pass it on as it is"
        check(self.tls is None or self.http is not None, plain)
        longest = MAX_DURATION_S
        check_seconds(f"{me}: idle timeout", self.idle_timeout_s, longest, zero=False)
        one_way, two_way = self.udp_one_way_s, self.udp_two_way_s
        check_seconds(f"{me}: one-way timeout", one_way, longest, zero=False)
        check_seconds(f"{me}: two-way timeout", two_way, longest, zero=False)
        self._check_limits(me)
        self._check_trusted(me)
        self._check_near(me)
        if self.protocol == "udp":
            self._check_udp(me)

    def _check_udp(self, me: str) -> None:
        check(not self.host.startswith(UNIX), f"{me}: UDP on a path")
        check(self.http is None, f"{me}: HTTP over UDP")
        trusts = bool(self.proxy_protocol_from)
        check(not trusts, f"{me}: proxy protocol over UDP")
        if isinstance(self.pool, Pool):
            paths = [b.host for b in self.pool.backends if b.host.startswith(UNIX)]
            check(not paths, f"{me}: UDP to a path: {', '.join(paths)}")

    def _check_limits(self, me: str) -> None:
        by_source = self.max_connections_per_source
        check_count(f"{me}: max connections", self.max_connections, 0, MAX_COUNT)
        check_count(f"{me}: max connections per source", by_source, 0, MAX_COUNT)
        by_source = self.max_new_per_s_per_source
        check_count(f"{me}: max new per s", self.max_new_per_s, 0, MAX_COUNT)
        check_count(f"{me}: max new per s per source", by_source, 0, MAX_COUNT)

    def _check_trusted(self, me: str) -> None:
        given = self.proxy_protocol_from
        trusted = _networks(f"{me}: proxy protocol from", given)
        object.__setattr__(self, "proxy_protocol_from", trusted)
        if self.http is not None and given:
            many = ", ".join(given)
            raise TableError(f"{me}: proxy protocol from {many}: not with http")

    def _check_near(self, me: str) -> None:
        object.__setattr__(self, "near", _networks(f"{me}: near", self.near))
        if self.near_pool is not None:
            _check_pool(me, self.near_pool)
        check_word(f"{me}: keep source", self.keep_source, KEEP_SOURCES)
        relay = f"{me}: near clients and their sources: not with http"
        plain = self.near_pool is None and self.keep_source == "none"
        check(plain or self.http is None, relay)
        # The address in the header is not kept for the time of the dial.
        named = f"{me}: the source is not kept of clients that PROXY headers name"
        kept = self.keep_source != "none" and bool(self.proxy_protocol_from)
        check(not kept, named)

    @property
    def key(self) -> VipKey:
        """Identity across tables."""
        return (self.protocol, self.host, self.port)


# Lists that were fine: tens of thousands of vips have one and the same.
_networks_seen: set[tuple[str, ...]] = set()
MOST_SEEN = 64


def _networks(what: str, given: object) -> tuple[str, ...]:
    if given == ():
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TableError(f"{what} {given!r}: not a list of networks")
    with contextlib.suppress(TypeError):  # of what cannot be in a set, and is no text
        if type(given) is tuple and given in _networks_seen:
            return given
    many = f"{what} more than {MAX_NETWORKS} networks"
    check(len(given) <= MAX_NETWORKS, many)
    for text in given:
        split_network(text, what)
    found = tuple(given)
    if len(_networks_seen) > MOST_SEEN:
        _networks_seen.clear()
    _networks_seen.add(found)
    return found


def _check_pool(me: str, pool: object) -> None:
    named = isinstance(pool, str) and pool != ""
    if not named and not isinstance(pool, Pool):
        raise TableError(f"{me}: {pool!r} is not a Pool")


def _check_listening(me: str, spec: Vip | Listener) -> None:
    check_count(f"{me}: port", spec.port, 0, 65535)
    check_word(f"{me}: protocol", spec.protocol, PROTOCOLS)
    longest = MAX_DURATION_S
    check_seconds(f"{me}: user timeout", spec.user_timeout_s, longest, zero=True)
    check_seconds(f"{me}: keepalive", spec.keepalive_s, MAX_KEEPALIVE_S, zero=True)
    check(not 0 < spec.keepalive_s < 1, f"{me}: keepalive of less than 1 s")
    strange = f"{me}: client first {spec.client_first!r} is not True or False"
    check(isinstance(spec.client_first, bool), strange)
    check_count(f"{me}: backlog", spec.backlog, 1, MAX_BACKLOG)


@dataclass(frozen=True, slots=True)
class Delta:
    """What changes in a table: all of it or, if anything is wrong with it, nothing.

    What is given appears, or replaces what has its key. What is removed must be there.
    No key may stand in it twice. Sequences are kept as tuples.
    """

    vips: Sequence[Vip] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)  # by name
    upstreams: Sequence[Upstream] = ()
    listeners: Sequence[Listener] = ()
    remove_vips: Sequence[VipKey] = ()
    remove_pools: Sequence[str] = ()
    remove_upstreams: Sequence[str] = ()
    remove_listeners: Sequence[ListenerKey] = ()

    def __post_init__(self) -> None:
        for name in self.__slots__:
            given = getattr(self, name)
            if name == "pools":
                object.__setattr__(self, name, dict(given))
            elif type(given) is not tuple:
                object.__setattr__(self, name, tuple(given))
        check_items(self.vips, Vip)
        check_items(self.upstreams, Upstream)
        check_items(self.listeners, Listener)
        check_items(self.pools.values(), Pool)
        # The core knows a pool that a vip has to itself by a tuple: not to be reached.
        for name in (*self.pools, *self.remove_pools):
            named = isinstance(name, str) and name != ""
            check(named, f"{name!r} is no name of a pool")


def check_items(items: object, kind: type) -> None:
    """Refuse what is no collection of `kind`."""
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    # Said only where it is so: what 10,000 vips look like takes long to write.
    for item in items:  # type: ignore[attr-defined]
        if not isinstance(item, kind):
            raise TableError(f"{item!r} is not {article} {kind.__name__}")
