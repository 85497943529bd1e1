"""How packets to the addresses of Services reach our listeners."""

from pyproxy.capture.base import Capture as Capture
from pyproxy.capture.base import Fronts as Fronts
from pyproxy.capture.bind import Bind as Bind
from pyproxy.capture.direct import Direct as Direct
from pyproxy.capture.layout import LISTENERS as LISTENERS
from pyproxy.capture.layout import Layout as Layout
from pyproxy.capture.tproxy import Tproxy as Tproxy
