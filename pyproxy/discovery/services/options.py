"""Annotations by which one Service is treated otherwise than the rest.

Read strictly: a value that makes no sense is complained of and changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from pyproxy.config import parse_duration
from pyproxy.model import Balance

PREFIX = "pyproxy.io/"
LONGEST_S = 3600.0

Path: TypeAlias = Literal["", "relay", "direct"]
ProxyProtocol: TypeAlias = Literal["", "v1", "v2"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a Service wants; "" and None = what the settings say."""

    balance: Balance | None = None
    slow_start_s: float | None = None
    connect_timeout_s: float | None = None
    path: Path = ""
    proxy_protocol: ProxyProtocol = ""
    max_connection_age_s: float = 0.0  # 0 = any


USUAL = Options()


def options_of(annotations: Mapping[str, str]) -> tuple[Options, list[str]]:
    """Return what annotations ask for, and what is wrong with them."""
    options, complaints = USUAL, list[str]()
    for key in sorted(key for key in annotations if key.startswith(PREFIX)):
        name, said = key.removeprefix(PREFIX), annotations[key]
        reader = READERS.get(name)
        try:
            if reader is None:
                raise ValueError("there is no such annotation")
            field, read = reader
            changes: dict[str, Any] = {field: read(said)}
            options = replace(options, **changes)
        except ValueError as error:
            complaints.append(f"annotation {key}: {error}")
    return options, complaints


def _one_of(kind: object) -> Callable[[str], str]:
    words = [word for word in get_args(kind) if word]

    def read(said: str) -> str:
        if said not in words:
            raise ValueError(f"{said!r} is none of {', '.join(words)}")
        return said

    return read


def _seconds(least_s: float, most_s: float) -> Callable[[str], float]:
    def read(said: str) -> float:
        seconds = parse_duration(said)
        if not least_s <= seconds <= most_s:
            raise ValueError(f"{said} is not between {least_s:g} s and {most_s:g} s")
        return seconds

    return read


READERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "balance": ("balance", _one_of(Balance)),
    "slow-start": ("slow_start_s", _seconds(0.0, LONGEST_S)),
    "connect-timeout": ("connect_timeout_s", _seconds(0.001, LONGEST_S)),
    "path": ("path", _one_of(Path)),
    "proxy-protocol": ("proxy_protocol", _one_of(ProxyProtocol)),
    "max-connection-age": ("max_connection_age_s", _seconds(1.0, 480 * 3600.0)),
}
