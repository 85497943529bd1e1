"""`make load MODE=apiserver-proxy`: locust against one mode of pyproxy.

    python -m loadtests.load MODE [--web] [options of locust]

Without `--host` the locust file starts what is loaded, and its cluster. Headless, 60
users, a minute, unless options say otherwise; `--web` opens locust's page instead. The
exit code is 1 if more failed than may fail (`--most-errors`): docs/load-testing.md.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
USUAL = ("--headless", "--users=60", "--spawn-rate=20", "--run-time=60s")
HEADED = ("--web", "--worker")  # these know what to do without the usual options


def modes() -> dict[str, Path]:
    """Return the locust file of every mode that has one."""
    found = sorted(HERE.glob("locust_*.py"))
    return {each.stem.removeprefix("locust_").replace("_", "-"): each for each in found}


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command of locust. Raise SystemExit that says what is wrong."""
    name, *options = arguments or [""]
    file = modes().get(name)
    if file is None:
        raise SystemExit(f"no mode {name!r} to load; there is: {', '.join(modes())}")
    if importlib.util.find_spec("locust") is None:
        raise SystemExit("locust is not installed (pip install --group bench)")
    usual = () if set(options) & set(HEADED) else USUAL
    options = [option for option in options if option != "--web"]
    return [sys.executable, "-m", "locust", "-f", str(file), *usual, *options]


def main() -> None:
    """Become locust."""
    told = command(sys.argv[1:])
    os.execv(told[0], told)


if __name__ == "__main__":
    main()
