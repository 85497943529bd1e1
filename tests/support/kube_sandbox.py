"""The sandbox's API server, and clients of it, inside a test's own event loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pyproxy.kube.client import Client
from pyproxy.kube.config import ClientFlags, Clock, Current
from pyproxy.kube.wire import Wire
from pyproxy.sandbox.apiserver import Apiserver
from pyproxy.sandbox.certificates import Authority
from tests.support.kube_server import NOWHERE


def wire_of(url: str, ca: Path, clock: Clock | None = None, token: str = "") -> Wire:
    """Return a way to an API server that knows the tokens of tests/golden."""
    flags = ClientFlags(
        server=url, certificate_authority=str(ca), token=token or "admin-token"
    )
    return Wire(Current(flags, NOWHERE), clock=clock)


@asynccontextmanager
async def sandbox(
    issuer: Authority, *, second: float = 0.05, is_populated: bool = False
) -> AsyncIterator[tuple[Apiserver, Client]]:
    """Run one, with a client."""
    pair, ca = issuer.issue("apiserver", ["127.0.0.1"]), issuer.certificate
    server = Apiserver(pair, ca, is_populated=is_populated, second=second)
    async with server:
        wire = wire_of(server.url, ca)
        try:
            yield server, Client(wire)
        finally:
            await wire.close()
