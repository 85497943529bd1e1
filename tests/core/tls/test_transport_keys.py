"""Keys that change amid a connection, with `openssl s_client` as the other end."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from fastpath.tls.context import ServerContext
from fastpath.tls.endpoint import Transport
from tests.support.tls_tools import Certificates, our_server, read, spin
from tests.support.waiting import scaled

pytestmark = pytest.mark.live


def test_client_cannot_renegotiate(certificates: Certificates) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl program")
    with openssl_client(certificates, program, "-tls1_2") as (ours, client):
        assert client.stdin is not None
        client.stdin.write(b"R\n")  # renegotiate, says openssl-s_client(1)
        client.stdin.flush()
        with pytest.raises(OSError, match=r"."):
            spin(lambda: ours.read(100) and False)


@pytest.mark.parametrize("letter", [b"k", b"K"], ids=["sender's", "both sides'"])
def test_keys_may_be_updated(certificates: Certificates, letter: bytes) -> None:
    # RFC 8446 4.6.3; "K" asks us for new ones, too, which a read has to write.
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl program")
    with openssl_client(certificates, program, "-tls1_3") as (ours, client):
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        for _ in range(3):
            client.stdin.write(letter + b"\n")
            client.stdin.flush()
            while client.stderr.readline() != b"KEYUPDATE\n":
                pass
            client.stdin.write(b"hello\n")
            client.stdin.flush()
            assert read(ours) == b"hello\n"
            ours.write(b"answer\n")
            while client.stdout.readline() != b"answer\n":
                pass


@contextlib.contextmanager
def openssl_client(
    certificates: Certificates, program: str, version: str
) -> Iterator[tuple[Transport, subprocess.Popen[bytes]]]:
    """A server of ours, with `openssl s_client` as its client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        trust = ["-CAfile", str(certificates.authority.certificate)]
        client = subprocess.Popen(
            [program, "s_client", "-connect", to, version, *trust],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        listener.settimeout(scaled(10.0))
        connection, _ = listener.accept()
    ours = our_server(connection, ServerContext(certificates.server_tls()))
    try:
        spin(ours.handshake)
        yield ours, client
    finally:
        ours.close()
        client.communicate()
