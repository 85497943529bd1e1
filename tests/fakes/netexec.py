"""A pod's program in the manner of agnhost's netexec: says its name, and who asks.

HTTP: `/hostname`, `/clientip`, `/echo?msg=`, `/healthz`, `/exit?code&timeout&wait`,
`/dial?host&port&protocol&request&tries`. Datagrams: `hostname`, `clientip`, `echo MSG`.

`exit` stops listening after `wait` seconds and ends after `timeout` more, gracefully.
As a program (`python -m tests.fakes.netexec --name pod-1 --http 8080 --udp 8081`) that
is the end of the process; as a part of a test, `Netexec.code` says the code.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import socket
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

WILDCARD = "::"  # both families
MOST_BYTES = 65507
ANSWER_S = 5.0


def sockets(http: int, udp: int) -> tuple[socket.socket, socket.socket]:
    """Listen for both, and both families, in the namespace of the calling thread."""
    listener = socket.create_server(
        (WILDCARD, http), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512
    )
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind((WILDCARD, udp))
    return listener, datagrams


def plain(host: str) -> str:
    """An address of IPv4 without the prefix of a socket for both families."""
    return host.removeprefix("::ffff:")


class Netexec:
    """One pod. `run` serves until somebody asks it to exit or it is cancelled."""

    def __init__(
        self, name: str, listener: socket.socket, datagrams: socket.socket
    ) -> None:
        self.name = name
        self.code: int | None = None
        self._sockets = (listener, datagrams)
        self._stopped = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve."""
        listener, datagrams = self._sockets
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, sock=listener)
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(self.name), sock=datagrams
        )
        try:
            await self._stopped.wait()
        finally:
            transport.close()
            server.close()
        await self._ended.wait()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection."""
        client = plain(writer.get_extra_info("peername")[0])
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                keep = b"connection: close" not in head.lower()
                body = await self._answer(target, client)
                writer.write(response(body, keep=keep))
                await writer.drain()
                if not keep:
                    break
        writer.close()

    async def _answer(self, target: str, client: str) -> str | None:
        """The body for a path; None = there is no such path."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        match url.path:
            case "/hostname":
                return self.name
            case "/clientip":
                return client
            case "/echo":
                return query.get("msg", "")
            case "/healthz":
                return "ok"
            case "/dial":
                return await asyncio.to_thread(dial, query)
            case "/exit":
                self.code = int(query.get("code", "0"))
                wait, timeout = (float(query.get(k, 0)) for k in ("wait", "timeout"))
                loop = asyncio.get_running_loop()
                loop.call_later(wait, self._stopped.set)
                loop.call_later(wait + timeout, self._ended.set)
                return ""
        return None


def response(body: str | None, *, keep: bool) -> bytes:
    """A response of HTTP."""
    status = "404 Not Found" if body is None else "200 OK"
    data = (body or "").encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}"]
    if not keep:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + data


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: Any) -> None:
        """Keep what sends."""
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Answer one."""
        command, _, rest = data.partition(b" ")
        answers = {
            b"hostname": self._name.encode(),
            b"clientip": plain(address[0]).encode(),
            b"echo": rest,
        }
        self._transport.sendto(answers.get(command.strip(), b"what?"), address)


def dial(query: dict[str, str]) -> str:
    """Ask another pod, as often as wished, and tell what came of it."""
    responses: list[str] = []
    errors: list[str] = []
    place = (query["host"], int(query["port"]))
    ask = ask_udp if query.get("protocol") == "udp" else ask_http
    for _ in range(int(query.get("tries", "1"))):
        try:
            responses.append(ask(place, query.get("request", "hostname")))
        except OSError as error:
            errors.append(str(error))
    return json.dumps({"responses": responses, "errors": errors})


def ask_http(
    place: tuple[str, int], request: str, timeout_s: float = ANSWER_S, local: int = 0
) -> str:
    """The body of one response over a connection of its own."""
    source = (WILDCARD if ":" in place[0] else "0.0.0.0", local) if local else None
    asking = http.client.HTTPConnection(*place, timeout_s, source_address=source)
    with contextlib.closing(asking):
        asking.request("GET", f"/{request}", headers={"Connection": "close"})
        return asking.getresponse().read().decode()


def ask_udp(
    place: tuple[str, int], request: str, timeout_s: float = ANSWER_S, local: int = 0
) -> str:
    """The answer to one datagram."""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(timeout_s)
        if local:
            asking.bind((WILDCARD if family == socket.AF_INET6 else "0.0.0.0", local))
        asking.connect(place)
        asking.send(request.encode())
        return asking.recv(MOST_BYTES).decode()


def main() -> int:
    """Be a pod's program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default=socket.gethostname())
    parser.add_argument("--http", type=int, default=8080)
    parser.add_argument("--udp", type=int, default=8081)
    options = parser.parse_args()

    async def run() -> int:
        pod = Netexec(options.name, *sockets(options.http, options.udp))
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        await pod.run()
        return pod.code or 0

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
