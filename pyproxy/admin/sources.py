"""Where the answers of the admin address come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pyproxy.admin.health import Health
from pyproxy.admin.history import History
from pyproxy.metrics import Collects


@dataclass(frozen=True, slots=True)
class Sources:
    """Asked at each request."""

    health: Health
    collectors: Sequence[Collects]  # may grow
    table: Callable[[], dict[str, object]]
    config: Callable[[], dict[str, object]]
    history: History = field(default_factory=History)
