"""Capture at connect(2): processes here dial an endpoint in place of a Service.

Bytes of such a connection never meet us: no second connection, no NAT, no conntrack.
Programs, maps and links have names in bpffs, and go on while the agent is away. What is
not in the map is dialled as it is, and meets whatever else captures it: that is also
what happens in the instant in which a set of endpoints is replaced.
"""

import contextlib
import ctypes
import errno
import ipaddress
import logging
import math
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pyproxy.capture import bpf, elements
from pyproxy.capture.bpf import HASH, LRU_HASH, Map
from pyproxy.capture.programs import ADDRESS_BYTES, PROGRAMS, SERVICE_BYTES, Maps
from pyproxy.errors import StartError
from pyproxy.model import Backend, Key

logger = logging.getLogger(__name__)

MAPS = {  # name -> kind, bytes of key and value, most entries
    "services": (HASH, ADDRESS_BYTES, SERVICE_BYTES, 1 << 16),
    "members": (HASH, 8, ADDRESS_BYTES, 1 << 18),  # two states of 100,000 endpoints
    "counters": (HASH, 4, 8, 1 << 16),
    "peers": (LRU_HASH, 8, 2 * ADDRESS_BYTES, 1 << 16),  # connections that are told
}
MOST_MEMBERS = 1024  # of one set; finer weights are rounded
NO_ROOM = (errno.E2BIG, errno.ENOMEM, errno.ENOSPC)
MAPPED = bytes(10) + b"\xff\xff"  # before an address of IPv4

BPFFS = Path("/sys/fs/bpf")
FOLDER = "pyproxy-1"  # the number changes when maps do
HELP = (
    "it needs Linux 5.8, cgroup v2, /sys/fs/bpf, and root or CAP_BPF with"
    " CAP_NET_ADMIN; without them all Services are captured by tproxy"
)


class Direct:
    """Services that are dialled without us, by processes of one control group.

    `update` and `counters` speak of Services by (host, port): it is TCP alone.
    """

    def __init__(self, cgroup: Path | None = None, bpffs: Path = BPFFS) -> None:
        self._cgroup = cgroup
        self._bpffs = bpffs
        self._folder = bpffs / FOLDER
        self._maps: Maps | None = None
        self._links: dict[str, int] = {}  # owned descriptors
        self._known: dict[Key, tuple[int, int, int]] = {}  # set, members, counter
        self._next = 1  # of sets and counters, which have numbers of their own

    def open(self, services: Mapping[Key, Sequence[Backend]]) -> list[Key]:
        """Take over what a predecessor left, or begin; `services` is all there is.

        Returns what does not fit in.

        Raises:
            StartError: the machine cannot do it.
        """
        with refusing():
            try:
                self._prepare()
                self._maps = Maps(**{name: self._map(name) for name in MAPS})
                self._attach()
            except OSError:
                self._let_go()
                raise
        there = self._take_over()
        new = {
            key: backends
            for key, backends in services.items()
            if there.get(key) != expanded(backends)
        }
        return self.update(new, [key for key in there if key not in services])

    def update(
        self, put: Mapping[Key, Sequence[Backend]], remove: Iterable[Key] = ()
    ) -> list[Key]:
        """Replace sets of endpoints; what has no endpoint, or is removed, is not ours.

        Returns what does not fit in any more, and is not ours either.
        """
        new = {key: expanded(backends) for key, backends in put.items()}
        new |= {key: [] for key in remove if key not in new}
        return self._change(new)

    def counters(self) -> dict[Key, int]:
        """Connections that were made to each Service since it is ours."""
        maps = self._opened()
        found = {}
        for key, (_, _, counter) in self._known.items():
            value = maps.counters.get(struct.pack("=I", counter))
            found[key] = struct.unpack("=Q", value)[0] if value else 0
        return found

    def verify(self) -> list[str]:
        """Attach again what somebody has detached, and say what it was."""
        self._opened()
        lost = [
            f"program at {name} was detached"
            for name, link in self._links.items()
            if not bpf.attached(link)
        ]
        lost += [
            f"{self._folder / name} was deleted"
            for name in (*MAPS, *PROGRAMS)
            if not self._folder.joinpath(name).exists()
        ]
        if lost:
            with refusing():
                self._mend()
        return lost

    def close(self, *, leave: bool) -> None:
        """Let go; with `leave` programs go on."""
        if leave:
            self._let_go()
        else:
            self.cleanup()

    def cleanup(self) -> list[str]:
        """Detach programs and remove all names; say what was removed."""
        self._let_go()
        if not self._folder.is_dir():
            return []
        with refusing():
            for name in PROGRAMS:
                path = self._folder / name
                if path.exists():
                    link = bpf.pinned(str(path))
                    try:
                        bpf.detach(link)
                    finally:
                        os.close(link)
            for path in self._folder.iterdir():
                path.unlink()
            self._folder.rmdir()
        return [f"programs at connect(2) and their maps, {self._folder}"]

    def _prepare(self) -> None:
        """Find the control group and a place for names."""
        if sys.byteorder != "little":
            raise OSError(errno.ENOSYS, "the programs are for little endian machines")
        if self._cgroup is None:
            self._cgroup = cgroup_root()
        if not is_bpffs(self._bpffs):
            mount_bpffs(self._bpffs)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _map(self, name: str) -> Map:
        """The map of a predecessor, or a new one."""
        kind, key, value, most = MAPS[name]
        path = self._folder / name
        if path.exists():
            return Map(bpf.pinned(str(path)), key, value)
        made = Map.new(kind, key, value, most, f"pyproxy_{name}"[:15])
        bpf.pin(made.fd, str(path))
        return made

    def _attach(self) -> None:
        """Put our programs in place of a predecessor's, or attach them."""
        maps = self._opened()
        for name, (hook, make, six) in PROGRAMS.items():
            program = bpf.load(make(maps, six=six), hook, f"pyproxy_{name}"[:15])
            path = self._folder / name
            try:
                if path.exists():
                    self._links[name] = bpf.pinned(str(path))
                    if bpf.attached(self._links[name]):
                        bpf.replace(self._links[name], program)
                        continue
                    os.close(self._links.pop(name))
                    path.unlink()
                self._links[name] = self._linked(program, hook)
                bpf.pin(self._links[name], str(path))
            finally:
                os.close(program)

    def _linked(self, program: int, hook: int) -> int:
        cgroup = os.open(str(self._cgroup), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return bpf.link(program, cgroup, hook)
        finally:
            os.close(cgroup)

    def _mend(self) -> None:
        """Name maps that have no name, and attach what is not attached."""
        maps = self._opened()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for name in MAPS:
            path = self._folder / name
            if not path.exists():
                bpf.pin(getattr(maps, name).fd, str(path))
        for name, link in list(self._links.items()):
            if not self._folder.joinpath(name).exists() and bpf.attached(link):
                bpf.pin(link, str(self._folder / name))
            os.close(self._links.pop(name))
        self._attach()

    def _take_over(self) -> dict[Key, list[bytes]]:
        """Learn which Services are in the maps, and return their sets.

        Sets that no Service has, because a predecessor was killed, are deleted.
        """
        maps = self._opened()
        services = {place(k): struct.unpack("=3I", v) for k, v in maps.services.items()}
        self._known = services
        owner = {set_: key for key, (set_, _, _) in services.items()}
        found: dict[Key, dict[int, bytes]] = {key: {} for key in services}
        stale = []
        for name, member in maps.members.items():
            set_, index = struct.unpack("=2I", name)
            if (key := owner.get(set_)) is not None:
                found[key][index] = member
            else:
                stale.append(name)
        maps.members.delete_all(stale)
        numbers = [n for value in services.values() for n in (value[0], value[2])]
        self._next = max(numbers, default=0) + 1
        return {key: [one[n] for n in sorted(one)] for key, one in found.items()}

    def _change(self, new: Mapping[Key, Sequence[bytes]]) -> list[Key]:
        """Replace sets; all together or, where there is no room for all, one by one."""
        full = []
        try:
            self._put(new)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            for key, members in new.items():
                try:
                    self._put({key: members})
                except OSError as again:
                    if again.errno not in NO_ROOM:
                        raise
                    full.append(key)
                    self._put({key: []})
        if full:
            logger.warning("direct has no room", extra={"services": len(full)})
        return full

    def _put(self, new: Mapping[Key, Sequence[bytes]]) -> None:
        """Write new sets, let Services point at them, and delete the old ones.

        Each Service changes from one connect(2) to the next.
        """
        maps = self._opened()
        old = {key: self._known[key] for key in new if key in self._known}
        after: dict[Key, tuple[int, int, int]] = {}
        for key, members in new.items():
            if members:
                counter = old[key][2] if key in old else self._number()
                after[key] = (self._number(), len(members), counter)
        self._write({after[key][0]: new[key] for key in after})
        fresh = [counter for key, (_, _, counter) in after.items() if key not in old]
        try:
            maps.counters.put_all([(struct.pack("=I", one), bytes(8)) for one in fresh])
            maps.services.put_all(
                [(packed(*key), struct.pack("=3I", *at)) for key, at in after.items()]
            )
        except OSError:
            # A Service that points at such a set is dialled as it is.
            self._erase({set_: count for set_, count, _ in after.values()})
            raise
        gone = [key for key in old if key not in after]
        maps.services.delete_all([packed(*key) for key in gone])
        maps.counters.delete_all([struct.pack("=I", old[key][2]) for key in gone])
        for key in gone:
            del self._known[key]
        self._known |= after
        self._erase({set_: count for set_, count, _ in old.values()})

    def _write(self, sets: Mapping[int, Sequence[bytes]]) -> None:
        """Write sets: all of them or nothing."""
        entries = [
            (struct.pack("=2I", number, n), member)
            for number, members in sets.items()
            for n, member in enumerate(members)
        ]
        try:
            self._opened().members.put_all(entries)
        except OSError:
            self._erase({number: len(members) for number, members in sets.items()})
            raise

    def _erase(self, sets: Mapping[int, int]) -> None:
        """Delete sets, or what there is of them."""
        members = self._opened().members
        keys = [struct.pack("=2I", one, n) for one in sets for n in range(sets[one])]
        try:
            members.delete_all(keys)
        except FileNotFoundError:
            for key in keys:
                members.delete(key)

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _opened(self) -> Maps:
        if self._maps is None:
            raise StartError("the capture is not open")
        return self._maps

    def _let_go(self) -> None:
        """Close descriptors; names keep what they name."""
        for link in self._links.values():
            os.close(link)
        self._links.clear()
        if self._maps is not None:
            for name in MAPS:
                getattr(self._maps, name).close()
        self._maps = None


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Say what the kernel refused, and what would help."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StartError(f"while hooking connect(2): {why}", HELP) from error


def packed(host: str, port: int) -> bytes:
    """An address as the programs have it."""
    prefix = b"" if ":" in host else MAPPED
    return prefix + elements.packed(host) + struct.pack(">H2x", port)


def place(address: bytes) -> Key:
    """Host and port of what `packed` made."""
    found = ipaddress.IPv6Address(address[:16])
    (port,) = struct.unpack_from(">H", address, 16)
    return str(found.ipv4_mapped or found), port


def expanded(backends: Sequence[Backend]) -> list[bytes]:
    """Addresses of backends, each as often as its weight says."""
    weighted = [backend for backend in backends if backend.weight > 0]
    weights = [backend.weight for backend in weighted]
    divisor = math.gcd(*weights)
    shares = [weight // divisor for weight in weights]
    if (total := sum(shares)) > MOST_MEMBERS:
        room = max(MOST_MEMBERS, len(shares))
        shares = [max(1, round(share * room / total)) for share in shares]
    return [
        packed(backend.host, backend.port)
        for backend, share in zip(weighted, shares, strict=True)
        for _ in range(share)
    ]


def cgroup_root() -> Path:
    """Where the root of cgroup v2 is mounted.

    Raises:
        OSError: it is not.
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise OSError(errno.ENOENT, "cgroup v2 is not mounted")


def is_bpffs(path: Path) -> bool:
    """Whether names of objects can be given there."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if Path(where) == path and kind == "bpf":
            return True
    return False


def mount_bpffs(path: Path) -> None:
    """Mount what most systems mount at boot.

    Raises:
        OSError: mount(2) was refused.
    """
    if bpf.libc().mount(b"bpf", str(path).encode(), b"bpf", 0, None) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{path} cannot be mounted: {os.strerror(code)}")
