"""Requests as they leave, and what becomes of answers and of their absence."""

import asyncio
import json
from pathlib import Path

import pytest

from pyproxy.kube.config import ClientFlags, Current
from pyproxy.kube.errors import KubeError, TooLargeVersionError
from pyproxy.kube.wire import Wire
from pyproxy.sandbox.apiserver import Apiserver
from pyproxy.sandbox.certificates import Authority
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import one_context, write
from tests.support.kube_server import (
    NOWHERE,
    Answer,
    Asked,
    Script,
    status,
    wire_to,
)
from tests.support.kube_time import FakeTime


async def echo(asked: Asked, answer: Answer) -> None:
    """Answer with what was asked."""
    said = {"path": asked.path, "query": asked.query, "headers": dict(asked.headers)}
    await answer.document({**said, "body": asked.body.decode()})


async def refused(wire: Wire, method: str = "GET", path: str = "/x") -> KubeError:
    """Return the error that a request ends with."""
    with pytest.raises(KubeError) as caught:
        await wire.call(method, path)
    return caught.value


async def test_request_carries_what_it_should() -> None:
    async with Script(echo) as script:
        flags = ClientFlags(server=f"{script.url}/below/", as_="alice")
        wire = Wire(Current(flags, NOWHERE), user_agent="me/1")
        raw = await wire.call("PUT", "/x", {"a": "b=!c,d", "e": ""}, b"{}", "text/x")
        await wire.close()
    asked = json.loads(raw)
    assert asked["path"] == "/below/x"
    assert asked["query"] == {"a": "b=!c,d"}  # parse_qsl drops what is empty
    assert asked["body"] == "{}"
    headers = asked["headers"]
    assert headers["impersonate-user"] == "alice"
    assert headers["user-agent"] == "me/1"
    assert headers["content-type"] == "text/x"
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"  # it is on this machine
    assert "authorization" not in headers  # never to http://


@pytest.mark.parametrize(
    ("code", "document", "headers", "expected"),
    [
        (
            404,
            status(404, "NotFound", "gone"),
            {},
            (404, "NotFound", 0, "GET /x: gone"),
        ),
        (
            *(429, status(429, "TooManyRequests", "slow", retryAfterSeconds=1)),
            *({"Retry_After": "7"}, (429, "TooManyRequests", 7, "GET /x: slow")),
        ),
        (
            *(500, status(500, "InternalError", "no", retryAfterSeconds=3)),
            *({}, (500, "InternalError", 3, "GET /x: no")),
        ),
        (
            *(503, status(503, "", "no"), {"Retry_After": "Fri, 31 Dec 1999"}),
            (503, "", 0, "GET /x: no"),
        ),
        (502, "<html>\x1b[31mbad", {}, (502, "", 0, 'GET /x: "<html>\\u001b[31mbad"')),
    ],
)
async def test_refusal_becomes_a_kube_error(
    code: int, document: object, headers: dict[str, str], expected: tuple[object, ...]
) -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document(document, code, **headers)

    async with Script(serve) as script:
        wire = wire_to(script.url)
        error = await refused(wire)
        await wire.close()
    found = (error.status, error.reason, error.retry_after_s, str(error))
    assert found == expected
    assert error.is_transient == (code >= 429)


async def test_too_large_version_is_an_error_of_its_own() -> None:
    # list-and-watch.jsonl, line 11.
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large"}]
    document = status(504, "Timeout", causes=causes, retryAfterSeconds=1)

    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document(document, 504)

    async with Script(serve) as script:
        wire = wire_to(script.url)
        assert isinstance(error := await refused(wire), TooLargeVersionError)
        assert error.retry_after_s == 1
        await wire.close()


async def test_nobody_there_is_a_kube_error(free_port: int) -> None:
    wire = wire_to(f"http://127.0.0.1:{free_port}")
    error = await refused(wire)
    assert (error.status, error.reason) == (0, "Unreachable")
    assert error.__cause__ is not None
    await wire.close()


async def test_answer_that_breaks_off_is_a_kube_error() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.send(b'{"half":')
        answer.cut()

    async with Script(serve) as script:
        wire = wire_to(script.url)
        assert (await refused(wire)).reason == "Unreachable"
        await wire.close()


async def test_silence_ends_after_its_time() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        heard.set()
        await asyncio.Event().wait()

    clock, heard = FakeTime(), asyncio.Event()
    async with Script(serve) as script:
        wire = wire_to(script.url, clock)
        task = asyncio.create_task(refused(wire))
        await heard.wait()
        await clock.advance(29)
        assert not task.done()
        await clock.advance(2)
        assert str(await task) == "GET /x: no answer within 30 s"
        await wire.close()


@pytest.mark.parametrize("begins", [True, False], ids=["body", "head"])
async def test_request_under_way_fails_when_the_wire_closes(begins: bool) -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        if begins:
            await answer.send(b"{")
        heard.set()
        await asyncio.Event().wait()

    heard = asyncio.Event()
    async with Script(serve) as script:
        wire = wire_to(script.url, FakeTime())  # no timeout of ours will help
        task = asyncio.create_task(refused(wire))
        await heard.wait()
        await asyncio.sleep(0.01)  # for the first byte to arrive
        await wire.close()
        assert (await asyncio.wait_for(task, 5)).reason == "Unreachable"


async def test_requests_at_once_share_a_session(tmp_path: Path) -> None:
    async with Script(echo) as script:
        wire = wire_to(script.url)
        await asyncio.gather(*(wire.call("GET", "/x") for _ in range(10)))
        await wire.close()  # a second session would complain that nobody closed it


async def test_credentials_of_one_server_are_never_shown_to_another(
    tmp_path: Path, issuer: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kubeconfig changes while the credentials for the old server are waited for.
    secure = Secure(tmp_path, issuer)
    async with Script(echo) as script, secure.server:
        wire = secure.wire()
        old = wire.access.credentials
        headers = old.headers

        async def slow() -> tuple[tuple[str, str], ...]:
            write(secure.kubeconfig, one_context({"server": script.url}, {}))
            await wire.poll()
            return await headers()

        monkeypatch.setattr(old, "headers", slow)
        asked = json.loads(await wire.call("GET", "/x"))
        assert "authorization" not in asked["headers"]
        await wire.close()


async def test_refusal_that_comes_in_parts_is_read_whole() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        answer.begin(403)
        text = json.dumps(status(403, "Forbidden", "no"))
        for at in range(0, len(text), 20):
            await answer.send(text[at : at + 20].encode())
            await asyncio.sleep(0.001)

    async with Script(serve) as script:
        wire = wire_to(script.url)
        assert (await refused(wire)).reason == "Forbidden"
        await wire.close()


async def test_redirect_is_not_followed() -> None:
    # A token must not go where an answer says.
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document({}, 302, Location="http://127.0.0.1:1/")

    async with Script(serve) as script:
        wire = wire_to(script.url)
        assert await wire.call("GET", "/x") == b"{}\n"
        assert len(script.asked) == 1
        await wire.close()


class Secure:
    """The sandbox's API server and a token file for it."""

    def __init__(self, directory: Path, issuer: Authority) -> None:
        self.token = directory / "token"
        self.token.write_text("admin-token")
        self.kubeconfig = directory / "kubeconfig"
        self.clock = FakeClock()
        self._issuer = issuer
        pair = issuer.issue("apiserver", ["127.0.0.1"])
        self.server = Apiserver(pair, issuer.certificate, is_populated=False)

    def write(self, **cluster: object) -> None:
        """Write the kubeconfig."""
        authority = str(self._issuer.certificate)
        entry = {
            "server": self.server.url,
            "certificate-authority": authority,
            **cluster,
        }
        user = {"tokenFile": str(self.token)}
        write(self.kubeconfig, one_context(entry, user))

    def wire(self, **cluster: object) -> Wire:
        """Return a way to it."""
        self.write(**cluster)
        flags = ClientFlags(kubeconfig=str(self.kubeconfig))
        return Wire(Current(flags, NOWHERE, clock=self.clock), clock=self.clock)


async def test_rejected_token_is_read_again_and_the_request_sent_again(
    tmp_path: Path, issuer: Authority
) -> None:
    secure = Secure(tmp_path, issuer)
    async with secure.server:
        wire = secure.wire()
        assert b"golden" not in await wire.call("GET", "/api/v1/namespaces")
        secure.token.write_text("stale")
        secure.clock.now += 120  # it is read again every minute
        secure.token.write_text("nobody's")
        assert (await refused(wire, path="/api/v1/namespaces")).status == 401
        secure.token.write_text("admin-token")
        # The old one is still in use: the 401 has it read, and the request succeeds.
        assert await wire.call("GET", "/api/v1/namespaces")
        await wire.close()


async def test_rejected_token_that_stays_is_sent_once(tmp_path: Path) -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document(status(401, "Unauthorized"), 401)

    async with Script(serve) as script:
        wire = wire_to(script.url)
        assert (await refused(wire)).status == 401
        assert len(script.asked) == 1
        await wire.close()


async def test_kubeconfig_that_changes_leads_elsewhere(
    tmp_path: Path, issuer: Authority
) -> None:
    secure = Secure(tmp_path, issuer)
    async with Script(echo) as script, secure.server:
        wire = secure.wire()
        assert (await wire.call("GET", "/version")).startswith(b"{")
        write(secure.kubeconfig, one_context({"server": script.url}, {}))
        await wire.poll()
        assert json.loads(await wire.call("GET", "/version"))["path"] == "/version"
        await wire.close()


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        ({"certificate-authority": "", "server": ""}, "CERTIFICATE_VERIFY_FAILED"),
        ({"tls-server-name": "other.example"}, "Hostname mismatch"),
    ],
)
async def test_server_that_is_not_trusted_is_not_asked(
    tmp_path: Path, issuer: Authority, cluster: dict[str, object], why: str
) -> None:
    secure = Secure(tmp_path, issuer)
    async with secure.server:
        if "server" in cluster:
            cluster = {**cluster, "server": secure.server.url}
        wire = secure.wire(**cluster)
        error = await refused(wire)
        assert error.reason == "Unreachable"
        assert why in str(error)
        await wire.close()


async def test_server_that_need_not_be_trusted_is_asked(
    tmp_path: Path, issuer: Authority
) -> None:
    secure = Secure(tmp_path, issuer)
    async with secure.server:
        wire = secure.wire(
            **{"certificate-authority": "", "insecure-skip-tls-verify": True}
        )
        assert await wire.call("GET", "/version")
        await wire.close()


async def test_client_certificate_is_shown(tmp_path: Path, issuer: Authority) -> None:
    secure = Secure(tmp_path, issuer)
    pair = issuer.issue("carol", [])
    async with secure.server:
        flags = ClientFlags(
            server=secure.server.url,
            certificate_authority=str(issuer.certificate),
            client_certificate=str(pair.certificate),
            client_key=str(pair.key),
        )
        wire = Wire(Current(flags, NOWHERE))
        error = await refused(wire, path="/api/v1/secrets")
        assert error.status == 403
        assert 'User "carol"' in str(error)
        await wire.close()
