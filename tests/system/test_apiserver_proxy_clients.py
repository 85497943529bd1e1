"""Clients at work through apiserver-proxy: curl, Prometheus, a browser.

kubectl is in test_apiserver_proxy_kubectl.py: it takes a real cluster.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyproxy.sandbox.certificates import Authority
from tests.fakes.application import CHUNK, Application
from tests.fakes.bastion import Bastion, bastion, own_address
from tests.fakes.bastion_cluster import (
    Call,
    make_node,
    make_pod,
    make_service,
)
from tests.fakes.process import Program
from tests.support.bastion_rig import RBAC, SPACE, grant
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CURL = shutil.which("curl")
PROMETHEUS = shutil.which("prometheus")
APP = f"{SPACE}/services/app/proxy"


@dataclass(frozen=True)
class Rig:
    """A bastion, and an application behind a Service, a Pod and a Node."""

    program: Bastion
    application: Application
    call: Call
    directory: Path

    @property
    def url(self) -> str:
        """Of the bastion."""
        return f"https://127.0.0.1:{self.program.port}"

    @property
    def ca(self) -> Path:
        """What to trust it by."""
        return self.directory / "rig" / "ca.crt"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests without a real cluster."""
    directory = tmp_path_factory.mktemp("clients")
    host = own_address()
    (directory / "pod").mkdir()
    pair = Authority(directory / "pod").issue("pod", [host])
    with (
        Application(directory / "application", host, pair) as application,
        bastion(directory / "rig") as (program, _, call),
    ):
        make_pod(call, "app-0", host, [("http", application.port)])
        make_service(call, "app", [("", 80, application.port)], "app-0", host)
        make_node(call, "worker", host, application.tls_port)
        grant(call)
        let_anybody(call)
        made = Rig(program, application, call, directory)
        target = f"{APP}/pages/1"
        wait_until(lambda: program.ask(target).status == 200, 10.0, "the Service")
        yield made


def let_anybody(call: Call) -> None:
    """Let those who show nothing use the application: a browser has no token."""
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": [""],
        "resources": ["services/proxy", "services/unsafeproxy"],
        "resourceNames": ["app"],
        "verbs": ["get", "create"],
    }
    role = {"metadata": {"name": "anybody"}, "rules": [rule]}
    call("POST", f"{RBAC}/clusterroles", role)
    binding = {
        "metadata": {"name": "anybody"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": "system:anonymous"}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "anybody"},
    }
    call("POST", f"{RBAC}/clusterrolebindings", binding)


# curl


def curl(rig: Rig, path: str, *options: str, token: str = "admin-token") -> bytes:
    """Run curl to its end and return what it prints."""
    done = subprocess.run(
        [
            *(str(CURL), "--silent", "--show-error", "--cacert", str(rig.ca)),
            *("--header", f"Authorization: Bearer {token}", *options),
            f"{rig.url}{path}",
        ],
        capture_output=True,
        timeout=scaled(60.0),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_curl = pytest.mark.skipif(not CURL, reason="no curl here")
SIZE = 100_000_000


@needs_curl
def test_curl_downloads_all_of_a_large_body(rig: Rig) -> None:
    got = curl(rig, f"{APP}/download/{SIZE}")
    expected = hashlib.sha256()
    for at in range(0, SIZE, len(CHUNK)):
        expected.update(CHUNK[: SIZE - at])
    assert hashlib.sha256(got).digest() == expected.digest()


@needs_curl
@pytest.mark.parametrize("way", [(), ("--header", "Transfer-Encoding: chunked")])
def test_curl_uploads_a_file(rig: Rig, tmp_path: Path, way: tuple[str, ...]) -> None:
    data = os.urandom(10_000_000)
    (tmp_path / "file").write_bytes(data)
    said = json.loads(
        curl(rig, f"{APP}/upload", "--upload-file", str(tmp_path / "file"), *way)
    )
    digest = hashlib.sha256(data).hexdigest()
    assert said == {"bytes": len(data), "sha256": digest}


@needs_curl
def test_curl_follows_a_redirect_and_keeps_its_cookie(rig: Rig, tmp_path: Path) -> None:
    jar = str(tmp_path / "jar")
    curl(rig, f"{APP}/app/relative/", "--cookie-jar", jar)
    said = curl(
        rig,
        f"{APP}/app/relative/submit",
        *("--location", "--data", "a=c", "--cookie", jar),
    )
    assert b"form c 7" in said
    # A URL without its slash leads to one with it.
    assert b"HTTP/1.1 301 " in curl(rig, APP, "--head")


@needs_curl
def test_curl_of_a_user_without_rights_is_told_so(rig: Rig) -> None:
    path = f"{SPACE}/pods/app-0/proxy/pages/1"
    said = json.loads(curl(rig, path, token="bob-token"))
    assert (said["kind"], said["code"]) == ("Status", 403)


# Prometheus


SCRAPE = """global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: {job}
  scheme: https
  metrics_path: {path}
  authorization: {{credentials_file: {token}}}
  tls_config: {{ca_file: {ca}}}
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus(Program):
    """A real one, that scrapes one place every second."""

    launcher = (str(PROMETHEUS),)

    def __init__(self, directory: Path, rig: Rig, path: str, token: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "token").write_text(token)
        config = directory / "prometheus.yml"
        config.write_text(
            SCRAPE.format(
                job="node",
                path=path,
                token=directory / "token",
                ca=rig.ca,
                port=rig.program.port,
            )
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        super().__init__(
            directory,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        )

    def value(self, query: str) -> list[tuple[dict[str, str], str]]:
        """Return labels and value of each series."""
        asked = urllib.parse.urlencode({"query": query})
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{asked}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.loads(answer.read())["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            return []  # it is not up yet
        return [(each["metric"], each["value"][1]) for each in found]


@pytest.mark.skipif(not PROMETHEUS, reason="no prometheus (Debian package) here")
@pytest.mark.parametrize("way", ["kubelet", "port"])
def test_prometheus_scrapes_a_node(rig: Rig, tmp_path: Path, way: str) -> None:
    port = {"kubelet": rig.application.tls_port, "port": rig.application.port}[way]
    node = "worker" if way == "kubelet" else f"worker:{rig.application.port}"
    path = f"/api/v1/nodes/{node}/proxy/metrics"
    # alice may get nodes/proxy, by the role that the rig gives her.
    with Prometheus(tmp_path / "p", rig, path, "alice-token") as prometheus:
        up = 'up{job="node"}'
        wait_until(lambda: prometheus.value(up), 30.0, "a scrape")
        assert [value for _, value in prometheus.value(up)] == ["1"]
        (found,) = prometheus.value("node_up")
        assert (found[0]["port"], found[1]) == (str(port), "1")


@pytest.mark.skipif(not PROMETHEUS, reason="no prometheus (Debian package) here")
def test_prometheus_without_the_right_gets_no_metrics(rig: Rig, tmp_path: Path) -> None:
    path = "/api/v1/nodes/worker/proxy/metrics"
    with Prometheus(tmp_path / "p", rig, path, "bob-token") as prometheus:
        wait_until(lambda: prometheus.value("up"), 30.0, "a scrape")
        assert [value for _, value in prometheus.value("up")] == ["0"]
        assert prometheus.value("node_up") == []


# A browser


@contextlib.contextmanager
def browser(url: str, profile: Path) -> Iterator[None]:
    """Keep a page open."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    flags += ["--ignore-certificate-errors", f"--user-data-dir={profile}"]
    running = subprocess.Popen(
        [str(CHROMIUM), *flags, url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, 9)
        running.wait(scaled(20.0))


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here")
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_browser_uses_links_forms_and_a_websocket_of_a_page(
    rig: Rig, tmp_path: Path, kind: str
) -> None:
    def reports() -> list[str]:
        wanted = f"GET /app/{kind}/report?"
        return [each for each in rig.application.seen() if each.startswith(wanted)]

    with browser(f"{rig.url}{APP}/app/{kind}/", tmp_path / "profile"):
        said = wait_until(reports, 60.0, "a report")[0]
    told = urllib.parse.unquote(urllib.parse.unquote(said.partition("?")[2])).split(",")
    # The cookie of the page came along, though the application scopes it to /app.
    assert told == ["form b 7", "link 7", "script", "socket ping", "styled"]
    seen = {each.partition("?")[0] for each in rig.application.seen()}
    for name in ("style.css", "app.js", "pixel.svg", "next", "ws"):
        assert f"GET /app/{kind}/{name}" in seen
    assert f"POST /app/{kind}/submit" in seen
