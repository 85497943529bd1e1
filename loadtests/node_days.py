"""Bad days of a node: an endpoint that is dead, and an agent that is restarted.

`dead`: one of three endpoints refuses, and nobody has said so; clients that got no
answer are counted. `restart`: the agent (or what holds the programs at connect(2)) is
replaced while clients connect, ask once and close, and others keep their connections.
"""

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from loadtests.bench import say
from loadtests.measure import WORKS, Work
from loadtests.node_ways import PORTS, InLab, Way

CONNECTING = dataclasses.replace(WORKS["crr"], connections=8, spread=1)
KEPT = dataclasses.replace(WORKS["rr"], connections=8, rate=1000.0)
BEFORE_S, AFTER_S = 1.0, 4.0  # around a restart


def run_dead(
    generator: InLab, ways: Sequence[Way], seconds: float
) -> list[dict[str, Any]]:
    """Open connections to a Service of which one endpoint of three is dead."""
    found = []
    for way in ways:
        client = started(generator, CONNECTING, way, "part", seconds)
        result = generator.result(client, seconds + 30)
        done, failed = result["units"], result["failed_all"]
        found.append({"contender": way.name, "done": done, "failed": failed})
        say(f"dead {found[-1]}")
    return found


def run_restart(
    generator: InLab, ways: Sequence[Way], stack: ExitStack
) -> list[dict[str, Any]]:
    """Replace what can be replaced, under load."""
    found = []
    for way in ways:
        if way.restart is None:
            continue
        begin = time.monotonic()
        seconds = BEFORE_S + AFTER_S
        fresh = started(generator, CONNECTING, way, "web", seconds)
        kept = started(generator, KEPT, way, "web", seconds)
        time.sleep(BEFORE_S)
        ended = way.restart(stack)
        took_s = time.monotonic() - begin - BEFORE_S
        opened = generator.result(fresh, seconds + 30)
        stayed = generator.result(kept, seconds + 30)
        ended()
        found.append(
            {
                "contender": way.name,
                "connections": opened["units"],
                "refused": opened["failed_all"],
                "requests": stayed["units"],
                "lost": stayed["lost"] + stayed["wrong"],
                "took_s": round(took_s, 2),
                "within": took_s < AFTER_S,
            }
        )
        say(f"restart {found[-1]}")
    return found


def started(
    generator: InLab, work: Work, way: Way, service: str, seconds: float
) -> Any:
    """Start a client that does not warm up: nothing may fail at any time."""
    generator.go(way, service)
    return generator.start(work, PORTS["echo"], [], 0.0, seconds)
