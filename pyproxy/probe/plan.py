"""From a pool's `check` to what is probed, with certificates and token in hand."""

from collections.abc import Iterable, Iterator

from pyproxy.config import Check
from pyproxy.config.structs import parse_pin
from pyproxy.errors import ConfigError
from pyproxy.model import Backend
from pyproxy.probe.checker import Pace
from pyproxy.probe.wire import Target
from pyproxy.tls import ClientTls, TlsSettings, read_token, shown_name


class TlsShelf:
    """One `ClientTls` for equal settings, so that equal targets compare equal."""

    def __init__(self) -> None:
        self._kept: dict[TlsSettings, ClientTls] = {}

    def get(self, check: Check) -> ClientTls | None:
        """Return the TLS of a check. Raise ConfigError naming the file that is bad."""
        if check.type != "https":
            return None
        settings = TlsSettings(
            ca=check.ca,
            pins=frozenset(map(parse_pin, check.pins)),
            certificate=check.client_certificate,
            key=check.client_key,
        )
        if settings not in self._kept:
            self._kept[settings] = ClientTls(settings)
        return self._kept[settings]


def targets_of(
    check: Check, backends: Iterable[Backend], tls: ClientTls | None
) -> Iterator[tuple[Target, Pace]]:
    """Yield what to probe, and how often, for each backend of a pool."""
    pace = Pace(
        float(check.interval),
        float(check.fast_interval),
        float(check.down_interval),
        check.jitter,
        check.rise,
        check.fall,
        float(check.suspect_after),
    )
    for backend in backends:
        name = shown_name(backend.name) or backend.host
        target = Target(
            key=backend.key,
            name=name,
            kind=check.type,
            timeout_s=float(check.timeout),
            path=check.path,
            expect=frozenset(check.expect),
            server_name=shown_name(check.server_name or name),
            tls=tls,
            token_file=check.token_file,
        )
        yield target, pace


def complaints_about_files(check: Check, place: str, shelf: TlsShelf) -> list[str]:
    """Load every file of a check; say what is wrong with which."""
    found = []
    try:
        shelf.get(check)
    except ConfigError as error:
        found.append(f"{place}: {error}")
    if check.token_file is not None:
        try:
            read_token(check.token_file)
        except ConfigError as error:
            found.append(f"{place}.tokenFile: {error}")
    return found
