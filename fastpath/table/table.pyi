from collections.abc import Iterable, Mapping
from typing import final

from fastpath.api.snapshot import Key
from fastpath.api.spec import Pool, Upstream, Vip
from fastpath.table.registry import Registry

BALANCES: dict[str, int]

PARTS: dict[str, int]

class Table:
    vips: Mapping[Key, Vip]
    upstreams: Mapping[str, Upstream]
    def __init__(
        self, vips: Iterable[Vip] = (), upstreams: Iterable[Upstream] = ()
    ) -> None: ...

# What the engine makes of a table; nobody else does.

@final
class PoolBlock:
    def __init__(self, spec: Pool, registry: Registry) -> None: ...

@final
class VipBlock:
    spec: Vip | Upstream
    pool: PoolBlock
    slot: int
    stamp: int
    def __init__(
        self,
        spec: Vip | Upstream,
        pool: PoolBlock,
        slot: int,
        bound: Key | tuple[int, int],
    ) -> None: ...

@final
class TableBlock:
    def __init__(
        self,
        generation: int,
        size: int,
        blocks: Iterable[VipBlock],
        opened: Mapping[int, list[int]],
        gone: list[int],
    ) -> None: ...
