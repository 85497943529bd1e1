"""Where the bastion listens, and what it says there itself."""

import errno
from collections.abc import Container

from pyproxy.dataplane import Http, ServerTls
from pyproxy.errors import StartError
from pyproxy.http.audit import HEADERS, MOST_TARGET
from pyproxy.http.status import RETRY_SOON, failure
from pyproxy.model import Key, Limits, Pool, Vip
from pyproxy.modes.apiserver_proxy.config import MODE, ApiserverProxy
from pyproxy.modes.apiserver_proxy.keys import parts_of

EVERY = ("0.0.0.0", "::")
NO_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
PARK_S = 60.0  # for answers of an apiserver
UNREACHED = failure(503, "ServiceUnavailable", "error trying to reach service: ")
UPGRADE_UNREACHED = failure(500, "", "error dialing backend: ")
NOT_UPGRADED = failure(500, "", "")  # the core says how it was answered
# Source: apimachinery, api/errors.NewTooManyRequests; apiserver, filters/maxinflight.
TOO_MANY = failure(
    *(429, "TooManyRequests", ""), details={"retryAfterSeconds": 1}, more=RETRY_SOON
)
UNTRUSTED = failure(401, "Unauthorized", "Unauthorized: ")


def hosts_of(config: ApiserverProxy, given: Container[Key]) -> tuple[str, ...]:
    """Return the addresses to listen on: of both families for "every", as Go does.

    `given` is where sockets of a supervisor listen: it has chosen, if it is any.
    """
    wanted = config.bind_address
    if wanted not in EVERY:
        return (wanted,)
    both = sorted(EVERY, key=lambda host: host != wanted)
    chosen = [host for host in both if (host, config.secure_port) in given]
    return tuple(chosen or both)


def is_without_family(error: StartError) -> bool:
    """Whether it could not listen because the machine does not have the family."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in NO_FAMILY


def vip_of(config: ApiserverProxy, key: Key, tls: ServerTls) -> Vip:
    """Return how to serve at an address."""
    front = config.request_header
    names = front.names if front.client_ca_file else None
    return Vip(
        *key,
        pool=Pool(MODE, ()),
        idle_timeout_s=float(config.timeouts.tcp_idle),
        limits=Limits(
            max_connections_per_source=config.limits.max_connections_per_source
        ),
        client_first=True,
        http=Http(
            key=parts_of(names, config.passed_header),
            park_timeout_s=PARK_S,
            stall_timeout_s=0.0,
            gateway=UNREACHED,
            gateway_upgrade=UPGRADE_UNREACHED,
            not_upgraded=NOT_UPGRADED,
            too_many=TOO_MANY,
            untrusted=UNTRUSTED,
            log=bool(config.audit_log_path),
            log_target=MOST_TARGET,
            log_headers=HEADERS,
        ),
        tls=tls,
    )
