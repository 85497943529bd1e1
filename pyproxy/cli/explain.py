"""`pyproxy explain`: why a Service is as it is, asked of the process that serves it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from pyproxy.cli.flags import Command, HostPort, flag
from pyproxy.errors import StartError

ASKED = "127.0.0.1:10249"
ANSWER_S = 5.0
INDENT = "  "
IN_FORCE = ("notServed", "rules", "capture", "paths", "connections")


@click.command(cls=Command)
@click.argument("service", metavar="NAMESPACE/NAME")
@flag("--admin-address", f"Admin address to ask.  [{ASKED}]", HostPort())
@flag("--output", "How to say it.  [text]", click.Choice(["text", "json"]))
def explain(service: str, admin_address: str | None, output: str | None) -> None:
    """Say why a Service is served as it is.

    Its addresses, its endpoints and why each is used or is not, its connections.
    Asks a kube-proxy that runs on this machine.
    """
    from pyproxy.config import parse_address

    namespace, _, name = service.rpartition("/")
    key = f"{namespace or 'default'}/{name}"
    said = fetch(*parse_address(admin_address or ASKED), key)
    if output == "json":
        click.echo(json.dumps(said, indent=2))
    else:
        text = said.pop("text", "")
        if text:  # the table's own words; what is left is about its being in force
            click.echo(text, nl=False)
            said = {name: said[name] for name in IN_FORCE if name in said}
        click.echo("\n".join(render(said)))


def fetch(host: str, port: int, key: str) -> dict[str, Any]:
    """Ask about a Service. Raise StartError without an answer."""
    import http.client

    from pyproxy.model import format_address

    where = format_address(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", f"/debug/explain?service={quote(key, safe='/')}")
        response = connection.getresponse()
        text = response.read()
        said = dict(json.loads(text))
    except (OSError, http.client.HTTPException, ValueError) as error:
        hint = "is a kube-proxy running, with this --admin-address?"
        raise StartError(f"no answer from {where}: {error}", hint) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise StartError(str(said.get("error", f"{where} answered {response.status}")))
    return said


def render(said: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield lines: plain values first, then lists of things as tables."""
    indent = INDENT * depth
    plain = {k: v for k, v in said.items() if not _is_nested(v)}
    width = max((len(_words(name)) for name in plain), default=0) + 1
    for name, value in plain.items():
        yield f"{indent}{_words(name) + ':':<{width}} {_text(value)}"
    for name, value in said.items():
        if name in plain:
            continue
        yield f"{indent}{_words(name)}:"
        if isinstance(value, Mapping):
            yield from render(value, depth + 1)
        else:
            yield from _table(value, depth + 1)


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return _is_list(value) and any(isinstance(each, Mapping) for each in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _table(rows: Sequence[Any], depth: int) -> Iterator[str]:
    """Yield a table of what is alike, with a column for each name in any row."""
    maps = [row if isinstance(row, Mapping) else {"": row} for row in rows]
    names = list(dict.fromkeys(name for row in maps for name in row))
    texts = [[_words(name).upper() for name in names]]
    texts += [[_text(row.get(name)) for name in names] for row in maps]
    used = [i for i in range(len(names)) if any(row[i] for row in texts[1:])]
    widths = {i: max(len(row[i]) for row in texts) for i in used}
    for row in texts:
        cells = (f"{row[i]:<{widths[i]}}" for i in used)
        yield f"{INDENT * depth}{'  '.join(cells)}".rstrip()


def _text(value: Any) -> str:
    """Return one line; what is not there is nothing."""
    if value is None or value == "" or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(k)} {_text(v)}" for k, v in value.items())
    if _is_list(value):
        return ", ".join(_text(each) for each in value)
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _words(name: str) -> str:
    """Write `nodePort` as words."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name)
