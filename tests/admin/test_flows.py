"""Counters of UDP flows on `/metrics`."""

from prometheus_client import generate_latest

from pyproxy.admin import Collector
from pyproxy.dataplane import Dataplane
from pyproxy.metrics import new_registry
from pyproxy.model import Backend, Pool, Vip
from tests.support.udp_tools import Client, named
from tests.support.waiting import wait_until


def test_flows_and_datagrams_are_counted_beside_relays_of_the_same_address() -> None:
    dataplane = Dataplane.open(1)
    try:
        with named("a") as server:
            pool = Pool("main", (Backend(*server.address),))
            # TCP first: its free ports are fewer, with connections of other tests.
            tcp = Vip("127.0.0.1", 0, pool)
            dataplane.apply([tcp])
            address = dataplane.address(tcp.key)
            udp = Vip(*address, pool, protocol="udp")
            dataplane.apply([tcp, udp])
            with Client(address) as client:
                for _ in range(3):
                    assert client.ask() == b"a"
                dataplane.reset()
                # An answer under way is lost with its flow.
                wait_until(lambda: dataplane.stats().flows_active == 0)
                assert client.ask() == b"a"
        text = generate_latest(new_registry([Collector("x", lambda: dataplane)]))
    finally:
        dataplane.close()
    vip = f'vip="127.0.0.1:{address[1]}"'
    of_udp = f'vip="127.0.0.1:{address[1]}/udp"'
    for line in (
        "pyproxy_flows_active 1.0",
        f'pyproxy_flows_total{{reason="reset_by_admin",{of_udp}}} 1.0',
        'pyproxy_datagrams_total{direction="up"} 4.0',
        'pyproxy_datagrams_total{direction="down"} 4.0',
        'pyproxy_datagrams_dropped_total{reason="no_backend"} 0.0',
        f"pyproxy_vip_relays_active{{{vip}}} 0.0",
        f'pyproxy_vip_info{{pool="main",{of_udp}}} 1.0',
        f'pyproxy_vip_info{{pool="main",{vip}}} 1.0',
    ):
        assert line in text.decode()
    assert f"pyproxy_vip_relays_active{{{of_udp}}}" not in text.decode()
