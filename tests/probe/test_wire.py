"""One probe against servers of every kind; each ends by itself, in time."""

import asyncio
import contextlib
import hashlib
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyproxy.probe import CannotProbeError, Finding, Result, Target, probe
from pyproxy.runtime import launch
from pyproxy.sandbox.certificates import Authority
from pyproxy.tls import ClientTls, TlsSettings
from tests.fakes.apiserver import FakeApiserver, authority, server_context
from tests.support.servers import Address, ScriptedServer, Server, free_port
from tests.support.waiting import scaled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("uvloop_was_used_before")]

SHORT_S = 0.3


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Target], Finding]:
    """Probe once, on either loop: they differ in how sockets and TLS end."""
    if request.param == "uvloop":
        return lambda target: launch(probe(target))
    return lambda target: asyncio.run(probe(target))


@pytest.fixture
def apiserver(issuer: Authority) -> Iterator[FakeApiserver]:
    """A server that is who it says."""
    pair = issuer.issue("server", ["127.0.0.1", "kubernetes"])
    with FakeApiserver(server_context(pair)) as server:
        yield server


def trusting(issuer: Authority) -> ClientTls:
    """TLS that believes the issuer."""
    return ClientTls(TlsSettings(ca=str(issuer.certificate)))


def http(address: Address, timeout_s: float = 5.0, path: str = "/readyz") -> Target:
    """A plain HTTP check."""
    return Target(address, "127.0.0.1", "http", scaled(timeout_s), path)


def https(
    address: Address,
    tls: ClientTls,
    *,
    server_name: str = "127.0.0.1",
    token_file: str | None = None,
    timeout_s: float = 5.0,
) -> Target:
    """An HTTPS check."""
    return Target(
        address,
        "127.0.0.1",
        "https",
        scaled(timeout_s),
        server_name=server_name,
        tls=tls,
        token_file=token_file,
    )


Run = Callable[[Target], Finding]


def test_expected_code_is_ready(run: Run) -> None:
    with FakeApiserver() as server:
        finding = run(http(server.address, path="/readyz?verbose"))
    assert (finding.result, finding.why) == (Result.READY, "HTTP 200")
    head = server.heads[0].split(b"\r\n")
    assert head[0] == b"GET /readyz?verbose HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.address.port}".encode() in head
    assert b"Connection: close" in head


def test_another_code_is_alive_and_says_what_failed(run: Run) -> None:
    with FakeApiserver() as server:
        server.code = 500
        server.body = (
            b"[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed"
        )
        finding = run(http(server.address))
    assert finding.result is Result.ALIVE
    assert finding.why == "HTTP 500, etcd failed: reason withheld"


def test_refusal_of_credentials_says_what_would_help(run: Run) -> None:
    # --anonymous-auth=false (kubeadm#798): alive, and the operator must choose.
    with FakeApiserver() as server:
        server.code = 401
        finding = run(http(server.address))
        accepted = run(
            Target(server.address, "x", "http", 5.0, expect=frozenset({401}))
        )
    assert finding.result is Result.ALIVE
    assert "wants credentials: give a token file" in finding.why
    assert accepted.result is Result.READY


def test_refused_connection_is_dead(run: Run) -> None:
    port = free_port()
    for kind in ("tcp", "http"):
        finding = run(Target(("127.0.0.1", port), "x", kind, 5.0))
        assert finding.result is Result.DEAD
        assert finding.why == "connection refused while connecting"


def test_tcp_check_is_content_with_a_connection(run: Run) -> None:
    with ScriptedServer(lambda connection: None) as server:
        finding = run(Target(server.address, "x", "tcp", 5.0))
    assert (finding.result, finding.why) == (Result.READY, "connected")


def wait_for_end(connection: socket.socket) -> None:
    """Keep silent until the client goes away."""
    while connection.recv(65536):
        pass


def drip(connection: socket.socket) -> None:
    """A header byte now and then, without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    connection.settimeout(0.02)
    while True:
        try:
            if not connection.recv(4096):
                return
        except TimeoutError:
            connection.sendall(b"x")


def answer(data: bytes) -> Callable[[socket.socket], None]:
    """Read something, send `data`, close."""

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        wait_for_end(connection)

    return script


SILENT = f"no answer within {scaled(SHORT_S):g} s while waiting for an answer"


@pytest.mark.adversity
@pytest.mark.parametrize(
    ("script", "why"),
    [
        (wait_for_end, SILENT),
        (drip, SILENT),
        (answer(b""), "closed the connection without an answer"),
        (answer(b"SSH-2.0-OpenSSH_9\r\n\r\n"), "answer is not HTTP/1.1: b'SSH-2.0"),
        (answer(b"HTTP/2 200\r\n\r\n"), "answer is not HTTP/1.1"),
        (answer(b"HTTP/1.1 2x0 OK\r\n\r\n"), "answer is not HTTP/1.1"),
        (answer(b"HTTP/1.1 20"), "answer is not HTTP/1.1"),
        (answer(b"\x00" * 100), "answer is not HTTP/1.1"),
        (answer(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "head of over 16 KiB"),
        (answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 9), "interim answers without end"),
    ],
    ids="silent drip closed ssh h2 code cut zeros huge interim".split(),
)
def test_server_that_talks_nonsense_is_dead(
    run: Run, script: Callable[[socket.socket], None], why: str
) -> None:
    with ScriptedServer(script) as server:
        began = time.monotonic()
        finding = run(http(server.address, SHORT_S))
        took_s = time.monotonic() - began
    assert finding.result is Result.DEAD
    assert finding.why.startswith(why)
    assert took_s < scaled(SHORT_S + 2)


@pytest.mark.adversity
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",  # closed before the blank line
    ],
    ids=["huge body", "interim", "old", "cut after status"],
)
def test_odd_but_honest_answer_is_ready(run: Run, data: bytes) -> None:
    with ScriptedServer(answer(data)) as server:
        assert run(http(server.address)).result is Result.READY


def test_https_with_ca_is_ready(
    run: Run, issuer: Authority, apiserver: FakeApiserver
) -> None:
    assert run(https(apiserver.address, trusting(issuer))).result is Result.READY
    named = https(apiserver.address, trusting(issuer), server_name="kubernetes")
    assert run(named).result is Result.READY
    host = f"Host: kubernetes:{apiserver.address.port}".encode()
    assert host in apiserver.heads[1]


def test_certificate_of_another_name_or_signer_or_time_is_dead(
    run: Run, issuer: Authority, apiserver: FakeApiserver, tmp_path: Path
) -> None:
    other = https(apiserver.address, trusting(issuer), server_name="other")
    assert "certificate refused: Hostname mismatch" in run(other).why
    stranger = trusting(authority(tmp_path))
    assert "certificate refused: " in run(https(apiserver.address, stranger)).why
    old = issuer.issue("old", ["127.0.0.1"], days=-1)
    with FakeApiserver(server_context(old)) as server:
        finding = run(https(server.address, trusting(issuer)))
    assert finding.result is Result.DEAD
    assert "certificate refused: certificate has expired" in finding.why


def test_pinned_certificate_is_ready_and_any_other_never_sees_the_token(
    run: Run, issuer: Authority, apiserver: FakeApiserver, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    pem = (issuer.certificate.parent / "server.crt").read_text()
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    good = ClientTls(TlsSettings(pins=frozenset({"00" * 32, pin})))
    bad = ClientTls(TlsSettings(pins=frozenset({"00" * 32})))
    refused = run(https(apiserver.address, bad, token_file=str(token)))
    assert (refused.result, apiserver.heads) == (Result.DEAD, [])
    assert refused.why == f"certificate {pin} is not pinned"
    ready = run(https(apiserver.address, good, token_file=str(token)))
    assert ready.result is Result.READY


def test_anybody_will_do_when_nothing_is_trusted(
    run: Run, apiserver: FakeApiserver
) -> None:
    assert run(https(apiserver.address, ClientTls(TlsSettings()))).why == "HTTP 200"


def test_client_certificate_is_shown(run: Run, issuer: Authority) -> None:
    server, client = issuer.issue("s", ["127.0.0.1"]), issuer.issue("c", ["probe"])
    ca = str(issuer.certificate)
    shown = TlsSettings(ca=ca, certificate=str(client.certificate), key=str(client.key))
    with FakeApiserver(server_context(server, issuer.certificate)) as strict:
        assert run(https(strict.address, ClientTls(shown))).result is Result.READY
        finding = run(https(strict.address, trusting(issuer)))
    assert finding.result is Result.DEAD


def test_token_is_read_again_at_each_probe(
    run: Run, issuer: Authority, apiserver: FakeApiserver, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    target = https(apiserver.address, trusting(issuer), token_file=str(token))
    apiserver.token = "second"
    token.write_text("first")
    assert run(target).result is Result.ALIVE
    token.write_text("second\n")
    assert run(target).result is Result.READY


@pytest.mark.adversity
@pytest.mark.parametrize(
    ("script", "why"),
    [
        (wait_for_end, "no answer within"),
        (answer(b"HTTP/1.0 400 Bad Request\r\n\r\n"), "TLS failed: "),
        (lambda connection: connection.recv(1), " while in the TLS handshake"),
    ],
    ids=["hung", "plain", "closed"],
)
def test_server_that_speaks_no_tls_is_dead(
    run: Run, script: Callable[[socket.socket], None], why: str
) -> None:
    tls = ClientTls(TlsSettings())
    with ScriptedServer(script) as server:
        finding = run(https(server.address, tls, timeout_s=SHORT_S))
    assert finding.result is Result.DEAD
    assert why in finding.why


class SlowTls(Server):
    """Finishes the handshake and never answers."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context

    def serve(self, connection: socket.socket) -> None:
        """Shake hands, then read."""
        with self._context.wrap_socket(connection, server_side=True) as wrapped:
            wait_for_end(wrapped)


@pytest.mark.adversity
def test_silence_after_the_handshake_is_dead(run: Run, issuer: Authority) -> None:
    context = server_context(issuer.issue("slow", ["127.0.0.1"]))
    with SlowTls(context) as server:
        target = https(server.address, trusting(issuer), timeout_s=SHORT_S)
        assert run(target).why == SILENT


def test_missing_token_teaches_nothing_about_the_server(run: Run) -> None:
    # Our own fault must never cut off a server that is well.
    target = Target(("127.0.0.1", 1), "x", "http", 1.0, token_file="/nowhere/token")
    with pytest.raises(CannotProbeError, match="/nowhere/token: token: No such file"):
        run(target)


@pytest.mark.adversity
def test_exhausted_descriptors_teach_nothing_about_the_server() -> None:
    async def without_descriptors(used: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 64, hard))
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(socket.socket())
            with pytest.raises(CannotProbeError, match="Too many open files"):
                await probe(http(server.address))
        finally:
            for each in taken:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    with FakeApiserver() as server:
        asyncio.run(without_descriptors(used))
