"""The admin address: health, metrics, the table as JSON, and a live page."""

from pyproxy.admin.collector import Collector
from pyproxy.admin.health import Health
from pyproxy.admin.server import Admin, Sources
from pyproxy.admin.table import describe

__all__ = ["Admin", "Collector", "Health", "Sources", "describe"]
