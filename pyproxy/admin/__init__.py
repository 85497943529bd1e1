"""The admin address: health, metrics, the table as JSON, and a live page."""

from pyproxy.admin.collector import Collector
from pyproxy.admin.door import Admin
from pyproxy.admin.health import Health
from pyproxy.admin.history import History
from pyproxy.admin.reloads import Reloads
from pyproxy.admin.sources import Page, Sources
from pyproxy.admin.table import describe

__all__ = [
    "Admin",
    "Collector",
    "Health",
    "History",
    "Page",
    "Reloads",
    "Sources",
    "describe",
]
