"""Sockets pass from one process to the next over a unix socket."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy.errors import StartError
from pyproxy.handover import PER_MESSAGE, SERVING, Handover, Predecessor
from pyproxy.model import Pool, Protocol, Vip
from pyproxy.passing import Passed, listen
from tests.support.servers import free_port
from tests.support.waiting import scaled

Named = tuple[tuple[str, int], socket.socket]


@pytest.fixture
def passed() -> Iterator[Passed]:
    """It is closed in the end."""
    made = Passed()
    yield made
    made.close_all()


class Giver:
    """A process that runs and waits for a successor."""

    def __init__(self, path: Path, sockets: list[Named]) -> None:
        self.taken = asyncio.Event()
        self.handover = Handover(str(path), lambda: sockets, self.taken.set)


async def asked(path: Path) -> Predecessor | None:
    """Ask, as a process that starts does."""
    return await asyncio.to_thread(Predecessor.ask, str(path))


async def taken(giver: Giver) -> None:
    """Wait until the giver knows that it is followed."""
    await asyncio.wait_for(giver.taken.wait(), scaled(5))


def close(sockets: list[Named]) -> None:
    """Close them."""
    for _, each in sockets:
        each.close()


def test_listen_refuses_a_second_process_and_shares_among_its_own() -> None:
    sockets = listen("127.0.0.1", 0, 3)
    ports = {each.getsockname()[1] for each in sockets}
    (port,) = ports
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", other.getsockname()[1], 2)
    for each in sockets:
        each.close()


async def test_successor_listens_where_the_other_did(tmp_path: Path) -> None:
    path, port = tmp_path / "socket", free_port()
    own: list[Named] = [(("127.0.0.1", port), e) for e in listen("127.0.0.1", port, 2)]
    giver = Giver(path, own)
    giver.handover.open()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        predecessor = await asked(path)
        assert predecessor is not None
        assert [key for key, _ in predecessor.sockets] == [("127.0.0.1", port)] * 2
        close(own)  # its own; the queue goes on
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted = [s for _, s in predecessor.sockets if takes(s)]
            assert len(accepted) == 1
            client.close()
        assert not giver.taken.is_set()
        predecessor.say_serving()
        await taken(giver)
        close(predecessor.sockets)
    finally:
        await giver.handover.close()


def takes(listener: socket.socket) -> bool:
    """Whether there is a client in its queue."""
    listener.setblocking(False)
    try:
        client, _ = listener.accept()
    except BlockingIOError:
        return False
    client.close()
    return True


async def test_more_sockets_than_a_message_holds_all_pass(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    one = listen("127.0.0.1", 0)[0]
    own: list[Named] = [((f"h{n}", n), one) for n in range(2 * PER_MESSAGE + 1)]
    giver = Giver(path, own)
    giver.handover.open()
    try:
        predecessor = await asked(path)
        assert predecessor is not None
        assert [key for key, _ in predecessor.sockets] == [key for key, _ in own]
        predecessor.close()
        close(predecessor.sockets)
    finally:
        await giver.handover.close()
        one.close()


@pytest.mark.parametrize("said", [b"", b"sorry"])
async def test_successor_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, said: bytes
) -> None:
    path = tmp_path / "socket"
    giver = Giver(path, [])
    giver.handover.open()
    try:
        first = await asked(path)
        assert first is not None
        if said:
            first._connection.send(said)
        first.close()
        second = await asked(path)  # it waits for another one
        assert second is not None
        assert not giver.taken.is_set()
        second.say_serving()
        await taken(giver)
    finally:
        await giver.handover.close()


async def test_name_belongs_to_the_newest_and_the_older_leaves_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "socket"
    old, new = Giver(path, []), Giver(path, [])
    old.handover.open()
    new.handover.open()
    await old.handover.close()
    predecessor = await asked(path)
    assert predecessor is not None
    predecessor.say_serving()
    await taken(new)
    await new.handover.close()
    assert os.listdir(tmp_path) == []


async def test_nobody_there_is_no_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert await asked(path) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))  # its process has ended
    assert await asked(path) is None
    giver = Giver(path, [])
    giver.handover.open()  # takes the name that was left
    await giver.handover.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "it hung up"),
        (b"[]", "array"),
        (b'{"sockets": [["127.0.0.1", 1]]}', "sockets are missing"),
        (b'{"sockets": [["a"]]}', "length 2"),
        (b"\xff", "malformed"),
    ],
)
def test_answer_that_makes_no_sense_ends_the_start(
    tmp_path: Path, answer: bytes, why: str
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as liar:
        liar.bind(str(path))
        liar.listen()

        def lie() -> None:
            connection, _ = liar.accept()
            with connection:
                if answer:
                    connection.send(answer)

        thread = threading.Thread(target=lie)
        thread.start()
        with pytest.raises(StartError, match=f"no sockets from .*{why}"):
            Predecessor.ask(str(path))
        thread.join()


async def test_strangers_get_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyproxy.handover.is_trusted", lambda connection: False)
    giver = Giver(tmp_path / "socket", [])
    giver.handover.open()
    try:
        with pytest.raises(StartError, match="it hung up"):
            await asked(tmp_path / "socket")
    finally:
        await giver.handover.close()


async def test_place_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    giver = Giver(tmp_path / "no" / "socket", [])
    with pytest.raises(StartError, match="cannot wait for a successor at"):
        giver.handover.open()
    await giver.handover.close()
    assert SERVING  # what a successor says is never empty: that means it failed


def test_sockets_that_nobody_wants_are_closed(passed: Passed) -> None:
    port, other = free_port(), free_port()
    passed.expect((("127.0.0.1", p), listen("127.0.0.1", p)[0]) for p in (port, other))
    (mine,) = passed.listen("127.0.0.1", port)
    passed.forget_rest()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", other))
    assert [key for key, _ in passed.all()] == [("127.0.0.1", port)]
    mine.close()
    assert passed.all() == []


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_vips_take_what_came_before_they_open_their_own(
    passed: Passed, protocol: Protocol
) -> None:
    vip = Vip("127.0.0.1", free_port(), Pool("p", ()), protocol=protocol)
    before = listen(vip.host, vip.port, 2, protocol)
    inodes = {os.fstat(each.fileno()).st_ino for each in before}
    # A socket of the other protocol has the same address, and is not taken for it.
    other: Protocol = "udp" if protocol == "tcp" else "tcp"
    strangers = listen(vip.host, vip.port, 1, other)
    passed.expect((vip.key[1:], each) for each in [*strangers, *before])
    passed.open(vip, 4)
    assert {os.fstat(s.fileno()).st_ino for s in passed.of_vips[vip.key]} == inodes
    assert len(passed.all()) == 2
    passed.close(vip.key)
    passed.open(vip, 4)
    assert len(passed.of_vips[vip.key]) == 4
    with pytest.raises(OSError, match="in use"):
        listen(vip.host, vip.port, 1, protocol)
