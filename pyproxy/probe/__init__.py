"""Active health checks: HTTPS, HTTP, TCP; rise and fall; ready, alive or dead."""

from pyproxy.probe.checker import Checker, Pace, Remembered, Watched, down_for_s
from pyproxy.probe.plan import TlsShelf, complaints_about_files, targets_of
from pyproxy.probe.policy import health_of
from pyproxy.probe.state import ProbeState, Result
from pyproxy.probe.wire import CannotProbeError, Finding, Target, probe

__all__ = [
    "CannotProbeError",
    "Checker",
    "Finding",
    "Pace",
    "ProbeState",
    "Remembered",
    "Result",
    "Target",
    "TlsShelf",
    "Watched",
    "complaints_about_files",
    "down_for_s",
    "health_of",
    "probe",
    "targets_of",
]
