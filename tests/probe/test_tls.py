"""Certificates of our own: which file is bad, and what happens when one changes."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pyproxy.config import Check
from pyproxy.errors import ConfigError
from pyproxy.probe import TlsShelf, complaints_about_files
from pyproxy.sandbox.certificates import Authority
from pyproxy.tls import ClientTls, TlsSettings, read_token
from tests.fakes.apiserver import authority

pytestmark = pytest.mark.live


@pytest.fixture
def issuer(tmp_path: Path) -> Authority:
    """Signs `a` and `b`."""
    made = authority(tmp_path)
    made.issue("a", ["a"])
    made.issue("b", ["b"])
    return made


def lock(file: Path) -> Path:
    """Protect a key by a pass phrase."""
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    locked = file.with_name("locked.key")
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return locked


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "complaint"),
    [
        ("none", "a.crt", "a.key", "none: CA file: No such file or directory"),
        ("a.key", "a.crt", "a.key", "a.key: no usable CA certificate in this file"),
        ("junk", "a.crt", "a.key", "junk: no usable CA certificate in this file"),
        ("ca.crt", "none", "a.key", "none: certificate: No such file or directory"),
        ("ca.crt", "a.key", "a.key", "a.key: failed to find certificate PEM data in"),
        ("ca.crt", "a.crt", "none", "none: private key: No such file or directory"),
        (
            "ca.crt",
            "a.crt",
            "a.crt",
            "a.crt: failed to find PEM block with type ending",
        ),
        ("ca.crt", "a.crt", "b.key", "b.key: private key does not match public key"),
        (
            "ca.crt",
            "a.crt",
            "locked.key",
            "locked.key: private key is protected by a pass phrase",
        ),
        ("ca.crt", "broken.crt", "a.key", "broken.crt"),
        ("ca.crt", "a.crt", "broken.key", "broken.key"),
    ],
)
def test_bad_file_is_named(
    issuer: Authority,
    tmp_path: Path,
    ca: str,
    certificate: str,
    key: str,
    complaint: str,
) -> None:
    (tmp_path / "junk").write_bytes(os.urandom(99))
    lock(tmp_path / "a.key")
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "broken.crt").write_text(broken)
    (tmp_path / "broken.key").write_text(broken.replace("CERTIFICATE", "PRIVATE KEY"))
    settings = TlsSettings(
        ca=str(tmp_path / ca),
        certificate=str(tmp_path / certificate),
        key=str(tmp_path / key),
    )
    with pytest.raises(ConfigError) as caught:
        ClientTls(settings)
    assert f"{tmp_path}/{complaint}" in str(caught.value)


def test_changed_file_is_read_again_and_a_bad_one_leaves_the_last(
    issuer: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ClientTls(TlsSettings(ca=str(issuer.certificate)))
    first = tls.context()
    assert tls.context() is first
    issuer.certificate.write_text("no certificate")
    assert tls.context() is first
    assert tls.context() is first
    assert caplog.text.count("certificates not reloaded") == 1
    # As a projected volume does it: another file takes the name.
    authority(tmp_path / "next").certificate.replace(issuer.certificate)
    assert tls.context() is not first
    issuer.certificate.unlink()
    assert tls.context() is tls.context()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"a b", "no token"),
        (b"\xff", "no tok"),
    ],
)
def test_bad_token_is_refused_and_never_quoted(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"token: .*{complaint}"):
        read_token(str(file))


def test_huge_token_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"x" * 100_000)
    with pytest.raises(ConfigError, match="larger than 64 KiB"):
        read_token(str(file))


def test_every_bad_file_of_a_check_is_named_at_once(issuer: Authority) -> None:
    check = Check(ca="/nowhere/ca", token_file="/nowhere/token")
    found = complaints_about_files(check, "$.check", TlsShelf())
    assert [line.split(": ")[1] for line in found] == ["/nowhere/ca", "/nowhere/token"]


def test_equal_settings_share_one_context(issuer: Authority) -> None:
    shelf = TlsShelf()
    one, other = (Check(ca=str(issuer.certificate), rise=n) for n in (1, 2))
    assert shelf.get(one) is shelf.get(other)
    assert shelf.get(Check(type="tcp")) is None
