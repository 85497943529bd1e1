"""The whole balancer: what it knew before a restart, it knows after."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cluster import Cluster
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # processes start and end

STUBBORN = ("--rise=100", "--check-fast-interval=200ms")  # 20 s


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Servers and a client that trusts them."""
    return Cluster(tmp_path)


def address_of(server: Any) -> str:
    """`HOST:PORT` of a server in this process."""
    return f"{server.address.host}:{server.address.port}"


def write(path: Path, states: dict[str, str], age_s: float = 1.0) -> None:
    """What a balancer would have left behind."""
    moment = datetime.fromtimestamp(time.time() - age_s, UTC).isoformat()
    servers = [
        {"address": address, "state": state, "since": moment, "known": moment}
        for address, state in states.items()
    ]
    path.write_text(json.dumps({"version": 1, "servers": servers}))


def states_in(path: Path) -> dict[str, str]:
    """What a balancer left behind; nothing while there is no file."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    return {each["address"]: each["state"] for each in document["servers"]}


def test_server_that_was_known_dead_gets_no_client_after_the_restart(
    cluster: Cluster, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    with cluster.fake("a") as a, cluster.fake("b") as b:
        servers = [address_of(a), address_of(b)]
        write(state, {servers[0]: "UP", servers[1]: "DOWN", "10.9.9.9:1": "UP"})
        flags = (*STUBBORN, f"--state-file={state}", "--balance=round-robin")
        with cluster.balancer(*flags, servers=servers) as balancer:
            address = balancer.serving()
            said = balancer.wait_for_event("state file read")
            assert (said["servers"], said["hints"]) == (3, 0)
            assert {cluster.who(address) for _ in range(10)} == {"a"}
            assert balancer.states() == {servers[0]: "UP", servers[1]: "DOWN"}


def test_server_that_was_ready_is_not_waited_for(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Its probe takes a minute. Without the file nobody would be served until then.
    state = tmp_path / "state.json"
    with socket.create_server(("127.0.0.1", 0)) as slow:
        server = f"127.0.0.1:{slow.getsockname()[1]}"
        write(state, {server: "UP"})
        flags = ("--check-timeout=60s", f"--state-file={state}")
        with cluster.balancer(*flags, servers=[server]) as balancer:
            balancer.serving()
            assert balancer.states() == {server: "UP"}
            assert balancer.get("/readyz")[0] == 200


def test_old_knowledge_gives_way_to_the_first_probe(
    cluster: Cluster, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    with cluster.fake("a") as a:
        write(state, {address_of(a): "DOWN"}, age_s=3600)
        flags = (*STUBBORN, f"--state-file={state}")
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            address = balancer.serving()
            assert balancer.wait_for_event("state file read")["hints"] == 1
            assert balancer.states() == {address_of(a): "UP"}
            assert cluster.who(address) == "a"


def test_probes_correct_what_the_file_says(cluster: Cluster, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with cluster.fake("a") as a, cluster.fake("b") as b:
        servers = [address_of(a), address_of(b)]
        write(state, {servers[0]: "UP", servers[1]: "DOWN"})
        a.code = 500
        flags = (f"--state-file={state}",)
        with cluster.balancer(*flags, servers=servers) as balancer:
            balancer.serving()
            balancer.wait_for_states("DRAINING", "UP")
            wait_until(
                lambda: states_in(state) == {servers[0]: "DRAINING", servers[1]: "UP"},
                10,
                "the file, too",
            )


def test_last_state_is_written_at_the_end(cluster: Cluster, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with cluster.fake("a") as a:
        flags = (f"--state-file={state}",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            balancer.serving()
            a.code = 500
            balancer.wait_for_states("DRAINING")
            balancer.send(signal.SIGTERM)
            assert balancer.wait() == 0
        assert states_in(state) == {address_of(a): "DRAINING"}
        assert state.stat().st_mode & 0o777 == 0o600


@pytest.mark.adversity
def test_killed_balancer_leaves_what_it_knew(cluster: Cluster, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with cluster.fake("a") as a:
        servers = [address_of(a)]
        flags = (f"--state-file={state}",)
        with cluster.balancer(*flags, servers=servers) as balancer:
            balancer.serving()
            wait_until(lambda: states_in(state) == {servers[0]: "UP"}, 10)
            balancer.send(signal.SIGKILL)
            balancer.wait()
        a.code = 500
        with cluster.balancer(*flags, servers=servers) as balancer:
            balancer.serving()
            assert balancer.wait_for_event("state file read")["hints"] == 0


def test_balancer_that_could_not_start_leaves_the_file_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Another one may be running with it.
    state = tmp_path / "state.json"
    with cluster.fake("a") as a, cluster.fake("squatter") as squatter:
        write(state, {address_of(a): "DOWN"})
        before = state.read_bytes()
        flags = (f"--state-file={state}", f"--listen={address_of(squatter)}")
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            assert balancer.wait() == 1
        assert state.read_bytes() == before


@pytest.mark.adversity
def test_bad_file_is_said_and_the_balancer_serves(
    cluster: Cluster, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    state.write_bytes(os.urandom(100))
    with cluster.fake("a") as a:
        flags = (f"--state-file={state}",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            assert cluster.who(balancer.serving()) == "a"
            said = balancer.wait_for_event("state file not used")
            assert said["file"] == str(state)
            with contextlib.suppress(ValueError):
                wait_until(lambda: states_in(state) == {address_of(a): "UP"}, 10)
            balancer.send(signal.SIGTERM)
            assert balancer.wait() == 0


UNWRITABLE = {
    "directory": ("{dir}", "is a directory"),
    "nowhere": ("{dir}/no/state.json", "there is no directory {dir}/no"),
    "device": ("/dev/null", "is no regular file"),
    "kernel's": ("/proc/state.json", "cannot be written by this user: "),
}


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_file_that_can_never_be_written_refuses_the_start(
    cluster: Cluster, tmp_path: Path, kind: str
) -> None:
    path, why = (text.format(dir=tmp_path) for text in UNWRITABLE[kind])
    flags = (f"--state-file={path}",)
    with cluster.balancer(*flags, servers=["127.0.0.1:1"]) as balancer:
        assert balancer.wait() == 2
        assert "pyproxy: $.stateFile: " in balancer.stderr
        assert why in balancer.stderr


def test_file_that_can_never_be_written_refuses_a_reload(
    cluster: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "lb.json"
    file.write_text("{}")
    with cluster.fake("a") as a:
        flags = (f"--config={file}",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            balancer.serving()
            file.write_text(json.dumps({"stateFile": str(tmp_path / "no" / "x")}))
            balancer.send(signal.SIGHUP)
            event = balancer.wait_for_event("reload refused, nothing changed")
            assert "$.stateFile: there is no directory" in event["why"]


def test_reload_changes_where_it_is_written(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "lb.json"
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    with cluster.fake("a") as a:
        file.write_text(json.dumps({"stateFile": str(old)}))
        flags = (f"--config={file}",)
        with cluster.balancer(*flags, servers=[address_of(a)]) as balancer:
            balancer.serving()
            wait_until(old.exists, 10)
            for content, path in (({"stateFile": str(new)}, new), ({}, None)):
                file.write_text(json.dumps(content))
                count = len(balancer.events("configuration reloaded"))
                balancer.send(signal.SIGHUP)
                wait_until(
                    lambda count=count: (  # type: ignore[misc]
                        len(balancer.events("configuration reloaded")) > count
                    ),
                    10,
                )
                if path is not None:
                    wait_until(path.exists, 10)
            old.unlink()
            new.unlink()
            balancer.send(signal.SIGTERM)
            assert balancer.wait() == 0
        assert not old.exists()
        assert not new.exists()


def test_check_says_what_is_in_the_way_of_the_file(
    cluster: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "lb.json"
    pool = {"servers": [{"address": "127.0.0.1:1"}], "check": {"type": "tcp"}}
    state = str(tmp_path / "nowhere" / "state.json")
    made = {"listeners": [{"address": "127.0.0.1:0"}], "pools": [pool]}
    file.write_text(json.dumps({**made, "stateFile": state}))
    done = subprocess.run(
        [sys.executable, "-m", "pyproxy", "check", str(file)],
        capture_output=True,
        text=True,
        timeout=scaled(30),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert (
        f"{file}: $.stateFile: there is no directory {tmp_path}/nowhere" in done.stderr
    )
