"""The faults of a soak: one function a phase, and the scene that they play in."""

import contextlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.process import Process
from loadtests.soak_clients import PATIENCE_S, Board, Client, SlowReader
from loadtests.soak_scene import (
    STORMERS,
    Rest,
    at_once,
    holds,
    reset_when_closed,
    ticks,
)

BACKENDS = 4
SLOW_READERS = 8
IDLE_TURNS = 100.0  # a second, of an engine without relays
SPIN_A_SECOND = 200_000  # turns that no honest work comes to here


@dataclass
class Scene:
    """Everybody in it."""

    board: Board
    dice: random.Random
    folder: Path  # of logs
    seconds: float  # of a phase
    backends: list[Process] = field(default_factory=list)
    keys: list[tuple[str, int]] = field(default_factory=list)  # theirs
    addresses: list[tuple[str, int]] = field(default_factory=list)  # of the vips
    engines: list[Process] = field(default_factory=list)  # one

    @property
    def engine(self) -> Process:
        """The process under test."""
        return self.engines[0]

    def start(self, workers: int) -> None:
        """The backends, then the engine."""
        for number in range(BACKENDS):
            self.start_backend(number)
        options = json.dumps({"backends": self.keys, "workers": workers})
        command = [sys.executable, "-m", "loadtests.soak_engine", options]
        self.engines.append(Process(command, None, self.folder / "engine.log"))
        self.addresses += [
            (host, port) for host, port in json.loads(self.engine.line())
        ]

    def phases(self) -> "Sequence[tuple[Callable[[Scene], None], bool]]":
        """The faults, and whether each may cost connections."""
        return PHASES

    def client(self, number: int) -> threading.Thread:
        """One more client, at work."""
        return Client(number, self.addresses, self.board)

    def look(self) -> Rest:
        """What the engine holds while it is idle."""
        self.wait(lambda stats: stats["active"] == 0, "idle")
        before, begin = self.ask("stats"), time.monotonic()
        time.sleep(0.5)
        after, took_s = self.ask("stats"), time.monotonic() - begin
        pid = self.engine.child.pid
        kib, descriptors = holds(pid)
        turns = (after["turns"] - before["turns"]) / took_s
        wrong = f"{turns:,.0f} turns a second" if turns > IDLE_TURNS else ""
        return Rest(
            connections=after["accepted"],
            anonymous_kib=kib,
            descriptors=descriptors - 2 * after["pipes"],
            wrong=f"{after['spills']} spills" if after["spills"] else wrong,
        )

    def summary(self) -> list[str]:
        """What the engine counted."""
        stats = self.ask("stats")
        ended = ", ".join(
            f"{name} {count:,}" for name, count in stats["reasons"].items()
        )
        share = stats["spliced"] / max(1, stats["spliced"] + stats["copied"])
        return [
            f"relays ended: {ended}",
            f"dials repeated: {stats['retries']:,}; bytes spliced: {share:.0%}",
        ]

    def close(self) -> None:
        """End all processes."""
        for process in (*self.engines, *self.backends):
            process.child.send_signal(signal.SIGCONT)
            process.stop()

    def ask(self, *words: object) -> Any:
        """Tell the engine's process something; return its answer."""
        self.engine.tell(" ".join(map(str, words)))
        return json.loads(self.engine.line())

    def wait(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Wait until the engine's statistics are so."""
        end = time.monotonic() + PATIENCE_S
        while not condition(self.ask("stats")):
            if time.monotonic() > end:
                self.board.failures.append(f"never {what}: {self.ask('stats')}")
                return
            time.sleep(0.05)

    def start_backend(self, number: int) -> None:
        """Start one, on the port that it had if it had one."""
        old = self.backends[number] if number < len(self.backends) else None
        command = [sys.executable, "-m", "loadtests.soak_peers"]
        if old:
            old.stop()
            command.append(str(self.keys[number][1]))
        process = Process(command, None, self.folder / "backends.log")
        key = ("127.0.0.1", int(process.line()))
        if old:
            self.backends[number] = process
        else:
            self.backends.append(process)
            self.keys.append(key)

    def ticks(self, pause_s: float) -> Iterator[None]:
        """Moments until the phase is over."""
        return ticks(self.seconds, pause_s)


# ---- Phases. Those that are lenient may cost connections.


def applies(scene: Scene) -> None:
    """Tables change a hundred times a second."""
    for _ in scene.ticks(0.05):
        scene.ask("apply", 5)
    scene.ask("settle")


def drains(scene: Scene) -> None:
    """Backends go out of service and come back."""
    for _ in scene.ticks(0.2):
        key = scene.dice.choice(scene.keys)
        scene.ask("health", *key, scene.dice.choice(["draining", "dead"]))
        time.sleep(0.2)
        scene.ask("health", *key, "ready")


def stops(scene: Scene) -> None:
    """A backend is stopped and goes on."""
    for _ in scene.ticks(0.3):
        pid = scene.dice.choice(scene.backends).child.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(min(1.0, scene.seconds / 3))
        os.kill(pid, signal.SIGCONT)


def storms(scene: Scene) -> None:
    """Clients connect and reset, by the thousand."""

    def storm() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                client = socket.create_connection(scene.dice.choice(scene.addresses), 5)
                reset_when_closed(client)
                if scene.dice.random() < 0.5:
                    client.send(b"x" * 10)
                client.close()

    end = time.monotonic() + scene.seconds
    at_once(storm, STORMERS)


def slow_readers(scene: Scene) -> None:
    """Some clients are slow; no other client waits for them."""
    end = time.monotonic() + scene.seconds
    readers = [
        SlowReader(100 + number, scene.addresses, scene.board, end)
        for number in range(SLOW_READERS)
    ]
    for reader in readers:
        reader.join()


def kills(scene: Scene) -> None:
    """A backend dies and is started again on its port."""
    for _ in scene.ticks(1.0):
        number = scene.dice.randrange(len(scene.backends))
        scene.backends[number].child.kill()
        scene.backends[number].child.wait()
        time.sleep(0.5)  # refused meanwhile
        scene.start_backend(number)


def resets(scene: Scene) -> None:
    """Relays are reset, of one backend and of all."""
    for _ in scene.ticks(0.5):
        scene.ask("reset", *scene.dice.choice([scene.dice.choice(scene.keys), ()]))


def exhaustion(scene: Scene) -> None:
    """Descriptors run out, with clients that hold on to theirs."""
    _, held = holds(scene.engine.child.pid)
    scene.ask("nofile", held + 10)
    turns = scene.ask("stats")["turns"]
    hogs = []
    for _ in scene.ticks(0.1):
        with contextlib.suppress(OSError):
            hogs.append(socket.create_connection(scene.addresses[0], 1))
    turned = scene.ask("stats")["turns"] - turns
    if turned > scene.seconds * SPIN_A_SECOND:
        scene.board.failures.append(f"the loop spins: {turned} turns")
    for hog in hogs:
        hog.close()
    scene.ask("nofile", 0)
    time.sleep(0.5)


PHASES: list[tuple[Callable[[Scene], None], bool]] = [
    (applies, False),
    (drains, False),
    (stops, False),
    (storms, False),
    (slow_readers, False),
    (kills, True),
    (resets, True),
    (exhaustion, True),
]
