from collections.abc import Iterable
from typing import final

from fastpath.api.snapshot import Health, Key
from fastpath.api.spec import Vip

@final
class Picker:
    def __init__(self, vip: Vip, seed: int = 1) -> None: ...
    def pick(
        self,
        now_ms: int = 1,
        source: str = "",
        tried: Iterable[Key] = (),
        port: int = 40000,
    ) -> Key | None: ...
    def set(
        self, key: Key, health: Health = "ready", active: int = 0, up_since_ms: int = 0
    ) -> None: ...
    def failed(self, key: Key, now_ms: int) -> bool: ...
    def succeeded(self, key: Key, now_ms: int) -> bool: ...
