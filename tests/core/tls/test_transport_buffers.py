"""OpenSSL's buffers: kept where bytes move, and nowhere else."""

import os
import statistics
from collections.abc import Iterator

import pytest

from fastpath.tls.context import ClientContext, ServerContext
from fastpath.tls.endpoint import Buffers, Transport
from tests.support.malloc import held_bytes, needs_malloc_that_tells
from tests.support.tls_tools import (
    Certificates,
    our_client,
    our_server,
    read,
    send,
    shake,
    spin,
    tcp_pair,
)

PLACES = 64  # BUFFERS_MOST
A_PAIR = 82_944  # bytes, and more: one buffer for reading, one for writing

Pair = tuple[Transport, Transport]


class Scene:
    """Connections between a worker of clients and a worker of servers, both ours."""

    def __init__(self, certificates: Certificates) -> None:
        self.client = ClientContext(certificates.client_tls())
        self.server = ServerContext(certificates.server_tls())
        self.clients, self.servers = Buffers(), Buffers()
        self.pairs: list[Pair] = []

    def connect(self, room: int = 0) -> Pair:
        """Make one more, and move a message each way."""
        one, other = tcp_pair(room)
        client = our_client(one, self.client, buffers=self.clients)
        server = our_server(other, self.server, buffers=self.servers)
        shake(client, server)
        self.pairs.append((client, server))
        talk(client, server)
        return client, server

    def crowd(self, count: int = PLACES) -> None:
        """Let as many others talk: the holders lose their buffers."""
        for _ in range(count):
            self.connect()


def talk(one: Transport, other: Transport) -> None:
    """Move a message each way."""
    assert send(one, other, b"request") == b"request"
    assert send(other, one, b"response") == b"response"


@pytest.fixture
def scene(certificates: Certificates) -> Iterator[Scene]:
    scene = Scene(certificates)
    yield scene
    for pair in scene.pairs:
        for end in pair:
            end.close()


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_last_who_talked_keep_buffers_and_all_others_hold_none(
    scene: Scene, role: str
) -> None:
    # OpenSSL made one for writing when it read a ticket, which a watch, that never
    # writes again, kept for good.
    needs_malloc_that_tells()
    idle = 30
    scene.crowd(idle + PLACES)
    freed = []
    for pair in scene.pairs:
        before = held_bytes()
        pair[role == "server"].close()
        freed.append(before - held_bytes())
    # Without the tenth at either end: Python allocates a little in between.
    most_idle = statistics.quantiles(freed[:idle], n=10)[-1]
    least_busy = statistics.quantiles(freed[idle:], n=10)[0]
    assert 4096 < most_idle < least_busy - 0.9 * A_PAIR


def test_closed_connections_leave_their_places(scene: Scene) -> None:
    # Memory of one that is gone would be touched when its place is given away.
    for _ in range(3):
        scene.crowd()
        while scene.pairs:
            for end in scene.pairs.pop():
                end.close()
    talk(*scene.connect())


def test_bytes_in_memory_outlive_the_loss_of_buffers(scene: Scene) -> None:
    # OpenSSL has decrypted a record of which a part was read.
    client, server = scene.connect()
    message = os.urandom(16_000)
    assert server.write(message) == len(message)
    got = read(client, 100)
    scene.crowd()
    while len(got) < len(message):
        got += read(client, 100)
    assert got == message
    talk(client, server)


def test_a_record_half_sent_outlives_the_loss_of_buffers(scene: Scene) -> None:
    client, server = scene.connect(room=4096)
    message = os.urandom(200_000)
    sent = 0
    while taken := client.write(message[sent:]):
        sent += taken
    scene.crowd()
    got = bytearray()

    def step() -> bool:
        nonlocal sent
        got.extend(server.read(1000) or b"")
        client.event()
        if sent < len(message):
            sent += client.write(message[sent:])
        return len(got) == len(message)

    spin(step, 30.0)
    assert bytes(got) == message
    talk(client, server)


def test_large_and_small_reads_take_turns(scene: Scene) -> None:
    # The buffer for reading changes its size where streams come in.
    client, server = scene.connect()
    for size in (100_000, 10, 300_000, 10, 16_384, 4096, 10):
        message = os.urandom(size)
        assert send(server, client, message) == message
        assert send(client, server, message) == message


def test_buffers_follow_the_recent_peak(certificates: Certificates) -> None:
    # Issue 11, 6: 128 busy connections had 64 places between them.
    needs_malloc_that_tells()
    scene = Scene(certificates)
    scene.clients, scene.servers = Buffers(300), Buffers(300)
    scene.crowd(200)
    for buffers in (scene.clients, scene.servers):
        buffers.age()  # all have been used
    held = held_bytes()
    for pair in scene.pairs[:50]:
        talk(*pair)
    assert abs(held_bytes() - held) < A_PAIR  # they have them still
    for buffers in (scene.clients, scene.servers):
        buffers.age()
    assert held - held_bytes() > 0.9 * 300 * A_PAIR
    for buffers in (scene.clients, scene.servers):
        buffers.age()
    assert held - held_bytes() > 0.9 * 400 * A_PAIR
    for pair in scene.pairs:
        talk(*pair)
        for end in pair:
            end.close()


@pytest.mark.parametrize("places", [1, 2, 17])
def test_few_places_serve_many_connections(
    certificates: Certificates, places: int
) -> None:
    scene = Scene(certificates)
    scene.clients, scene.servers = Buffers(places), Buffers(places)
    scene.crowd(20)
    for _ in range(3):
        for pair in scene.pairs:
            talk(*pair)
        scene.clients.age()
    for pair in scene.pairs[::2]:
        pair[0].close()
        pair[1].close()
    for pair in scene.pairs[1::2]:
        talk(*pair)
        pair[0].close()
        pair[1].close()
