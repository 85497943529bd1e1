"""One small server of the sandbox."""

import asyncio

import pytest
from aiohttp import web

from pyproxy.sandbox.server import SmallServer


async def test_watch_whose_client_leaves_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Symptom: Ctrl-C of the `curl -N` that the sandbox names gave a traceback there.
    runner = web.AppRunner(SmallServer("alpha").app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    before = asyncio.all_tasks()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"GET /watch HTTP/1.1\r\nHost: alpha\r\n\r\n")
    await reader.readuntil(b"alpha 1\n")
    serving = asyncio.all_tasks() - before
    assert serving
    writer.close()
    await asyncio.wait(serving)
    await runner.cleanup()
    assert not caplog.records
