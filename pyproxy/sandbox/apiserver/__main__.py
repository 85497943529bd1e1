"""`python -m pyproxy.sandbox.apiserver HOST PORT CERTIFICATE KEY CA`: one in a process.

Prints the port that it listens on, and serves until it is killed.
"""

import asyncio
import sys
from pathlib import Path

from pyproxy.sandbox.apiserver.server import Apiserver
from pyproxy.sandbox.certificates import Pair


async def serve(host: str, port: int, pair: Pair, ca: Path) -> None:
    """Serve until killed."""
    async with Apiserver(pair, ca, host=host, port=port) as apiserver:
        sys.stdout.write(f"{apiserver.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _host, _port, *_files = sys.argv[1:]
    _certificate, _key, _ca = map(Path, _files)
    asyncio.run(serve(_host, int(_port), Pair(_certificate, _key), _ca))
