"""Where kubectl-proxy listens and what it says of it, held against kubectl."""

import socket

import pytest

from tests.fakes.desk import NO_KUBECTL, Desk, Kubectl, either, hear
from tests.fakes.office import Office
from tests.support.waiting import scaled

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test


@either
def test_start_is_one_line_on_stdout(
    office: Office, kind: type[Desk], free_port: int
) -> None:
    with office.proxy(kind, f"--port={free_port}") as proxy:
        assert proxy.ask("/a").status == 200
        assert proxy.stdout == f"Starting to serve on 127.0.0.1:{free_port}\n"
        assert proxy.stderr == ""


@either
@pytest.mark.parametrize("keepalive", ["1us", "1.5s", "-1ms"])
def test_start_takes_every_keepalive(
    office: Office, kind: type[Desk], keepalive: str
) -> None:
    with office.proxy(kind, f"--keepalive={keepalive}") as proxy:
        assert proxy.ask("/a").status == 200


@either
def test_start_at_port_0_prints_the_port(office: Office, kind: type[Desk]) -> None:
    with office.proxy(kind) as proxy:
        assert proxy.ask("/a").status == 200
        assert proxy.stdout == f"Starting to serve on 127.0.0.1:{proxy.port}\n"


@either
def test_start_without_kubeconfig_serves_and_fails_each_request(
    office: Office, kind: type[Desk], free_port: int
) -> None:
    environment = {
        "KUBECONFIG": "/nonexistent",
        "KUBERNETES_MASTER": f"http://127.0.0.1:{free_port}",  # localhost:8080 if unset
        "KUBERNETES_SERVICE_HOST": "",
    }
    with kind(office.directory / "p", environment=environment) as proxy:
        answer = proxy.ask("/a")
        assert answer.status == 500
        assert b"connection refused" in answer.body


@pytest.mark.ipv6
@either
def test_start_at_every_address_serves_both_families(
    office: Office, kind: type[Desk]
) -> None:
    with office.proxy(kind, "--address=0.0.0.0") as proxy:
        proxy.wait_for("\n")
        port = int(proxy.stdout.rpartition(":")[2])
        assert proxy.stdout == f"Starting to serve on [::]:{port}\n"
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), scaled(5.0)) as connection:
                connection.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert hear(connection).status == 200


@pytest.mark.ipv6
@pytest.mark.parametrize(
    ("kind", "address"),
    [
        pytest.param(Kubectl, "[::1]", marks=NO_KUBECTL),
        (Desk, "[::1]"),
        (Desk, "::1"),  # beyond kubectl, which wants brackets
    ],
)
def test_start_at_ipv6_loopback(office: Office, kind: type[Desk], address: str) -> None:
    with office.proxy(kind, f"--address={address}") as proxy:
        assert proxy.ask("/a", Host=f"[::1]:{proxy.port}").status == (
            403 if kind is Kubectl else 200
        )
        assert proxy.stdout == f"Starting to serve on [::1]:{proxy.port}\n"


@either
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["--port={port}"],
            "listen tcp 127.0.0.1:{port}: bind: address already in use",
        ),
        (
            ["--address=192.0.2.1", "--port=7"],
            "listen tcp 192.0.2.1:7: bind: cannot assign requested address",
        ),
        (
            ["--unix-socket={dir}/file"],
            "listen unix {dir}/file: bind: address already in use",
        ),
        (
            ["--unix-socket=/nonexistent/x"],
            "listen unix /nonexistent/x: bind: no such file or directory",
        ),
        (
            [f"--unix-socket=/tmp/{'x' * 108}"],
            f"listen unix /tmp/{'x' * 108}: bind: invalid argument",
        ),
    ],
)
def test_start_where_nothing_can_be_bound_ends_with_1(
    office: Office, kind: type[Desk], flags: list[str], text: str
) -> None:
    (office.directory / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = {"port": taken.getsockname()[1], "dir": office.directory}
        with office.proxy(kind, *(flag.format(**words) for flag in flags)) as proxy:
            assert proxy.wait() == 1
            assert f"error: {text.format(**words)}" in proxy.stderr.splitlines()
            assert proxy.stdout == ""


@either
def test_start_beside_another_of_us_ends_with_1(
    office: Office, kind: type[Desk]
) -> None:
    # Symptom: both served, and the kernel shared their clients out.
    with office.proxy(Desk) as first:
        assert first.ask("/a").status == 200
        for where in ("127.0.0.1", "0.0.0.0"):
            flags = (f"--port={first.port}", f"--address={where}")
            with office.proxy(kind, *flags) as second:
                assert second.wait() == 1
                assert "bind: address already in use" in second.stderr
                assert second.stdout == ""
