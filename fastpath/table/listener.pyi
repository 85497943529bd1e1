from collections.abc import Sequence
from typing import final

from fastpath.api.snapshot import Key
from fastpath.api.spec import Listener, Vip

@final
class Sockets:
    address: Key
    shared: bool
    @property
    def numbers(self) -> list[int]: ...
    def close(self) -> None: ...

@final
class OtherOptions:
    def __init__(self, spec: Vip | Listener, sockets: Sockets) -> None: ...

def open_listeners(
    vip: Vip | Listener, count: int, beside: bool = False
) -> Sockets: ...
def share_listeners(vip: Vip | Listener, fds: Sequence[int], count: int) -> Sockets: ...
def set_listeners(vip: Vip | Listener, sockets: Sockets) -> None: ...
def accept(fd: int) -> tuple[int, str, int]: ...
