"""Endpoints of a Service that die under load: no idempotent request fails."""

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.bastion import Bastion, ask, bastion, own_address
from tests.fakes.bastion_cluster import NAMESPACE, Call, make_service
from tests.fakes.process import Program
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/many/proxy/x"
ENDPOINTS, CLIENTS, REQUESTS = 4, 8, 150
TAKES_S = 0.004  # an answer; so that some are under way whenever an endpoint dies


@contextlib.contextmanager
def endpoints(directory: Path, call: Call) -> Iterator[dict[bytes, Program]]:
    """Run endpoints of the Service `many`; each has a port, so a slice, of its own."""
    with contextlib.ExitStack() as stack:
        found = {}
        for number in range(ENDPOINTS):
            module, host = "tests.fakes.endpoint", own_address()
            program = Program(directory / str(number), module, host, str(TAKES_S))
            stack.enter_context(program).wait_for("\n")
            port = int(program.stdout)
            if number == 0:
                make_service(call, "many", [("", 80, port)], "web-0", host)
            else:
                call("POST", SLICES, slice_of(number, port, host))
            found[str(program.pid).encode()] = program
        yield found


SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


def slice_of(number: int, port: int, host: str) -> dict[str, object]:
    """Another slice of it."""
    labels = {"kubernetes.io/service-name": "many"}
    ref = {"kind": "Pod", "namespace": NAMESPACE, "name": "web-0"}
    return {
        "metadata": {"name": f"many-more-{number}", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "targetRef": ref}],
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
    }


def ask_and_kill(
    program: Bastion, alive: Mapping[bytes, Program], victims: Sequence[bytes]
) -> list[tuple[int, bytes]]:
    """Send GETs over kept connections, kill endpoints meanwhile; return the answers."""
    done: list[tuple[int, bytes]] = []

    def client(_: int) -> None:
        with program.dial() as connection:
            for _ in range(REQUESTS):
                answer = ask(connection, SERVICE)
                done.append((answer.status, answer.body))

    with ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(client, number) for number in range(CLIENTS)]
        for part, pid in enumerate(victims, 1):
            at = part * CLIENTS * REQUESTS // (ENDPOINTS + 1)
            wait_until(partial(reached, done, at), 60.0, "load")
            alive[pid].send(signal.SIGKILL)
        for each in running:
            each.result()
    return done


def reached(done: Sequence[object], count: int) -> bool:
    """Whether so many were answered."""
    return len(done) >= count


def test_endpoints_that_are_killed_under_load_fail_no_get(tmp_path: Path) -> None:
    with (
        bastion(tmp_path / "rig") as (program, _, call),
        endpoints(tmp_path / "endpoints", call) as alive,
    ):
        wait_until(lambda: program.ask(SERVICE).body in alive, 20.0, "it is known")
        victims = list(alive)[: ENDPOINTS - 1]
        done = ask_and_kill(program, alive, victims)
        assert len(done) == CLIENTS * REQUESTS >= 500
        assert {status for status, _ in done} == {200}
        assert {pid for _, pid in done} == set(alive)  # all had their part
        assert {pid for _, pid in done[-50:]} == set(alive) - set(victims)
        replays = [
            float(line.rpartition(" ")[2])
            for line in program.admin("/metrics")[1].splitlines()
            if line.startswith("pyproxy_http_replays_total{")
        ]
        assert len(replays) == 2
        assert sum(replays) > 0
