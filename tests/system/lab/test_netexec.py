"""The pods' program, by itself: what all else in this folder trusts."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fakes import netexec
from tests.fakes.netexec import ask_http, ask_udp
from tests.support.servers import free_port
from tests.support.waiting import scaled, wait_until

HOST = "127.0.0.1"


@pytest.fixture
def pod() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """One that runs as a program, with its ports."""
    http, udp = free_port(), free_port()
    command = [sys.executable, "-m", "tests.fakes.netexec", "--name", "pod-x"]
    command += ["--http", str(http), "--udp", str(udp)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "serving\n"
        yield process, http, udp
        process.kill()


def test_pod_says_its_name_and_the_clients(
    pod: tuple[subprocess.Popen[str], int, int],
) -> None:
    _, http, udp = pod
    for ask, port in ((ask_http, http), (ask_udp, udp)):
        assert ask((HOST, port), "hostname") == "pod-x"
        assert ask((HOST, port), "clientip") == HOST
    assert ask_http((HOST, http), "echo?msg=a%20b") == "a b"
    assert ask_udp((HOST, udp), "echo a b") == "a b"
    assert ask_http((HOST, http), "nowhere") == ""
    query = f"dial?host={HOST}&port={udp}&protocol=udp&request=hostname&tries=3"
    said = json.loads(ask_http((HOST, http), query))
    assert said == {"responses": ["pod-x"] * 3, "errors": []}


def test_pod_ends_gracefully(pod: tuple[subprocess.Popen[str], int, int]) -> None:
    # It listens no more, and connections go on until the end.
    process, http, _ = pod
    with socket.create_connection((HOST, http)) as kept:
        kept.settimeout(scaled(5))
        assert ask_http((HOST, http), f"exit?code=7&timeout={scaled(1)}") == ""
        wait_until(lambda: refuses(http))
        kept.sendall(b"GET /hostname HTTP/1.1\r\n\r\n")
        assert kept.recv(1000).endswith(b"pod-x")
        assert process.wait(scaled(10)) == 7


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        netexec.ask_http((HOST, port), "hostname")
    except OSError:
        return True
    return False
