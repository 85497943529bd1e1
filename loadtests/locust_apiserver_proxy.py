"""Users of several rights at a bastion: pages, downloads, uploads, WebSockets.

Run by `make load MODE=apiserver-proxy`; alone: `locust -f` this file. Each answer is
checked against what the user may do: a refused user that is let in is a failure, as is
an administrator that is not, or a download that is not whole. Failures beyond
`--most-errors`, or a kind of user that did nothing, make the exit code 1.

Without `--host` it starts its own scene (load_scene.py). With it, the pods behind the
Service must have what tests/fakes/application.py has, or only some kinds of users are
asked for: `Refused` and `Stranger` need nothing behind it.
"""

import base64
import json
import random
import ssl
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import websocket
from locust import FastHttpUser, User, between, events, task
from locust.env import Environment

from loadtests.load_parts import Waves, started

PAGES = 100
DOWNLOAD = 4 << 20  # bytes
UPLOAD = 256 << 10
FEWEST = 13  # users: with fewer some kinds would be missing
WHOLE = bytes(range(256)) * (DOWNLOAD // 256)  # as tests/fakes/application.py sends it
SLOW_S = 30.0  # for one answer: no shape waits for ever


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Tell locust what this file can be told."""
    add = partial(parser.add_argument, include_in_web_ui=True)
    add("--ca", default="", help="file: what to trust the bastion by; empty = nothing")
    add("--service", default="e2e/web:odd", help="NAMESPACE/NAME:PORT")
    add("--node", default="", help="NAME:PORT of a node with /metrics; empty = none")
    add("--admin-token", default="admin-token", help="may everything")
    add("--reader-token", default="alice-token", help="may get the Service, no more")
    add("--refused-token", default="bob-token", help="may not")


@events.init.add_listener
def start_scene(environment: Environment, **_: Any) -> None:
    """Start what is loaded, if nobody has said what."""
    scene = started("loadtests.load_scene", environment)
    if scene is None:
        return
    options = environment.parsed_options
    assert options is not None
    environment.host = options.host = scene.found["host"]
    options.ca, options.node = scene.found["ca"], scene.found["node"]


def context_of(ca: str) -> ssl.SSLContext:
    """Return what to trust a bastion by."""
    if ca:
        return ssl.create_default_context(cafile=ca)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Visitor(FastHttpUser):
    """Somebody with a token, over a kept connection."""

    abstract = True
    wait_time = between(0.1, 1.0)
    insecure = False
    network_timeout = connection_timeout = SLOW_S
    token_option = ""
    expected = 200

    def __init__(self, environment: Environment) -> None:
        assert environment.parsed_options is not None
        self.options = environment.parsed_options
        self.ssl_context_factory = partial(context_of, self.options.ca)
        super().__init__(environment)
        space, _, service = self.options.service.partition("/")
        self.url = f"/api/v1/namespaces/{space}/services/{service}/proxy"
        self.headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def token(self) -> str:
        """What it shows."""
        option = self.token_option
        return str(getattr(self.options, option)) if option else ""

    def ask(
        self,
        name: str,
        path: str,
        *,
        method: str = "GET",
        status: int = 0,
        holds: Callable[[bytes], bool] = bool,
        **more: Any,
    ) -> None:
        """Send a request; an answer of another status, or other bytes, is a failure."""
        wanted = status or self.expected
        with self.client.request(
            method,
            path,
            name=f"{type(self).__name__}: {name}",
            headers={**self.headers, **more.pop("headers", {})},
            catch_response=True,
            allow_redirects=False,
            **more,
        ) as answer:
            if answer.status_code != wanted:
                answer.failure(f"{answer.status_code or answer.error} for {wanted}")
            elif not holds(answer.content or b""):
                answer.failure("not what was asked for")
            else:
                answer.success()

    def page(self) -> None:
        """Look at a page of the application."""
        number = random.randrange(PAGES)
        title = f"<title>page {number}</title>".encode()
        self.ask("page", f"{self.url}/pages/{number}", holds=lambda got: title in got)


class Admin(Visitor):
    """May everything, and looks at everything."""

    weight = 2
    token_option = "admin_token"

    @task(5)
    def look(self) -> None:
        """Read a page."""
        self.page()

    @task(2)
    def send(self) -> None:
        """Upload something."""
        self.ask(
            "upload",
            f"{self.url}/upload",
            method="POST",
            data=bytes(UPLOAD),
            holds=lambda got: json.loads(got)["bytes"] == UPLOAD,
        )

    @task(2)
    def scrape(self) -> None:
        """Read the metrics of a node."""
        if self.options.node:
            path = f"/api/v1/nodes/{self.options.node}/proxy/metrics"
            self.ask("metrics", path, holds=lambda got: b"node_up{" in got)

    @task(1)
    def list_services(self) -> None:
        """Ask the apiserver itself, through the bastion."""
        path = self.url.partition("/services/")[0] + "/services"
        self.ask("list", path, holds=lambda got: b"ServiceList" in got)


class Reader(Visitor):
    """May read one application, and nothing else."""

    weight = 6
    token_option = "reader_token"

    @task(20)
    def look(self) -> None:
        """Read a page."""
        self.page()

    @task(1)
    def download(self) -> None:
        """Fetch something large; every byte counts."""
        path = f"{self.url}/download/{DOWNLOAD}"
        self.ask("download", path, holds=lambda got: got == WHOLE)

    @task(2)
    def overreach(self) -> None:
        """Try to write, which is not allowed."""
        self.ask("may not", f"{self.url}/upload", method="POST", data=b"x", status=403)


class Refused(Visitor):
    """Is known and has no rights: learns nothing of what there is."""

    weight = 2
    token_option = "refused_token"
    expected = 403

    @task
    def look(self) -> None:
        """Try a page."""
        path = f"{self.url}/pages/{random.randrange(PAGES)}"
        self.ask("page", path, holds=lambda got: b"is forbidden" in got)

    @task
    def guess(self) -> None:
        """Try something that is not there."""
        path = self.url.replace("/services/", "/services/no-")
        self.ask("guess", f"{path}/", holds=lambda got: b"is forbidden" in got)


class Stranger(Visitor):
    """Shows nothing, or something that is nobody's."""

    weight = 1

    @task(2)
    def look(self) -> None:
        """Try without a token."""
        self.ask("page", f"{self.url}/pages/1", status=403)

    @task(1)
    def forge(self) -> None:
        """Try with one of its own making; there are many of them."""
        shown = {"Authorization": f"Bearer forged-{random.randrange(10**6)}"}
        self.ask("forged", f"{self.url}/pages/1", headers=shown, status=401)


class Talker(User):
    """A browser's WebSocket, with the reader's token among its subprotocols."""

    weight = 2
    wait_time = between(0.2, 1.0)

    @task
    def talk(self) -> None:
        """Open, say something, hear it again, close."""
        begin, failed = time.perf_counter(), None
        try:
            self._talk()
        except (websocket.WebSocketException, OSError, ValueError) as error:
            failed = error
        self.environment.events.request.fire(
            request_type="WS",
            name="Talker: ten messages",
            response_time=(time.perf_counter() - begin) * 1e3,
            response_length=0,
            exception=failed,
            context={},
        )

    def _talk(self) -> None:
        options = self.environment.parsed_options
        assert options is not None
        assert self.environment.host is not None
        space, _, service = options.service.partition("/")
        where = self.environment.host.replace("https:", "wss:")
        url = f"{where}/api/v1/namespaces/{space}/services/{service}/proxy/ws"
        word = base64.urlsafe_b64encode(options.reader_token.encode()).decode()
        token = f"base64url.bearer.authorization.k8s.io.{word.rstrip('=')}"
        trust = {"context": context_of(options.ca)}
        with closing(
            websocket.create_connection(
                url, timeout=SLOW_S, sslopt=trust, subprotocols=[token, "echo"]
            )
        ) as connection:
            for number in range(10):
                connection.send(f"message {number}")
                if connection.recv() != f"message {number}":
                    raise ValueError("another message than was sent")


class Shape(Waves):
    """In waves, or steady."""

    abstract = False
    fewest = FEWEST
