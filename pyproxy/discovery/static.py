"""From a written list of listeners and servers to vips. Pure: names come resolved."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyproxy import model
from pyproxy.config import (
    Check,
    Listener,
    Pool,
    Timeouts,
    is_loopback,
    overlap,
    parse_address,
)
from pyproxy.config.address import Address

Addresses = Mapping[str, tuple[str, ...]]


def names_in(listeners: Iterable[Listener], pools: Iterable[Pool]) -> set[str]:
    """Return the hosts that must be resolved first."""
    written = [listener.address for listener in listeners]
    written += [server.address for pool in pools for server in pool.servers]
    parsed = [parse_address(text, zero_port=True) for text in written]
    return {address.host for address in parsed if address.is_name}


def unresolved(
    listeners: Sequence[Listener], pools: Sequence[Pool], errors: Mapping[str, str]
) -> Iterator[str]:
    """Say at which place a name stands that has no address."""
    places = [
        (f"$.listeners[{index}].address", listener.address)
        for index, listener in enumerate(listeners)
    ]
    places += [
        (f"$.pools[{index}].servers[{number}].address", server.address)
        for index, pool in enumerate(pools)
        for number, server in enumerate(pool.servers)
    ]
    for place, text in places:
        host = parse_address(text, zero_port=True).host
        if host in errors:
            yield f"{place}: {errors[host]}"


def build_pools(
    pools: Iterable[Pool], timeouts: Timeouts, addresses: Addresses
) -> dict[str, model.Pool]:
    """Return the pools by name, each server as one backend per address."""
    return {pool.name: _pool(pool, timeouts, addresses) for pool in pools}


def build_vips(
    listeners: Sequence[Listener],
    pools: Mapping[str, model.Pool],
    checks: Mapping[str, Check],
    timeouts: Timeouts,
    addresses: Addresses,
) -> tuple[model.Vip, ...]:
    """Return one vip per listener; `checks` are those of the pools, by name."""
    only = next(iter(pools))
    return tuple(
        model.Vip(
            *_bound(listener, addresses),
            pool=pools[listener.pool or only],
            idle_timeout_s=float(timeouts.tcp_idle),
            limits=model.Limits(
                listener.limits.max_connections,
                listener.limits.max_connections_per_source,
                listener.limits.max_new_per_second,
                listener.limits.max_new_per_second_per_source,
            ),
            proxy_protocol_from=listener.proxy_protocol_from,
            client_first=_client_first(listener, checks[listener.pool or only]),
        )
        for listener in listeners
    )


def _client_first(listener: Listener, check: Check) -> bool:
    # Behind a listener that waits for the client's first bytes, a protocol in which the
    # server speaks first (SMTP, MySQL, SSH) would wait for a second.
    if listener.client_first == "auto":
        return check.type != "tcp"
    return listener.client_first


def complaints(
    listeners: Sequence[Listener],
    pools: Sequence[Pool],
    addresses: Addresses,
    admin: Address | None,
) -> Iterator[str]:
    """Say what only shows when every name is resolved, with its place."""
    bound: list[tuple[str, Address]] = []
    if admin is not None:
        bound.append(("$.adminAddress", admin))
    for index, listener in enumerate(listeners):
        place = f"$.listeners[{index}].address"
        address = _bound(listener, addresses)
        for other, taken in bound:
            twins = address == taken and other != "$.adminAddress"  # also of port 0
            if twins or overlap(address, taken):
                yield f"{place}: {listener.address} overlaps {other}"
        bound.append((place, address))
    yield from _shared_backends(pools, addresses)
    yield from _circles(bound, pools, addresses)


def _shared_backends(pools: Sequence[Pool], addresses: Addresses) -> Iterator[str]:
    """A backend has one health, so pools that share it must check it alike."""
    first: dict[model.Key, tuple[int, Pool]] = {}
    for index, pool in enumerate(pools):
        for key, place in _keys(pool, index, addresses):
            other_index, other = first.setdefault(key, (index, pool))
            shown = model.format_address(*key)
            if other_index == index or other.check == pool.check:
                continue
            yield f"{place}: {shown} is in pool {other.name!r} with another check"


def _circles(
    bound: Sequence[tuple[str, Address]], pools: Sequence[Pool], addresses: Addresses
) -> Iterator[str]:
    for index, pool in enumerate(pools):
        for key, place in _keys(pool, index, addresses):
            for listener, address in bound:
                if _reaches(Address(*key), address):
                    yield f"{place}: is our own {listener}, a circle without end"


def _reaches(server: Address, listener: Address) -> bool:
    if server.port != listener.port:
        return False
    everywhere = listener.host in ("0.0.0.0", "::") and is_loopback(server.host)
    return server.host == listener.host or everywhere


def _keys(
    pool: Pool, index: int, addresses: Addresses
) -> Iterator[tuple[model.Key, str]]:
    for number, server in enumerate(pool.servers):
        place = f"$.pools[{index}].servers[{number}]"
        for host, port in _expand(server.address, addresses):
            yield (host, port), place


def _pool(pool: Pool, timeouts: Timeouts, addresses: Addresses) -> model.Pool:
    backends: dict[model.Key, model.Backend] = {}
    for server in pool.servers:
        name = parse_address(server.address).host
        for host, port in _expand(server.address, addresses):
            # Two names may share an address; the first one written counts.
            backends.setdefault(
                (host, port),
                model.Backend(host, port, name, server.weight, server.tier),
            )
    return model.Pool(
        name=pool.name,
        backends=tuple(backends.values()),
        balance=pool.balance,
        ring_key=pool.ring_key,
        on_all_down=pool.on_all_down,
        connect_timeout_s=float(timeouts.connect),
        slow_start_s=float(timeouts.slow_start),
    )


def _expand(written: str, addresses: Addresses) -> list[Address]:
    address = parse_address(written)
    if not address.is_name:
        return [address]
    return [Address(host, address.port) for host in addresses[address.host]]


def _bound(listener: Listener, addresses: Addresses) -> Address:
    address = parse_address(listener.address, zero_port=True)
    if not address.is_name:
        return address
    return Address(addresses[address.host][0], address.port)
