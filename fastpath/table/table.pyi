from collections.abc import Mapping, Sequence
from typing import Any, final

from fastpath.api.snapshot import Key

class Block:
    slot: int
    spec: Any

@final
class TableBlock:
    def __init__(
        self,
        old: TableBlock | None = None,
        vips: Mapping[int, Block | None] | None = None,
        pools: Mapping[int, Block | None] | None = None,
        upstreams: Mapping[int, Block | None] | None = None,
        found: tuple[Sequence[Block], Sequence[Block]] = ((), ()),
    ) -> None: ...
    @property
    def generation(self) -> int: ...
    def find(self, host: str, port: int) -> int | None: ...
    def time_finds(
        self, addresses: Sequence[Key], rounds: int
    ) -> tuple[float, int]: ...
