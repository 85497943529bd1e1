"""Processes in a control group of a test's own, for programs that hook connect(2)."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyproxy.capture.direct import cgroup_root
from tests.support.lab import ANSWER_S, Place
from tests.support.waiting import scaled

# Dials each address and says who answered, and whom the socket takes for its peer.
CLIENT = """
import json, socket, sys
said = []
wait, mapped, addresses = json.load(sys.stdin)
for host, port in addresses:
    family = socket.AF_INET6 if ":" in host or mapped else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(wait)
        try:
            client.connect(("::ffff:" + host if mapped else host, port))
            peer = client.getpeername()[:2]
            client.sendall(b"GET /hostname HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n")
            data = b""
            while piece := client.recv(1000):
                data += piece
            said.append([data.partition(b"\\r\\n\\r\\n")[2].decode(), *peer])
        except OSError as error:
            said.append([type(error).__name__, "", 0])
json.dump(said, sys.stdout)
"""


def obstacle() -> str:
    """Why there can be no control group here, or nothing."""
    try:
        where = cgroup_root()
        return "" if os.access(where, os.W_OK) else f"{where} is read-only"
    except OSError as error:
        return str(error)


@contextlib.contextmanager
def control_group() -> Iterator[Path]:
    """A control group, removed when its processes are gone."""
    path = cgroup_root() / f"pyproxy-test-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


@contextlib.contextmanager
def names(path: Path) -> Iterator[Path]:
    """A folder on which bpffs may be mounted; it is unmounted at the end."""
    path.mkdir()
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=False, capture_output=True)


def dial(
    place: Place,
    group: Path,
    addresses: Sequence[tuple[str, int]],
    *,
    mapped: bool = False,
    wait_s: float = ANSWER_S,
) -> list[tuple[str, str, int]]:
    """Dial from a process in the group: name of who answers, and peer of the socket."""

    def join() -> None:
        group.joinpath("cgroup.procs").write_text(str(os.getpid()))

    ask = json.dumps([scaled(wait_s), mapped, list(addresses)])
    done = subprocess.run(
        ["ip", "netns", "exec", place.ns.name, sys.executable, "-c", CLIENT],
        input=ask,
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled(60),
        preexec_fn=join,
    )
    said: list[Any] = json.loads(done.stdout)
    return [(name, host, port) for name, host, port in said]
