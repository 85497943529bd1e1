from typing import final

from fastpath.api.policy import Forward, Reply, ResponseEdits

NOTHING: ResponseEdits

@final
class VerdictBlock:
    def __init__(
        self,
        spec: Forward | Reply,
        upstream: int = 0,
        stamp: int = 0,
        quota: None = None,
    ) -> None: ...

class Text:
    data: bytearray
    def add(self, part: str | bytes) -> tuple[int, int]: ...

def filter_head(head: bytes, forward: Forward, upstream: str = "") -> bytes | None: ...

@final
class Page:
    def __init__(
        self,
        forward: Forward,
        upstream: str = "",
        coding: str = "",
        room: int = 32768,
        most: int = ...,
    ) -> None: ...
    def feed(self, data: bytes) -> list[bytes]: ...
    def end(self) -> list[bytes]: ...
    @property
    def untouched(self) -> int: ...
