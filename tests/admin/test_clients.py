"""Who may ask at the admin address, under which name, and for how long."""

import asyncio
import contextlib

import pytest

from pyproxy.admin import server as admin_server
from pyproxy.admin.host import is_local_host
from pyproxy.config import parse_address
from tests.support.admin_rig import Office
from tests.support.waiting import scaled

pytestmark = pytest.mark.live

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

STRANGERS = [
    *("evil.example", "evil.example:80", "10.0.0.1", "8.8.8.8:9791", "[::2]:1"),
    # Found by a stranger: what merely begins or ends like a local name.
    *("[::1]evil.com", "[::1]evil.com:80", "localhost:evil.com", "127.0.0.1:evil.com"),
    *("[::1", "::1", "[::1]]", "[[::1]]", "[::1]:", "[::1]:1:2", "[127.0.0.1]:1"),
    *("localhost.evil.com", "evil.localhost", "localhostevil.com", "localhost..:1"),
    *("user@localhost", "user:pw@127.0.0.1:1", "localhost@evil.com", "localhost/x"),
    *("127.0.0.1.", "127.0.0.1.evil.com", "127.1", "0x7f.0.0.1", "2130706433"),
    *("0.0.0.0", "[::]", "127.0.0.01", "[::1%25lo]", "[::ffff:8.8.8.8]"),
    *("localhost, evil.com", "localhost evil.com", "localhost:", "localhost:123456"),
    *("localhost:-1", "localhost#", "localhost?x", "localhost\\evil.com", "", ":9791"),
    "loc\u0430lhost",  # a letter that is no ASCII
]
OWN = [
    *("localhost", "localhost:1", "LOCALHOST", "LocalHost:9791", "localhost.:1"),
    *("127.0.0.1", "127.9.9.9:65535", "[::1]", "[::1]:9", "[0:0:0:0:0:0:0:1]:1"),
    *("[::ffff:127.0.0.1]:1", "[::FFFF:127.0.0.1]"),
]


@pytest.mark.parametrize("host", STRANGERS)
def test_stranger_names_are_not_local(host: str) -> None:
    assert not is_local_host(host)


@pytest.mark.parametrize("host", OWN)
def test_own_names_are_local(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "[::1]evil.com", "localhost:evil.com"]
)
async def test_stranger_names_are_refused_on_loopback(
    office: Office, host: str
) -> None:
    # A page may point its own name at 127.0.0.1; the browser sends that name.
    assert (await office.get("/debug/table", host=host))[0] == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9", "LOCALHOST"])
async def test_own_names_are_served(office: Office, host: str) -> None:
    assert (await office.get("/livez", host=host))[0] == 200


async def say(office: Office, text: bytes) -> bytes:
    """The first line of the answer to what is sent as it is."""
    reader, writer = await asyncio.open_connection(*parse_address(office.where))
    try:
        writer.write(text)
        return await asyncio.wait_for(reader.readline(), scaled(5))
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", b"40"),
        (b"GET /livez HTTP/1.0\r\n\r\n", b"403"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n", b"40"),
        (b"GET http://evil.com/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
    ],
    ids=["none", "none in 1.0", "two", "another in the target", "one"],
)
async def test_who_we_are_called_is_said_once(
    office: Office, head: bytes, status: bytes
) -> None:
    assert (await say(office, head)).split()[1].startswith(status)


@pytest.mark.parametrize(
    "said",
    [b"GET /livez HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\r\n\r\n", b"GET\r\n\r\n"],
)
async def test_garbage_fills_no_log(
    office: Office, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    # aiohttp writes a traceback for each.
    assert (await say(office, said)).split()[1] == b"400"
    assert caplog.records == []


async def opened(office: Office, count: int, say: bytes = b"") -> list[Stream]:
    """So many connections, each having said something."""
    found = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*parse_address(office.where))
        writer.write(say)
        found.append((reader, writer))
    return found


async def ended(streams: list[Stream]) -> None:
    """Wait until the other side has ended each."""
    for reader, writer in streams:
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), scaled(10))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "said",
    [b"", b"G", LIVEZ, LIVEZ + b"\r\n", LIVEZ + b"\r\nG"],
    ids=["silent", "a byte", "half a head", "kept alive", "half of the second"],
)
async def test_client_that_asks_nothing_is_ended(
    office: Office, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    # Symptom: 2,000 idle connections to the admin address stayed for ever.
    monkeypatch.setattr(admin_server, "PATIENCE_S", 0.2)
    await ended(await opened(office, 20, said))
    assert (await office.get("/livez"))[0] == 200


async def test_more_clients_than_there_is_room_for_push_out_the_oldest(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_server, "MOST_CLIENTS", 5)
    streams = await opened(office, 30)
    await ended(streams[:24])
    assert (await office.get("/livez"))[0] == 200
    for _, writer in streams[24:]:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
