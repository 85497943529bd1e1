"""Go durations, the way Kubernetes writes time: `30s`, `1m30s`, `500ms`."""

import re
from typing import ClassVar

# The core counts milliseconds in 32 bits; 20 days is below that and above any need.
LONGEST_S = 480 * 3600.0

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5
    "μs": 1e-6,  # U+03BC, which Go accepts, too
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Return seconds. Raise ValueError for anything that Go would not take."""
    if text == "0":
        return 0.0
    seconds, end = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        seconds += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(f"{text!r} is not a duration such as 30s, 1m30s or 500ms")
    return seconds


def format_duration(seconds: float) -> str:
    """Shortest form that `parse_duration` reads back: 5400 -> `1h30m`."""
    milliseconds = round(seconds * 1000)
    if milliseconds <= 0:
        return "0s" if seconds == 0 else f"{round(seconds * 1e6)}us"
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text


class Seconds(float):
    """A positive time span; written as a Go duration, or a number of seconds."""

    zero_allowed: ClassVar[bool] = False
    sign: ClassVar[str] = ""  # what may stand before it, as a regular expression

    @classmethod
    def parse(cls, value: object) -> "Seconds":
        """Read a value of a configuration file. Raise ValueError if it is not one."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"expected a duration such as 30s, got {value!r}")
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
        if seconds == 0 and not cls.zero_allowed:
            raise ValueError("must be more than 0")
        if not 0 <= seconds <= LONGEST_S:
            raise ValueError(f"must be between 0 and {format_duration(LONGEST_S)}")
        return cls(seconds)


class SecondsOrZero(Seconds):
    """A time span that may be 0, which then switches something off."""

    zero_allowed = True
