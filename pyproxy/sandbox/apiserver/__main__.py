"""`python -m pyproxy.sandbox.apiserver HOST PORT CERTIFICATE KEY CA [PORT...]`.

Prints the port that it listens on, and serves until it is killed. The last ones are the
ports of what is really there, see `inside.Real`; without them nothing is.
"""

import asyncio
import sys
from pathlib import Path

from pyproxy.sandbox.apiserver.inside import Real
from pyproxy.sandbox.apiserver.server import Apiserver
from pyproxy.sandbox.certificates import Pair


async def serve(host: str, port: int, pair: Pair, ca: Path, real: Real | None) -> None:
    """Serve until killed."""
    async with Apiserver(pair, ca, host=host, port=port, real=real) as apiserver:
        sys.stdout.write(f"{apiserver.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _host, _port, *_files = sys.argv[1:6]
    _real = Real.of([int(port) for port in sys.argv[6:]])
    _certificate, _key, _ca = map(Path, _files)
    _pair = Pair(_certificate, _key)
    asyncio.run(serve(_host, int(_port), _pair, _ca, _real))
