"""Clients of a Service on a node, by TCP and UDP, while its endpoints come and go.

Run by `make load MODE=kube-proxy`; alone: `locust -f` this file. Each answer must be
what was asked for. Failures beyond `--most-errors`, a kind of user that did nothing, or
endpoints that all lived on make the exit code 1.

Without `--host` it starts its own scene (load_node.py), in which an endpoint stops
listening every few seconds, a while before the cluster says so: a client that is told
so, or waits for nobody, is a failure. With `--host=http://HOST:PORT --udp=HOST:PORT`
endpoints must answer as tests/fakes/netexec.py does, or as agnhost's netexec.
"""

import http.client
import random
import socket
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from locust import User, between, events, task
from locust.env import Environment

from loadtests.load_parts import Waves, started

Address = tuple[str, int]

SLOW_S = 10.0  # for one answer
UDP_TRIES, UDP_S = 3, 1.0  # as resolvers do: a datagram may be lost
KEPT = 10  # requests of a connection
FEWEST = 8  # users: with fewer some kinds would be missing


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Tell locust what this file can be told."""
    add = partial(parser.add_argument, include_in_web_ui=True)
    add("--udp", default="", help="HOST:PORT of the Service's datagrams")


@events.init.add_listener
def start_scene(environment: Environment, **_: Any) -> None:
    """Start what is loaded, if nobody has said what."""
    scene = started("loadtests.load_node", environment)
    if scene is None:
        return
    options = environment.parsed_options
    assert options is not None
    environment.host = options.host = scene.found["host"]
    options.udp = scene.found["udp"]
    gone = Path(scene.found["gone"])
    events.quitting.add_listener(partial(judge_deaths, gone))


def judge_deaths(gone: Path, environment: Environment, **_: Any) -> None:
    """Let a run in which nobody died not pass for one in which somebody did."""
    count = len(gone.read_text().splitlines()) if gone.exists() else 0
    print(f"load: endpoints that stopped listening: {count}")
    if not count:
        environment.process_exit_code = 1


def address(text: str) -> Address:
    """Return HOST:PORT, or a URL of it."""
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    return host, int(port)


class Client(User):
    """Somebody on the node; each answer is compared with what was asked for."""

    abstract = True
    wait_time = between(0.02, 0.2)

    def timed(self, kind: str, name: str, work: Callable[[], int]) -> None:
        """Tell locust of one piece of work, which returns bytes or fails."""
        begin, failed, size = time.perf_counter(), None, 0
        try:
            size = work()
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = error
        self.environment.events.request.fire(
            request_type=kind,
            name=f"{type(self).__name__}: {name}",
            response_time=(time.perf_counter() - begin) * 1e3,
            response_length=size,
            exception=failed,
            context={},
        )

    @property
    def tcp(self) -> Address:
        """Where HTTP is served."""
        assert self.environment.host is not None
        return address(self.environment.host)

    @property
    def udp(self) -> Address:
        """Where datagrams are answered."""
        assert self.environment.parsed_options is not None
        return address(self.environment.parsed_options.udp)


def ask(connection: http.client.HTTPConnection) -> int:
    """Ask for something that nobody else asks for. Raise where it is not the answer."""
    word = f"{random.randrange(10**9)}"
    connection.request("GET", f"/echo?msg={word}")
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or body.decode() != word:
        raise ValueError(f"{answer.status}, not what was asked for")
    return len(body)


class Caller(Client):
    """A connection for each request."""

    weight = 4

    @task
    def call(self) -> None:
        """Connect, ask, close."""

        def work() -> int:
            with closing(http.client.HTTPConnection(*self.tcp, SLOW_S)) as connection:
                return ask(connection)

        self.timed("TCP", "one request", work)


class Keeper(Client):
    """Keeps its connection, and dials anew where it has ended between requests."""

    weight = 2
    wait_time = between(0.1, 0.5)

    @task
    def call(self) -> None:
        """Ask ten times."""
        with closing(http.client.HTTPConnection(*self.tcp, SLOW_S)) as connection:
            for _ in range(KEPT):
                self.timed("TCP", "kept", partial(self._ask, connection))

    @staticmethod
    def _ask(connection: http.client.HTTPConnection) -> int:
        try:
            return ask(connection)
        except (ConnectionError, http.client.HTTPException):
            if connection.sock is None:
                raise  # it was a new one
            connection.close()  # as browsers do with a kept one
            return ask(connection)


def question(client: socket.socket) -> int:
    """Ask until it is answered. Raise TimeoutError, or what the kernel says."""
    word = f"{random.randrange(10**9)}".encode()
    client.settimeout(UDP_S)
    for _ in range(UDP_TRIES):
        client.send(b"echo " + word)
        try:
            while client.recv(100) != word:
                pass  # the answer to an earlier try
        except TimeoutError:
            continue
        return len(word)
    raise TimeoutError("no answer")


class Asker(Client):
    """A socket for each question, as resolvers do."""

    weight = 4

    @task
    def ask(self) -> None:
        """Ask, once more where there is no answer."""

        def work() -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(self.udp)
                return question(client)

        self.timed("UDP", "one question", work)


class Chatter(Client):
    """One flow for many datagrams: it moves on when its endpoint has gone."""

    weight = 2

    def on_start(self) -> None:
        """Open the socket."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(self.udp)

    def on_stop(self) -> None:
        """Close it."""
        self._socket.close()

    @task
    def ask(self) -> None:
        """Ask by the same socket."""
        self.timed("UDP", "one flow", partial(question, self._socket))


class Shape(Waves):
    """In waves, or steady."""

    abstract = False
    fewest = FEWEST
