"""Apiservers that announce themselves: the EndpointSlices of the Service `kubernetes`.

They are read through a listener of our own, which leads to whichever apiserver is ready
now: no single one is needed to learn of the others. Its certificate must be good for
the name that the kubeconfig has for the apiserver, as for any client of the listener.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pyproxy.kube.config import Access, AccessError, ClientFlags, Current, load
from pyproxy.kube.objects import EndpointSlice
from pyproxy.kube.reflector import Reflector
from pyproxy.kube.resource import ENDPOINT_SLICES
from pyproxy.kube.store import ObjectKey, Store
from pyproxy.kube.watching import Selection
from pyproxy.kube.wire import Wire
from pyproxy.model import Key, format_address

logger = logging.getLogger(__name__)

SELECTION = Selection(
    ENDPOINT_SLICES,
    namespace="default",
    labels="kubernetes.io/service-name=kubernetes",
)
# An apiserver that joins or leaves changes its slice several times (k3s waits as long).
DEBOUNCE_S = 1.0
MOST = 256  # of a control plane; a list beyond that is not one


class Members:
    """The apiservers that are known, as HOST:PORT, by text."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Begin with those that were known before a restart."""
        self.store: Store[EndpointSlice] = Store()
        self.store.add_handler(self)
        self.known = tuple(sorted(known))
        self._moved = asyncio.Event()

    def on_upsert(
        self, key: ObjectKey, old: EndpointSlice | None, new: EndpointSlice
    ) -> None:
        """Look at the slices, soon."""
        self._moved.set()

    def on_delete(self, key: ObjectKey, last: EndpointSlice) -> None:
        """Look at the slices, soon."""
        self._moved.set()

    def on_synced(self) -> None:
        """Look at the slices, soon."""
        self._moved.set()

    async def next(self) -> tuple[str, ...]:
        """Wait for another list, and return it; `known` stays until it is taken."""
        while True:
            await self._moved.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._moved.clear()
            if not self.store.is_synced:
                continue
            found = tuple(sorted(set(_addresses(self.store.objects.values()))))
            if found == self.known:
                continue
            if 0 < len(found) <= MOST:
                return found
            # The last apiserver to leave removes its own address, and yet serves on.
            extra = {"found": len(found), "kept": ", ".join(self.known)}
            logger.warning(
                "no usable list of apiservers, keeping the last", extra=extra
            )

    def take(self, found: tuple[str, ...]) -> None:
        """Say that this list is in use now."""
        extra = {"apiservers": ", ".join(found), "before": ", ".join(self.known)}
        logger.info("apiservers found", extra=extra)
        self.known = found


def _addresses(slices: Iterable[EndpointSlice]) -> Iterator[str]:
    for each in slices:
        ports = [port for port in each.ports if port.port and port.protocol == "TCP"]
        named = [port for port in ports if port.name == "https"] or ports
        for endpoint in each.endpoints:
            if not named or not endpoint.is_ready or not endpoint.addresses:
                continue
            # All of its addresses are fungible; one of them names it (facts A2).
            address = endpoint.addresses[0]
            try:
                ipaddress.ip_address(address)
            except ValueError:
                continue  # a slice of names
            yield format_address(address, named[0].port or 0)


def access_of(flags: ClientFlags, env: Mapping[str, str]) -> Access:
    """Find out who we are. Raise AccessError if the slices cannot be read like that."""
    access = load(flags, env)
    if access.tls is None:
        raise AccessError(f"discovery needs an https server, not {access.server.url}")
    if access.proxy_url:
        raise AccessError("discovery does not lead through a proxy (proxy-url)")
    return access


def wire_through(
    listener: Key, flags: ClientFlags, access: Access, env: Mapping[str, str]
) -> Wire:
    """Return the way to the apiservers that leads through a listener of ours."""
    host, port = listener
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    assert access.tls is not None
    through = msgspec.structs.replace(
        flags,
        server=f"https://{format_address(loopback.get(host, host), port)}",
        tls_server_name=access.tls.server_name,
    )
    return Wire(Current(through, env))


def reflector_of(wire: Wire, members: Members) -> Reflector[EndpointSlice]:
    """Return what keeps the members up to date; run it."""
    return Reflector(wire, SELECTION, members.store)
