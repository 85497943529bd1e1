"""Minutes of load with a fault at every turn: `python -m loadtests.soak --minutes 10`.

Clients do exchanges whose bytes are checked at both ends. Meanwhile phases follow one
another, each with a fault of its own and a quiet time behind it. In some of them
connections may be lost (their backend is killed, relays are reset, descriptors run
out: see PHASES of each layer); in all others every loss is a failure. A wrong byte
always is, and so is an exchange that hangs. At the end of each cycle the load rests:
memory and descriptors of the process are written down, and must not rise from cycle to
cycle.

Bounded in time by --minutes, in count by --clients. Loopback only. Exit code 1 if
anything was not as it should be.
"""

import argparse
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests import netns
from loadtests.process import raise_descriptor_limit
from loadtests.soak_clients import Board
from loadtests.soak_faults import Scene
from loadtests.soak_http import HttpScene
from loadtests.soak_scene import Rest, Stage

LAYERS = {"relay": Scene, "http": HttpScene}
QUIET_S = 1.5
SLOPE_KIB = 100.0  # a cycle: some ten bytes a connection


def cycle(scene: Stage, board: Board, dice: random.Random, until: float) -> None:
    """Every phase once, in another order each time."""
    phases = scene.phases()
    for phase, lenient in dice.sample(phases, len(phases)):
        with board.during(phase.__name__, lenient):
            phase(scene)
        time.sleep(QUIET_S)
        if time.monotonic() > until:
            return


def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """The soak; whether all was well."""
    board = Board()
    dice = random.Random(arguments.seed)
    scene: Stage = LAYERS[arguments.layer](board, dice, folder, arguments.phase_seconds)
    rests: list[Rest] = []
    begin = time.monotonic()
    until = begin + arguments.minutes * 60
    with contextlib.ExitStack() as stack:
        stack.callback(scene.close)
        scene.start(arguments.workers)
        clients = [scene.client(number) for number in range(arguments.clients)]
        while time.monotonic() < until and not board.failures:
            cycle(scene, board, dice, until)
            board.resting.set()
            rests.append(scene.look())
            board.resting.clear()
            progress(board, rests, time.monotonic() - begin)
        board.stopping.set()
        for client in clients:
            client.join()
        summary = scene.summary()
    complaints = board.failures + judge(rests)
    report(board, rests, time.monotonic() - begin)
    print(*summary, *(f"FAILED {complaint}" for complaint in complaints[:20]), sep="\n")
    print("all well" if not complaints else f"{len(complaints)} failures")
    return not complaints


def slope(values: Sequence[float]) -> float:
    """How much they rise from one to the next, by least squares."""
    if len(values) < 2:
        return 0.0
    return statistics.linear_regression(range(len(values)), values).slope


def warm(rests: list[Rest]) -> list[int]:
    """Memory in the second half: before that, much is allocated for the first time."""
    return [one.anonymous_kib for one in rests[len(rests) // 2 :]]


def judge(rests: list[Rest]) -> list[str]:
    """What is wrong with what the engine held."""
    complaints = []
    rise = slope(warm(rests))
    if rise > SLOPE_KIB:
        complaints.append(f"memory rises by {rise:.0f} KiB a cycle")
    if len({one.descriptors for one in rests}) > 1:
        held = ", ".join(str(one.descriptors) for one in rests)
        complaints.append(f"descriptors are not the same: {held}")
    complaints += [f"at rest: {one.wrong}" for one in rests if one.wrong]
    return complaints


def progress(board: Board, rests: list[Rest], elapsed_s: float) -> None:
    """A line a cycle."""
    last = rests[-1]
    print(
        f"{elapsed_s:5.0f} s  {sum(board.done.values()):8,} exchanges"
        f"  {board.moved / 2**30:7.1f} GiB  {last.connections:8,} connections"
        f"  {last.anonymous_kib:7,} KiB  {last.descriptors} descriptors"
        f"  {len(board.failures)} failures",
        flush=True,
    )


def report(board: Board, rests: list[Rest], elapsed_s: float) -> None:
    """The closing table."""
    print(f"\n{'phase':16}{'exchanges':>12}{'lost':>8}")
    for phase in sorted(board.done | board.forgiven):
        print(f"{phase:16}{board.done[phase]:12,}{board.forgiven[phase]:8,}")
    print(f"\n{elapsed_s:.0f} s, {board.moved / 2**30:.1f} GiB, all digests right")
    memory = warm(rests)
    rise = f"{slope(memory):+.1f} KiB a cycle"
    print(f"memory: {rise} over the last {len(memory)} cycles")


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", choices=LAYERS, default="relay")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--phase-seconds", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    raise_descriptor_limit()
    with contextlib.suppress(OSError, RuntimeError):
        netns.enter()  # a network of our own where that is allowed
    with TemporaryDirectory(prefix="soak-") as folder:
        sys.exit(0 if run(arguments, Path(folder)) else 1)


if __name__ == "__main__":
    main()
