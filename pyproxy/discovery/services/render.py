"""An explanation as text for a terminal."""

from collections.abc import Iterator, Sequence

from pyproxy.config import format_duration
from pyproxy.discovery.services.explain import Address, Explanation, Port, Use
from pyproxy.model import format_address

SOURCES = {
    "none": "source: this node",
    "near": "source kept of Pods",
    "far": "source kept of strangers",
    "all": "source kept",
}


def render(said: Explanation) -> str:
    """Return some lines, each ended."""
    return "".join(f"{line}\n" for line in _lines(said))


def _lines(said: Explanation) -> Iterator[str]:
    if said.skipped:
        yield f"{said.key}: not served: {said.skipped}"
        return
    yield f"{said.key}: {said.type}"
    yield f"  policies: internal {said.internal}, external {said.external}"
    if said.affinity_s:
        yield f"  affinity: clients stay for {format_duration(said.affinity_s)}"
    for name, value in _options(said):
        yield f"  {name}: {value}"
    if said.health is not None:
        count = said.health.endpoints
        yield f"  health check port {said.health.port}: {count} ready here"
    for complaint in said.complaints:
        yield f"  ! {complaint}"
    for port in said.ports:
        yield from _port(port)
    for each in said.ignored:
        yield f"  slice ignored: {each}"


def _options(said: Explanation) -> Iterator[tuple[str, str]]:
    options = said.options
    if options.balance is not None:
        yield "balance", options.balance
    if options.slow_start_s is not None:
        yield "slow start", format_duration(options.slow_start_s)
    if options.connect_timeout_s is not None:
        yield "connect timeout", format_duration(options.connect_timeout_s)
    if options.path:
        yield "path", options.path
    if options.proxy_protocol:
        yield "PROXY protocol", options.proxy_protocol
    if options.max_connection_age_s:
        yield "connections live for", format_duration(options.max_connection_age_s)


def _port(port: Port) -> Iterator[str]:
    name = f" {port.name}" if port.name else ""
    yield f"  port{name} {port.port}/{port.protocol}, {port.family}"
    for address in port.addresses:
        yield f"    {_address(address)}"
    if port.mode:
        yield f"    hints narrow endpoints down: {port.mode}"
    if not port.endpoints:
        yield "    no endpoints"
    yield from _table([_use(each) for each in port.endpoints])


def _address(address: Address) -> str:
    where = format_address(address.host, address.port)
    if address.taken_by:
        return f"{address.kind} {where}: taken by {address.taken_by}"
    words = [_access(address)]
    if "serve" in (address.near, address.far):
        words.append(SOURCES[address.keep_source])
    if address.sources is not None:
        words.append(f"only from {', '.join(address.sources) or 'nowhere'}")
    if address.why:
        words.append(address.why)
    return f"{address.kind} {where}: {'; '.join(words)}"


def _access(address: Address) -> str:
    if address.near == address.far:
        return address.near
    return f"Pods and this node {address.near}, others {address.far}"


def _use(use: Use) -> tuple[str, ...]:
    sets = [name for name in ("cluster", "local") if getattr(use, name)]
    used = "+".join(sets) or "unused"
    where = format_address(use.host, use.port)
    return where, used, use.node or "-", use.slice, use.why


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Align all columns but the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        yield f"      {'  '.join([*cells, row[-1]])}"
