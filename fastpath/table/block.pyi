from typing import final

from fastpath.api.spec import Pool, Upstream, Vip
from fastpath.table.registry import Registry
from fastpath.table.table import Block
from fastpath.tls.context import ClientContext, ServerContext

BALANCES: dict[str, int]

# What the engine makes of what Python says; only the engine does.

@final
class PoolBlock(Block):
    spec: Pool
    def __init__(self, spec: Pool, key: object, registry: Registry) -> None: ...

@final
class VipBlock(Block):
    spec: Vip
    def __init__(
        self,
        spec: Vip,
        pools: tuple[int, int],
        bound: tuple[str, int],
        registry: Registry,
        tls: ServerContext | None,
    ) -> None: ...

@final
class UpstreamBlock(Block):
    spec: Upstream
    stamp: int
    def __init__(
        self,
        spec: Upstream,
        pool: int,
        registry: Registry,
        tls: ClientContext | None,
    ) -> None: ...
