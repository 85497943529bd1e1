"""Configuration: one strict, immutable struct per mode, from a file and from flags."""

from pyproxy.config.address import (
    Address,
    is_loopback,
    overlap,
    parse_address,
    parse_network,
)
from pyproxy.config.base import (
    Config,
    convert,
    effective,
    masked,
    read_document,
    to_yaml,
)
from pyproxy.config.complaints import expanded
from pyproxy.config.duration import (
    Seconds,
    SecondsOrZero,
    format_duration,
    parse_duration,
)
from pyproxy.config.lint import lint, lint_descriptors, lint_trust
from pyproxy.config.structs import (
    Check,
    Limits,
    Listener,
    Log,
    ModeConfig,
    Pool,
    Server,
    Timeouts,
)

__all__ = [
    "Address",
    "Check",
    "Config",
    "Limits",
    "Listener",
    "Log",
    "ModeConfig",
    "Pool",
    "Seconds",
    "SecondsOrZero",
    "Server",
    "Timeouts",
    "convert",
    "effective",
    "expanded",
    "format_duration",
    "is_loopback",
    "lint",
    "lint_descriptors",
    "lint_trust",
    "masked",
    "overlap",
    "parse_address",
    "parse_duration",
    "parse_network",
    "read_document",
    "to_yaml",
]
