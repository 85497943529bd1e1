"""bpf(2): maps, programs, links and their names in bpffs, and an assembler.

The few dozen instructions that we need are written by hand: a compiler or libbpf would
be a hundred times their size, and the kernel checks them all the same.

Source: bpf(2), include/uapi/linux/bpf.h of the kernel.
"""

import ctypes
import errno
import functools
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361}  # of bpf(2)
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY = 0, 1, 2, 3, 4
PROGRAM_LOAD, PIN, GET = 5, 6, 7
INFO = 15
LOOKUP_BATCH, UPDATE_BATCH, DELETE_BATCH = 24, 26, 27
BATCH = 4096  # entries that are read at once; a bucket has fewer
LINK_CREATE, LINK_UPDATE, LINK_DETACH = 28, 29, 34

HASH, LRU_HASH = 1, 9  # kinds of maps
SOCK_ADDR = 18  # kind of program: BPF_PROG_TYPE_CGROUP_SOCK_ADDR
NO_PREALLOC = 1
LINK_INFO_BYTES = 32  # of struct bpf_link_info: kind, id, program, cgroup, hook
LOG_BYTES = 1 << 16
ATTRIBUTE_BYTES = 128
LICENSE = ctypes.create_string_buffer(b"Apache-2.0")


def bpf(command: int, attributes: bytes) -> int:
    """Ask the kernel; zeros are added to `attributes`, which is a union.

    Raises:
        OSError: what the kernel answered.
    """
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"bpf(2) is not known on {platform.machine()}")
    union = ctypes.create_string_buffer(attributes, ATTRIBUTE_BYTES)
    result: int = libc().syscall(number, command, union, len(union))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library; to open it takes longer than the kernel for what we ask."""
    return ctypes.CDLL(None, use_errno=True)


def address(buffer: "ctypes.Array[ctypes.c_char]") -> int:
    """Where a buffer is."""
    return ctypes.addressof(buffer)


def buffer(data: bytes) -> "ctypes.Array[ctypes.c_char]":
    """Memory that the kernel reads or writes."""
    return ctypes.create_string_buffer(data, len(data))


def pin(fd: int, path: str) -> None:
    """Give an object a name in bpffs: it lives as long as the name."""
    name = buffer(path.encode() + b"\0")
    bpf(PIN, struct.pack("=QI", address(name), fd))


def pinned(path: str) -> int:
    """A descriptor of an object that has a name."""
    name = buffer(path.encode() + b"\0")
    return bpf(GET, struct.pack("=QII", address(name), 0, 0))


class Map:
    """A map. Owns its descriptor."""

    def __init__(self, fd: int, key: int, value: int) -> None:
        self.fd = fd
        self._key, self._value = key, value

    @classmethod
    def new(cls, kind: int, key: int, value: int, most: int, name: str) -> Self:
        """Make one."""
        flags = NO_PREALLOC if kind == HASH else 0
        head = struct.pack("=7I16s", kind, key, value, most, flags, 0, 0, name.encode())
        return cls(bpf(MAP_CREATE, head), key, value)

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.fd)

    def get(self, key: bytes) -> bytes | None:
        """What is under a key."""
        wanted, found = buffer(key), buffer(bytes(self._value))
        try:
            self._call(MAP_LOOKUP, wanted, found)
        except FileNotFoundError:
            return None
        return found.raw

    def put(self, key: bytes, value: bytes) -> None:
        """Replace what is under a key, at once for all that look."""
        self._call(MAP_UPDATE, buffer(key), buffer(value))

    def delete(self, key: bytes) -> bool:
        """Whether there was something under a key."""
        try:
            self._call(MAP_DELETE, buffer(key), None)
        except FileNotFoundError:
            return False
        return True

    def _call(
        self,
        command: int,
        key: "ctypes.Array[ctypes.c_char] | None",
        value: "ctypes.Array[ctypes.c_char] | None",
    ) -> None:
        at = [0 if one is None else address(one) for one in (key, value)]
        bpf(command, struct.pack("=I4xQQQ", self.fd, *at, 0))

    def put_all(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Replace many, each for itself."""
        self._batch(UPDATE_BATCH, entries)

    def delete_all(self, keys: Sequence[bytes]) -> None:
        """Delete many, all of which are there."""
        self._batch(DELETE_BATCH, [(key, b"") for key in keys])

    def _batch(self, command: int, entries: Sequence[tuple[bytes, bytes]]) -> None:
        if not entries:
            return
        keys = buffer(b"".join(key for key, _ in entries))
        values = buffer(b"".join(value for _, value in entries) or b"\0")
        places = (address(keys), address(values))
        bpf(
            command,
            struct.pack("=QQQQIIQQ", 0, 0, *places, len(entries), self.fd, 0, 0),
        )

    def items(self) -> list[tuple[bytes, bytes]]:
        """All that is in a hash."""
        keys, values = (
            buffer(bytes(BATCH * size)) for size in (self._key, self._value)
        )
        places = (address(keys), address(values))
        found: list[tuple[bytes, bytes]] = []
        at: ctypes.Array[ctypes.c_char] | None = None
        while True:
            after = buffer(bytes(4))
            head = struct.pack("=QQ", address(at) if at else 0, address(after))
            union = head + struct.pack("=QQIIQQ", *places, BATCH, self.fd, 0, 0)
            count, ended = batch(LOOKUP_BATCH, union)
            cut = zip(
                pieces(keys.raw, self._key, count),
                pieces(values.raw, self._value, count),
                strict=True,
            )
            found += cut
            if ended:
                return found
            at = after


def batch(command: int, union: bytes) -> tuple[int, bool]:
    """How many entries were read, and whether these were the last."""
    memory = ctypes.create_string_buffer(union, ATTRIBUTE_BYTES)
    ended = False
    if libc().syscall(NUMBERS[platform.machine()], command, memory, len(memory)) == -1:
        code = ctypes.get_errno()
        if code != errno.ENOENT:
            raise OSError(code, os.strerror(code))
        ended = True
    (count,) = struct.unpack_from("=I", memory.raw, 32)
    return count, ended


def pieces(data: bytes, size: int, count: int) -> list[bytes]:
    """The first pieces of a size."""
    return [data[at : at + size] for at in range(0, size * count, size)]


def load(instructions: bytes, attach: int, name: str) -> int:
    """Have the kernel check and take a program for one kind of hook.

    Raises:
        OSError: it was refused; the last lines of the verifier are part of it.
    """
    code = buffer(instructions)
    log = ctypes.create_string_buffer(LOG_BYTES)
    where = (SOCK_ADDR, len(instructions) // 8, address(code), address(LICENSE))
    said = (1, LOG_BYTES, address(log), 0, 0, name.encode(), 0, attach)
    try:
        return bpf(PROGRAM_LOAD, struct.pack("=IIQQIIQII16sII", *where, *said))
    except OSError as error:
        lines = log.value.decode(errors="replace").splitlines()
        if not lines:
            raise
        why = " / ".join(lines[-3:])
        raise OSError(error.errno, f"{error.strerror}: {why}") from error


def link(program: int, cgroup: int, attach: int) -> int:
    """Run a program at a hook of all processes in a control group."""
    return bpf(LINK_CREATE, struct.pack("=4I", program, cgroup, attach, 0))


def replace(link_: int, program: int) -> None:
    """Run another program at the same hook, from one call to the next."""
    bpf(LINK_UPDATE, struct.pack("=4I", link_, program, 0, 0))


def detach(link_: int) -> None:
    """Run nothing at the hook any more."""
    bpf(LINK_DETACH, struct.pack("=I", link_))


def attached(link_: int) -> bool:
    """Whether a link still has its control group."""
    info = ctypes.create_string_buffer(LINK_INFO_BYTES)
    bpf(INFO, struct.pack("=IIQ", link_, LINK_INFO_BYTES, address(info)))
    (cgroup,) = struct.unpack_from("=Q", info.raw, 16)
    return bool(cgroup)


@dataclass
class Code:
    """Instructions under construction. Registers are numbers; 10 is the frame."""

    lines: list[bytes] = field(default_factory=list)
    _jumps: list[tuple[int, str]] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)

    def _add(
        self, code: int, target: int, source: int, offset: int, number: int
    ) -> None:
        registers = target | source << 4
        self.lines.append(struct.pack("<BBhi", code, registers, offset, number))

    def copy(self, target: int, source: int) -> None:
        """Target = source."""
        self._add(0xBF, target, source, 0, 0)

    def set(self, target: int, number: int) -> None:
        """Target = number."""
        self._add(0xB7, target, 0, 0, number)

    def frame(self, target: int, offset: int) -> None:
        """Target = address in the frame."""
        self.copy(target, 10)
        self._add(0x07, target, 0, 0, offset)

    def load(self, target: int, source: int, offset: int) -> None:
        """Target = 32 bits at source + offset."""
        self._add(0x61, target, source, offset, 0)

    def store(self, target: int, offset: int, source: int) -> None:
        """32 bits at target + offset = source."""
        self._add(0x63, target, source, offset, 0)

    def store_long(self, target: int, offset: int, source: int) -> None:
        """64 bits at target + offset = source."""
        self._add(0x7B, target, source, offset, 0)

    def store_number(self, target: int, offset: int, number: int) -> None:
        """32 bits at target + offset = number."""
        self._add(0x62, target, 0, offset, number)

    def modulo(self, target: int, source: int) -> None:
        """Target = target % source, 32 bits."""
        self._add(0x9C, target, source, 0, 0)

    def count(self, target: int, source: int) -> None:
        """64 bits at target += source, atomically."""
        self._add(0xDB, target, source, 0, 0)

    def map(self, target: int, map_: Map) -> None:
        """Target = a map."""
        self._add(0x18, target, 1, 0, map_.fd)
        self._add(0, 0, 0, 0, 0)

    def call(self, helper: int) -> None:
        """0 = helper(1, 2, ...)."""
        self._add(0x85, 0, 0, 0, helper)

    def jump_if(self, register: int, number: int, label: str) -> None:
        """Go to a label if register == number."""
        self._jumps.append((len(self.lines), label))
        self._add(0x15, register, 0, 0, number)

    def jump_unless(self, register: int, number: int, label: str) -> None:
        """Go to a label if register != number."""
        self._jumps.append((len(self.lines), label))
        self._add(0x55, register, 0, 0, number)

    def jump_unless_same(self, register: int, other: int, label: str) -> None:
        """Go to a label if register != other."""
        self._jumps.append((len(self.lines), label))
        self._add(0x5D, register, other, 0, 0)

    def label(self, name: str) -> None:
        """Name what comes next."""
        self._labels[name] = len(self.lines)

    def end(self, result: int) -> None:
        """Return."""
        self.set(0, result)
        self._add(0x95, 0, 0, 0, 0)

    def assembled(self) -> bytes:
        """All of it, with jumps resolved."""
        lines = list(self.lines)
        for at, name in self._jumps:
            code, registers, _, number = struct.unpack("<BBhi", lines[at])
            offset = self._labels[name] - at - 1
            lines[at] = struct.pack("<BBhi", code, registers, offset, number)
        return b"".join(lines)
