"""A small world in which the proxies are at work: no root, no cluster, no settings."""

from pyproxy.sandbox.world import Sandbox

__all__ = ["Sandbox"]
