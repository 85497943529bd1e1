from collections.abc import Iterable

from fastpath.snapshot import Key
from fastpath.spec import Vip

class Table:
    vips: dict[Key, Vip]
    def __init__(self, vips: Iterable[Vip] = ()) -> None: ...
