"""Somebody else's BPF sockmap, hand-assembled: what eBPF agents do to our sockets.

Maps and programs are made with the bare bpf(2) call, so that the tests need neither
compiler nor library. Source of numbers and layouts: linux/bpf.h, which never change.
"""

import ctypes
import os
import platform
import socket
import struct
from types import TracebackType
from typing import Self

SYS_BPF = {"x86_64": 321, "aarch64": 280}
MAP_CREATE, MAP_UPDATE, PROG_LOAD, PROG_ATTACH = 0, 2, 5, 8
TYPE_SOCKMAP = 15
TYPE_SK_SKB, TYPE_SK_MSG = 14, 16
ATTACH_VERDICT, ATTACH_MSG = 5, 7
SK_PASS = 1
# r0 = imm; exit: two instructions of 8 bytes
RETURN = struct.Struct("<BBhiBBhi")

LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    """Make the system call; return a descriptor or 0."""
    block = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    number = SYS_BPF[platform.machine()]
    result = int(LIBC.syscall(number, command, block, len(block)))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf({command}): {os.strerror(error)}")
    return result


def load_passing(kind: int) -> int:
    """Load a program that lets everything pass; return its descriptor."""
    code = RETURN.pack(0xB7, 0, 0, SK_PASS, 0x95, 0, 0, 0)
    text = ctypes.create_string_buffer(code, len(code))
    name = ctypes.create_string_buffer(b"Apache-2.0")
    return bpf(
        PROG_LOAD,
        struct.pack(
            "=IIQQ",
            kind,
            len(code) // 8,
            ctypes.addressof(text),
            ctypes.addressof(name),
        ),
    )


class SockMap:
    """A sockmap with the programs asked for: "verdict", "message"."""

    def __init__(self, *programs: str, size: int = 1024) -> None:
        self.fds = [bpf(MAP_CREATE, struct.pack("=IIII", TYPE_SOCKMAP, 4, 4, size))]
        self.used = 0
        kinds = {
            "verdict": (TYPE_SK_SKB, ATTACH_VERDICT),
            "message": (TYPE_SK_MSG, ATTACH_MSG),
        }
        try:
            for name in programs:
                kind, attach = kinds[name]
                self.fds.append(load_passing(kind))
                bpf(PROG_ATTACH, struct.pack("=III", self.fds[0], self.fds[-1], attach))
        except BaseException:
            self.close()
            raise

    def add(self, connection: socket.socket) -> None:
        """Take an established connection in."""
        key = ctypes.c_uint32(self.used)
        value = ctypes.c_uint32(connection.fileno())
        bpf(
            MAP_UPDATE,
            struct.pack(
                "=IIQQQ",
                self.fds[0],
                0,
                ctypes.addressof(key),
                ctypes.addressof(value),
                0,
            ),
        )
        self.used += 1

    def close(self) -> None:
        """Let the sockets go."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def obstacle() -> str:
    """Why there can be no sockmap here, or nothing."""
    if platform.machine() not in SYS_BPF:
        return f"the number of bpf(2) on {platform.machine()} is not known"
    try:
        SockMap("verdict").close()
    except OSError as error:
        return f"sockmaps need root and a kernel with them: {error.strerror}"
    return ""
