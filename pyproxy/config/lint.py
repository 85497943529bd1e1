"""Settings that are valid and usually a mistake. Pure."""

from collections.abc import Iterator, Sequence

from pyproxy.config.address import is_loopback, parse_address, parse_network
from pyproxy.config.duration import format_duration
from pyproxy.config.structs import Listener, ModeConfig, Pool

QUIET_S = 60.0  # client-go pings after 30 s; plain HTTP/1.1 watches may be quieter
DETECT_S = 30.0  # in which an apiserver that shuts down must be out of rotation
DESCRIPTORS_PER_RELAY = 2
DESCRIPTORS_SPARE = 256  # listeners, pipes, probes, files


def lint(config: ModeConfig, pools: Sequence[Pool]) -> Iterator[str]:
    """Yield a warning for each setting that usually is a mistake."""
    if config.timeouts.tcp_idle < QUIET_S:
        yield (
            f"$.timeouts.tcpIdle: {format_duration(config.timeouts.tcp_idle)} cuts"
            " watches, logs and exec sessions that are only quiet; at least 60s"
        )
    admin = config.admin_address
    if admin and not is_loopback(parse_address(admin, zero_port=True).host):
        yield f"$.adminAddress: {admin} is open to the network, without authentication"
    for index, pool in enumerate(pools):
        yield from _lint_check(pool, f"$.pools[{index}].check")


def lint_trust(listeners: Sequence[Listener]) -> Iterator[str]:
    """Yield a warning where any peer may name its client."""
    for index, listener in enumerate(listeners):
        for number, text in enumerate(listener.proxy_protocol_from):
            if parse_network(text).prefixlen == 0:
                yield (
                    f"$.listeners[{index}].proxyProtocolFrom[{number}]: {text} lets"
                    " every client choose its address; name your balancers' networks"
                )


def lint_descriptors(
    listeners: Sequence[Listener], descriptor_limit: int
) -> Iterator[str]:
    """Yield a warning when the limits promise more than the process may open."""
    wanted = sum(listener.limits.max_connections for listener in listeners)
    room = (descriptor_limit - DESCRIPTORS_SPARE) // DESCRIPTORS_PER_RELAY
    if wanted > room:
        yield (
            f"maxConnections of {wanted} in all needs"
            f" {wanted * DESCRIPTORS_PER_RELAY + DESCRIPTORS_SPARE} file descriptors,"
            f" the limit is {descriptor_limit} (ulimit -n, LimitNOFILE=)"
        )


def _lint_check(pool: Pool, place: str) -> Iterator[str]:
    check = pool.check
    if check.type == "tcp":
        yield f"{place}: a tcp check takes a hung server for a ready one; use https"
    elif check.path == "/healthz":
        yield (
            f"{place}.path: /healthz fails when an apiserver is already closing; use"
            " /readyz, which fails in time to drain"
        )
    if check.insecure:
        yield f"{place}.insecure: any server will pass for ready; use ca or pins"
    if check.worst_detection_s > DETECT_S:
        yield (
            f"{place}: a hung server is noticed after up to"
            f" {format_duration(check.worst_detection_s)}, more than the"
            f" {format_duration(DETECT_S)} in which an apiserver shuts down"
        )
