"""`pyproxy top`: the table of a running mode, in the terminal, again and again."""

import json
import sys
import time
from typing import Any

import click

from pyproxy.cli.flags import Command, Duration, HostPort, flag
from pyproxy.errors import StartError

Table = dict[str, Any]

ANSWER_S = 5.0
UNKNOWN = "-"
CLEAR = "\033[H\033[J"  # home, and erase below: no flicker of a whole clear
TONES = {"UP": "32", "DRAINING": "33", "DOWN": "31"}
ROW = "{:<10} {:<24} {:>7} {:>7} {:>11} {:>7} {:>9}  {}"
HEAD = ("STATE", "SERVER", "ACTIVE", "NEW/S", "TRAFFIC/S", "FAILED", "PROBE", "WHY")


@click.command(cls=Command)
@flag("--admin-address", "Admin address to ask.  [127.0.0.1:9791]", HostPort())
@flag("--interval", "Between two looks.  [1s]", Duration())
@flag("--once", "Print once and end.", bool)
def top(admin_address: str | None, interval: str | None, once: bool | None) -> None:
    """Show the table of a running mode, live."""
    from pyproxy.config import parse_address, parse_duration

    host, port = parse_address(admin_address or "127.0.0.1:9791")
    colour = sys.stdout.isatty()
    shown = render(before := fetch(host, port), None, colour=colour)
    click.echo(shown if once else f"{CLEAR}{shown}", nl=False)
    try:
        while not once:
            time.sleep(parse_duration(interval or "1s"))
            try:
                now = fetch(host, port)
            except StartError as error:  # it may be restarting
                lost = f"{error.failed}; still trying"
                click.echo(f"{CLEAR}{lost}\n\n{shown}", nl=False)
                continue
            # Counters of another process say nothing about a rate.
            same = now.get("startedAt") == before.get("startedAt")
            shown = render(now, before if same else None, colour=colour)
            click.echo(f"{CLEAR}{shown}", nl=False)
            before = now
    except KeyboardInterrupt:
        return


def fetch(host: str, port: int) -> Table:
    """Ask for the table. Raise StartError without an answer."""
    import http.client

    from pyproxy.model import format_address

    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/debug/table")
        return dict(json.loads(connection.getresponse().read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        hint = "is it running, with this --admin-address?"
        where = format_address(host, port)
        raise StartError(f"no table from {where}: {error}", hint) from error
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
            f"  {vip['address']} -> {vip['pool']}  active {_known(vip, 'active')}"
            f"  accepted {_known(vip, 'accepted')}  {ended}".rstrip()
        )
    span_s = now["time"] - before["time"] if before else 0.0
    for pool in now["pools"]:
        lines += ["", f"{pool['name']}  ({pool['balance']})", ROW.format(*HEAD)]
        for backend in pool["backends"]:
            then = _find(before, pool["name"], backend["address"])
            lines.append(_row(backend, then, span_s, colour=colour))
    return "\n".join([*lines, ""])


def _row(now: Table, then: Table, span_s: float, *, colour: bool) -> str:
    def rate(*fields: str) -> float | None:
        if span_s <= 0 or any(each not in now or each not in then for each in fields):
            return None
        grown = sum(int(now[each]) - int(then[each]) for each in fields)
        return max(0.0, grown / span_s)

    from pyproxy.config import format_duration

    state = now.get("state", "-")
    shown = f"{state}?" if now.get("suspect") else state  # it does not answer
    last = now.get("lastProbe")
    fresh, moved = rate("connects"), rate("bytesUp", "bytesDown")
    text = ROW.format(
        shown,
        now["address"],
        _known(now, "active"),
        UNKNOWN if fresh is None else f"{fresh:.0f}",
        UNKNOWN if moved is None else _size(moved),
        _known(now, "connectFailures"),
        UNKNOWN if last is None else format_duration(last["tookMs"] / 1000),
        now.get("why", ""),
    ).rstrip()
    if colour and state in TONES:
        return f"\033[{TONES[state]}m{state}\033[0m{text[len(state) :]}"
    return text


def _known(entry: Table, field: str) -> str:
    """What nobody counted is not 0."""
    return str(entry.get(field, UNKNOWN))


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
