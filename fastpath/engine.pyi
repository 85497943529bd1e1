from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, final

from fastpath.api.policy import Forward, Question, Record, Reply
from fastpath.api.snapshot import Health, Key, Notice, Stats, VipKey
from fastpath.api.spec import Delta, Listener, Vip
from fastpath.table.delta import Table

PATIENCE_S: float

PARKED_MOST: int
PARKED_BYTES: int
TLS_BUFFER_BYTES: int

@final
class Engine:
    def __init__(
        self,
        workers: int | None = None,
        *,
        pipe_bytes: int = 1048576,
        splice: bool = True,
        verdict_bytes: int = 67108864,
        parked_most: int = 4096,
        parked_bytes: int = 33554432,
        tls_buffer_bytes: int = 50331648,
    ) -> None: ...
    @property
    def generation(self) -> int: ...
    @property
    def workers(self) -> int: ...
    def apply(
        self,
        table: Table,
        *,
        health: Mapping[Key, Health] | None = None,
        sockets: Mapping[VipKey, Sequence[int]] | None = None,
        wait_s: float = 1.0,
    ) -> int: ...
    def update(
        self,
        delta: Delta,
        *,
        health: Mapping[Key, Health] | None = None,
        sockets: Mapping[VipKey, Sequence[int]] | None = None,
        wait_s: float = 0.0,
    ) -> int: ...
    def settle(self, wait_s: float = 1.0) -> bool: ...
    def address(self, vip: Vip | Listener | VipKey) -> Key: ...
    def set_health(self, backend: Key, health: Health) -> None: ...
    def drain(self, backend: Key | None = None, *, wait_s: float = 1.0) -> None: ...
    def reset(self, backend: Key | None = None, *, silent: bool = False) -> None: ...
    def stats(
        self,
        *,
        vips: Iterable[VipKey] | None = None,
        backends: Iterable[Key] | None = None,
    ) -> Stats: ...
    def notices(self) -> list[Notice]: ...
    def fileno(self) -> int: ...
    def questions(self) -> list[Question]: ...
    def withdrawn(self) -> list[Question]: ...
    def records(self) -> list[Record]: ...
    def questions_fileno(self) -> int: ...
    def answer(
        self,
        question: Question,
        verdict: Forward | Reply | None,
        *,
        ttl_s: float = 0.0,
        key: Iterable[str] | None = None,
        tag: str = "",
    ) -> None: ...
    def forget(self, tag: str | None = None) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
