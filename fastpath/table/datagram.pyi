from collections.abc import Sequence

from fastpath.api.spec import Listener, Vip
from fastpath.table.listener import Sockets

def open_datagrams(
    vip: Vip | Listener, count: int, beside: bool = False
) -> Sockets: ...
def share_datagrams(vip: Vip | Listener, fds: Sequence[int], count: int) -> Sockets: ...
