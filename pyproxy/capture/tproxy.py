"""Capture by TPROXY: one table of nftables, one rule and one table of routes.

One listener per worker and protocol takes the clients of all Services, and each socket
knows the address that its client dialled. There is no NAT and no entry of conntrack.
"""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pyproxy.capture import elements, rivals
from pyproxy.capture.layout import Layout
from pyproxy.capture.routes import Routes
from pyproxy.capture.tables import Tables
from pyproxy.errors import StartError
from pyproxy.model import Front, VipKey

T = TypeVar("T")
Fronts = dict[VipKey, Front | None]  # what changes; None = no more

logger = logging.getLogger(__name__)

MANY = 1000  # fronts: a change of more takes milliseconds and gets a thread
SYSCTL = Path("/proc/sys/net")
BRIDGING = ("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")
SRC_VALID_MARK = "ipv4/conf/all/src_valid_mark"

RIGHTS = "it needs root, or CAP_NET_ADMIN in the host's network namespace"
MODULES = (
    "the kernel needs nf_tables, nft_tproxy, nft_socket, nft_reject_inet and nft_ct"
    " (modprobe); without them --capture bind listens at each address"
)
HINTS = {
    **dict.fromkeys((errno.EPERM, errno.EACCES), RIGHTS),
    **dict.fromkeys((errno.ENOENT, errno.EOPNOTSUPP), MODULES),
    **dict.fromkeys((errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT), MODULES),
    errno.ENETDOWN: "`ip link set lo up`",
}


class Tproxy:
    """The kernel gives us packets of fronts; see `ruleset` for how."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._fronts: dict[VipKey, Front] = {}
        self._tables: Tables | None = None
        self._routes: Routes | None = None
        self._bridging: tuple[tuple[str, ...], bool] = ((), False)
        self._turn = asyncio.Lock()  # one change at a time

    async def open(self, fronts: Sequence[Front] = ()) -> None:
        """Install our rules; sockets to the kernel are of this thread's namespace."""
        for front in fronts:
            elements.check(front)
        async with self._turn:
            try:
                self._tables = Tables(self._layout)
                self._routes = Routes(self._layout)
                self._fronts = {front.key: front for front in fronts}
                self._routes.install()
                await self._install()
            except OSError as error:
                self._undo()
                self._let_go()
                raise refused("while installing the capture", error) from error

    def _undo(self) -> None:
        """Leave no routes without tables; a predecessor may have both."""
        if self._tables is None or self._routes is None:
            return
        with contextlib.suppress(OSError):
            if self._layout.name not in {name for _, name in self._tables.tables()}:
                self._routes.remove()

    async def update(self, put: Sequence[Front], remove: Sequence[VipKey] = ()) -> None:
        """Change elements of sets, in one transaction."""
        for front in put:
            elements.check(front)
        new: dict[VipKey, Front | None] = dict.fromkeys(remove)
        new |= {front.key: front for front in put}
        async with self._turn:
            what = elements.difference(self._fronts, new, self._layout.mark)
            tables = self._open_tables()
            try:
                await self._do(len(new), lambda: tables.change(what))
            except OSError as error:
                await self._start_over(new, error)
            else:
                merge(self._fronts, new)

    async def _start_over(self, new: Fronts, error: OSError) -> None:
        """Install all anew: most likely somebody has changed elements of our sets."""
        logger.warning("capture is installed anew", extra={"because": str(error)})
        old, self._fronts = self._fronts, dict(self._fronts)
        merge(self._fronts, new)
        try:
            await self._install()
        except OSError as again:
            self._fronts = old
            raise refused("while changing the capture", again) from again

    async def set_near(self, networks: Sequence[str]) -> None:
        """Replace the sets of near networks."""
        async with self._turn:
            self._layout = replace(self._layout, near=tuple(networks))
            try:
                self._open_tables().replace(elements.near_networks(networks))
            except OSError as error:
                await self._start_over({}, error)

    async def verify(self) -> list[str]:
        """Look whether all stands as we left it; cheap while nobody changes anything.

        A bridge that is new counts as a change: it has to be known, and hooks of
        br_netfilter have to stand behind ours.
        """
        async with self._turn:
            tables, routes = self._open_tables(), self._open_routes()
            try:
                found = routes.install()
                bridges = self._bridging[0]
                if self._bridging != self._bridges():
                    what = "bridges have changed"
                else:
                    fronts, near = self._fronts, self._layout.near
                    many = MANY if tables.generation_is_new() else 0
                    what = await self._do(
                        many, lambda: tables.damage(fronts.values(), near, bridges)
                    )
                if what:
                    await self._install()
            except OSError as error:
                raise refused("while verifying the capture", error) from error
            return [*found, *([what] if what else [])]

    def obstacles(self) -> list[str]:
        """Another kube-proxy's rules, and settings of the kernel."""
        tables, routes = self._open_tables(), self._open_routes()
        interfaces = [name for name, _ in routes.links().values()]
        said = rivals.found(tables.tables(), tables.chains(), interfaces)
        for name in BRIDGING if routes.bridges() else ():
            if setting(name) != "1":
                sysctl = f"net.{name.replace('/', '.')}"
                said.append(
                    f"sysctl {sysctl} is not 1: connections between pods of one bridge"
                    " through a Service cannot keep their source;"
                    f" `modprobe br_netfilter; sysctl -w {sysctl}=1`"
                )
        if setting(SRC_VALID_MARK) == "1":
            said.append(
                "sysctl net.ipv4.conf.all.src_valid_mark is 1: the kernel drops what we"
                " capture; `sysctl -w net.ipv4.conf.all.src_valid_mark=0`"
            )
        if "IPv6" not in routes.families:
            said.append("this machine has no IPv6: only Services of IPv4 are captured")
        return said

    async def close(self) -> None:
        """Close sockets to the kernel; all rules stay."""
        async with self._turn:
            self._let_go()

    async def cleanup(self) -> bool:
        """Remove tables, then rules and routes, whatever their numbers."""
        async with self._turn:
            self._let_go()
            try:
                self._tables = Tables(self._layout)
                self._routes = Routes(self._layout)
                removed = self._tables.remove()
                return self._routes.remove() or removed
            except OSError as error:
                raise refused("while removing the capture", error) from error
            finally:
                self._let_go()

    async def _install(self) -> None:
        """Put our tables in place, in one transaction."""
        tables = self._open_tables()
        self._bridging = self._bridges()
        fronts, near = list(self._fronts.values()), self._layout.near
        bridges = self._bridging[0]
        await self._do(len(fronts), lambda: tables.install(fronts, near, bridges))

    def _bridges(self) -> tuple[tuple[str, ...], bool]:
        """Bridges that there are, and whether br_netfilter is there."""
        names = tuple(sorted(self._open_routes().bridges()))
        return names, SYSCTL.joinpath(BRIDGING[0]).exists()

    async def _do(self, count: int, work: Callable[[], T]) -> T:
        """Work that takes long gets a thread, which is waited for in any case."""
        if count < MANY:
            return work()
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def _open_tables(self) -> Tables:
        if self._tables is None:
            raise StartError("the capture is not open")
        return self._tables

    def _open_routes(self) -> Routes:
        if self._routes is None:
            raise StartError("the capture is not open")
        return self._routes

    def _let_go(self) -> None:
        """Close sockets to the kernel."""
        if self._tables is not None:
            self._tables.close()
        if self._routes is not None:
            self._routes.close()
        self._tables = self._routes = None


def merge(fronts: dict[VipKey, Front], new: Fronts) -> None:
    """Make changes to what is known."""
    for key, front in new.items():
        if front is None:
            fronts.pop(key, None)
        else:
            fronts[key] = front


def setting(name: str) -> str:
    """A setting of the kernel, or nothing."""
    try:
        return SYSCTL.joinpath(name).read_text().strip()
    except OSError:
        return ""


def refused(doing: str, error: OSError) -> StartError:
    """What the kernel refused, and what would help."""
    return StartError(
        f"{doing}: {error.strerror or error}", HINTS.get(error.errno or 0, "")
    )
