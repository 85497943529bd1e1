"""Static files, served by aiohttp behind the core: it listens on a socket of our own.

Ranges, conditions and MIME types are the library's; what may be seen is `files`'.
"""

import asyncio
import contextlib
import os
import tempfile
from functools import partial
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from pyproxy.http.files import Directory, File, Listing, Moved

# Longer than the core keeps an idle connection: it is the core that ends them.
KEEPALIVE_S = 300.0

_TEXTS = {403: "403 Forbidden\n", 404: "404 page not found\n"}


class _Opened(web.FileResponse):
    """The file that was found, not what its name means by now. Closes it."""

    def __init__(self, found: File) -> None:
        super().__init__(f"/proc/self/fd/{found.file.fileno()}")
        self._found = found
        self.headers["Content-Type"] = found.type

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it, or as much of it as is wanted."""
        with self._found.file:
            return await super().prepare(request)


class _Request(web.BaseRequest):
    """A request that asks for one range or for the whole."""

    @property
    def http_range(self) -> slice:
        # What is no single range may be ignored (RFC 9110 14.2); aiohttp refuses it.
        try:
            return super().http_range
        except ValueError:
            return slice(None, None, 1)


class StaticFiles:
    """A directory behind a unix socket that only this user can reach."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._runner: web.ServerRunner | None = None
        self._place = ""

    async def open(self) -> str:
        """Begin to serve, and return the path of the socket."""
        loop = asyncio.get_running_loop()
        server = web.Server(
            self._handle,
            request_factory=partial(_Request, loop=loop),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        self._place = tempfile.mkdtemp(prefix="pyproxy-")  # mode 0700
        socket = os.path.join(self._place, "static")
        await web.UnixSite(self._runner, socket).start()
        return socket

    async def close(self) -> None:
        """Stop, and leave nothing behind. May be called twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        if self._place:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._place, "static"))
            with contextlib.suppress(OSError):
                os.rmdir(self._place)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # Not `request.path`, which is tidied up.
        path, _, query = request.raw_path.partition("?")
        raw = path.encode("utf-8", "surrogateescape").decode("latin-1")
        found = await asyncio.to_thread(self._directory.find, raw)
        response: web.StreamResponse
        match found:
            case File():
                response = _Opened(found)
            case Moved():
                asked = f"?{quote(query, safe='%/?&=+;:@,!$*()~.-_')}" if query else ""
                headers = {"Location": found.location + asked}
                response = web.Response(status=301, headers=headers)
            case Listing():
                response = web.Response(text=found.page, content_type="text/html")
            case _:
                response = web.Response(status=found.status, text=_TEXTS[found.status])
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "pyproxy"
        return response
