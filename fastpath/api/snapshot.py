"""What Engine.stats and Engine.notices return: plain values, no live objects."""

from typing import Literal, NamedTuple

Health = Literal["ready", "draining", "dead"]
Key = tuple[str, int]  # of a backend, or an address: host, port
VipKey = tuple[str, str, int]  # protocol, host, port


class Histogram(NamedTuple):
    """Durations in microseconds."""

    bounds_us: tuple[int, ...]  # upper bounds, exclusive; the last bucket is open
    counts: tuple[int, ...]  # one more than bounds
    sum_us: int


class VipStats(NamedTuple):
    """Counters of a vip since it appeared in a table."""

    accepted: int  # became relays
    active: int
    refused: dict[str, int]  # by drop reason: ended before a backend took them
    closed: dict[str, int]  # by drop reason
    bytes_up: int  # client to backend
    bytes_down: int
    retries: int  # dials after a failed one


class BackendStats(NamedTuple):
    """Counters of a backend since it appeared in a table."""

    active: int
    connects: int  # succeeded
    connect_failures: int
    ejections: int
    ejected: bool
    health: Health
    bytes_up: int
    bytes_down: int
    connect_time: Histogram


class WorkerStats(NamedTuple):
    """Counters of a worker since the engine started."""

    active: int
    accepted: int
    handed_over: int  # accepted here, given to a worker with fewer relays
    turns: int  # of the event loop
    bytes_copied: int
    bytes_spliced: int
    unspliceable: int  # halves of sockets that splice(2) misreports
    pipes: int  # open now, in use or in the free list
    spills: int  # buffers held now
    relay_slots: int  # allocated, in use or free
    uncounted: int  # times that there was no memory for a block of counters
    unwatched: int  # times that a listener found no room in epoll, until it did
    starved: int  # turns that could not take over a table for want of memory


class HttpStats(NamedTuple):
    """Counters of a vip that speaks HTTP, or of an upstream."""

    codes: dict[tuple[str, int], int]  # by method ("other") and status, if any
    took: Histogram  # of exchanges; of upgrades, until the 101
    bytes_up: int  # of bodies
    bytes_down: int
    remembered: int  # verdicts found without asking Python
    asked: int
    unanswered: int  # questions that Python did not take or not answer in time
    unrecorded: int  # exchanges whose Record found no room
    replayed: int  # requests sent again, because a kept connection had ended
    reused: int  # upstreams: kept connections used again
    resumed: int  # TLS sessions
    unreached: int  # upstreams: failed dials to an address that a verdict named


class VerdictStats(NamedTuple):
    """What the workers remember of verdicts, all of them together."""

    entries: int  # one for each worker that remembers a verdict under a key
    bytes: int  # of `verdict_bytes`
    evicted: int  # entries that made room before their time was over
    unkept: int  # answers not remembered: no room, or too long a key


class Stats(NamedTuple):
    """Engine.stats(): as counted so far; no worker is stopped for it."""

    generation: int
    relays_active: int
    relays_total: int  # clients accepted
    notices_lost: int
    no_vip: int  # clients of a transparent listener that dialled no vip: reset
    unpinned: int  # sources with affinity that were forgotten: others needed the room
    unkept: int  # dials from our own address, where the client's was not to be had
    vips: dict[VipKey, VipStats]  # those that were asked for
    backends: dict[Key, BackendStats]  # likewise
    workers: tuple[WorkerStats, ...]
    http: dict[VipKey, HttpStats]  # vips that speak HTTP
    upstreams: dict[str, HttpStats]  # by name
    verdicts: VerdictStats


class Notice(NamedTuple):
    """Something that a worker met."""

    kind: Literal["connect-failed", "ejected", "recovered"]
    backend: Key
