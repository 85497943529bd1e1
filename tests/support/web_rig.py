"""HTTP through the core: an engine, answers to its questions, and raw peers.

The client and the upstream are plain sockets that the test reads and writes itself, so
that every byte and its moment are the test's to choose.
"""

import dataclasses
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from fastpath import Backend, Engine, Forward, Http, Pool, Reply, Table, Upstream, Vip
from fastpath.api.policy import Question
from fastpath.api.snapshot import HttpStats
from tests.support.servers import receive_exactly, send_reset
from tests.support.waiting import scaled, wait_until

AT = ("127.0.0.1", 0)
VIP = ("tcp", *AT)
Verdict = Forward | Reply
Decide = Callable[[Question], Verdict | None]


class Upstreams:
    """A listening socket; the test accepts and speaks for the upstream."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.socket.settimeout(scaled(5))
        self.address: tuple[str, int] = self.socket.getsockname()
        self.opened: list[Peer] = []

    def accept(self) -> "Peer":
        """The next connection of the proxy."""
        connection, _ = self.socket.accept()
        self.opened.append(Peer(connection))
        return self.opened[-1]

    def nobody_waits(self) -> bool:
        """Whether no connection is there to accept."""
        self.socket.settimeout(0.05)
        try:
            self.opened.append(Peer(self.socket.accept()[0]))
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(scaled(5))
        return False

    def close(self) -> None:
        """Close it, and all that were accepted."""
        self.socket.close()
        for peer in self.opened:
            peer.close()


class Peer:
    """One end of a connection that speaks HTTP by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(scaled(5))
        self.left = b""  # read already, of what comes next
        self.names: list[str] = []  # of all headers of the last head

    def say(self, *parts: bytes) -> None:
        """Send, each part by itself."""
        for part in parts:
            self.socket.sendall(part)

    def head(self) -> tuple[str, dict[str, str]]:
        """Read a head: first line, and headers by lower-case name (last one wins)."""
        while b"\r\n\r\n" not in self.left:
            more = self.socket.recv(65536)
            assert more, f"ended in a head: {self.left!r}"
            self.left += more
        head, _, self.left = self.left.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines]
        self.names = [name.lower() for name, _, _ in pairs]
        return first, {name.lower(): value for name, _, value in pairs}

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        if len(self.left) < size:
            self.left += receive_exactly(self.socket, size - len(self.left))
        got, self.left = self.left[:size], self.left[size:]
        return got

    def sized(self) -> tuple[str, bytes]:
        """Read a message with Content-Length: first line and body."""
        first, headers = self.head()
        return first, self.exactly(int(headers.get("content-length", "0")))

    def rest(self) -> bytes:
        """Read to the end. A reset raises ConnectionResetError."""
        while more := self.socket.recv(65536):
            self.left += more
        got, self.left = self.left, b""
        return got

    def silent(self) -> bool:
        """Whether nothing comes for a moment."""
        if self.left:
            return False
        self.socket.settimeout(0.05)
        try:
            self.left = self.socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(scaled(5))
        return False

    def ended(self) -> bool:
        """Whether the other side has ended, with a FIN or a reset."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True

    def end(self) -> None:
        """Half-close."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with an RST."""
        send_reset(self.socket)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def forward(_: Question) -> Verdict:
    """Send everything on, any upgrade included."""
    return Forward("up", upgrades=None)


class Web:
    """An engine with one vip that speaks HTTP, and one upstream by name `up`."""

    def __init__(
        self,
        decide: Decide = forward,
        *,
        ttl_s: float = 60.0,
        key: tuple[str, ...] = (),
        parts: tuple[str, ...] = (":method", ":host", ":path"),
        backends: list[tuple[str, int]] | None = None,
        vip: dict[str, Any] | None = None,
        pool: dict[str, Any] | None = None,
        uplink: dict[str, Any] | None = None,
        workers: int = 1,
        engine: dict[str, Any] | None = None,
        tag: Callable[[Question], str] = lambda _: "",
        label: Callable[[Question], int] = lambda _: 0,
        **http: Any,
    ) -> None:
        self.upstreams = Upstreams()
        self.asked: list[Question] = []
        self._decide, self._ttl_s, self.key, self._tag = decide, ttl_s, key, tag
        self._label = label
        self._clients: list[Peer] = []
        self.engine = Engine(workers=workers, **(engine or {}))
        wanted = backends if backends is not None else [self.upstreams.address]
        to = Pool([Backend(*where) for where in wanted], **(pool or {}))
        self.vip = Vip(*AT, "tcp", http=Http(key=parts, **http), **(vip or {}))
        self.upstream = Upstream("up", to, **(uplink or {}))
        self.engine.apply(Table([self.vip], [self.upstream]))
        self.address = self.engine.address(VIP)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while not self._stopping.wait(0.001):
            for question in self.engine.questions():
                self.asked.append(question)
                # Tests decide by more than their key says, to see what is shared.
                verdict = self._decide(question.aside)
                if verdict is not None:
                    self.engine.answer(
                        question,
                        verdict,
                        ttl_s=self._ttl_s,
                        key=self.key,
                        tag=self._tag(question.aside),
                        label=self._label(question.aside),
                    )

    def changed_upstream(self) -> Upstream:
        """The upstream with another setting, under the same name."""
        return dataclasses.replace(self.upstream, keepalive=7)

    def question(self) -> Question:
        """The last question, once there is one."""
        return wait_until(lambda: self.asked[-1:], what="a question")[0]

    def refuse(self, status: int) -> Verdict:
        """Say a word of refusal."""
        return Reply(status, b"no")

    def client(self, *parts: bytes) -> Peer:
        """A new client, which says `parts` at once."""
        connection = socket.create_connection(self.address, timeout=scaled(5))
        self._clients.append(Peer(connection))
        self._clients[-1].say(*parts)
        return self._clients[-1]

    def exchange(self, request: bytes, response: bytes) -> tuple[Peer, Peer]:
        """One whole exchange with bodiless messages: (client, upstream)."""
        client = self.client(request)
        upstream = self.upstreams.accept()
        upstream.head()
        upstream.say(response)
        client.sized()
        return client, upstream

    @property
    def stats(self) -> HttpStats:
        """Counters of the vip's HTTP."""
        return self.engine.stats().http[VIP]

    def wait_dropped(self, reason: str, count: int = 1) -> None:
        """Wait until so many clients ended for this reason."""
        wait_until(
            lambda: self.engine.stats().vips[VIP].closed[reason] == count,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        for client in self._clients:
            client.close()
        self.upstreams.close()
        self.engine.close()
