from collections.abc import Iterable

from typing_extensions import disjoint_base

@disjoint_base  # PEP 800: it has a layout of its own
class Ring:
    def __init__(self, items: Iterable[tuple[int, int]], size: int = 0) -> None: ...
    @property
    def size(self) -> int: ...
    def slot(self, hash: int) -> int: ...  # of a hash below 2**64
    def lookup(self, hash: int) -> int: ...  # the index in items
    def second(self, hash: int) -> int: ...
    def rescore(self, slot: int, usable: Iterable[object]) -> int: ...  # -1 = none
    def owners(self) -> memoryview[int]: ...  # by slot, 16-bit
    def seconds(self) -> memoryview[int]: ...
    def time_lookups(self, count: int, *, chained: bool = False) -> float: ...  # ns

def hash_bytes(data: bytes) -> int: ...
def time_lookups(
    owners: bytes, count: int, *, modulo: bool = False, chained: bool = False
) -> float: ...  # ns
