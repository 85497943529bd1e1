"""The auth-provider oidc: an ID token while it lasts, then the refresh token.

Expectations: facts A5; client-go's oidc_test; RFC 6749 2.3.1 and 6. The issuer is a
server of ours.
"""

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from aiohttp import web

from pyproxy.kube.config import (
    AccessError,
    ClientFlags,
    Credentials,
    CredentialsError,
    Current,
    load,
)
from pyproxy.kube.config.rewrite import save_auth_provider
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import Document, environment, one_context, write

pytestmark = pytest.mark.live


def token(name: str, expires_at: object) -> str:
    """Return an ID token, as far as a client reads it."""

    def part(claims: Document) -> str:
        text = json.dumps(claims).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part({'sub': name, 'exp': expires_at})}.sig"


class Issuer:
    """An OpenID Connect issuer that gives what `tokens` says."""

    def __init__(self, signer: Authority) -> None:
        self.clock = FakeClock()
        self.tokens: Document = {}
        self.status = 200
        self.in_body = False  # whether the client must say who it is there
        self.asked: list[tuple[str, str, Document]] = []
        self.metadata = True
        pair = signer.issue("issuer", ["127.0.0.1"])
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self.url = ""

    async def start(self) -> web.AppRunner:
        """Serve."""
        app = web.Application()
        app.router.add_get("/base/.well-known/openid-configuration", self._describe)
        app.router.add_post("/token", self._give)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{port}"
        return runner

    async def _describe(self, _: web.Request) -> web.Response:
        if not self.metadata:
            return web.json_response({})
        return web.json_response({"token_endpoint": f"{self.url}/token"})

    async def _give(self, request: web.Request) -> web.Response:
        fields = dict(await request.post())
        header = request.headers.get("Authorization")
        pair = base64.b64decode((header or "").removeprefix("Basic ")).decode()
        name, _, secret = pair.partition(":")
        self.asked.append((unquote(name), unquote(secret), fields))
        if self.in_body and header:
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response(self.tokens, status=self.status)


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    """One whose certificate the kubeconfig knows."""
    made = Issuer(authority(tmp_path / "pki"))
    runner = await made.start()
    yield made
    await runner.cleanup()


def kubeconfig(directory: Path, issuer: Issuer, **config: str) -> Path:
    """Write one of a user of the issuer."""
    said = {
        "idp-issuer-url": f"{issuer.url}/base/",
        "client-id": "me",
        "client-secret": "s:c",
        "idp-certificate-authority": str(directory / "pki" / "ca.crt"),
        **{name.replace("_", "-"): value for name, value in config.items()},
    }
    user = {"auth-provider": {"name": "oidc", "config": said}}
    return write(directory / "config", one_context({"server": "https://h"}, user))


def credentials(file: Path, issuer: Issuer) -> Credentials:
    """Return those of the file."""
    flags = ClientFlags(kubeconfig=str(file))
    return load(flags, {}, clock=issuer.clock).credentials


async def shown(of: Credentials) -> str:
    """Return the token."""
    ((_, value),) = await of.headers()
    return value.removeprefix("Bearer ")


async def test_token_is_shown_while_it_lasts(tmp_path: Path, issuer: Issuer) -> None:
    first = token("one", issuer.clock.now + 100)
    found = credentials(kubeconfig(tmp_path, issuer, id_token=first), issuer)
    assert await shown(found) == first
    assert found.fresh_for_s() == 90
    assert not found.are_none
    issuer.clock.now += 90
    with pytest.raises(CredentialsError, match="cannot refresh without refresh-token"):
        await found.headers()
    assert issuer.asked == []


@pytest.mark.parametrize("in_body", [False, True])
async def test_expired_token_is_refreshed_and_written_back(
    tmp_path: Path, issuer: Issuer, in_body: bool
) -> None:
    old, new = (token(n, issuer.clock.now + t) for n, t in (("o", 5), ("n", 1000)))
    file = kubeconfig(tmp_path, issuer, id_token=old, refresh_token="r1")
    file.chmod(0o640)
    issuer.tokens = {"id_token": new, "refresh_token": "r2"}
    issuer.in_body = in_body
    found = credentials(file, issuer)
    before = found.generation
    assert await asyncio.gather(*[shown(found) for _ in range(3)]) == [new] * 3
    assert found.generation > before
    fields = {"grant_type": "refresh_token", "refresh_token": "r1"}
    asked = [("me", "s:c", fields)]
    if in_body:
        asked.append(("", "", fields | {"client_id": "me", "client_secret": "s:c"}))
    assert issuer.asked == asked
    written = json.loads(file.read_bytes())
    config = written["users"][0]["user"]["auth-provider"]["config"]
    assert (config["id-token"], config["refresh-token"]) == (new, "r2")
    assert config["client-id"] == "me"
    assert written["current-context"] == "x"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["config", "pki"]


async def test_token_that_is_expired_when_it_comes_serves_for_a_second(
    tmp_path: Path, issuer: Issuer
) -> None:
    # Issue 11, 16: its requests were never answered.
    new = token("n", issuer.clock.now - 5)
    issuer.tokens = {"id_token": new}
    found = credentials(kubeconfig(tmp_path, issuer, refresh_token="r1"), issuer)
    assert [await shown(found) for _ in range(3)] == [new] * 3
    assert found.fresh_for_s() == 1
    assert len(issuer.asked) == 1
    issuer.clock.now += 1
    assert found.fresh_for_s() == 0
    assert await shown(found) == new
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    ("exp", "lasts"),
    [
        pytest.param(1_000_100, True, id="number"),
        pytest.param("1000100", True, id="in quotes"),
        pytest.param("1.0001e6", True, id="in quotes with an exponent"),
        pytest.param(0, False, id="zero is over"),
    ],
)
async def test_expiry_of_a_token_is_read_as_go_reads_it(
    tmp_path: Path, issuer: Issuer, exp: object, lasts: bool
) -> None:
    # encoding/json's Number; the clock of the test stands at 1,000,000.
    issuer.tokens = {"id_token": token("new", 1_000_200), "refresh_token": None}
    file = kubeconfig(tmp_path, issuer, id_token=token("o", exp), refresh_token="r")
    await shown(credentials(file, issuer))
    assert bool(issuer.asked) is not lasts


async def test_failed_refresh_stands_for_a_second(
    tmp_path: Path, issuer: Issuer
) -> None:
    issuer.status = 400
    old = token("o", issuer.clock.now)
    file = kubeconfig(tmp_path, issuer, id_token=old, refresh_token="r1")
    found = credentials(file, issuer)
    for _ in range(3):
        with pytest.raises(CredentialsError, match="the issuer answered 400"):
            await found.headers()
    assert len(issuer.asked) == 2  # with a header, and in the body
    issuer.clock.now += 1
    issuer.status, issuer.tokens = 200, {"id_token": token("n", issuer.clock.now + 60)}
    assert await shown(found) == issuer.tokens["id_token"]


async def test_our_own_writing_logs_nobody_in_again(
    tmp_path: Path, issuer: Issuer
) -> None:
    new = token("n", issuer.clock.now + 1000)
    file = kubeconfig(tmp_path, issuer, refresh_token="r1")
    issuer.tokens = {"id_token": new}
    current = Current(ClientFlags(kubeconfig=str(file)), {}, clock=issuer.clock)
    assert await shown(current.access.credentials) == new
    current.poll()
    assert await shown(current.access.credentials) == new
    assert len(issuer.asked) == 1
    assert (
        json.loads(file.read_bytes())["users"][0]["user"]["auth-provider"]["config"][
            "refresh-token"
        ]
        == "r1"
    )
    await current.close()


async def test_tokens_that_cannot_be_written_serve_all_the_same(
    tmp_path: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    new = token("n", issuer.clock.now + 1000)
    file = kubeconfig(tmp_path, issuer, refresh_token="hunter2")
    before = file.read_bytes()
    (tmp_path / "config.lock").touch()  # kubectl is at it
    issuer.tokens = {"id_token": new, "refresh_token": "hunter3"}
    found = credentials(file, issuer)
    assert await shown(found) == new
    assert file.read_bytes() == before
    assert "new tokens not written" in caplog.text
    assert "hunter" not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": 400}, "the issuer answered 400"),
        ({"tokens": {}}, "token response did not contain an id_token"),
        ({"tokens": {"id_token": "hunter2"}}, "ID Token is not a valid JWT"),
        ({"tokens": {"id_token": None}}, "token response did not contain an id_token"),
        ({"tokens": {"id_token": 5}}, "answer is not what it should be"),
        ({"tokens": "hunter2"}, "answer is not what it should be"),
        ({"metadata": False}, "doesn't contain a token_endpoint"),
        ({"url": "https://127.0.0.1:1"}, "Cannot connect to host"),
    ],
)
async def test_issuer_that_fails_is_reported(
    tmp_path: Path, issuer: Issuer, change: dict[str, Any], why: str
) -> None:
    for name, value in change.items():
        setattr(issuer, name, value)
    file = kubeconfig(tmp_path, issuer, refresh_token="hunter2")
    before = file.read_bytes()
    with pytest.raises(CredentialsError, match="failed to refresh token: ") as caught:
        await credentials(file, issuer).headers()
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert file.read_bytes() == before


async def test_issuer_must_be_the_one_that_is_trusted(
    tmp_path: Path, issuer: Issuer
) -> None:
    # The official Python client sends the refresh token to anybody.
    other = authority(tmp_path / "other").certificate
    file = kubeconfig(
        tmp_path,
        issuer,
        refresh_token="r",
        idp_certificate_authority="",
        idp_certificate_authority_data=base64.b64encode(other.read_bytes()).decode(),
    )
    with pytest.raises(CredentialsError, match="certificate verify failed"):
        await credentials(file, issuer).headers()
    file = kubeconfig(tmp_path, issuer, refresh_token="r", idp_certificate_authority="")
    with pytest.raises(CredentialsError, match="certificate verify failed"):
        await credentials(file, issuer).headers()
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"client-id": "me"}, "error: Must provide idp-issuer-url"),
        ({"idp-issuer-url": "https://i"}, "error: Must provide client-id"),
    ],
)
def test_incomplete_provider_is_refused_in_kubectls_words(
    tmp_path: Path, config: Document, text: str
) -> None:
    user = {"auth-provider": {"name": "oidc", "config": config}}
    file = write(tmp_path / "config", one_context({"server": "https://h"}, user))
    with pytest.raises(AccessError) as caught:
        load(ClientFlags(), environment(tmp_path, KUBECONFIG=str(file)))
    assert caught.value.text == text


# ------------------------------------------------------------------ writing


YAML = """\
# written by hand
current-context: x
users:
- name: other
  user: {token: "12:30"}
- name: u
  user:
    auth-provider:
      name: oidc
      config: {client-id: me}
contexts: []
"""


def test_user_is_rewritten_in_the_file_that_defines_it(tmp_path: Path) -> None:
    first = write(tmp_path / "first", {"users": [{"name": "v"}]})
    before = first.read_bytes()
    file = tmp_path / "real"
    file.write_text(YAML)
    (tmp_path / "link").symlink_to(file)
    files = [str(tmp_path / name) for name in ("gone", "first", "link")]
    save_auth_provider(files, "u", {"client-id": "me", "id-token": "é"})
    expected = yaml.safe_load(YAML)
    expected["users"][1]["user"]["auth-provider"]["config"]["id-token"] = "é"
    assert yaml.safe_load(file.read_text()) == expected
    assert (tmp_path / "link").is_symlink()
    assert first.read_bytes() == before


def test_nothing_is_written_where_the_user_has_gone(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(YAML)
    for user in ("other", "nobody"):
        with pytest.raises(ValueError, match=f'no auth-provider of user "{user}"'):
            save_auth_provider([str(file)], user, {})
    assert file.read_text() == YAML
    assert os.listdir(tmp_path) == ["config"]
