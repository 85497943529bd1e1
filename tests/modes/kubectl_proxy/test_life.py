"""From the first request to the exit code, of kubectl where it has the same."""

import functools
import json
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.fakes.desk import Desk, either, hear
from tests.fakes.office import Office
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test


@either
def test_unix_socket_is_for_its_owner_and_filtered(
    office: Office, kind: type[Desk]
) -> None:
    path = office.directory / "x.sock"
    with office.proxy(kind, f"--unix-socket={path}") as proxy:
        assert proxy.where == str(path)
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert proxy.ask("/a").status == 200
        assert proxy.ask("/a", Host="unused").status == 403
        assert office.upstream.seen[0].get("x-forwarded-for") is None


@either
def test_unix_socket_that_is_stale_is_replaced(
    office: Office, kind: type[Desk]
) -> None:
    path = office.directory / "x.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with office.proxy(kind, f"--unix-socket={path}") as proxy:
        assert proxy.ask("/a").status == 200


def test_unix_socket_is_gone_afterwards(office: Office) -> None:
    path = office.directory / "x.sock"
    with office.proxy(Desk, f"--unix-socket={path}") as proxy:
        assert proxy.ask("/a").status == 200
        proxy.send(signal.SIGINT)
        assert proxy.wait() == 0
        assert not path.exists()


def test_unix_socket_that_is_live_is_not_stolen(office: Office) -> None:
    # Beyond kubectl, which removes it even while a process listens there.
    path = office.directory / "x.sock"
    with office.proxy(Desk, f"--unix-socket={path}") as first:
        assert first.ask("/a").status == 200
        with office.proxy(Desk, f"--unix-socket={path}") as second:
            assert second.wait() == 1
            assert "bind: address already in use" in second.stderr
        assert first.ask("/a").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_does_not_wait_for_idle_clients(
    office: Office, number: signal.Signals
) -> None:
    with office.proxy(Desk, "--drain-timeout=20s") as proxy, proxy.dial() as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert hear(client).status == 200
        proxy.send(number)
        assert proxy.wait(10.0) == 0


def test_end_lets_a_response_finish(office: Office) -> None:
    def answer(seen: object, connection: socket.socket) -> bytes:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        wait_until(lambda: "draining" in proxy.stderr, 10.0)
        return b"def"

    office.upstream.answer = answer
    flags = ["--drain-timeout=20s", "--log-level=info"]
    with office.proxy(Desk, *flags) as proxy, proxy.dial() as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(10)
        proxy.send(signal.SIGTERM)
        assert hear_rest(client).endswith(b"abcdef")
        assert proxy.wait() == 0


def hear_rest(client: socket.socket) -> bytes:
    """Read until the end."""
    parts = b""
    while chunk := client.recv(65536):
        parts += chunk
    return parts


def test_end_cuts_a_watch_at_the_deadline(office: Office) -> None:
    chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

    def watch(seen: object, connection: socket.socket) -> None:
        connection.sendall(chunk)
        connection.recv(1)

    office.upstream.answer = watch
    with office.proxy(Desk, "--drain-timeout=100ms") as proxy, proxy.dial() as client:
        client.sendall(b"GET /watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(10)
        proxy.send(signal.SIGTERM)
        assert proxy.wait() == 0


def test_cross_site_request_is_refused_unless_allowed(office: Office) -> None:
    for flags, status in (([], 403), (["--allow-cross-site"], 200)):
        with office.proxy(Desk, *flags) as proxy:
            assert (
                proxy.ask("/a", "POST", b"x", Origin="http://evil.com").status == status
            )
            assert proxy.ask("/a", Origin="http://evil.com").status == 200


def test_settings_are_reloaded_on_sighup(office: Office) -> None:
    file = office.directory / "settings.yaml"
    file.write_text("{rejectMethods: POST, port: 0}")
    with office.proxy(Desk, f"--config={file}", "--log-level=info") as proxy:
        assert proxy.ask("/a", "POST").status == 403
        file.write_text("{rejectMethods: '(', port: 0}")
        proxy.send(signal.SIGHUP)
        wait_until(lambda: "reload refused" in proxy.stderr, 10.0)
        assert proxy.ask("/a", "POST").status == 403
        file.write_text("{rejectMethods: PUT, port: 0}")
        proxy.send(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in proxy.stderr, 10.0)
        assert proxy.ask("/a", "POST").status == 200
        assert proxy.ask("/a", "PUT").status == 403


def ask_admin(proxy: Desk, path: str, status: int = 200) -> bytes:
    """Ask the admin address."""
    line = next(x for x in proxy.stderr.splitlines() if "admin address open" in x)
    host, _, port = line.rpartition("http://")[2].rstrip('/"').rpartition(":")
    with socket.create_connection((host, int(port)), scaled(5.0)) as client:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client.sendall(head.encode())
        answer = hear(client)
        assert answer.status == status
        return answer.body


def test_admin_address_tells_how_we_are(office: Office) -> None:
    flags = ["--admin-address=127.0.0.1:0", "--log-level=info", "--token=sesame"]
    with office.proxy(Desk, *flags) as proxy:
        proxy.ask("/a")
        get = functools.partial(ask_admin, proxy)
        assert get("/healthz") == b"ok"
        assert b"[+]apiserver ok" in get("/readyz?verbose")
        table = json.loads(get("/debug/table"))
        assert [vip["address"] for vip in table["vips"]] == [f"127.0.0.1:{proxy.port}"]
        (server,) = [each for pool in table["pools"] for each in pool["backends"]]
        assert server["address"] == f"127.0.0.1:{office.upstream.address.port}"
        assert server["connects"] == 1
        assert b"sesame" not in get("/debug/config")
        assert b"pyproxy_build_info" in get("/metrics")


def test_secrets_of_flags_are_told_nowhere(office: Office) -> None:
    # Symptom: the password of `--server https://user:PASS@...` in /debug/config.
    where = f"127.0.0.1:{office.upstream.address.port}"
    flags = [
        "--admin-address=127.0.0.1:0",
        "--log-level=debug",
        *("--token", "sesame1"),
        f"--server=https://me:sesame3@{where}",
        "--proxy-url=http://me:sesame4@127.0.0.1:1",
    ]
    with office.proxy(Desk, *flags) as proxy:
        proxy.ask("/a")
        get = functools.partial(ask_admin, proxy)
        places = ("/debug/config", "/debug/table", "/debug/events", "/metrics")
        for path in places:
            assert b"sesame" not in get(path)
        arguments = Path(f"/proc/{proxy.pid}/cmdline").read_bytes()
        assert b"sesame" not in arguments
        assert b"--token\0*******\0--server=https://" in arguments
        assert "sesame" not in proxy.stderr


@either
def test_server_without_an_address_is_named(office: Office, kind: type[Desk]) -> None:
    with office.proxy(kind, "--server=https://nosuch.invalid") as proxy:
        answer = proxy.ask("/a")
        assert answer.status == 500
        assert answer.body.startswith(b"dial tcp: lookup nosuch.invalid")


def test_request_that_cannot_be_passed_on_is_told_on_stderr(
    office: Office, free_port: int
) -> None:
    # At the default level: kubectl prints `Error while proxying request: dial tcp ...`.
    with office.proxy(Desk, f"--server=http://127.0.0.1:{free_port}") as proxy:
        assert proxy.ask("/a").status == 500
        said = f"apiserver not reached address=127.0.0.1:{free_port}"
        wait_until(lambda: said in proxy.stderr, 10.0)


def test_apiserver_that_is_away_is_said(office: Office, free_port: int) -> None:
    flags = ["--admin-address=127.0.0.1:0", "--log-level=info"]
    with office.proxy(Desk, *flags, f"--server=http://127.0.0.1:{free_port}") as proxy:
        for _ in range(10):
            assert proxy.ask("/a").status == 500
        wait_until(lambda: "apiserver not reached" in proxy.stderr, 10.0)
        assert b"takes no connections" in ask_admin(proxy, "/readyz?verbose", 503)


def test_request_like_one_before_is_not_asked_about_again(office: Office) -> None:
    flags = ["--admin-address=127.0.0.1:0", "--log-level=info"]
    with office.proxy(Desk, *flags) as proxy, proxy.dial() as client:
        for number in range(50):
            query = f"?watch={number}"
            client.sendall(
                f"GET /a{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            assert hear(client).status == 200
        metrics = ask_admin(proxy, "/metrics").decode()
        assert 'pyproxy_verdicts_total{outcome="asked"} 1.0' in metrics
        assert 'pyproxy_verdicts_total{outcome="remembered"} 49.0' in metrics


def test_path_without_a_filter_is_not_asked_about_again(office: Office) -> None:
    flags = ["--admin-address=127.0.0.1:0", "--log-level=info", "--disable-filter"]
    with office.proxy(Desk, *flags) as proxy, proxy.dial() as client:
        for number in range(50):
            path = f"/api/v1/namespaces/n{number}"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert hear(client).status == 200
        metrics = ask_admin(proxy, "/metrics").decode()
        assert 'pyproxy_verdicts_total{outcome="asked"} 1.0' in metrics


def test_no_admin_address_is_open_by_default(office: Office) -> None:
    with office.proxy(Desk, "--log-level=info") as proxy:
        proxy.ask("/a")
        assert "admin address" not in proxy.stderr


def test_access_log_has_no_secrets(office: Office) -> None:
    with office.proxy(Desk, "--access-log", "--log-level=info") as proxy:
        proxy.ask("/a?token=sesame", Authorization="Bearer sesame")
        wait_until(lambda: "path=/a " in proxy.stderr, 10.0)
        assert "status=200" in proxy.stderr
        assert "sesame" not in proxy.stderr
