"""A scratch network for one benchmark: every contender meets the same, known kernel.

The namespace has no name, so nothing has to be removed: it ends with its last process,
even when that process is killed. Without root a user namespace brings the rights.

What is set, and why:
- congestion control cubic. Loopback loses nothing, so it only ramps up and stays out
  of the way; bbr (the default of some machines) would pace, and we would measure its
  timers. A namespace may take cubic as its default only if the host allows it to
  everyone; where it does not, the loopback routes carry it (ip-route(8), `congctl`).
- a wide range of source ports and a cap on TIME_WAIT: with 20,000 connections closed
  per second the table of a short benchmark would fill up as it never does in
  production, where clients have addresses of their own.
"""

import ctypes
import os
import socket
import subprocess
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
LISTEN_PORTS = range(20000, 20400)  # kept free of source ports

SYSCTLS = {
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/ip_local_reserved_ports": f"{LISTEN_PORTS[0]}-{LISTEN_PORTS[-1]}",
    "net/ipv4/tcp_max_tw_buckets": "4096",
    "net/ipv4/tcp_max_syn_backlog": "8192",
    "net/core/somaxconn": "8192",
}


def enter(congestion: str = "cubic") -> None:
    """Move this process, and all that it starts from now on, into a new network."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _unshare(CLONE_NEWNET)
    else:
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _ip("link", "set", "lo", "up")
    for name, value in SYSCTLS.items():
        (Path("/proc/sys") / name).write_text(value)
    _set_congestion(congestion)
    used = congestion_in_use()
    if used != congestion:
        raise RuntimeError(f"connections here use {used}, not {congestion}")


def add_address(address: str) -> None:
    """Give this network one more address of its own, which is no loopback address."""
    _ip("address", "add", f"{address}/32", "dev", "lo")


def congestion_in_use() -> str:
    """Name of the congestion control that a new loopback connection gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            accepted, _ = listener.accept()
            with accepted:
                names = {congestion_of(client), congestion_of(accepted)}
    return "+".join(sorted(names))


def congestion_of(sock: socket.socket) -> str:
    """Name of what a connection uses."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return raw.split(b"\0")[0].decode()


def _set_congestion(congestion: str) -> None:
    try:
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(congestion)
    except PermissionError:
        loopback = "local 127.0.0.0/8 dev lo proto kernel scope host src 127.0.0.1"
        route = ["table", "local", *loopback.split(), "congctl", congestion]
        _ip("route", "replace", *route)
        # The host route 127.0.0.1/32 is the more specific one.
        _ip("route", "replace", *(r.replace("127.0.0.0/8", "127.0.0.1") for r in route))


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot make a network namespace: {os.strerror(code)}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
