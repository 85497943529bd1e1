"""Services, their slices and this node -> addresses, pools and who may come.

Pure: objects come out of stores, what changes comes out of `ServiceTable.take`.

Source: what kube-proxy does (1.36), said file by file.
"""

from pyproxy.discovery.services.build import Health
from pyproxy.discovery.services.delta import Delta
from pyproxy.discovery.services.explain import Explanation, explain
from pyproxy.discovery.services.handlers import ServiceHandler, SliceHandler
from pyproxy.discovery.services.here import Here, Side, here_of, is_eligible
from pyproxy.discovery.services.options import Options
from pyproxy.discovery.services.render import render
from pyproxy.discovery.services.settings import Settings
from pyproxy.discovery.services.table import (
    BY_SERVICE,
    ServiceTable,
    Table,
    by_service,
)

__all__ = [
    "BY_SERVICE",
    "Delta",
    "Explanation",
    "Health",
    "Here",
    "Options",
    "ServiceHandler",
    "ServiceTable",
    "Settings",
    "Side",
    "SliceHandler",
    "Table",
    "by_service",
    "explain",
    "here_of",
    "is_eligible",
    "render",
]
