"""An API server for the bench of the reflector: 1,000 slices, prepared beforehand.

    python -m loadtests.reflector_server SLICES ENDPOINTS LINES CERTIFICATE KEY

Prints its port. Lists and streaming lists come as fast as they are taken; a watch
from a version gets LINES changes at once.
"""

import asyncio
import json
import logging
import ssl
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

LINE_ENDPOINTS = 2  # makes a line of about 1 KiB
SPACE = "load"
TRIGGERED = "endpoints.kubernetes.io/last-change-trigger-time"


def endpoint(number: int, place: int) -> dict[str, Any]:
    """Return what the endpoint controller writes of a Pod."""
    node = (number * 7 + place) % 500
    uid = f"ebc8a864-39a2-415f-{number % 10_000:04}-{place:012}"
    pod = f"app-{number}-6595bd5974-{place:05}"
    return {
        "addresses": [f"10.{node // 250}.{node % 250}.{place % 250}"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": SPACE, "name": pod, "uid": uid},
        "nodeName": f"node-{node}",
        "zone": f"zone-{node % 3}",
    }


def endpoint_slice(number: int, endpoints: int, version: int) -> dict[str, Any]:
    """Return a slice as it comes in a list."""
    service = f"app-{number}"
    metadata = {
        "name": f"{service}-7rggb",
        "generateName": f"{service}-",
        "namespace": SPACE,
        "uid": f"e490c13b-0dc3-4b11-91cb-{number:012}",
        "resourceVersion": str(version),
        "generation": 18,
        "creationTimestamp": "2026-11-30T02:30:15Z",
        "labels": {"kubernetes.io/service-name": service},
        "annotations": {TRIGGERED: "2026-11-30T02:30:33Z"},
    }
    return {
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [endpoint(number, place) for place in range(endpoints)],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


def dumps(document: object) -> bytes:
    """Write JSON as Go does."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def line(kind: str, made: dict[str, Any]) -> bytes:
    """Return a line of a watch."""
    head = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
    return dumps({"type": kind, "object": {**head, **made}})


class Server:
    """Everything it sends, ready to be sent."""

    def __init__(self, slices: int, endpoints: int, lines: int) -> None:
        made = [endpoint_slice(n, endpoints, 5 + n) for n in range(slices)]
        self._items = [dumps(each)[:-1] for each in made]
        self._added = [line("ADDED", each) for each in made]
        annotations = {"k8s.io/initial-events-end": "true"}
        end = {"metadata": {"resourceVersion": "9000", "annotations": annotations}}
        self._added.append(line("BOOKMARK", end))
        self._changes = [
            line("MODIFIED", endpoint_slice(n % slices, LINE_ENDPOINTS, 10_000 + n))
            for n in range(lines)
        ]

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ")[1].decode()
                query = parse_qs(urlsplit(target).query)
                if "watch" in query:
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    )
                    streams = "sendInitialEvents" in query
                    await self._stream(
                        writer, self._added if streams else self._changes
                    )
                    await reader.read(1)  # until the client has enough
                    return
                body = self._page(query)
                size = f"Content-Length: {len(body)}\r\n\r\n".encode()
                writer.write(b"HTTP/1.1 200 OK\r\n" + size + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _page(self, query: dict[str, list[str]]) -> bytes:
        start = int(query.get("continue", ["0"])[0])
        end = start + int(query.get("limit", ["100000"])[0])
        metadata = {"resourceVersion": "9000"}
        if end < len(self._items):
            metadata["continue"] = str(end)
        head = dumps({"kind": "EndpointSliceList", "metadata": metadata})[:-2]
        items = b",".join(self._items[start:end])
        return head + b',"items":[' + items + b"]}\n"

    async def _stream(self, writer: asyncio.StreamWriter, lines: list[bytes]) -> None:
        for each in lines:
            if writer.is_closing():
                return
            writer.write(b"%x\r\n%s\r\n" % (len(each), each))
            await writer.drain()


async def main(slices: int, endpoints: int, lines: int, *pair: str) -> None:
    """Serve until killed."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # clients abort, as they may
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    server = Server(slices, endpoints, lines)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    slices, endpoints, lines = map(int, sys.argv[1:4])
    asyncio.run(main(slices, endpoints, lines, *sys.argv[4:]))
