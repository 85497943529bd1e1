"""`pyproxy top`: the table of a running mode, in the terminal, again and again."""

import json
import sys
import time
from typing import Any

import click

from pyproxy.cli.flags import Command, Duration, HostPort, flag
from pyproxy.config import format_duration, parse_address, parse_duration
from pyproxy.errors import StartError

Table = dict[str, Any]

ANSWER_S = 5.0
CLEAR = "\033[H\033[J"  # home, and erase below: no flicker of a whole clear
TONES = {"UP": "32", "DRAINING": "33", "DOWN": "31"}
ROW = "{:<10} {:<24} {:>7} {:>7} {:>11} {:>7} {:>9}  {}"
HEAD = ("STATE", "SERVER", "ACTIVE", "NEW/S", "TRAFFIC/S", "FAILED", "PROBE", "WHY")


@click.command(cls=Command)
@flag("--admin-address", "Whom to ask.  [127.0.0.1:9791]", HostPort())
@flag("--interval", "Between two looks.  [1s]", Duration())
@flag("--once", "Print once and end.", bool)
def top(admin_address: str | None, interval: str | None, once: bool | None) -> None:
    """Show the table of a running mode, live."""
    host, port = parse_address(admin_address or "127.0.0.1:9791")
    before: Table | None = None
    try:
        while True:
            now = fetch(host, port)
            shown = render(now, before, colour=sys.stdout.isatty())
            click.echo(shown if once else f"{CLEAR}{shown}", nl=False)
            if once:
                return
            before = now
            time.sleep(parse_duration(interval or "1s"))
    except KeyboardInterrupt:
        return


def fetch(host: str, port: int) -> Table:
    """Ask for the table. Raise StartError when nobody answers."""
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/debug/table")
        return dict(json.loads(connection.getresponse().read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        hint = "is it running, with this --admin-address?"
        raise StartError(f"no table from {host}:{port}: {error}", hint) from error
    finally:
        connection.close()


def render(now: Table, before: Table | None, *, colour: bool) -> str:
    """Return the view. Rates are since `before`."""
    state = "ready" if now["ready"] else "NOT READY"
    counts = f"connections {now['relaysActive']}  generation {now['generation']}"
    lines = [f"pyproxy {now['mode']}  {state}  {counts}  workers {now['workers']}"]
    for vip in now["vips"]:
        ended = ", ".join(f"{k} {v}" for k, v in _reasons(vip).items())
        lines.append(
            f"  {vip['address']} -> {vip['pool']}  active {vip.get('active', 0)}"
            f"  accepted {vip.get('accepted', 0)}  {ended}".rstrip()
        )
    span_s = now["time"] - before["time"] if before else 0.0
    for pool in now["pools"]:
        lines += ["", f"{pool['name']}  ({pool['balance']})", ROW.format(*HEAD)]
        for backend in pool["backends"]:
            then = _find(before, pool["name"], backend["address"])
            lines.append(_row(backend, then, span_s, colour=colour))
    return "\n".join([*lines, ""])


def _row(now: Table, then: Table, span_s: float, *, colour: bool) -> str:
    def rate(*fields: str) -> float:
        if span_s <= 0 or not then:
            return 0.0
        grown = sum(int(now.get(each, 0)) - int(then.get(each, 0)) for each in fields)
        return max(0.0, grown / span_s)

    state = now.get("state", "UNCHECKED")
    took_s = now["lastProbe"]["tookMs"] / 1000 if "lastProbe" in now else 0.0
    text = ROW.format(
        state,
        now["address"],
        now.get("active", 0),
        f"{rate('connects'):.0f}",
        _size(rate("bytesUp", "bytesDown")),
        now.get("connectFailures", 0),
        format_duration(took_s),
        now.get("why", ""),
    ).rstrip()
    if colour and state in TONES:
        return f"\033[{TONES[state]}m{state}\033[0m{text[len(state) :]}"
    return text


def _find(table: Table | None, pool: str, address: str) -> Table:
    pools = table["pools"] if table else []
    backends = [b for each in pools if each["name"] == pool for b in each["backends"]]
    return next((b for b in backends if b["address"] == address), {})


def _reasons(vip: Table) -> dict[str, int]:
    return {**vip.get("closed", {}), **vip.get("refused", {})}


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TiB"
