"""Capture at connect(2): processes here dial an endpoint in place of a Service.

Bytes of such a connection never meet us: no second connection, no NAT, no conntrack.
Programs, maps and links have names in bpffs, and go on while the agent is away. What is
not in the map is dialled as it is, and meets whatever else captures it: that is also
what happens in the instant in which a set of endpoints is replaced.
"""

import asyncio
import ctypes
import errno
import ipaddress
import logging
import math
import os
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyproxy.capture import bpf
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
MANY = 200  # members: a change of more gets a thread

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
        self._turn = asyncio.Lock()

    async def open(self, services: Mapping[Key, Sequence[Backend]]) -> list[Key]:
        """Take over what a predecessor left, or begin; `services` is all there is.

        Returns what does not fit in.

        Raises:
            StartError: the machine cannot do it.
        """
        try:
            self._prepare()
            self._maps = Maps(**{name: self._map(name) for name in MAPS})
            self._attach()
        except OSError as error:
            self._let_go()
            why = error.strerror or str(error)
            raise StartError(f"while hooking connect(2): {why}", HELP) from error
        self._take_over()
        gone = [key for key in self._known if key not in services]
        return await self.update(services, gone)

    async def update(
        self, put: Mapping[Key, Sequence[Backend]], remove: Iterable[Key] = ()
    ) -> list[Key]:
        """Replace sets of endpoints; what has no endpoint, or is removed, is not ours.

        Returns what does not fit in any more, and is not ours either.
        """
        new = {key: expanded(backends) for key, backends in put.items()}
        new |= {key: [] for key in remove if key not in new}
        async with self._turn:
            if sum(map(len, new.values())) < MANY:
                return self._change(new)
            running = asyncio.ensure_future(asyncio.to_thread(self._change, new))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                raise

    def counters(self) -> dict[Key, int]:
        """Connections that were made to each Service since it is ours."""
        maps = self._opened()
        found = {}
        for key, (_, _, counter) in self._known.items():
            value = maps.counters.get(struct.pack("=I", counter))
            found[key] = struct.unpack("=Q", value)[0] if value else 0
        return found

    async def verify(self) -> list[str]:
        """Attach again what somebody has detached, and say what it was."""
        self._opened()
        async with self._turn:
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
                try:
                    self._mend()
                except OSError as error:
                    why = error.strerror or str(error)
                    raise StartError(f"while hooking connect(2): {why}") from error
            return lost

    async def close(self) -> None:
        """Let go; programs go on."""
        async with self._turn:
            self._let_go()

    async def cleanup(self) -> bool:
        """Detach programs and remove all names; false if there are none."""
        async with self._turn:
            self._let_go()
            if not self._folder.is_dir():
                return False
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
            return True

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

    def _take_over(self) -> None:
        """Learn what is in the maps; sets that no Service has are deleted."""
        maps = self._opened()
        self._known = {}
        for address in maps.services.keys():
            if value := maps.services.get(address):
                self._known[place(address)] = struct.unpack("=3I", value)
        used = {set_ for set_, _, _ in self._known.values()}
        stale = [
            key
            for key in maps.members.keys()
            if struct.unpack_from("=I", key)[0] not in used
        ]
        maps.members.delete_all(stale)
        numbers = [
            n for set_, _, counter in self._known.values() for n in (set_, counter)
        ]
        self._next = max(numbers, default=0) + 1

    def _change(self, new: Mapping[Key, Sequence[bytes]]) -> list[Key]:
        """Write new sets, let Services point at them, delete the old ones."""
        full = []
        for key, members in new.items():
            try:
                self._put(key, members)
            except OSError as error:
                if error.errno not in (errno.E2BIG, errno.ENOMEM, errno.ENOSPC):
                    raise
                full.append(key)
                self._put(key, [])
        if full:
            logger.warning("direct has no room", extra={"services": len(full)})
        return full

    def _put(self, key: Key, members: Sequence[bytes]) -> None:
        """Replace the set of a Service, from one connect(2) to the next."""
        maps, old = self._opened(), self._known.get(key)
        if members:
            number = self._number()
            counter = old[2] if old else self._number()
            self._write(number, members)
            if not old:
                maps.counters.put(struct.pack("=I", counter), bytes(8))
            value = struct.pack("=3I", number, len(members), counter)
            maps.services.put(packed(*key), value)
            self._known[key] = (number, len(members), counter)
        elif old:
            maps.services.delete(packed(*key))
            maps.counters.delete(struct.pack("=I", old[2]))
            del self._known[key]
        if old:
            self._erase(old[0], old[1])

    def _write(self, number: int, members: Sequence[bytes]) -> None:
        """Write a set: all of it or nothing."""
        keys = (struct.pack("=2I", number, n) for n in range(len(members)))
        try:
            self._opened().members.put_all(list(zip(keys, members, strict=True)))
        except OSError:
            self._erase(number, len(members))
            raise

    def _erase(self, number: int, count: int) -> None:
        """Delete a set, or what there is of it."""
        members = self._opened().members
        keys = [struct.pack("=2I", number, n) for n in range(count)]
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


def packed(host: str, port: int) -> bytes:
    """An address as the programs have it."""
    found = ipaddress.ip_address(host)
    if found.version == 4:
        return bytes(10) + b"\xff\xff" + found.packed + struct.pack(">H2x", port)
    return found.packed + struct.pack(">H2x", port)


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
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", str(path).encode(), b"bpf", 0, None) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{path} cannot be mounted: {os.strerror(code)}")
