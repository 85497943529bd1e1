"""Rules of another kube-proxy that are in force, and how to remove them."""

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyproxy.capture.expressions import IPV4, IPV6

FAMILIES = {IPV4: "ip", IPV6: "ip6"}
CHAIN = "KUBE-SERVICES"  # kubelet makes chains of its own; this one is kube-proxy's
INTERFACE = "kube-ipvs0"
STOP = "stop that kube-proxy, then run `kube-proxy --cleanup`"

# iptables that is not nftables underneath has no netlink: getsockopt(2) of raw sockets.
# Source: include/uapi/linux/netfilter_ipv4/ip_tables.h of the kernel.
LEGACY = {
    "iptables": (socket.AF_INET, socket.IPPROTO_IP, "ip_tables_names"),
    "ip6tables": (socket.AF_INET6, socket.IPPROTO_IPV6, "ip6_tables_names"),
}
GET_INFO, GET_ENTRIES = 64, 65
INFO_BYTES, NAME_BYTES, SIZE_AT, ENTRIES_AT = 84, 32, 80, 40


def found(
    tables: Iterable[tuple[int, str]],
    chains: Iterable[tuple[int, str, str]],
    interfaces: Iterable[str],
) -> list[str]:
    """What there is of another kube-proxy; one line for each, with what helps."""
    said = [
        f"table {FAMILIES[family]} {name} of nftables is another kube-proxy's: {STOP}"
        f" or `nft delete table {FAMILIES[family]} {name}`"
        for family, name in tables
        if name == "kube-proxy" and family in FAMILIES
    ]
    said += [
        f"chain {CHAIN} of {FAMILIES[family]} {table} is another kube-proxy's: {STOP}"
        for family, table, name in chains
        if name == CHAIN and family in FAMILIES
    ]
    said += [
        f"chain {CHAIN} of {tool}-legacy is another kube-proxy's: {STOP}"
        for tool in legacy()
    ]
    if INTERFACE in interfaces:
        said.append(f"interface {INTERFACE} is another kube-proxy's: {STOP}")
    return said


def legacy() -> Iterator[str]:
    """Tools in whose old kind of tables kube-proxy has its chains."""
    for tool, (family, level, names) in LEGACY.items():
        try:
            # Only a table that is there: to ask for one makes it.
            tables = Path("/proc/thread-self/net", names).read_text().split()
            if "nat" in tables and CHAIN.encode() in entries(family, level, b"nat"):
                yield tool
        except OSError:
            continue  # no such tables, or no right to look


def entries(family: int, level: int, table: bytes) -> bytes:
    """All rules of a table as the kernel holds them."""
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as asking:
        info = ctypes.create_string_buffer(table, INFO_BYTES)
        ask(asking, level, GET_INFO, info)
        (size,) = struct.unpack_from("=I", info.raw, SIZE_AT)
        whole = ctypes.create_string_buffer(ENTRIES_AT + size)
        struct.pack_into(f"={NAME_BYTES}sI", whole, 0, table, size)
        ask(asking, level, GET_ENTRIES, whole)
        return whole.raw[ENTRIES_AT:]


def ask(
    asking: socket.socket, level: int, option: int, data: "ctypes.Array[ctypes.c_char]"
) -> None:
    """getsockopt(2) with a question in its buffer, which Python's has no room for."""
    libc = ctypes.CDLL(None, use_errno=True)
    length = ctypes.c_uint(len(data))
    if libc.getsockopt(asking.fileno(), level, option, data, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
