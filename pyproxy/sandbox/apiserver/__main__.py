"""`python -m pyproxy.sandbox.apiserver HOST PORT CERTIFICATE KEY CA [PAGE KUBELET]`.

Prints the port that it listens on, and serves until it is killed. The last two are the
ports of `pyproxy.sandbox.inside`; without them nothing is inside.
"""

import asyncio
import sys
from pathlib import Path

from pyproxy.sandbox.apiserver.server import Apiserver
from pyproxy.sandbox.certificates import Pair

NOWHERE = ("1", "1")  # ports at which nothing listens


async def serve(
    host: str, port: int, pair: Pair, ca: Path, real: tuple[int, int]
) -> None:
    """Serve until killed."""
    async with Apiserver(pair, ca, host=host, port=port, real=real) as apiserver:
        sys.stdout.write(f"{apiserver.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _host, _port, *_files = sys.argv[1:6]
    _page, _kubelet = map(int, sys.argv[6:8] or NOWHERE)
    _certificate, _key, _ca = map(Path, _files)
    _pair = Pair(_certificate, _key)
    asyncio.run(serve(_host, int(_port), _pair, _ca, (_page, _kubelet)))
