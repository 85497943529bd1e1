"""Three small servers with a balancer before them, and a cluster with its proxies.

Each is a process of its own, as it would be in earnest: they can be killed, stopped and
brought back, and the balancer is exactly the program that a user starts.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyproxy.config import parse_address
from pyproxy.errors import StartError
from pyproxy.sandbox.apiserver.kubeconfig import write_kubeconfig
from pyproxy.sandbox.certificates import Authority, Pair
from pyproxy.sandbox.children import Child
from pyproxy.sandbox.guide import Guide, Row, say, say_event

NAMES = ("alpha", "beta", "gamma")
HOST = "127.0.0.1"
DEFAULT_LISTEN = "127.0.0.1:6443"
DEFAULT_ADMIN = "127.0.0.1:9791"
DEFAULT_BASTION = "127.0.0.1:8443"
NODE_PORTS = range(30443, 32768)
DRAIN_S = 2  # Ctrl-C should not wait for a curl that watches
PATIENCE_S = 20.0  # for a process to start


@dataclass(slots=True)
class Server:
    """One small server; it comes back at the port that it had."""

    name: str
    pair: Pair
    port: int = 0
    child: Child | None = None

    async def start(self) -> None:
        """Start, and learn the port."""
        files = (str(self.pair.certificate), str(self.pair.key))
        module = "pyproxy.sandbox.server"
        self.child = Child(module, self.name, HOST, str(self.port), *files)
        await self.child.start()
        line = await self.child.first_line(PATIENCE_S)
        if not line.isdecimal():
            raise StartError(f"the small server {self.name} did not start")
        self.port = int(line)


@dataclass(slots=True)
class Inside(Server):
    """A pod with a page, and a kubelet: what is inside of the cluster."""

    ca: Path = Path()
    kubelet_port: int = 0

    async def start(self) -> None:
        """Start, and learn the ports."""
        files = (str(self.pair.certificate), str(self.pair.key), str(self.ca))
        ports = (str(self.port), str(self.kubelet_port))
        self.child = Child("pyproxy.sandbox.inside", HOST, *ports, *files)
        await self.child.start()
        words = (await self.child.first_line(PATIENCE_S)).split()
        if len(words) != len(ports):
            raise StartError("the page did not start")
        self.port, self.kubelet_port = map(int, words)


@dataclass(slots=True)
class ApiServer(Server):
    """The API server; what it knew is lost when it is killed."""

    ca: Path = Path()
    inside: Inside | None = None
    node_port: int = 0  # of the Service of the small servers
    servers: Sequence[Server] = ()

    async def start(self) -> None:
        """Start, learn the port, and say in a kubeconfig how to reach it."""
        assert self.inside is not None
        files = (str(self.pair.certificate), str(self.pair.key), str(self.ca))
        there = (self.inside.port, self.inside.kubelet_port, self.node_port)
        real = map(str, (*there, *(each.port for each in self.servers)))
        module = "pyproxy.sandbox.apiserver"
        self.child = Child(module, HOST, str(self.port), *files, *real)
        await self.child.start()
        line = await self.child.first_line(PATIENCE_S)
        if not line.isdecimal():
            raise StartError("the API server did not start")
        self.port = int(line)
        url = f"https://{HOST}:{self.port}"
        write_kubeconfig(self.kubeconfig, url, self.ca, "admin-token")

    @property
    def kubeconfig(self) -> Path:
        """The file for kubectl."""
        return self.ca.with_name("kubeconfig")


@dataclass(slots=True)
class Bastion(Server):
    """`pyproxy apiserver-proxy`, before the API server and what is inside."""

    api: ApiServer | None = None

    async def start(self) -> None:
        """Start, and learn the port."""
        assert self.api is not None
        ca, files = str(self.api.ca), (str(self.pair.certificate), str(self.pair.key))
        self.child = Child(
            *("pyproxy", "apiserver-proxy", f"--kubeconfig={self.api.kubeconfig}"),
            *(f"--bind-address={HOST}", f"--secure-port={self.port}"),
            *(f"--tls-cert-file={files[0]}", f"--tls-private-key-file={files[1]}"),
            *(f"--client-ca-file={ca}", f"--kubelet-certificate-authority={ca}"),
            f"--kubelet-client-certificate={files[0]}",
            f"--kubelet-client-key={files[1]}",
            # What is inside is on this machine, which is refused everywhere else.
            f"--allow-address={HOST}/32",
            *("--virtual-host-suffix=localhost", f"--audit-log-path={self.audit_log}"),
            *("--workers=1", "--admin-address=", "--log-level=error"),
            "--drain-timeout=1s",
        )
        await self.child.start()
        line = await self.child.first_line(PATIENCE_S)
        if not line.startswith("Starting to serve on "):
            raise StartError("the bastion did not start, its reason stands above")
        self.port = int(line.rpartition(":")[2])

    @property
    def audit_log(self) -> Path:
        """The file that says who did what."""
        return self.pair.key.with_name("audit.log")


@dataclass(slots=True)
class Node(Server):
    """`pyproxy kube-proxy`, without privileges: node ports of the loopback."""

    api: ApiServer | None = None

    async def start(self) -> None:
        """Start, and wait until Services are served."""
        assert self.api is not None
        self.child = Child(
            *("pyproxy", "kube-proxy", f"--kubeconfig={self.api.kubeconfig}"),
            *("--hostname-override=laptop", "--capture=bind"),
            *("--nodeport-addresses=localhost", "--cluster-cidr=10.244.0.0/16"),
            *("--healthz-bind-address=", "--admin-address=", "--oom-score-adj=0"),
            *("--workers=1", "--log-level=error", "--drain-timeout=1s"),
        )
        await self.child.start()
        line = await self.child.first_line(PATIENCE_S)
        if not line.startswith("Starting to serve on "):
            raise StartError("the kube proxy did not start, its reason stands above")
        self.port = self.api.node_port


class Sandbox:
    """Everything that runs, with its files in one temporary directory."""

    def __init__(
        self, directory: Path, listen: str, admin_address: str, bastion_port: int
    ) -> None:
        self._authority = Authority(directory)
        hosts = ("localhost", HOST, "::1", "kubernetes.default.svc")
        self._servers = [Server(n, self._authority.issue(n, hosts)) for n in NAMES]
        pair = self._authority.issue("apiserver", hosts)
        ca = self._authority.certificate
        inside = self._authority.issue("inside", hosts)
        self._inside = Inside("page", inside, ca=ca)
        self._api = ApiServer("api", pair, ca=ca, inside=self._inside)
        self._api.node_port, self._api.servers = _free_node_port(), self._servers
        self._node = Node("services", pair, api=self._api)
        names = [*hosts, "*.default.svc.localhost"]
        bastion = self._authority.issue("bastion", names)
        self._bastion = Bastion("bastion", bastion, bastion_port, api=self._api)
        cluster = (self._inside, self._api, self._node, self._bastion)
        self._all = [*self._servers, *cluster]
        self._file = directory / "apiserver-lb.json"
        self._listen = listen
        self._admin_address = admin_address
        self._admin_url = ""
        self._balancer = Child(
            "pyproxy",
            "apiserver-lb",
            f"--config={self._file}",
            "--log-format=json",
            errors=PIPE,
        )
        self._stopping = asyncio.Event()
        self._revive = asyncio.Event()
        self._followers: set[asyncio.Task[None]] = set()

    @classmethod
    async def run(
        cls, listen: str | None, admin_address: str | None, bastion_port: int | None
    ) -> int:
        """Run until Ctrl-C and return the exit code."""
        if bastion_port is None:
            bastion_port = parse_address(_free_or_any(DEFAULT_BASTION))[1]
        with tempfile.TemporaryDirectory(prefix="pyproxy-sandbox-") as name:
            sandbox = cls(
                Path(name),
                listen or _free_or_any(DEFAULT_LISTEN),
                admin_address or _free_or_any(DEFAULT_ADMIN),
                bastion_port,
            )
            async with sandbox._signals():
                try:
                    await sandbox._live()
                finally:
                    await sandbox._end()
            return 0

    async def _live(self) -> None:
        work = asyncio.create_task(self._start_and_watch())
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)

    async def _start_and_watch(self) -> None:
        servers = asyncio.gather(*(server.start() for server in self._servers))
        cluster = self._follow(self._start_cluster(servers))  # beside the others
        await servers
        self._file.write_text(json.dumps(self._configuration(), indent=2))
        await self._balancer.start()
        self._follow(self._read_log())
        serving = await self._balancer.first_line(PATIENCE_S)
        if not serving.startswith("Starting to serve on "):
            raise StartError("the balancer did not start, its reason stands above")
        await cluster
        say(self._guide(serving.removeprefix("Starting to serve on ")).text())
        for server in self._all:
            self._follow(self._watch(server))
        self._follow(self._bring_back())
        await self._balancer.process.wait()
        if not self._stopping.is_set():
            raise StartError("the balancer ended by itself")

    async def _start_cluster(self, servers: Awaitable[object]) -> None:
        await self._inside.start()
        await servers  # whose ports stand in slices
        await self._api.start()
        await asyncio.gather(self._node.start(), self._bastion.start())

    def _follow(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)
        return task

    def _configuration(self) -> dict[str, object]:
        servers = [{"address": f"{HOST}:{server.port}"} for server in self._servers]
        check = {
            "ca": str(self._authority.certificate),
            "interval": "1s",
            "fastInterval": "250ms",
            "timeout": "700ms",
        }
        return {
            "listeners": [{"address": self._listen}],
            "pools": [{"name": "sandbox", "servers": servers, "check": check}],
            "timeouts": {"drain": f"{DRAIN_S}s", "slowStart": "5s"},
            "adminAddress": self._admin_address,
        }

    def _guide(self, address: str) -> Guide:
        rows = [Row("balancer", self._balancer.pid, address, "pyproxy apiserver-lb")]
        rows += [_row(server, "small server") for server in self._servers]
        rows.append(_row(self._api, "Kubernetes API, in memory"))
        rows.append(_row(self._node, "pyproxy kube-proxy, a node port"))
        rows.append(_row(self._bastion, "pyproxy apiserver-proxy"))
        rows.append(_row(self._inside, "page of a pod, and a kubelet"))
        ca, kubeconfig = str(self._authority.certificate), str(self._api.kubeconfig)
        audit_log = str(self._bastion.audit_log)
        return Guide(rows, ca, self._admin_url, os.getpid(), kubeconfig, audit_log)

    async def _read_log(self) -> None:
        """Tell what the balancer sees, in words."""
        assert self._balancer.process.stderr is not None
        names = {f"{HOST}:{server.port}": server.name for server in self._servers}
        async for line in self._balancer.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                say(line.decode("utf-8", "replace").rstrip())
                continue
            if entry["event"] == "admin address open":
                self._admin_url = entry["url"]
            elif entry["event"] == "backend changed":
                if entry["was"] != "UNCHECKED":
                    name = names.get(entry["backend"], entry["backend"])
                    say_event(name, entry["now"], entry["why"])
            elif entry["level"] in ("warning", "error"):
                say_event("balancer", entry["event"], entry.get("why", ""))

    async def _watch(self, server: Server) -> None:
        assert server.child is not None
        await server.child.process.wait()
        if not self._stopping.is_set():
            say_event(server.name, "killed", f"kill -USR1 {os.getpid()} brings it back")

    async def _bring_back(self) -> None:
        while True:
            await self._revive.wait()
            self._revive.clear()
            for server in self._all:
                if server.child is not None and not server.child.is_running:
                    await self._start_again(server)

    async def _start_again(self, server: Server) -> None:
        try:
            await server.start()
        except StartError as error:  # its port is another's by now, perhaps
            say_event(server.name, "not back", str(error))
            return
        assert server.child is not None
        say_event(server.name, "back", f"pid {server.child.pid}")
        self._follow(self._watch(server))

    async def _end(self) -> None:
        self._stopping.set()
        await self._balancer.stop(signal.SIGTERM, DRAIN_S + 3.0)
        for server in self._all:
            if server.child is not None:
                await server.child.stop(signal.SIGKILL, 1.0)
        for task in list(self._followers):
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._revive.set)
        try:
            yield
        finally:
            for number in (
                signal.SIGINT,
                signal.SIGTERM,
                signal.SIGHUP,
                signal.SIGUSR1,
            ):
                loop.remove_signal_handler(number)


def _free_node_port() -> int:
    """Return a port of the loopback in the range of node ports."""
    for port in NODE_PORTS:
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise StartError(f"none of {NODE_PORTS} is free")


def _row(server: Server, role: str) -> Row:
    assert server.child is not None
    return Row(server.name, server.child.pid, f"{HOST}:{server.port}", role)


def _free_or_any(address: str) -> str:
    """Return `address`, or one with port 0 when it is in use already."""
    host, port = parse_address(address)
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return f"{host}:0"
    return address
