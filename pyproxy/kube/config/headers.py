"""Header values: who we are, and as whom we act. All of them are Latin-1 as text."""

import base64
import platform
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pyproxy.kube.config.errors import AccessError
from pyproxy.kube.config.kubeconfig import User

Pairs = tuple[tuple[str, str], ...]

# What may stand in a header's name as it is (RFC 9110 5.6.2), less the escape itself.
_PLAIN = re.compile(rb"[!#$&'*+.^_`|~0-9A-Za-z-]")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def bearer(token: str) -> str:
    """Return the value of Authorization. Raise ValueError, which never quotes it."""
    return f"Bearer {_wire(token.strip(), 'token')}"


def basic(username: str, password: str) -> str:
    """Return the value of Authorization."""
    pair = f"{username}:{password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def impersonation(user: User) -> Pairs:
    """Return the headers that make us act as somebody else. Raise AccessError."""
    try:
        return tuple(_impersonation(user)) if user.as_ else ()
    except ValueError as error:
        raise AccessError(str(error)) from None


def _impersonation(user: User) -> Iterator[tuple[str, str]]:
    yield "Impersonate-User", _wire(user.as_, "user to impersonate")
    if user.as_uid:
        yield "Impersonate-Uid", _wire(user.as_uid, "uid to impersonate")
    for group in user.as_groups:
        yield "Impersonate-Group", _wire(group, "group to impersonate")
    for key, values in user.as_user_extra.items():
        for value in values:
            yield (
                f"Impersonate-Extra-{escape(key)}",
                _wire(value, "extra to impersonate"),
            )


def escape(key: str) -> str:
    """Make any text fit into a header's name: `%` and two hex digits for each byte."""
    return "".join(
        chr(byte) if _PLAIN.fullmatch(bytes([byte])) else f"%{byte:02X}"
        for byte in key.encode()
    )


@cache
def user_agent() -> str:
    """Return the User-Agent of requests without one: `pyproxy/0.1.0 (linux/amd64)`."""
    try:
        number = version("pyproxy-k8s")
    except PackageNotFoundError:  # run from its source
        number = "0"
    machine = _MACHINES.get(platform.machine(), platform.machine())
    return f"pyproxy/{number} ({sys.platform}/{machine})"


def _wire(text: str, what: str) -> str:
    """Return UTF-8 as Latin-1, which is how bytes of a header are written down."""
    value = text.encode().decode("latin-1")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"{what}: has characters that a header cannot carry")
    return value
