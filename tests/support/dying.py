"""Backends that die, each in a way of its own."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

from tests.support.servers import ScriptedServer, send_reset
from tests.support.web_rig import Peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[[socket.socket], None]


def answers(connection: socket.socket) -> None:
    """What a healthy one does."""
    with contextlib.suppress(OSError, AssertionError):
        peer = Peer(connection)
        while True:
            peer.sized()
            peer.say(OK)


def resets_unread(connection: socket.socket) -> None:
    """Before it reads."""
    send_reset(connection)


def resets_after_head(connection: socket.socket) -> None:
    """With the body unread."""
    Peer(connection).head()
    send_reset(connection)


def resets_after_body(connection: socket.socket) -> None:
    """When it has all of the request."""
    Peer(connection).sized()
    send_reset(connection)


def ends_unread(connection: socket.socket) -> None:
    """By close(2), with bytes of the request unread or not there yet."""


def ends_after_body(connection: socket.socket) -> None:
    """With a FIN."""
    Peer(connection).sized()


def resets_in_handshake(connection: socket.socket) -> None:
    """Behind the first bytes of a ClientHello."""
    connection.recv(16)
    send_reset(connection)


DEATHS = [
    resets_unread,
    resets_after_head,
    resets_after_body,
    ends_unread,
    ends_after_body,
]


def named(serve: Serve) -> str:
    """For the name of a test."""
    return serve.__name__


def forgiving(serve: Serve) -> Serve:
    """A server whose client may be gone before it."""

    def run(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, AssertionError):
            serve(connection)

    return run


def secured(context: ssl.SSLContext, serve: Serve, *, abrupt: bool) -> Serve:
    """The same over TLS; `abrupt`: it ends the socket, with no word of TLS."""

    def run(connection: socket.socket) -> None:
        inner = context.wrap_socket(connection, server_side=True)
        try:
            serve(inner)
        finally:
            if not abrupt:
                with contextlib.suppress(OSError, ValueError):  # reset already
                    inner.unwrap()
            inner.close()

    return run


@contextlib.contextmanager
def pool_of(*serves: Serve) -> Iterator[list[ScriptedServer]]:
    """Servers that do these."""
    with contextlib.ExitStack() as stack:
        servers = [ScriptedServer(forgiving(serve)) for serve in serves]
        yield [stack.enter_context(server) for server in servers]
