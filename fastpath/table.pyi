from collections.abc import Iterable, Mapping
from typing import final

from fastpath.registry import Registry
from fastpath.snapshot import Key
from fastpath.spec import Pool, Vip

BALANCES: dict[str, int]

class Table:
    vips: Mapping[Key, Vip]
    def __init__(self, vips: Iterable[Vip] = ()) -> None: ...

# What the engine makes of a table; nobody else does.

@final
class PoolBlock:
    def __init__(self, spec: Pool, registry: Registry) -> None: ...

@final
class VipBlock:
    spec: Vip
    pool: PoolBlock
    slot: int
    def __init__(self, spec: Vip, pool: PoolBlock, slot: int, bound: Key) -> None: ...

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
