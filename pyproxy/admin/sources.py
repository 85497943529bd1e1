"""Where the answers of the admin address come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pyproxy.admin.health import Health
from pyproxy.admin.history import History
from pyproxy.metrics import Collects


class Page(NamedTuple):
    """What is answered: a text as it is, anything else as JSON."""

    body: str | Mapping[str, object]
    status: int = 200


More = Callable[[Mapping[str, str]], Page]  # is given the query


@dataclass(frozen=True, slots=True)
class Sources:
    """Asked at each request."""

    health: Health
    collectors: Sequence[Collects]  # may grow
    table: Callable[[], dict[str, object]]
    config: Callable[[], dict[str, object]]
    history: History = field(default_factory=History)
    more: Mapping[str, More] = field(default_factory=dict)  # paths of one mode
