"""A cluster's network on one machine: nodes with bridges, pods behind them, outsiders.

::

    outside 0 ... 192.168.50.100      node 0: 192.168.50.10       node 1: 192.168.50.11
         |                              |          bridge cni0 10.244.0.1 ...
         +------- LAN, a bridge --------+            |         |
                  192.168.50.1                    pod 0      pod 1
                                               10.244.0.2  10.244.0.3

IPv6 likewise: fd50::/64 outside, fd44:0:0:N+1::/64 for pods of node N. Nodes know the
way to each other's pods. Each place is a network namespace. A server is made by a
thread inside (`entered`) and served from anywhere: a socket stays where it was made.
"""

import asyncio
import contextlib
import errno
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.fakes import netexec
from tests.support.netns import NetNs
from tests.support.waiting import scaled

HTTP, UDP = 8080, 8081  # ports of pods
ANSWER_S = 5.0
SILENCE_S = 0.4  # a peer on this machine that has not answered by then does not answer
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=1",  # the strictest, which many systems have
)


class Place:
    """A namespace with an address of each family."""

    def __init__(self, name: str, ipv4: str, ipv6: str) -> None:
        self.name = name
        self.hosts = {"ipv4": ipv4, "ipv6": ipv6}
        self.ns = NetNs()

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Be there with the calling thread."""
        return self.ns.entered()

    def run(self, *command: str) -> str:
        """Run a program there."""
        return self.ns.run(*command)

    def ip(self, *lines: str) -> None:
        """Run lines for ip -batch, each of which begins with its family."""
        for option in ("-4", "-6"):
            wanted = [line[3:] for line in lines if line.startswith(option)]
            self._batch(option, wanted)

    def link(self, *lines: str) -> None:
        """Run lines for ip -batch that are of no family."""
        self._batch("-0", list(lines))

    def _batch(self, family: str, lines: list[str]) -> None:
        options = [] if family == "-0" else [family]
        if lines:
            self.ns.feed("\n".join(lines), "ip", *options, "-batch", "-")

    def http(self, host: str, port: int, request: str = "hostname", **how: Any) -> str:
        """What a request from here is answered; "refused" or "silence" otherwise."""
        return self._ask(netexec.ask_http, (host, port), request, **how)

    def udp(self, host: str, port: int, request: str = "hostname", **how: Any) -> str:
        """What a datagram from here is answered; "refused" or "silence" otherwise."""
        return self._ask(netexec.ask_udp, (host, port), request, **how)

    def _ask(
        self,
        ask: Callable[..., str],
        address: tuple[str, int],
        request: str,
        *,
        wait_s: float = ANSWER_S,
        local: int = 0,
    ) -> str:
        with self.entered():
            try:
                return ask(address, request, scaled(wait_s), local)
            except (ConnectionRefusedError, PermissionError):
                # The second is what sendto(2) says of a datagram that is refused here.
                return "refused"
            except ConnectionResetError:
                return "reset"
            except TimeoutError:
                return "silence"
            except OSError as error:
                # What a router says at last of an address where nobody is.
                if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                    raise
                return "nowhere"


class Node(Place):
    """A machine of the cluster with its pods."""

    def __init__(self, serial: int) -> None:
        host = 10 + serial
        super().__init__(f"node-{serial}", f"192.168.50.{host}", f"fd50::{host}")
        self.serial = serial
        self.pods: list[Place] = []
        self.networks = {
            "ipv4": f"10.244.{serial}.0/24",
            "ipv6": f"fd44:0:0:{serial + 1}::/64",
        }
        self.gateways = {
            "ipv4": f"10.244.{serial}.1",
            "ipv6": f"fd44:0:0:{serial + 1}::1",
        }

    def prepare(self) -> None:
        """Make the bridge of pods."""
        self.run("sysctl", "-qw", *SETTINGS)
        self.link("link add cni0 type bridge", "link set cni0 up")
        self.ip(
            f"-4 addr add {self.gateways['ipv4']}/24 dev cni0",
            f"-6 addr add {self.gateways['ipv6']}/64 dev cni0 nodad",
        )

    def add_pod(self) -> Place:
        """Add one more pod."""
        number = len(self.pods) + 2
        pod = Place(
            f"pod-{self.serial}-{len(self.pods)}",
            f"10.244.{self.serial}.{number}",
            f"fd44:0:0:{self.serial + 1}::{number}",
        )
        self.pods.append(pod)
        port = f"pod{number}"
        self.link(
            f"link add {port} type veth peer name eth0 netns {pod.ns.name}",
            f"link set {port} master cni0 up",
        )
        pod.link("link set eth0 up")
        pod.ip(
            f"-4 addr add {pod.hosts['ipv4']}/24 dev eth0",
            f"-6 addr add {pod.hosts['ipv6']}/64 dev eth0 nodad",
            f"-4 route add default via {self.gateways['ipv4']}",
            f"-6 route add default via {self.gateways['ipv6']}",
        )
        return pod


P = TypeVar("P", bound=Place)


class Lab:
    """All of it. A context manager that removes what it made."""

    def __init__(self, nodes: int = 1, pods: int = 2, outside: int = 1) -> None:
        self._stack = contextlib.ExitStack()
        self.nodes: list[Node] = []
        self.outside: list[Place] = []
        with contextlib.ExitStack() as stack:
            self.lan = self._added(stack, Place("lan", "192.168.50.1", "fd50::1"))
            self.lan.link("link add lan0 type bridge", "link set lan0 up")
            self.lan.ip(
                "-4 addr add 192.168.50.1/24 dev lan0",
                "-6 addr add fd50::1/64 dev lan0 nodad",
            )
            for serial in range(nodes):
                self._add_node(stack, serial, pods)
            for serial in range(outside):
                number = 100 + serial
                hosts = (f"192.168.50.{number}", f"fd50::{number}")
                place = self._added(stack, Place(f"outside-{serial}", *hosts))
                self.outside.append(place)
                self._plug(place, f"out{serial}")
            self._connect_pods()
            self._loop = stack.enter_context(Loop())
            self._stack = stack.pop_all()

    def _add_node(self, stack: contextlib.ExitStack, serial: int, pods: int) -> None:
        node = self._added(stack, Node(serial))
        self.nodes.append(node)
        node.prepare()
        self._plug(node, f"node{serial}")
        for _ in range(pods):
            self._added(stack, node.add_pod())

    @staticmethod
    def _added(stack: contextlib.ExitStack, place: P) -> P:
        stack.callback(place.ns.close)
        return place

    def _plug(self, place: Place, port: str) -> None:
        """Connect a place to the LAN, and the rest of the world through it."""
        self.lan.link(
            f"link add {port} type veth peer name eth0 netns {place.ns.name}",
            f"link set {port} master lan0 up",
        )
        place.link("link set eth0 up")
        place.ip(
            f"-4 addr add {place.hosts['ipv4']}/24 dev eth0",
            f"-6 addr add {place.hosts['ipv6']}/64 dev eth0 nodad",
            "-4 route add default via 192.168.50.1",
            "-6 route add default via fd50::1",
        )

    def _connect_pods(self) -> None:
        """Tell each place on the LAN the way to pods of other nodes."""
        for place in (*self.nodes, *self.outside):
            others = [node for node in self.nodes if node is not place]
            for node in others:
                self.route(place, node, *node.networks.values())

    def route(self, place: Place, node: Node, *networks: str) -> None:
        """Let packets of a place to networks go to a node."""
        lines = []
        for network in networks:
            family = "ipv6" if ":" in network else "ipv4"
            option = "-6" if family == "ipv6" else "-4"
            lines.append(f"{option} route replace {network} via {node.hosts[family]}")
        place.ip(*lines)

    def serve(self, place: Place, http: int = HTTP, udp: int = UDP) -> netexec.Netexec:
        """Run netexec at a place, under its name, until the lab is closed."""
        with place.entered():
            pair = netexec.sockets(http, udp)
        pod = netexec.Netexec(place.name, *pair)
        self._loop.start(pod.run())
        return pod

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


class Loop:
    """An event loop in a thread of its own, for servers that outlive a test's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab")

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until the loop is closed."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(scaled(5))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(scaled(5))
        self._loop.close()


class Transparent:
    """Datagrams of many addresses by one socket: says who asks which of them."""

    def __init__(self, host: str, port: int = 0) -> None:
        self._six = ":" in host
        family = socket.AF_INET6 if self._six else socket.AF_INET
        self._family = family
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        level = socket.IPPROTO_IPV6 if self._six else socket.IPPROTO_IP
        # IP_TRANSPARENT and IP_RECVORIGDSTADDR, of both families
        for option in (75, 74) if self._six else (19, 20):
            self._socket.setsockopt(level, option, 1)
        self._level = level
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="datagrams")

    def _serve(self) -> None:
        while True:
            data, extra, _, client = self._socket.recvmsg(65536, 256)
            if data == b"stop":
                return
            where = destination(extra[0][2])
            with self._answering(where) as answering:
                answering.sendto(f"{client[0]} {where[0]} {len(data)}".encode(), client)

    def _answering(self, where: tuple[str, int]) -> socket.socket:
        """A socket that sends from the address that the client dialled."""
        found = socket.socket(self._family, socket.SOCK_DGRAM)
        found.setsockopt(self._level, 75 if self._six else 19, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(where)
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"stop", self._socket.getsockname())
        self._thread.join(scaled(5))
        self._socket.close()


def destination(address: bytes) -> tuple[str, int]:
    """Host and port of a struct sockaddr."""
    port = int.from_bytes(address[2:4], "big")
    if len(address) > 16:
        return socket.inet_ntop(socket.AF_INET6, address[8:24]), port
    return socket.inet_ntop(socket.AF_INET, address[4:8]), port


def everything_of(place: Place) -> Iterator[str]:
    """All that a capture could leave behind at a place."""
    commands: Sequence[str] = (
        "nft list ruleset",
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
        "bridge fdb show",
        "ip -brief -4 address",
    )
    for command in commands:
        for line in place.run(*command.split()).splitlines():
            # What the kernel adds by itself while interfaces come up.
            if not re.search(r"fe80:|33:33:|ff00::|anycast|^$", line):
                yield line.strip()
