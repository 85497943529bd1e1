"""The engine of a soak, in its own process: `python -m loadtests.soak_engine JSON`.

Prints one line of JSON for each command on its standard input, the first one, which
says where it listens, unasked.
"""

import json
import random
import resource
import sys
from typing import Any

from fastpath import Backend, Engine, Pool, Stats, Table, Vip

IDLE_TIMEOUT_S = 120.0  # longer than anybody is stopped


class Served:
    """The vips, the backends in them, and what is changed about them."""

    def __init__(self, engine: Engine, backends: list[tuple[str, int]]) -> None:
        self.engine = engine
        self.backends = backends
        self.dice = random.Random(1)
        self.vips = [
            Vip("127.0.0.1", 0, "tcp", idle_timeout_s=IDLE_TIMEOUT_S),
            Vip("127.0.0.2", 0, "tcp", idle_timeout_s=IDLE_TIMEOUT_S),
        ]
        self.apply(stray=False)

    def addresses(self) -> list[tuple[str, int]]:
        """Where clients dial."""
        return [self.engine.address(vip) for vip in self.vips]

    def apply(self, stray: bool) -> int:
        """Publish the table; a stray one differs from the last in many ways."""
        chosen = self.backends
        if stray:
            chosen = self.dice.sample(self.backends, len(self.backends) - 1)
        vips = []
        for vip, balance in zip(self.vips, ("least", "ring"), strict=True):
            pool = Pool(
                [self._backend(key, stray) for key in chosen],
                balance=balance,  # type: ignore[arg-type]
                connect_timeout_s=2.0,
                eject_s=1.0,
            )
            vips.append(Vip(vip.host, 0, "tcp", pool, idle_timeout_s=IDLE_TIMEOUT_S))
        if stray and self.dice.random() < 0.5:  # one that comes and goes
            vips.append(Vip("127.0.0.3", 0, "tcp", vips[0].pool))
        return self.engine.apply(Table(vips))

    def _backend(self, key: tuple[str, int], stray: bool) -> Backend:
        return Backend(*key, weight=self.dice.randint(1, 4) if stray else 1)


def command(served: Served, words: list[str]) -> Any:
    """Do what was asked; return what to say."""
    engine = served.engine
    match words:
        case ["apply", count]:
            return [served.apply(stray=True) for _ in range(int(count))][-1]
        case ["settle"]:
            return served.apply(stray=False)
        case ["health", host, port, health]:
            engine.set_health((host, int(port)), health)  # type: ignore[arg-type]
        case ["reset"]:
            engine.reset()
        case ["reset", host, port]:
            engine.reset((host, int(port)))
        case ["nofile", soft]:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft) or hard, hard))
        case ["stats"]:
            engine.notices()
            return summary(engine.stats())
    return None


def summary(stats: Stats) -> dict[str, Any]:
    """What the soak looks at."""
    reasons: dict[str, int] = {}
    accepted = 0
    for vip in stats.vips.values():
        accepted += vip.accepted
        for reason in vip.closed:
            count = vip.closed[reason] + vip.refused[reason]
            reasons[reason] = reasons.get(reason, 0) + count
    return {
        "active": stats.relays_active,
        "accepted": accepted,
        "reasons": {name: count for name, count in reasons.items() if count},
        "turns": sum(w.turns for w in stats.workers),
        "pipes": sum(w.pipes for w in stats.workers),
        "spills": sum(w.spills for w in stats.workers),
        "spliced": sum(w.bytes_spliced for w in stats.workers),
        "copied": sum(w.bytes_copied for w in stats.workers),
        "retries": sum(vip.retries for vip in stats.vips.values()),
    }


def main() -> None:
    """Serve until standard input ends."""
    options = json.loads(sys.argv[1])
    backends = [(str(host), int(port)) for host, port in options["backends"]]
    with Engine(workers=options["workers"]) as engine:
        served = Served(engine, backends)
        say(served.addresses())
        for line in sys.stdin:
            say(command(served, line.split()))


def say(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
