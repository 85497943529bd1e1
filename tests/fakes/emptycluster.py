"""`python -m tests.fakes.emptycluster PORT CERTIFICATE KEY CA`: an apiserver.

The sandbox's, without pods and without a keeper, as a kube-apiserver that runs alone.
"""

import asyncio
import sys
from pathlib import Path

from pyproxy.sandbox.apiserver import Apiserver
from pyproxy.sandbox.certificates import Pair


async def serve(port: int, pair: Pair, ca: Path) -> None:
    """Serve until killed."""
    async with Apiserver(pair, ca, port=port, is_populated=False) as apiserver:
        sys.stdout.write(f"{apiserver.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _port, *_files = sys.argv[1:]
    _certificate, _key, _ca = map(Path, _files)
    asyncio.run(serve(int(_port), Pair(_certificate, _key), _ca))
