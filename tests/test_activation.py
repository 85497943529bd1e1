"""What systemd passes, read from the environment and looked at: sd_listen_fds(3)."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy import activation
from pyproxy.activation import VARIABLES, Sockets

AT = 500  # where these tests pass descriptors: 3 is somebody else's here


@contextlib.contextmanager
def passed(*given: int) -> Iterator[None]:
    """Put duplicates where `Sockets.take` looks; close what it leaves."""
    for number, fd in enumerate(given, AT):
        os.dup2(fd, number)
    yield
    for number in range(AT, AT + len(given)):
        with contextlib.suppress(OSError):
            os.close(number)


@pytest.fixture(autouse=True)
def _passed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "FIRST", AT)


def environment(count: object, names: str = "", pid: object = None) -> dict[str, str]:
    """As systemd sets it."""
    return {
        "LISTEN_PID": str(os.getpid() if pid is None else pid),
        "LISTEN_FDS": str(count),
        "LISTEN_FDNAMES": names,
        "PATH": "/bin",
    }


def is_open(fd: int) -> bool:
    """Whether somebody has it."""
    return os.path.exists(f"/proc/self/fd/{fd}")


@contextlib.contextmanager
def server(host: str = "127.0.0.1") -> Iterator[tuple[int, tuple[str, int]]]:
    """A listening socket: descriptor and address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as made:
        yield made.fileno(), made.getsockname()[:2]


def test_sockets_are_found_by_their_addresses() -> None:
    with server() as (one, first), server("::1") as (six, sixth), passed(one, six, one):
        said = environment(3)
        sockets = Sockets.take(said)
        assert sockets.by_key == {first: [AT, AT + 2], sixth: [AT + 1]}
        assert not os.get_inheritable(AT)
        assert said == {"PATH": "/bin"}
        sockets.close()
        assert not any(is_open(fd) for fd in range(AT, AT + 3))
        assert sockets.by_key == {}
        sockets.close()


def test_what_no_listener_wants_is_one_warning_and_closed(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with (
        server() as (wanted, key),
        server() as (other, another),
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        socket.socket() as deaf,
        socket.socket(socket.AF_UNIX) as local,
        (tmp_path / "file").open("w") as file,
    ):
        datagrams.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        more = (each.fileno() for each in (datagrams, deaf, local, file))
        with passed(wanted, other, *more):
            sockets = Sockets.take(environment(6, "api:old:dns:deaf::log"))
            sockets.keep([key])
            assert sockets.by_key == {key: [AT]}
            assert [fd for fd in range(AT, AT + 6) if is_open(fd)] == [AT]
            sockets.close()
    (said,) = (vars(record) for record in caplog.records)
    assert said["message"] == "no listener for passed sockets"
    assert said["what"] == (
        f"old (127.0.0.1:{another[1]}),"
        f" dns (127.0.0.1:{datagrams_port(said['what'])}, not TCP),"
        f" deaf (127.0.0.1:{deaf_port(said['what'])}, not listening),"
        f" descriptor {AT + 4} (not of the internet),"
        " log (no socket)"
    )


def datagrams_port(what: str) -> str:
    """The port in `dns (127.0.0.1:PORT`."""
    return what.partition("dns (127.0.0.1:")[2].partition(",")[0]


def deaf_port(what: str) -> str:
    """The port in `deaf (127.0.0.1:PORT`."""
    return what.partition("deaf (127.0.0.1:")[2].partition(",")[0]


@pytest.mark.parametrize("pid", [1, "", "x"])
def test_sockets_for_another_process_are_not_touched(
    pid: object, caplog: pytest.LogCaptureFixture
) -> None:
    # A parent that did not remove the variables: the descriptors may be anything.
    with server() as (fd, _), passed(fd):
        said = environment(1, pid=pid)
        sockets = Sockets.take(said)
        sockets.close()
        assert sockets.by_key == {}
        assert is_open(AT)
        assert os.get_inheritable(AT)
    assert not said.keys() & set(VARIABLES)
    assert "passed sockets are for another process" in caplog.text


@pytest.mark.parametrize("count", ["x", "-1", "1.5", "²", "1e3"])
def test_number_that_is_none_is_said(
    count: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert Sockets.take(environment(count)).by_key == {}
    assert "passed sockets not understood" in caplog.text


@pytest.mark.parametrize("count", [2, 10**9])
def test_number_that_is_too_large_takes_what_there_is(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    with server() as (fd, key), passed(fd):
        sockets = Sockets.take(environment(count))
        assert sockets.by_key == {key: [AT]}
        sockets.close()
    assert "passed sockets are missing" in caplog.text


@pytest.mark.parametrize("said", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": ""}])
def test_without_sockets_nothing_is_said(
    said: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    sockets = Sockets.take(said)
    sockets.keep([])
    assert (said, sockets.by_key) == ({}, {})
    assert not caplog.records
