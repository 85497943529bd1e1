"""Golden exchanges: sending them again, and what of the answers may differ.

A replay learns as it goes: where a recorded answer holds a uid, a revision, an address
or a continue token, what came in its place now is put into the requests that follow.
"""

import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
import yarl

DIRECTORY = Path(__file__).parents[1] / "golden"
FILES = ("discovery-and-auth", "objects", "list-and-watch", "clients")

# What a server hands out: learned from answers, and not compared.
HANDED_OUT = ("uid", "resourceVersion", "clusterIP", "nodePort", "healthCheckNodePort")
TIMES = ("creationTimestamp", "deletionTimestamp", "time")
# Framing, which is the server library's; lengths are compared through the bytes.
UNCOMPARED_HEADERS = ("content-length", "transfer-encoding")
_ADDRESS = re.compile(r"10\.96\.(?!0\.1\b)\d+\.\d+|fd00:96::\w+")
_NODE_PORT = re.compile(r"(?<=:)3[0-2]\d{3}(?=/)|(?<=nodePort: )\d+")
_REVISIONS = re.compile(r"(?<=resource version: )\d+ \(\d+\)|(?<=, current: )\d+")
_GENERATED = re.compile(r"(?<=lb\.)[a-z0-9]{5}")
_AGE = re.compile(r"\d+[smhd](\d+[smhd])?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_QUOTED = re.compile(r'(?<=patch: Invalid value: ").*(?=": (parsing|strict))')
_CAUSE = re.compile(r'(?<=^Invalid value: "){.*}(?=": (parsing|strict))')


@dataclass(frozen=True)
class Exchange:
    """One recorded line."""

    file: str
    line: int
    note: str
    request: Mapping[str, Any]
    response: Mapping[str, Any]

    @property
    def golden(self) -> Any:
        """The recorded document, text or events."""
        if "watch" in self.response:
            return self.response["watch"]
        body, headers = self.response["body"], self.response["headers"]
        is_yaml = headers.get("content-type") == "application/yaml"
        return yaml.safe_load(body) if is_yaml and isinstance(body, str) else body

    @property
    def id(self) -> str:
        """How a test and the table of differences name it."""
        return f"{self.file}:{self.line}"


def exchanges(files: Sequence[str] = FILES) -> Iterator[Exchange]:
    """All lines, in the order in which they must be sent."""
    for name in files:
        lines = (DIRECTORY / f"{name}.jsonl").read_text().splitlines()
        for number, text in enumerate(lines, 1):
            found = json.loads(text)
            parts = found["note"], found["request"], found["response"]
            yield Exchange(name, number, *parts)


@dataclass
class Answer:
    """What came now."""

    status: int
    headers: dict[str, str]
    raw: bytes
    body: Any  # a decoded document, a text, or the list of a watch's events


@dataclass
class Replay:
    """A client that sends recorded requests and remembers what stands for what."""

    url: str
    ca: Path
    learned: dict[str, str] = field(default_factory=dict)

    async def send(self, session: aiohttp.ClientSession, exchange: Exchange) -> Answer:
        """Send one request, adapted, and learn from its answer."""
        request = exchange.request
        headers = dict(request["headers"])
        if request["token"]:
            headers["Authorization"] = f"Bearer {request['token']}"
        body = request["body"]
        if isinstance(body, dict | list):
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(self._adapted(body))
        url = yarl.URL(self.url + self._path(request["path"]), encoded=True)
        async with session.request(
            request["method"], url, headers=headers, data=body
        ) as response:
            raw = await response.read()
            heads = {key.lower(): value for key, value in response.headers.items()}
            answer = Answer(response.status, heads, raw, raw.decode())
        golden = exchange.golden
        is_json = heads.get("content-type", "").startswith("application/json")
        if "watch=" in request["path"]:
            lines = raw.decode().splitlines()
            answer.body = [json.loads(line) for line in lines] + [None]
            if golden and golden[-1] is not None:  # the recording ends here
                answer.body = answer.body[: len(golden)]
        elif is_json and raw:
            answer.body = json.loads(raw)
        elif heads.get("content-type") == "application/yaml":
            answer.body = yaml.safe_load(raw)
        self._learn(golden, answer.body)
        return answer

    def session(self) -> aiohttp.ClientSession:
        """A session that trusts the server and says nothing of itself."""
        context = ssl.create_default_context(cafile=str(self.ca))
        connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(
            connector=connector, skip_auto_headers=["User-Agent"]
        )

    def _path(self, path: str) -> str:
        path = re.sub(r"(?<=resourceVersion=)\d+", lambda m: self._revision(m[0]), path)
        return re.sub(
            r"(?<=continue=)[\w-]+", lambda m: self.learned.get(m[0], m[0]), path
        )

    def _revision(self, text: str) -> str:
        """The revision that stands for a recorded one, or for one shortly after it."""
        known = [int(r.removeprefix("rv ")) for r in self.learned if r[:3] == "rv "]
        below = [number for number in known if number <= int(text)]
        if not below or int(text) > max(known):
            return text  # one that never was: very old, or in the future
        return str(int(self.learned[f"rv {max(below)}"]) + int(text) - max(below))

    def _adapted(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: self._adapted(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self._adapted(item, key) for item in value]
        if key == "resourceVersion":
            return self._revision(value)
        return self.learned.get(value, value) if isinstance(value, str) else value

    def _learn(self, golden: Any, now: Any, key: str = "") -> None:
        if isinstance(golden, dict) and isinstance(now, dict):
            for name in golden.keys() & now.keys():
                self._learn(golden[name], now[name], name)
        elif isinstance(golden, list) and isinstance(now, list):
            for one, other in zip(golden, now, strict=False):
                self._learn(one, other, key)
        elif key == "resourceVersion" and str(now).isdecimal():
            self.learned[f"rv {golden}"] = str(now)
        elif key in ("uid", "continue", "clusterIP", "clusterIPs"):
            self.learned[str(golden)] = str(now)


def normal(value: Any, key: str = "") -> Any:
    """Return an answer without what a server hands out and without moments."""
    if isinstance(value, dict):
        return {k: normal(v, k) for k, v in value.items()}
    if isinstance(value, list):
        items = [normal(item, key) for item in value]
        # How many bookmarks come is a matter of time.
        return [item for item, last in _with_last(items) if not _repeats(item, last)]
    if key == "description":
        return "<text>"
    if key in HANDED_OUT and value and value != "None":
        return f"<{key}>"
    if key in TIMES:
        return "<time>"
    if key == "continue":
        return "<token>"
    if key == "serverAddress" or (key == "targetPort" and len(str(value)) == 5):
        return "<address>"
    return _normal_text(value, key) if isinstance(value, str) else value


def _with_last(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items, [None, *items], strict=False)


def _repeats(item: Any, last: Any) -> bool:
    is_bookmark = isinstance(item, dict) and item.get("type") == "BOOKMARK"
    return is_bookmark and item == last


def _normal_text(text: str, key: str) -> str:
    if key == "cells" and _AGE.fullmatch(text):
        return "<age>"
    if key == "cells" and _MOMENT.fullmatch(text):
        return "<moment>"
    text = _UID.sub("<uid>", text)
    text = _ADDRESS.sub("<address>", text)
    text = _NODE_PORT.sub("<port>", text)
    text = _REVISIONS.sub("<revisions>", text)
    text = _GENERATED.sub("<random>", text)
    return _CAUSE.sub("<object>", _QUOTED.sub("<object>", text))
