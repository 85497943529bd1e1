"""Log lines on stderr: an event name and its data, for people or for machines."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal

ACCESS = "pyproxy.access"  # asked for by a flag: at any level

# What every LogRecord carries; anything else in its __dict__ came in as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 WARNING backend changed backend=10.0.0.1:6443`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and a traceback below it when there is one."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        data = "".join(f" {k}={_quote(v)}" for k, v in data_of(record).items())
        line = (
            f"{moment}.{int(record.msecs):03d} {record.levelname:<7}"
            f" {record.getMessage()}{data}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line; the traceback is a field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **data_of(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def setup(level: str, form: Literal["text", "json"]) -> None:
    """Send everything to stderr; may be called again, for a reload."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    least = logging.getLevelNamesMapping()[level.upper()]
    handler.addFilter(lambda record: record.levelno >= least or record.name == ACCESS)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    # The live page lists what happened, however little is wanted on stderr.
    logging.getLogger("pyproxy").setLevel(min(least, logging.INFO))
    # aiohttp's line per request and asyncio's selector are not events of ours.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def data_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what came along as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _quote(value: object) -> str:
    text = str(value)
    # Control characters could forge lines; quotes keep a value one word.
    plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
