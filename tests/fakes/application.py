"""`python -m tests.fakes.application HOST CERTIFICATE KEY`: an application in a pod.

Pages for browsers, downloads, uploads, a WebSocket, a form, metrics of a node: over
plain HTTP at one port and TLS at another; both are printed. `/seen` tells what came.
"""

import asyncio
import contextlib
import hashlib
import json
import ssl
import sys
import urllib.request
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from pyproxy.sandbox.certificates import Pair
from tests.fakes.process import Program

CHUNK = bytes(range(256)) * 256  # 64 KiB
PAGES = 100  # that link in a circle
METRICS = '# TYPE node_up gauge\nnode_up{{port="{port}"}} 1\n'
PAGE = """<!doctype html><title>page {number}</title>
<p>a pod behind a bastion</p><a href="{next}">next</a>{filler}
"""
# Its own scripts find their way by the page's address; links and forms by BASE.
APP = """<!doctype html><title>app</title>
<link rel="stylesheet" href="{base}style.css"><script src="{base}app.js"></script>
<img src="{base}pixel.svg"><iframe name="one"></iframe><iframe name="two"></iframe>
<a href="{base}next?of=link" target="one">next</a>
<form method="post" action="{base}submit" target="two"><input name="a" value="b"></form>
<script>
const said = [];
const done = (what) => {{
  said.push(what);
  if (said.length == 5) fetch("report?" + encodeURIComponent(said.sort()));
}};
window.arrived = done;
done(window.loaded || "script missing");
addEventListener("load", () => {{
  document.querySelector("a").click();
  document.querySelector("form").submit();
  const style = getComputedStyle(document.querySelector("p, a")).color;
  done(style == "rgb(1, 2, 3)" ? "styled" : "not styled: " + style);
}});
const address = new URL("ws", location.href);
address.protocol = "wss:";
const socket = new WebSocket(address);
socket.onopen = () => socket.send("ping");
socket.onmessage = (message) => done("socket " + message.data);
socket.onerror = () => done("socket failed");
</script>"""
ARRIVED = "<!doctype html><script>parent.arrived('{what}')</script>"
STYLE = "a { color: rgb(1, 2, 3); }"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


def html(text: str) -> web.Response:
    """Return a page."""
    return web.Response(text=text, content_type="text/html")


async def _page(request: web.Request) -> web.Response:
    number = int(request.match_info["number"])
    filler = "x" * 2000
    return html(PAGE.format(number=number, next=(number + 1) % PAGES, filler=filler))


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
    body = await request.read()
    digest = hashlib.sha256(body).hexdigest()
    return web.json_response({"bytes": len(body), "sha256": digest})


async def _socket(request: web.Request) -> web.WebSocketResponse:
    answer = web.WebSocketResponse(protocols=["echo"])
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(str(message.data))
    return answer


async def _metrics(request: web.Request) -> web.Response:
    assert request.transport is not None
    port = request.transport.get_extra_info("sockname")[1]
    return web.Response(text=METRICS.format(port=port))


async def _app(request: web.Request) -> web.Response:
    base = "" if request.match_info["kind"] == "relative" else "/app/absolute/"
    answer = html(APP.format(base=base))
    answer.headers["Set-Cookie"] = "session=7; Path=/app; HttpOnly"
    return answer


async def _submit(request: web.Request) -> web.Response:
    value = str((await request.post())["a"])
    kind = request.match_info["kind"]
    where = f"/app/{kind}/next?of=form+{value}"
    return web.Response(status=303, headers={"Location": where})


async def _next(request: web.Request) -> web.Response:
    cookie = request.cookies.get("session", "none")
    return html(ARRIVED.format(what=f"{request.query['of']} {cookie}"))


async def _script(_: web.Request) -> web.Response:
    kind = "text/javascript"
    return web.Response(text="window.loaded = 'script';", content_type=kind)


async def _style(_: web.Request) -> web.Response:
    return web.Response(text=STYLE, content_type="text/css")


async def _pixel(_: web.Request) -> web.Response:
    return web.Response(text=SVG, content_type="image/svg+xml")


async def _report(_: web.Request) -> web.Response:
    return web.Response()


def application() -> web.Application:
    """Return all of it."""
    seen: list[str] = []

    async def tell(_: web.Request) -> web.Response:
        return web.json_response(seen)

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/seen":
            seen.append(f"{request.method} {request.path_qs}")
        return await handler(request)

    app = web.Application(client_max_size=1 << 30, middlewares=[note])
    app.router.add_get("/seen", tell)
    app.router.add_get("/pages/{number}", _page)
    app.router.add_get("/download/{size}", _download)
    app.router.add_route("*", "/upload", _upload)
    app.router.add_get("/ws", _socket)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/app/{kind}/", _app)
    app.router.add_post("/app/{kind}/submit", _submit)
    for name, handler in (
        ("app.js", _script),
        ("style.css", _style),
        ("pixel.svg", _pixel),
        ("next", _next),
        ("ws", _socket),
        ("report", _report),
    ):
        app.router.add_get(f"/app/{{kind}}/{name}", handler)
    return app


async def serve(host: str, certificate: str, key: str) -> None:
    """Serve until killed."""
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, host, 0).start()
    await web.TCPSite(runner, host, 0, ssl_context=context).start()
    plain, secure = (address[1] for address in runner.addresses)
    sys.stdout.write(f"{plain} {secure}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


class Application(Program):
    """It, in a process of its own."""

    def __init__(self, directory: Path, host: str, pair: Pair) -> None:
        files = (str(pair.certificate), str(pair.key))
        super().__init__(directory, "tests.fakes.application", host, *files)
        self.host = host
        self.wait_for("\n")
        self.port, self.tls_port = map(int, self.stdout.split())

    def seen(self) -> list[str]:
        """Return method and target of every request so far."""
        url = f"http://{self.host}:{self.port}/seen"
        with contextlib.closing(urllib.request.urlopen(url, timeout=10)) as answer:
            return list(json.loads(answer.read()))


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
