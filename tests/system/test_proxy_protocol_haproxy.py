"""HAProxy in front of us names its clients, by PROXY headers that it made."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxy_protocol_tools import TRUSTED, trusting
from tests.support.relay_tools import PATIENCE_S
from tests.support.servers import EchoServer, free_port
from tests.support.waiting import scaled, wait_until

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"

pytestmark = [
    pytest.mark.core,
    pytest.mark.skipif(not Path(HAPROXY).exists(), reason="no haproxy here"),
]

CONFIG = """
global
  nbthread 1
defaults
  mode tcp
  retries 0
  timeout connect 10s
  timeout client 1m
  timeout server 1m
listen front
  bind 127.0.0.1:{port}
  server pyproxy {host}:{target} source {source} {how}
"""


@contextlib.contextmanager
def haproxy(folder: Path, target: tuple[str, int], how: str) -> Iterator[int]:
    """A HAProxy that forwards to `target`; its port."""
    port = free_port()
    file = folder / "haproxy.cfg"
    host, number = target
    text = CONFIG.format(port=port, host=host, target=number, source=TRUSTED, how=how)
    file.write_text(text)
    child = subprocess.Popen([HAPROXY, "-db", "-q", "-f", str(file)])
    try:
        wait_until(lambda: child.poll() is None and listens(port), 10, "haproxy")
        yield port
    finally:
        child.kill()
        child.wait()


def listens(port: int) -> bool:
    """Whether a port was bound; a connection would be passed on."""
    local = f"0100007F:{port:04X} 00000000:0000 0A"
    return local in Path("/proc/net/tcp").read_text()


def echo(port: int, source: str) -> socket.socket | None:
    """A client of HAProxy that got its echo through us, or None if it was cut."""
    client = socket.create_connection(
        ("127.0.0.1", port), scaled(PATIENCE_S), (source, 0)
    )
    with contextlib.suppress(OSError):  # of whichever call meets the reset
        client.sendall(b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        if client.recv(1):
            return client
    client.close()
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2-ssl-cn",
    ],
)
def test_limit_by_source_is_that_of_the_clients_of_haproxy(
    tmp_path: Path, how: str
) -> None:
    limits = {"max_connections_per_source": 1, "client_first": True}
    with EchoServer() as server, trusting(server.address, **limits) as proxy:
        with haproxy(tmp_path, proxy.address, how) as port:
            for host in range(11, 21):
                client = echo(port, f"127.0.0.{host}")
                assert client is not None
                client.close()
            proxy.wait_idle()
            assert proxy.stats.accepted == 10
            assert proxy.stats.bytes_up == 10_000
            # One that stays keeps another of its address out, and nobody else.
            with socket.create_connection(
                ("127.0.0.1", port), scaled(PATIENCE_S), ("127.0.0.30", 0)
            ) as stays:
                stays.sendall(b"x")
                assert stays.recv(1) == b"x"
                assert echo(port, "127.0.0.30") is None
                other = echo(port, "127.0.0.31")
                assert other is not None
                other.close()
            proxy.wait_idle()
        assert proxy.drops["limit_source_connections"] == 1
        assert "proxy_protocol" not in proxy.drops
