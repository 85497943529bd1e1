"""TLS of our own requests to an apiserver, out of what an access knows."""

import ssl
from typing import TYPE_CHECKING

from pyproxy import pem
from pyproxy.tls import new_client_context

if TYPE_CHECKING:
    from pyproxy.kube.config.access import Tls


def client_context(tls: "Tls") -> ssl.SSLContext:
    """Make a context of what was found good before. Raise ssl.SSLError or ValueError.

    No authority = those of the system; an empty one = none.
    """
    context = new_client_context()
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is None:
        context.load_default_certs()
    elif tls.ca:
        context.load_verify_locations(cadata=tls.ca.decode("ascii"))
    if tls.certificate and tls.key:
        pem.load_pair(context, tls.certificate, tls.key)
    return context
