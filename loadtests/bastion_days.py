"""New users, a crowd, and an endpoint that dies: what is not measured in rounds.

`first`: users whom nobody has met, each over several connections at once; the cluster
counts what it is asked for.
`users`: a crowd asks for ten paths each at a fixed rate; then one ten times as large at
the same rate, twice: memory must not have grown from the one to the other.
`dead`: one of three pods is killed under load; requests without a right answer count.
"""

import dataclasses
import os
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from loadtests.bastion_contenders import OURS, OURS_SHARED
from loadtests.bastion_measure import WORKS, BastionGenerator, head, of_users
from loadtests.bastion_scene import MANY, WEB, Cluster
from loadtests.bench import say
from loadtests.contenders import Contender
from loadtests.measure import Work
from tests.fakes.reviewer import REVIEWS

if TYPE_CHECKING:
    from loadtests.bastion_bench import BastionBench

AT_ONCE = 8  # connections of a new user
FIRST_USERS = 100
CROWDS = (200, 2000, 2000)
PATHS = 10
CROWD_RATE = 1000.0  # requests a second, of all users together
CROWD_S = 12.0  # longer than an answer is remembered
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def run_first(bench: "BastionBench") -> list[dict[str, Any]]:
    """Let users come whom nobody has met."""
    found = []
    for name in _ours(bench):
        with ExitStack() as stack:
            _, places, cluster = bench.scene(stack)
            contender = bench.start(name, places, cluster, stack)
            users = 20 if bench.options.quick else FIRST_USERS
            found.append(_first(bench, contender, cluster, users))
        say(f"first: {found[-1]}")
    return found


def _ours(bench: "BastionBench") -> list[str]:
    """Only ours asks a cluster that counts."""
    return [n for n in bench.options.contenders if n in (OURS, OURS_SHARED)]


def _first(
    bench: "BastionBench", contender: Contender, cluster: Cluster, users: int
) -> dict[str, Any]:
    expected = bench.files.body("small").read_bytes()
    context = ssl.create_default_context(cafile=str(bench.files.authority))
    asked: list[dict[str, int]] = []
    late_ms, wrong = [], 0
    before_s = cpu_s(contender.pids)
    for user in range(users):
        counted = cluster.counts()
        with ExitStack() as stack:
            links = [
                stack.enter_context(_dial(contender.ports[0], context))
                for _ in range(AT_ONCE)
            ]
            begin = time.monotonic()
            for link in links:
                link.sendall(head(f"{WEB}/pods/web-0", f"user-{10**6 + user}-token"))
            bodies = [_body(link) for link in links]
            late_ms.append((time.monotonic() - begin) * 1e3)
            wrong += sum(body != expected for body in bodies)
        after = cluster.counts()
        asked.append({what: after[what] - counted[what] for what in REVIEWS})
    return {
        "contender": contender.name,
        "users": users,
        "at once": AT_ONCE,
        "wrong": wrong,
        "late_ms": [median(late_ms), max(late_ms)],
        "cpu_ms": (cpu_s(contender.pids) - before_s) / users * 1e3,
        **{
            what: [min(each[what] for each in asked), max(e[what] for e in asked)]
            for what in REVIEWS
        },
    }


def _dial(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    return context.wrap_socket(plain, server_hostname="localhost")


def _body(link: ssl.SSLSocket) -> bytes:
    """Read an answer whose body has the size that its head says."""
    got = b""
    while b"\r\n\r\n" not in got:
        if not (part := link.recv(65536)):
            return got
        got += part
    said, _, body = got.partition(b"\r\n\r\n")
    lines = said.decode().lower().splitlines()
    size = next(
        (int(line.split()[1]) for line in lines if line.startswith("content-length")), 0
    )
    while len(body) < size and (part := link.recv(65536)):
        body += part
    return body


def run_users(bench: "BastionBench") -> list[dict[str, Any]]:
    """Let crowds come."""
    found = []
    for name in _ours(bench):
        with ExitStack() as stack:
            generator, places, cluster = bench.scene(stack)
            contender = bench.start(name, places, cluster, stack)
            begin = memory(contender)
            for number, count in enumerate(CROWDS):
                entry = _crowd(bench, generator, contender, count, number)
                found.append({"contender": name, "begin": begin, **entry})
                say(f"users: {found[-1]}")
    return found


def _crowd(
    bench: "BastionBench",
    generator: BastionGenerator,
    contender: Contender,
    count: int,
    number: int,
) -> dict[str, Any]:
    seconds = 3.0 if bench.options.quick else CROWD_S
    work = of_users(count, PATHS, CROWD_RATE)
    # Every answer has been asked for once, or the start is what would be measured.
    warm_s = seconds + count / 200
    sample = generator.measure(work, contender, number, seconds, warm_s)
    return {
        "users": count,
        "rate": sample.rate,
        "errors": sample.errors,
        "cpu_us": sample.proxy_cpu * 1e6,
        "p50_us": sample.p50_us,
        "p99_us": sample.p99_us,
        "memory": memory(contender),
    }


def memory(contender: Contender) -> int:
    """Resident bytes of all processes of a contender."""
    total = 0
    for pid in contender.pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def cpu_s(pids: list[int]) -> float:
    """Seconds that processes have computed so far."""
    total = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(words[11]) + int(words[12])
    return total * TICK_S


def run_dead(bench: "BastionBench") -> list[dict[str, Any]]:
    """Kill one of three pods under load."""
    found = []
    for name in bench.options.contenders:
        with ExitStack() as stack:
            generator, places, cluster = bench.scene(stack)
            contender = bench.start(name, places, cluster, stack)
            with generator.aimed_at(MANY):
                found.append(_dead(bench, generator, contender, WORKS["get"]))
        say(f"dead: {found[-1]}")
    return found


def _dead(
    bench: "BastionBench",
    generator: BastionGenerator,
    contender: Contender,
    work: Work,
) -> dict[str, Any]:
    seconds = max(2.0, bench.options.seconds)
    few = dataclasses.replace(work, name="dead", connections=32)
    client = generator.start(few, contender.ports[0], contender.pids, 0.2, seconds)
    time.sleep(seconds / 2)
    bench.many[1].child.kill()  # the middle of its requests, and of its answers
    result = generator.result(client, seconds + 30)
    return {
        "contender": contender.name,
        "done": result["units"],
        "failed": result["lost"] + result["wrong"],
    }


RUNS = {"first": run_first, "users": run_users, "dead": run_dead}
