"""`python -m loadtests.load_scene`: a bastion with everything around it, to be loaded.

The sandbox's apiserver, a pod that has pages, downloads, metrics and a WebSocket, and
`pyproxy apiserver-proxy` in front of both. Prints a line of JSON once it serves: where,
and what to trust it by. Ends when its standard input does.
"""

import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from loadtests.process import free_port
from pyproxy.sandbox.apiserver import write_kubeconfig
from pyproxy.sandbox.certificates import Authority
from tests.fakes.bastion import Bastion, own_address
from tests.fakes.bastion_cluster import caller, populate
from tests.fakes.process import Program
from tests.support.bastion_rig import grant

CHUNK = bytes(range(256)) * 256  # 64 KiB
PAGE = """<!doctype html><title>page {number}</title>
<p>a pod behind a bastion</p><a href="{next}">next</a>{filler}
"""
METRICS = "# TYPE node_up gauge\nnode_up 1\n"
PAGES = 100


async def _page(request: web.Request) -> web.Response:
    number = int(request.match_info["number"])
    text = PAGE.format(number=number, next=(number + 1) % PAGES, filler="x" * 2000)
    return web.Response(text=text, content_type="text/html")


async def _download(request: web.Request) -> web.StreamResponse:
    left = int(request.match_info["size"])
    answer = web.StreamResponse(headers={"Content-Length": str(left)})
    await answer.prepare(request)
    while left:
        part = CHUNK[:left]
        await answer.write(part)
        left -= len(part)
    return answer


async def _upload(request: web.Request) -> web.Response:
    return web.json_response({"bytes": len(await request.read())})


async def _socket(request: web.Request) -> web.WebSocketResponse:
    answer = web.WebSocketResponse(protocols=["echo"])
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(str(message.data))
    return answer


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(text=METRICS)


class Pod:
    """A small application, in a thread of its own."""

    def __init__(self, host: str) -> None:
        self.host, self.tls_port = host, 1  # nothing speaks TLS there
        self.port = free_port(host)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)

    async def _open(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/pages/{number}", _page)
        app.router.add_get("/download/{size}", _download)
        app.router.add_post("/upload", _upload)
        app.router.add_get("/ws", _socket)
        app.router.add_get("/metrics", _metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.host, self.port).start()


@contextmanager
def scene(directory: Path, *flags: str) -> Iterator[dict[str, str]]:
    """Start everything; say where it is."""
    issuer = Authority(directory)
    pair = issuer.issue("server", ["127.0.0.1", "localhost"])
    files = [str(each) for each in (pair.certificate, pair.key, issuer.certificate)]
    with Program(directory / "api", "tests.fakes.reviewer", "0", *files) as api:
        api.wait_for("\n")
        url = f"https://127.0.0.1:{int(api.stdout)}"
        call = caller(url, issuer.certificate)
        pod = Pod(own_address())
        populate(call, pod)
        grant(call)
        kubeconfig = directory / "kubeconfig"
        write_kubeconfig(kubeconfig, url, issuer.certificate, "admin-token")
        serving = [f"--tls-cert-file={files[0]}", f"--tls-private-key-file={files[1]}"]
        with Bastion(
            directory / "bastion", kubeconfig, issuer.certificate, *serving, *flags
        ) as bastion:
            bastion.ready()
            yield {
                "host": f"https://127.0.0.1:{bastion.port}",
                "ca": files[2],
                "node": f"n1:{pod.port}",
                "pid": str(bastion.pid),
                "log": str(directory / "bastion" / "stderr"),
            }


def main() -> None:
    """Serve until standard input ends."""
    if not own_address():
        raise SystemExit("only loopback addresses here: no pod may be there")
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        with scene(Path(folder), *sys.argv[1:]) as found:
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    main()
