"""Capture by TPROXY: one table of nftables, one rule and one table of routes.

One listener per worker and protocol takes the clients of all Services, and each socket
knows the address that its client dialled. There is no NAT and no entry of conntrack.
"""

import contextlib
import errno
import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyproxy.capture import elements, rivals
from pyproxy.capture.base import Fronts, Here
from pyproxy.capture.layout import Layout
from pyproxy.capture.routes import Routes
from pyproxy.capture.tables import Tables, Wanted
from pyproxy.errors import StartError
from pyproxy.model import Front, Vip, VipKey

logger = logging.getLogger(__name__)

New = dict[VipKey, Front | None]  # what changes; None = no more

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
    """The kernel gives us packets of fronts; see `ruleset` for how.

    Not to be used from two threads at a time. Sockets to the kernel belong to the
    network namespace of the thread that opens.
    """

    name = "tproxy"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._wanted = Wanted()
        self._has_br_netfilter = False
        self._unconfirmed: set[VipKey] = set()  # a predecessor's fronts
        self._tables: Tables | None = None
        self._routes: Routes | None = None

    def open(self, here: Here) -> None:
        """Install our tables with what a predecessor's say."""
        self._wanted.near = (*here.ipv4.near, *here.ipv6.near)
        with refusing("while installing the capture"):
            if self._tables is not None:
                self._tables.replace(elements.intervals("near", self._wanted.near))
                return
            self._tables = Tables(self._layout)
            self._routes = Routes(self._layout)
            try:
                self._adopt(self._tables)
                self._routes.install()
                self._install()
            except OSError:
                self._undo(self._tables, self._routes)
                self._let_go()
                raise

    def _adopt(self, tables: Tables) -> None:
        """Learn the fronts of a predecessor."""
        if tables.are_there():
            with contextlib.suppress(ValueError):
                self._wanted.fronts = tables.fronts()
        self._unconfirmed = set(self._wanted.fronts)

    def _undo(self, tables: Tables, routes: Routes) -> None:
        """Leave no routes without tables; a predecessor has both."""
        with contextlib.suppress(OSError):
            if not tables.are_there():
                routes.remove()

    def takes(self, vip: Vip) -> bool:
        """Clients of every address come."""
        return vip.protocol in elements.PROTOCOLS

    def update(self, change: Fronts) -> None:
        """Change elements of sets, in one transaction."""
        new: New = dict.fromkeys(change.remove)
        for host in change.remove_cluster_ips:
            new |= {front.key: None for front in other_ports(host)}
        put = map(other_ports, change.cluster_ips)
        for front in itertools.chain(change.put, *put):
            elements.check(front)
            new[front.key] = front
        tables = self._open_tables()
        what = elements.difference(self._wanted.fronts, new, self._layout.mark)
        networks = None
        if change.blocks is not None and change.blocks != self._wanted.blocks:
            networks = elements.intervals("blocks", change.blocks)
        try:
            tables.change(what, networks)
        except OSError as error:
            self._start_over(new, change.blocks, error)
        else:
            merge(self._wanted, new, change.blocks)
        self._unconfirmed.difference_update(new)

    def _start_over(
        self, new: New, blocks: tuple[str, ...] | None, error: OSError
    ) -> None:
        """Install all anew: most likely somebody has changed elements of our sets."""
        logger.warning("capture is installed anew", extra={"because": str(error)})
        fronts, old = dict(self._wanted.fronts), self._wanted
        self._wanted = Wanted(fronts, old.near, old.blocks, old.bridges)
        merge(self._wanted, new, blocks)
        with refusing("while changing the capture"):
            try:
                self._install()
            except OSError:
                self._wanted = old
                raise

    def verify(self) -> list[str]:
        """Look whether all stands as we left it; cheap while nobody changes any table.

        A bridge that is new counts as a change: it has to be known, and hooks of
        br_netfilter have to stand behind ours.
        """
        if self._unconfirmed:
            self.update(Fronts(remove=list(self._unconfirmed)))
        with refusing("while verifying the capture"):
            found = self._open_routes().install()
            if self._bridging() != (self._wanted.bridges, self._has_br_netfilter):
                what = "bridges have changed"
            else:
                what = self._open_tables().damage(self._wanted)
            if what:
                self._install()
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

    def close(self, *, leave: bool) -> None:
        """Close sockets to the kernel; with `leave` all rules stay."""
        if leave:
            self._let_go()
        else:
            self.cleanup()

    def cleanup(self) -> list[str]:
        """Remove tables, then rules and routes, whatever their numbers."""
        self._let_go()
        with refusing("while removing the capture"), contextlib.ExitStack() as stack:
            tables = stack.enter_context(contextlib.closing(Tables(self._layout)))
            routes = stack.enter_context(contextlib.closing(Routes(self._layout)))
            said = []
            if tables.remove():
                said.append(f"tables {self._layout.name} of nftables")
            if routes.remove():
                said.append("rules and routes of protocol 112")
            return said

    def _install(self) -> None:
        """Put our tables in place, in one transaction."""
        self._wanted.bridges, self._has_br_netfilter = self._bridging()
        self._open_tables().install(self._wanted)

    def _bridging(self) -> tuple[tuple[str, ...], bool]:
        """Bridges that there are, and whether br_netfilter is there."""
        names = tuple(sorted(self._open_routes().bridges()))
        return names, SYSCTL.joinpath(BRIDGING[0]).exists()

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


def other_ports(host: str) -> tuple[Front, Front]:
    """What refuses ports of a cluster IP that no front names."""
    return (
        Front("tcp", host, 0, "reject", "reject"),
        Front("udp", host, 0, "reject", "reject"),
    )


def merge(
    wanted: Wanted, new: Mapping[VipKey, Front | None], blocks: tuple[str, ...] | None
) -> None:
    """Make changes to what is known."""
    for key, front in new.items():
        if front is None:
            wanted.fronts.pop(key, None)
        else:
            wanted.fronts[key] = front
    if blocks is not None:
        wanted.blocks = blocks


def setting(name: str) -> str:
    """A setting of the kernel, or nothing."""
    try:
        return SYSCTL.joinpath(name).read_text().strip()
    except OSError:
        return ""


@contextlib.contextmanager
def refusing(doing: str) -> Iterator[None]:
    """Say what the kernel refused, and what would help."""
    try:
        yield
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "")
        why = error.strerror or str(error)
        raise StartError(f"{doing}: {why}", hint) from error
