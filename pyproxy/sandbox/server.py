"""One small HTTPS server that answers health checks as an apiserver does.

`python -m pyproxy.sandbox.server NAME HOST PORT CERTIFICATE KEY` prints the port it
listens on. SIGUSR1 makes it say that it is not ready, and ready again. It knows no
graceful end: in the sandbox, killing it is the point.
"""

import asyncio
import contextlib
import itertools
import signal
import ssl
import sys

from aiohttp import web


class SmallServer:
    """State and handlers of one server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_ready = True

    def toggle(self) -> None:
        """Become not ready, or ready again."""
        self.is_ready = not self.is_ready

    def app(self) -> web.Application:
        """Return what to serve."""
        app = web.Application()
        app.router.add_get("/readyz", self._ready)
        for path in ("/livez", "/healthz"):
            app.router.add_get(path, self._alive)
        for path in ("/", "/whoami"):
            app.router.add_get(path, self._who)
        app.router.add_get("/watch", self._watch)
        return app

    async def _ready(self, request: web.Request) -> web.Response:
        if self.is_ready:
            return web.Response(text="ok")
        text = "[+]ping ok\n[-]sandbox failed: SIGUSR1 said so\nreadyz check failed\n"
        return web.Response(status=500, text=text)

    async def _alive(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _who(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{self.name}\n")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """A line per second, without end: a connection that can be seen to live."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):  # until the client leaves
            for number in itertools.count(1):
                await answer.write(f"{self.name} {number}\n".encode())
                await asyncio.sleep(1)
        return answer


async def serve(name: str, host: str, port: int, certificate: str, key: str) -> None:
    """Serve until killed."""
    server = SmallServer(name)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.toggle)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:6]))
