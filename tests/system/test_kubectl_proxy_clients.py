"""Clients that people have, at work through kubectl-proxy: official ones, a browser.

kubectl itself is in test_sandbox_kubectl.py, but for its terminal.
"""

import asyncio
import contextlib
import functools
import json
import os
import pty
import shutil
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from kubernetes import client, watch

from pyproxy.sandbox.apiserver import write_kubeconfig
from tests.fakes.apiserver import authority
from tests.fakes.desk import Desk
from tests.fakes.process import ROOT, Program
from tests.fakes.recorder import Recorder
from tests.support.kubectl import Kubectl
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NODE = shutil.which("node")
NODE_CLIENT = ROOT / "build" / "js" / "node_modules" / "@kubernetes" / "client-node"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Desk]:
    """A proxy in front of the sandbox's API server."""
    issuer = authority(tmp_path / "ca")
    pair, ca = issuer.issue("apiserver", ["127.0.0.1"]), issuer.certificate
    files = (str(pair.certificate), str(pair.key), str(ca))
    module = "pyproxy.sandbox.apiserver"
    with Program(tmp_path / "api", module, "127.0.0.1", "0", *files) as apiserver:
        apiserver.wait_for("\n")
        url = f"https://127.0.0.1:{apiserver.stdout.strip()}"
        file = tmp_path / "kubeconfig"
        write_kubeconfig(file, url, ca, "admin-token")
        flags = (f"--kubeconfig={file}", "--reject-paths=")
        with Desk(tmp_path / "proxy", *flags) as desk:
            yield desk


def read_until(terminal: int, text: str) -> None:
    """Read what kubectl shows, up to this."""
    seen = b""

    def is_there() -> bool:
        nonlocal seen
        with contextlib.suppress(BlockingIOError):
            seen += os.read(terminal, 65536)
        return text.encode() in seen

    wait_until(is_there, 30.0, f"{text!r} in the terminal")


def test_kubectl_types_in_a_terminal(proxy: Desk, tmp_path: Path) -> None:
    kubectl = Kubectl(tmp_path / "kubectl", f"--server=http://127.0.0.1:{proxy.port}")
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(ours), os.fdopen(theirs):
        termios.tcsetwinsize(theirs, (24, 80))
        with kubectl.type(theirs, "exec", "-it", "web-0", "--", "sh") as process:
            read_until(ours, "/ # ")
            os.write(ours, b"ecx\x7fho $HOSTNAME\r")
            read_until(ours, "web-0\r\n/ # ")
            termios.tcsetwinsize(theirs, (50, 132))
            process.send_signal(signal.SIGWINCH)
            os.write(ours, b"echo wide\r")
            read_until(ours, "wide\r\n/ # ")
            os.write(ours, b"\x04")  # ^D
            assert process.wait(scaled(30.0)) == 0


def test_python_client_lists_writes_and_watches(proxy: Desk) -> None:
    settings = client.Configuration()
    settings.host = f"http://127.0.0.1:{proxy.port}"
    with client.ApiClient(settings) as api:
        core: Any = client.CoreV1Api(api)
        assert "default" in [each.metadata.name for each in core.list_namespace().items]
        made = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c"))
        first = core.create_namespaced_config_map("default", made)
        patch = {"data": {"a": "1"}}
        core.patch_namespaced_config_map("c", "default", patch)
        core.delete_namespaced_config_map("c", "default")
        watching: Any = watch.Watch()  # type: ignore[no-untyped-call]
        seen = []
        for event in watching.stream(
            core.list_namespaced_config_map,
            "default",
            resource_version=first.metadata.resource_version,
            timeout_seconds=20,
        ):
            seen.append(event["type"])
            if len(seen) == 2:
                watching.stop()
        assert seen == ["MODIFIED", "DELETED"]
        assert core.read_namespaced_pod_log("web-0", "default") == "web: started\n"


SCRIPT = """
const k8s = require(process.argv[1]);
const config = new k8s.KubeConfig();
const cluster = {name: "p", server: process.argv[2], skipTLSVerify: true};
config.loadFromClusterAndUser(cluster, {name: "nobody"});
const core = config.makeApiClient(k8s.CoreV1Api);
const {Writable} = require("stream");
async function main() {
  const spaces = await core.listNamespace();
  const out = {spaces: spaces.items.map((each) => each.metadata.name)};
  await new Promise((done, fail) => {
    const seen = (type, object) => {
      if (!out.watched) { out.watched = type + " " + object.kind; done(); }
    };
    const path = "/api/v1/namespaces/default/pods";
    new k8s.Watch(config).watch(path, {}, seen, fail).catch(fail);
  });
  let text = "";
  const stdout = new Writable({write(chunk, _, next) { text += chunk; next(); }});
  await new Promise((done, fail) => {
    const ended = (status) => { out.status = status.status; done(); };
    const streams = [stdout, null, null, false];
    new k8s.Exec(config)
      .exec("default", "web-0", "", ["echo", "hello"], ...streams, ended).catch(fail);
  });
  console.log(JSON.stringify({...out, text}));
  process.exit(0);
}
main().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.mark.skipif(
    not NODE or not NODE_CLIENT.is_dir(),
    reason="no JavaScript client; tools/javascript.sh brings it where npm is",
)
def test_javascript_client_lists_watches_and_executes(proxy: Desk) -> None:
    done = subprocess.run(
        [str(NODE), "-e", SCRIPT, str(NODE_CLIENT), f"http://127.0.0.1:{proxy.port}"],
        capture_output=True,
        text=True,
        timeout=scaled(50.0),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "default" in found["spaces"]
    assert found["watched"] == "ADDED Pod"
    assert (found["text"], found["status"]) == ("hello\n", "Success")


OWN_PAGE = """<!doctype html><script>
const said = [];
const done = (what) => {
  said.push(what);
  if (said.length == 3) fetch("/report/" + said.sort());
};
fetch("/a", {method: "POST", body: "x"})
  .then((answer) => done("post " + answer.status));
fetch("/a").then((answer) => answer.text()).then((text) => done("get " + text));
const socket = new WebSocket(`ws://${location.host}/ws`);
socket.onopen = () => socket.send("ping");
socket.onmessage = (message) => done("ws " + message.data);
</script>"""

STRANGE_PAGE = """<!doctype html><script>
const said = [];
const done = (what) => {
  said.push(what);
  if (said.length == 2) fetch("/report/" + said.sort());
};
fetch("http://localhost:PORT/a", {method: "POST", body: "x", mode: "no-cors"})
  .then((answer) => done("post " + answer.type));
const socket = new WebSocket("ws://localhost:PORT/ws");
socket.onopen = () => done("ws open");
socket.onerror = () => done("ws refused");
</script>"""


@contextlib.contextmanager
def browser(url: str, profile: Path) -> Iterator[None]:
    """Keep a page open."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    running = subprocess.Popen(
        [str(CHROMIUM), *flags, f"--user-data-dir={profile}", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(scaled(20.0))


async def reported(to: Callable[[], list[str]]) -> str:
    """Wait for what a page has to say."""

    def found() -> list[str]:
        return [each for each in to() if each.startswith("/report/")]

    path = (await asyncio.to_thread(wait_until, found, 40.0, "a report"))[0]
    return unquote(path.removeprefix("/report/"))


async def talk(seen: list[str], request: web.Request) -> web.StreamResponse:
    """Be an upstream with a WebSocket."""
    seen.append(f"{request.method} {request.path}")
    if request.path != "/ws":
        return web.Response(text="hello")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"{message.data} pong")
    return socket


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here")
async def test_browser_page_of_ours_works_and_of_a_stranger_is_kept_out(
    tmp_path: Path,
) -> None:
    app = web.Application()
    seen: list[str] = []
    app.router.add_route("*", "/{path:.*}", functools.partial(talk, seen))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    own = tmp_path / "www"
    own.mkdir()
    (own / "page.html").write_text(OWN_PAGE)
    with Recorder(None) as stranger:
        flags = (f"--server=http://127.0.0.1:{runner.addresses[0][1]}", f"--www={own}")
        with await asyncio.to_thread(Desk, tmp_path / "p", *flags) as proxy:
            port = await asyncio.to_thread(lambda: proxy.port)
            page = STRANGE_PAGE.replace("PORT", str(port)).encode()
            head = f"Content-Type: text/html\r\nContent-Length: {len(page)}"
            stranger.answer = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + page
            url = f"http://127.0.0.1:{stranger.address.port}/"
            with browser(url, tmp_path / "one"):
                said = await reported(lambda: [s.target for s in stranger.seen])
            assert said == "post opaque,ws refused"
            assert seen == []
            url = f"http://localhost:{port}/static/page.html"
            with browser(url, tmp_path / "two"):
                said = await reported(lambda: [s.partition(" ")[2] for s in seen])
            assert said == "get hello,post 200,ws ping pong"
            assert {"GET /a", "GET /ws", "POST /a"} <= set(seen)
    await runner.cleanup()
