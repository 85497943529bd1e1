from types import TracebackType
from typing import Literal, NamedTuple, Self

from fastpath.spec import Vip
from fastpath.table import Table

Health = Literal["ready", "draining", "dead"]
Key = tuple[str, int]

class Histogram(NamedTuple):
    bounds_us: tuple[int, ...]  # upper bounds, microseconds; the last bucket is open
    counts: tuple[int, ...]  # one more than bounds
    sum_us: int

class VipStats(NamedTuple):
    accepted: int
    active: int
    refused: dict[str, int]  # by drop reason, never became a relay
    closed: dict[str, int]  # by drop reason
    bytes_up: int  # client to backend
    bytes_down: int
    retries: int

class BackendStats(NamedTuple):
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
    active: int
    accepted: int
    handed_over: int
    turns: int  # of the event loop
    bytes_copied: int
    bytes_spliced: int
    pipes: int  # open now, in use or in the free list
    spills: int  # buffers held now
    relay_slots: int  # allocated, in use or free

class Stats(NamedTuple):
    generation: int
    relays_active: int
    relays_total: int
    notices_lost: int
    vips: dict[Key, VipStats]
    backends: dict[Key, BackendStats]
    workers: tuple[WorkerStats, ...]

class Notice(NamedTuple):
    kind: Literal["connect-failed", "ejected", "recovered"]
    backend: Key

class Engine:
    def __init__(self, workers: int | None = None, *, pipe_bytes: int = ..., splice: bool = True) -> None: ...
    @property
    def generation(self) -> int: ...
    @property
    def workers(self) -> int: ...
    def apply(self, table: Table) -> int: ...
    def address(self, vip: Vip | Key) -> Key: ...
    def set_health(self, backend: Key, health: Health) -> None: ...
    def drain(self, backend: Key | None = None) -> None: ...
    def reset(self, backend: Key | None = None) -> None: ...
    def stats(self) -> Stats: ...
    def notices(self) -> list[Notice]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
