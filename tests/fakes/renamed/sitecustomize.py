"""A resolver that a test can change: names stand in the file PYPROXY_TEST_NAMES.

With this directory in PYTHONPATH, Python itself runs this file at its start. Each line
of the file is a name and its addresses.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from pyproxy.discovery import names
from pyproxy.errors import ConfigError


async def resolve(host: str) -> tuple[str, ...]:
    """Stand in for the system's resolver."""
    if host in (known := _known()):
        return known[host]
    raise ConfigError(f"cannot resolve {host}: Name or service not known")


def _known() -> dict[str, tuple[str, ...]]:
    text = Path(os.environ["PYPROXY_TEST_NAMES"]).read_text()
    split = [line.split() for line in text.splitlines()]
    return {name: tuple(addresses) for name, *addresses in split}


names.resolve = resolve
