"""The sandbox's API server from outside: what kubectl does not show."""

import io
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pyproxy.sandbox.apiserver import Apiserver
from pyproxy.sandbox.apiserver.kinds import resource
from pyproxy.sandbox.apiserver.store import KEPT_CHANGES
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.support.waiting import scaled

pytestmark = pytest.mark.live

NAMESPACE = "/api/v1/namespaces/default"
CONFIGMAPS = f"{NAMESPACE}/configmaps"
EXEC = f"{NAMESPACE}/pods/web-0/exec?stdin=1&stdout=1&stderr=1"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR = range(4)
CLOSE = 255
FAST = 0.02  # a second of a watch's timeout


@dataclass
class Client:
    """An administrator of one server, unless told otherwise."""

    server: Apiserver
    issuer: Authority
    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Send a request and return status and document."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        named = {"Authorization": "Bearer admin-token", **named}
        async with self.session.request(
            method, self.server.url + path, json=body, headers=named
        ) as answer:
            text = await answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else text

    async def make(self, *names: str, data: str = "x") -> None:
        """Make ConfigMaps."""
        for name in names:
            body = {"metadata": {"name": name}, "data": {"a": data}}
            assert (await self.ask("POST", CONFIGMAPS, body))[0] == 201

    def watch(self, query: str) -> Any:
        """Open a watch of ConfigMaps."""
        return self.session.get(
            f"{self.server.url}{CONFIGMAPS}?watch=1&{query}",
            headers={"Authorization": "Bearer admin-token"},
        )

    def exec(self, command: str, protocol: str = V5, **flags: str) -> Any:
        """Open an exec."""
        words = "".join(f"&command={word}" for word in command.split())
        words += "".join(f"&{name}={value}" for name, value in flags.items())
        return self.session.ws_connect(
            self.server.url + EXEC + words,
            headers={"Authorization": "Bearer admin-token"},
            protocols=[protocol],
        )


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A server in this process, and a client that trusts it."""
    issuer = authority(tmp_path)
    pair, ca = issuer.issue("apiserver", ["127.0.0.1"]), issuer.certificate
    context = ssl.create_default_context(cafile=str(ca))
    async with (
        Apiserver(pair, ca, second=FAST) as server,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(scaled(20)),
        ) as session,
    ):
        yield Client(server, issuer, session)


async def messages(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """Everything that comes until the end, by channel."""
    found: dict[int, bytes] = {}
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.BINARY
        channel, data = message.data[0], message.data[1:]
        found[channel] = found.get(channel, b"") + data
    return found


async def receive(socket: aiohttp.ClientWebSocketResponse, end: bytes) -> bytes:
    """What comes on stdout until it ends so."""
    seen = b""
    while not seen.endswith(end):
        data = await socket.receive_bytes()
        assert data[0] == STDOUT
        seen += data[1:]
    return seen


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_exec_ends_with_a_status(client: Client, protocol: str) -> None:
    async with client.exec("echo hi", protocol) as socket:
        assert socket.protocol == protocol
        found = await messages(socket)
    assert found[STDOUT] == b"hi\n"
    assert json.loads(found[ERROR]) == {"metadata": {}, "status": "Success"}


async def test_exec_tells_the_exit_code(client: Client) -> None:
    async with client.exec("sh -c exit%207") as socket:
        status = json.loads((await messages(socket))[ERROR])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_exec_v5_closes_stdin_alone(client: Client) -> None:
    async with client.exec("cat") as socket:
        await socket.send_bytes(bytes([STDIN]) + b"one")
        assert await receive(socket, b"one") == b"one"
        await socket.send_bytes(bytes([CLOSE, STDIN]))
        found = await messages(socket)
    assert json.loads(found[ERROR])["status"] == "Success"


async def test_exec_ends_when_its_client_goes(client: Client) -> None:
    # Nothing is left of it: the fixtures that look for tasks would say so.
    async with client.exec("sleep 3000") as socket:
        await socket.send_bytes(bytes([STDIN]) + b"x")


async def test_exec_in_a_terminal_echoes_and_edits(client: Client) -> None:
    async with client.exec("sh", tty="true") as socket:
        assert await receive(socket, b"# ") == b"/ # "
        await socket.send_bytes(bytes([STDIN]) + b"ecx\x7fho $HOSTNAME\r")
        seen = await receive(socket, b"# ")
        assert seen == b"ecx\b \bho $HOSTNAME\r\nweb-0\r\n/ # "
        await socket.send_bytes(bytes([STDIN]) + b"\x03\x04")
        status = json.loads((await messages(socket))[ERROR])
    assert status["status"] == "Success"


async def test_exec_takes_a_websocket_and_a_right(client: Client) -> None:
    status, answer = await client.ask("GET", EXEC + "&command=true")
    assert (status, answer["reason"]) == (400, "BadRequest")
    as_bob = {"Impersonate_User": "bob", "Impersonate_Group": "viewers"}
    status, answer = await client.ask("GET", EXEC + "&command=true", **as_bob)
    assert status == 403
    assert 'cannot get resource "pods/exec"' in answer["message"]


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("", ["web: started", "one", "two"]),
        ("tailLines=1", ["two"]),
        ("tailLines=0", []),
        ("sinceSeconds=3600", ["web: started", "one", "two"]),
    ],
)
async def test_log_shows_what_is_asked(
    client: Client, query: str, lines: list[str]
) -> None:
    log = client.server.logs.of(("default", "web-0"), "web")
    log.write("one")
    log.write("two")
    _, text = await client.ask("GET", f"{NAMESPACE}/pods/web-0/log?{query}")
    assert text.decode().splitlines() == lines


async def test_followed_log_ends_with_its_pod(client: Client) -> None:
    path = f"{NAMESPACE}/pods/web-0"
    token = {"Authorization": "Bearer admin-token"}
    url = f"{client.server.url}{path}/log?follow=true"
    async with client.session.get(url, headers=token) as log:
        assert await log.content.readline() == b"web: started\n"
        await client.ask("DELETE", path)
        assert await log.content.readline() == b""


async def test_log_shows_times(client: Client) -> None:
    _, text = await client.ask("GET", f"{NAMESPACE}/pods/web-0/log?timestamps=true")
    assert text.decode().partition(" ")[0].endswith("Z")


async def test_client_certificate_names_user_and_groups(
    client: Client, tmp_path: Path
) -> None:
    pair = client.issuer.issue("carol", ["carol"], groups=["viewers", "readers"])
    context = ssl.create_default_context(cafile=str(client.issuer.certificate))
    context.load_cert_chain(pair.certificate, pair.key)
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    async with client.session.post(
        client.server.url + review, json={}, ssl=context
    ) as answer:
        found = (await answer.json())["status"]["userInfo"]
    assert found["username"] == "carol"
    assert found["groups"] == ["viewers", "readers", "system:authenticated"]


async def test_token_of_a_service_account_is_one(client: Client) -> None:
    path = f"{NAMESPACE}/serviceaccounts/default/token"
    status, made = await client.ask("POST", path, {"spec": {}})
    assert status == 201
    token = {"Authorization": f"Bearer {made['status']['token']}"}
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    _, found = await client.ask("POST", review, {}, **token)
    user = found["status"]["userInfo"]
    assert user["username"] == "system:serviceaccount:default:default"
    assert "system:serviceaccounts:default" in user["groups"]


async def test_long_list_is_compressed_if_that_is_accepted(client: Client) -> None:
    await client.make("long", data="x" * 200_000)
    url = client.server.url + CONFIGMAPS
    token = {"Authorization": "Bearer admin-token"}
    gzip = {**token, "Accept-Encoding": "gzip"}
    async with client.session.get(url, headers=gzip) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        compressed = await answer.json()
    plain = {**token, "Accept-Encoding": "identity"}
    async with client.session.get(url, headers=plain) as answer:
        assert "Content-Encoding" not in answer.headers
        assert await answer.json() == compressed


async def test_body_over_the_limit_is_refused(client: Client) -> None:
    token = {"Authorization": "Bearer admin-token"}
    async with client.session.post(
        client.server.url + CONFIGMAPS, data=io.BytesIO(b"x" * (4 << 20)), headers=token
    ) as answer:
        assert answer.status == 413
        assert (await answer.json())["reason"] == "RequestEntityTooLarge"


async def test_continue_token_from_before_a_compaction_goes_on(client: Client) -> None:
    await client.make("a", "b", "c")
    _, first = await client.ask("GET", f"{CONFIGMAPS}?limit=1")
    await client.make("aa")
    client.server.cluster.store.compact()
    token = first["metadata"]["continue"]
    status, gone = await client.ask("GET", f"{CONFIGMAPS}?limit=1&continue={token}")
    assert (status, gone["reason"]) == (410, "Expired")
    token = gone["metadata"]["continue"]
    _, rest = await client.ask("GET", f"{CONFIGMAPS}?continue={token}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["aa", "b", "c"]


async def test_pages_show_one_revision(client: Client) -> None:
    await client.make("a", "c")
    _, first = await client.ask("GET", f"{CONFIGMAPS}?limit=1")
    await client.make("b")
    await client.ask("DELETE", f"{CONFIGMAPS}/c")
    token = first["metadata"]["continue"]
    _, rest = await client.ask("GET", f"{CONFIGMAPS}?limit=1&continue={token}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_watch_sees_objects_enter_and_leave_a_selection(client: Client) -> None:
    await client.make("a")
    async with client.watch("labelSelector=on&timeoutSeconds=1000") as watch:
        path, merge = (
            f"{CONFIGMAPS}/a",
            {"Content_Type": "application/merge-patch+json"},
        )
        for labels in ({"on": "1"}, {"on": "2"}, {"on": None}):
            patch = {"metadata": {"labels": labels}}
            assert (await client.ask("PATCH", path, patch, **merge))[0] == 200
        events = [json.loads(await watch.content.readline()) for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[2]["object"]["metadata"]["labels"] == {"on": "2"}  # as last seen


async def test_watch_that_reads_too_slowly_is_told(client: Client) -> None:
    store = client.server.cluster.store
    async with client.watch("timeoutSeconds=100000") as watch:
        await client.make("a")
        assert json.loads(await watch.content.readline())["type"] == "ADDED"
        found, target = resource("configmaps"), ("default", "a")
        body = store.get(found, target)
        assert body is not None
        # All in one turn of the loop: no watcher reads in between.
        for number in range(KEPT_CHANGES + 1):
            store.put(found, target, {**body, "data": {"n": str(number)}})
        event = json.loads(await watch.content.readline())
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410


async def test_watch_gets_bookmarks_while_nothing_happens(client: Client) -> None:
    query = "timeoutSeconds=200&allowWatchBookmarks=true&resourceVersion=1"
    async with client.watch(query) as watch:
        await client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "other"}})
        event = json.loads(await watch.content.readline())
    assert event["type"] == "BOOKMARK"
    revision = int(event["object"]["metadata"]["resourceVersion"])
    assert 1 < revision <= client.server.cluster.store.revision


async def test_pretty_is_for_people(client: Client) -> None:
    token = {"Authorization": "Bearer admin-token"}
    url = f"{client.server.url}/version"
    for agent, is_pretty in (("curl/8.1", True), ("kubectl/v1.37", False)):
        headers = {**token, "User-Agent": agent}
        async with client.session.get(url, headers=headers) as answer:
            assert (await answer.text()).startswith('{\n  "major"') is is_pretty
    async with client.session.get(url + "?pretty=true", headers=token) as answer:
        assert (await answer.text()).startswith('{\n  "major"')


async def test_aggregated_discovery_says_the_same_as_the_plain(client: Client) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    _, core = await client.ask("GET", "/api", Accept=accept)
    _, groups = await client.ask("GET", "/apis", Accept=accept)
    for item in [*core["items"], *groups["items"]]:
        name = item["metadata"].get("name", "")
        path = f"/apis/{name}/v1" if name else "/api/v1"
        _, plain = await client.ask("GET", path)
        listed = {r["name"]: r for r in plain["resources"]}
        for found in item["versions"][0]["resources"]:
            assert listed[found["resource"]]["verbs"] == found["verbs"]
            for sub in found.get("subresources", []):
                full = f"{found['resource']}/{sub['subresource']}"
                assert listed[full]["kind"] == sub["responseKind"]["kind"]
