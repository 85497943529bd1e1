"""What stays and what begins anew when vips and backends change tables."""

import contextlib
import dataclasses

import pytest

from fastpath import Backend, Engine, Pool, Table, Vip
from tests.support.relay_tools import Listening, Proxy, echoes
from tests.support.servers import Address, EchoServer


def test_health_survives_an_apply_as_long_as_the_backend_stays() -> None:
    keys = [Address("127.0.0.1", 9001), Address("127.0.0.1", 9002)]
    with Proxy(*keys) as proxy:
        proxy.engine.set_health(keys[0], "dead")
        proxy.engine.set_health(keys[1], "draining")
        heavier = Pool((Backend(*keys[0], weight=9), Backend(*keys[1])), balance="ring")
        changed = dataclasses.replace(proxy.vip, pool=heavier)
        for table in (Table([proxy.vip]), Table([changed])):
            proxy.engine.apply(table)
            assert proxy.backend(keys[0]).health == "dead"
            assert proxy.backend(keys[1]).health == "draining"


@pytest.mark.parametrize("relays", [0, 1])
def test_backend_that_comes_back_into_a_table_starts_ready(relays: int) -> None:
    # With a live relay from before its slot is still in use: it is new all the same.
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Listening())
        proxy = stack.enter_context(Proxy(backend.address))
        for _ in range(relays):
            stack.enter_context(proxy.connect())
            stack.enter_context(backend.accept())
        proxy.engine.set_health(backend.address, "dead")
        empty = dataclasses.replace(proxy.vip, pool=Pool(()))
        proxy.engine.apply(Table([empty]))
        with pytest.raises(KeyError):
            proxy.engine.set_health(backend.address, "ready")
        proxy.engine.apply(Table([proxy.vip]))
        assert proxy.backend(backend.address).health == "ready"
        assert proxy.backend(backend.address).active == relays


def test_backend_of_two_pools_is_one_backend() -> None:
    with EchoServer() as server, Engine(workers=1) as engine:
        shared = Backend(*server.address)
        vips = [Vip(f"127.0.0.{n}", 0, "tcp", Pool((shared,))) for n in (1, 2, 3)]
        engine.apply(Table(vips))
        for vip in vips:
            assert echoes(engine.address(vip))
        engine.set_health(server.address, "draining")
        engine.apply(Table(vips[1:]))
        backend = engine.stats().backends[server.address]
        assert (backend.connects, backend.health) == (3, "draining")


def test_counters_of_a_vip_and_backend_begin_anew_when_they_come_back() -> None:
    with EchoServer() as server, Proxy(server.address) as proxy:
        assert echoes(proxy.address)
        proxy.wait_drops(closed=1)
        proxy.engine.apply(Table([]))
        assert proxy.engine.stats().vips == {}
        assert proxy.engine.stats().backends == {}
        proxy.engine.apply(Table([proxy.vip]))
        assert proxy.stats.accepted == 0
        assert proxy.backend(server.address).connects == 0


def test_vips_that_change_places_keep_clients_apart() -> None:
    # Slots of vips are used again: nobody may land with the vip that had it before.
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(EchoServer()) for _ in range(2)]
        engine = stack.enter_context(Engine(workers=2))
        for number in range(100):
            server = servers[number % 2]
            host = f"127.0.0.{number % 50 + 1}"
            vip = Vip(host, 0, "tcp", Pool((Backend(*server.address),)))
            engine.apply(Table([vip]))
            assert echoes(engine.address(vip))
            backends = engine.stats().backends
            assert set(backends) == {server.address}
