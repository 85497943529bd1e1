"""The state file: what is written, what is believed, and what is not."""

import asyncio
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyproxy.discovery import memory
from pyproxy.discovery.memory import (
    FRESH_S,
    StateFile,
    StateFileError,
    decode,
    encode,
    obstacles,
)
from pyproxy.model import Key, State
from pyproxy.probe import Pace, ProbeState, Target, Watched
from tests.fakes.patience import until

pytestmark = pytest.mark.live

if TYPE_CHECKING:
    from pyproxy.discovery.sync import Sync

A, B, SIX = ("10.0.0.1", 6443), ("10.0.0.2", 6443), ("2001:db8::1", 6443)
NOW = 1_800_000_000.0


def watched(key: Key, state: State, since_s: float, known_s: float) -> Watched:
    """A backend as the checker keeps it."""
    made = Watched(Target(key, key[0], "tcp", 1.0), Pace(), ProbeState(2, 3))
    made.state.state = state
    made.since_s, made.known_s = since_s, known_s
    return made


def world(**states: State) -> dict[Key, Watched]:
    """Backends that were just probed."""
    keys = {"a": A, "b": B, "six": SIX}
    return {
        keys[name]: watched(keys[name], state, NOW - 60, NOW - 1)
        for name, state in states.items()
    }


def names_in(folder: Path) -> list[str]:
    """Everything below."""
    return sorted(path.name for path in folder.rglob("*"))


def document(**fields: Any) -> bytes:
    """A file with one server."""
    server = {
        "address": "10.0.0.1:6443",
        "state": "UP",
        "since": "2027-01-15T07:00:00Z",
        "known": "2027-01-15T07:59:59Z",  # a second before NOW
        **fields,
    }
    return json.dumps({"version": 1, "servers": [server]}).encode()


def test_what_was_known_comes_back() -> None:
    before = world(a=State.UP, b=State.DOWN, six=State.DRAINING)
    found = decode(encode(before), NOW)
    assert {key: each.state for key, each in found.items()} == {
        A: State.UP,
        B: State.DOWN,
        SIX: State.DRAINING,
    }
    for each in found.values():
        assert (each.since_s, each.known_s, each.hint) == (NOW - 60, NOW - 1, False)


def test_what_was_never_known_is_not_written() -> None:
    assert decode(encode(world(a=State.UNCHECKED)), NOW) == {}


@pytest.mark.parametrize(
    ("age_s", "hint"),
    [(0, False), (FRESH_S, False), (FRESH_S + 1, True), (-1, True), (1e9, True)],
)
def test_old_knowledge_and_that_of_the_future_are_hints(
    age_s: float, hint: bool
) -> None:
    made = {A: watched(A, State.UP, NOW - 1e9, NOW - age_s)}
    assert decode(encode(made), NOW)[A].hint is hint


def test_state_cannot_have_begun_in_the_future() -> None:
    assert decode(document(since="2099-01-01T00:00:00Z"), NOW)[A].since_s == NOW


def test_fields_of_a_newer_program_are_passed_over() -> None:
    assert decode(document(weight=3), NOW)[A].state is State.UP


GARBAGE = [
    ("empty", b""),
    ("cut off", document()[:-9]),
    ("no text", b"\xff\xfe\0"),
    ("zeros", bytes(4096)),
    ("another program's", b'{"pools": []}'),
    ("a list", b"[1]"),
    ("deep", b"[" * 100_000),
    ("deep inside", b'{"version": 1, "x": ' + b"[" * 100_000),
    ("state", document(state="HAPPY")),
    ("address", document(address="10.0.0.1")),
    ("time", document(known="yesterday")),
    ("time without a zone", document(known="2027-01-15T07:59:59")),
    ("number for a time", document(known=1e999)),
]


@pytest.mark.parametrize(
    "content", [row[1] for row in GARBAGE], ids=[row[0] for row in GARBAGE]
)
def test_garbage_is_none_of_ours(content: bytes) -> None:
    with pytest.raises(StateFileError, match="not a state file"):
        decode(content, NOW)


def test_other_version_is_said() -> None:
    with pytest.raises(StateFileError, match="it has version 2, this is 1"):
        decode(b'{"version": 2, "servers": "another shape"}', NOW)


async def test_file_is_ours_alone_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    (tmp_path / "state.json.new").write_bytes(b"of a process that was killed")
    await StateFile(str(path)).save(world(a=State.UP))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["state.json"]
    assert decode(path.read_bytes(), NOW)[A].state is State.UP


async def test_file_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    # A reader meanwhile gets the old one, whole.
    path = tmp_path / "state.json"
    file = StateFile(str(path))
    await file.save(world(a=State.UP))
    with path.open("rb") as reader:
        await file.save(world(a=State.DOWN))
        assert decode(reader.read(), NOW)[A].state is State.UP
    assert decode(path.read_bytes(), NOW)[A].state is State.DOWN


async def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "precious", tmp_path / "state.json"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    (tmp_path / "state.json.new").symlink_to(target)
    await StateFile(str(link)).save(world(a=State.UP))
    assert target.read_bytes() == b"precious"
    assert not link.is_symlink()


def missing(folder: Path) -> Path:
    """No such directory."""
    return folder / "nowhere" / "state.json"


def folder_itself(folder: Path) -> Path:
    """A directory where the file should be."""
    made = folder / "state.json"
    made.mkdir()
    return made


def read_only(folder: Path) -> Path:
    """Where not even root can make a file."""
    return Path("/proc/state.json")


def null(folder: Path) -> Path:
    """A name that no file can have."""
    return folder / "a\0b"


PLACES = [missing, folder_itself, read_only, null]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_file_that_cannot_be_written_is_one_line_and_no_error(
    place: Callable[[Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = StateFile(str(place(tmp_path)))
    before = names_in(tmp_path)
    for _ in range(3):
        await file.save(world(a=State.UP))
    assert [record.message for record in caplog.records] == ["state file not written"]
    assert names_in(tmp_path) == before


async def test_trouble_that_comes_back_is_said_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "later" / "state.json"
    file = StateFile(str(path))
    await file.save(world(a=State.UP))
    path.parent.mkdir()
    await file.save(world(a=State.UP))
    assert path.exists()
    path.unlink()
    path.parent.rmdir()
    await file.save(world(a=State.UP))
    assert caplog.text.count("state file not written") == 2


def garbage(path: Path) -> None:
    """No JSON."""
    path.write_bytes(b"{")


def pipe(path: Path) -> None:
    """A named pipe: opening it would wait for ever."""
    os.mkfifo(path)


def huge(path: Path) -> None:
    """Sparse, and larger than any state."""
    with path.open("wb") as file:
        file.truncate(memory.MOST_BYTES + 1)


@pytest.mark.parametrize("make", [garbage, Path.mkdir, pipe, huge])
def test_file_that_cannot_be_used_is_one_line_and_a_normal_start(
    make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    make(path)
    assert StateFile(str(path)).read() == {}
    assert [record.message for record in caplog.records] == ["state file not used"]


def test_first_start_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert StateFile(str(tmp_path / "state.json")).read() == {}
    assert not caplog.records


async def test_without_a_path_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    file = StateFile(None)
    assert file.read() == {}
    await file.save(world(a=State.UP))
    assert not caplog.records


def test_what_was_read_is_said_with_its_age(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "state.json"
    made = world(a=State.UP)
    made[B] = watched(B, State.DOWN, NOW - 9999, NOW - 999)
    path.write_bytes(encode(made))
    assert StateFile(str(path), lambda: NOW).read().keys() == {A, B}
    (said,) = (vars(record) for record in caplog.records)
    assert (said["message"], said["servers"], said["hints"]) == (
        "state file read",
        2,
        1,
    )


class FakeSync:
    """What `follow` looks at."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.watched = world(a=State.UP)


async def test_changes_are_written_together_and_quiet_times_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "DEBOUNCE_S", 0.05)
    path = tmp_path / "state.json"
    file, sync = StateFile(str(path)), FakeSync()
    task = asyncio.ensure_future(file.follow(cast("Sync", sync)))
    sync.changed.set()
    await asyncio.sleep(0)
    sync.watched = world(a=State.DOWN)  # within the pause: one write has both
    await task
    assert decode(path.read_bytes(), NOW)[A].state is State.DOWN
    assert not sync.changed.is_set()
    path.unlink()
    monkeypatch.setattr(memory, "REFRESH_S", 0.05)
    task = asyncio.ensure_future(file.follow(cast("Sync", sync)))
    await until(path.exists)
    await task


def test_obstacles_are_named_before_the_start(tmp_path: Path) -> None:
    assert obstacles(str(tmp_path / "state.json")) == []
    assert obstacles("state.json") == []
    assert obstacles(str(tmp_path)) == [f"{tmp_path} is a directory"]
    (why,) = obstacles(str(missing(tmp_path)))
    assert why == f"there is no directory {tmp_path}/nowhere"
