"""Our engine as a contender: `python -m loadtests.ours --forward LISTEN=BACKEND,...`.

Prints "ready" when it listens, ends on SIGTERM or at the end of its input. Commands on
standard input, each answered by one line:

    apply COUNT EVERY_MS    apply COUNT changing tables, one every EVERY_MS
    memory                  relay slots and relays that live, of the engine's statistics
"""

import argparse
import signal
import sys
import time
from types import FrameType

from fastpath import Backend, Delta, Engine, Listener, Pool, Table, Vip
from fastpath.api.spec import Protocol

SPREAD = 16  # addresses of a forward's port that clients dial, from 127.0.0.1 on


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pipe-bytes", type=int, default=1024 * 1024)
    parser.add_argument("--forward", action="append", required=True)
    parser.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
    parser.add_argument("--amid", type=int, help="vips behind transparent listeners")
    arguments = parser.parse_args()
    protocol = arguments.protocol
    vips = [parse_forward(text, protocol) for text in arguments.forward]
    signal.signal(signal.SIGTERM, _exit)
    workers, pipe_bytes = arguments.workers, arguments.pipe_bytes
    with Engine(workers=workers, pipe_bytes=pipe_bytes) as engine:
        if arguments.amid is None:
            engine.apply(Table(vips))
        else:
            engine.update(transparent(vips, arguments.amid), wait_s=10)
        answer("ready")
        for line in sys.stdin:
            command(engine, vips, line.split())


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def answer(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def parse_forward(text: str, protocol: Protocol = "tcp") -> Vip:
    """`HOST:PORT=HOST:PORT,HOST:PORT` as a vip."""
    listen, _, backends = text.partition("=")
    pool = Pool(tuple(Backend(*parse_address(b)) for b in backends.split(",")))
    # Requests and streams alike begin with the client's bytes; HAProxy's smart-accept
    # and smart-connect say the same.
    return Vip(*parse_address(listen), protocol, pool, client_first=True)


def transparent(vips: list[Vip], amid: int) -> Delta:
    """The same forwards through one transparent listener a port, amid more vips."""
    reached = [
        Vip(
            f"127.0.0.{n + 1}", vip.port, "tcp", vip.pool, client_first=True, bind=False
        )
        for vip in vips
        for n in range(SPREAD)
    ]
    others = [
        Vip(
            f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",
            vips[0].port,
            "tcp",
            vips[0].pool,
            bind=False,
        )
        for n in range(amid - len(reached))
    ]
    listeners = [Listener(vip.host, vip.port) for vip in vips]
    return Delta(listeners=listeners, vips=[*reached, *others])


def command(engine: Engine, vips: list[Vip], words: list[str]) -> None:
    if words[0] == "apply":
        took_us = apply_changes(engine, vips, int(words[1]), float(words[2]) / 1e3)
        median = sorted(took_us)[len(took_us) // 2]
        answer(f"applied {len(took_us)} {median:.0f} {max(took_us):.0f}")
    elif words[0] == "memory":
        stats = engine.stats()
        slots = sum(worker.relay_slots for worker in stats.workers)
        answer(f"memory {slots} {stats.relays_active}")


def apply_changes(
    engine: Engine, vips: list[Vip], count: int, every_s: float
) -> list[float]:
    """Apply `count` tables, each unlike the one before; return microseconds each."""
    took_us = []
    due = time.monotonic()
    for number in range(count):
        table = Table(changed(vips, number))
        begin = time.perf_counter()
        engine.apply(table)
        took_us.append((time.perf_counter() - begin) * 1e6)
        due += every_s
        time.sleep(max(0.0, due - time.monotonic()))
    engine.apply(Table(vips))
    return took_us


def changed(vips: list[Vip], number: int) -> list[Vip]:
    """A table that differs: in backends of pools, their weights, how many vips."""
    result = []
    for vip in vips:
        assert isinstance(vip.pool, Pool)
        backends = list(vip.pool.backends)
        if number % 3 and len(backends) > 1:  # one of them leaves, in turn
            gone = number % len(backends)
            backends = backends[:gone] + backends[gone + 1 :]
        weighted = tuple(
            Backend(b.host, b.port, weight=1 + (number + i) % 3)
            for i, b in enumerate(backends)
        )
        result.append(Vip(vip.host, vip.port, vip.protocol, Pool(weighted)))
    if number % 2:  # a vip comes and goes, on a free port
        result.append(Vip("127.0.0.1", 0, "tcp", vips[0].pool))
    return result


if __name__ == "__main__":
    main()
