"""The ring policy: it must agree with Ring, and so with every other replica."""

import ipaddress
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.api.snapshot import Key
from fastpath.api.spec import Backend, Pool, RingKey, Vip
from fastpath.base.addr import Address
from fastpath.ring.ring import Ring, hash_bytes
from fastpath.table.balancer import Picker

PORT = 6443
CLIENTS = [f"10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(2000)]


def backends(count: int, family: int = 4) -> list[Backend]:
    """Return backends of weights 1 to 3, in the order in which the core keeps them."""
    prefix = "192.0.2." if family == 4 else "2001:db8::"
    named = [
        Backend(f"{prefix}{n}", PORT, weight=1 + n % 3) for n in range(1, 1 + count)
    ]
    return sorted(named, key=lambda backend: backend.key)


def picker(of: list[Backend], ring_key: RingKey = "source") -> Picker:
    """Return a picker over a ring of these backends."""
    pool = Pool(tuple(of), balance="ring", ring_key=ring_key, connect_tries=4)
    return Picker(Vip("198.51.100.7", 443, "tcp", pool))


def ring(of: list[Backend]) -> Ring:
    """Return the ring that the core should have built."""
    ids = [hash_bytes(bytes(Address(backend.host, backend.port))) for backend in of]
    return Ring(list(zip(ids, [backend.weight for backend in of], strict=True)))


def source_hash(client: str) -> int:
    """Hash of a client's address: 16 bytes, IPv4 in the first four."""
    return hash_bytes(ipaddress.ip_address(client).packed.ljust(16, b"\0"))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 60])
def test_pick_is_the_owner_of_the_slot(count: int, family: int) -> None:
    of = backends(count, family)
    one, table = picker(of), ring(of)
    for client in [*CLIENTS[:300], "2001:db8:1::1", "::1", "2001:db8:2::ff"]:
        assert one.pick(1, client) == of[table.lookup(source_hash(client))].key


@settings(max_examples=60, deadline=None)
@given(
    clients=st.lists(st.ip_addresses().map(str), min_size=1, max_size=10),
    down=st.sets(st.integers(0, 8)),
    tried=st.lists(st.integers(0, 8), max_size=4, unique=True),
)
def test_fallbacks_are_owner_then_second_then_best_of_the_rest(
    clients: list[str], down: set[int], tried: list[int]
) -> None:
    of = backends(9)
    one, table = picker(of), ring(of)
    for number in down:
        one.set(of[number].key, "dead")
    usable = [number not in down and number not in tried for number in range(9)]
    for client in clients:
        hash = _hash_of(client)
        best = [table.lookup(hash), table.second(hash)]
        best += [table.rescore(table.slot(hash), usable)]
        wanted = next((index for index in best if index >= 0 and usable[index]), None)
        got = one.pick(1, client, [of[number].key for number in tried])
        if wanted is not None:
            assert got == of[wanted].key
        elif got is not None:  # all down: any that is dead and was not tried
            assert got in {of[number].key for number in down - set(tried)}


def _hash_of(client: str) -> int:
    """Like source_hash; a mapped address counts as the IPv4 address in it."""
    address = ipaddress.ip_address(client)
    mapped = getattr(address, "ipv4_mapped", None)
    return source_hash(str(mapped or address))


def picks(one: Picker, tried: tuple[Key, ...] = ()) -> dict[str, Key | None]:
    """Return the backend that is picked for each client."""
    return {client: one.pick(1, client, tried) for client in CLIENTS}


def test_dead_backend_moves_its_own_clients_only_and_gets_them_back() -> None:
    of = backends(10)
    one = picker(of)
    before = picks(one)
    for backend in of:
        one.set(backend.key, "dead")
        during = picks(one)
        moved = {client for client in CLIENTS if before[client] != during[client]}
        assert moved == {c for c in CLIENTS if before[c] == backend.key}
        assert backend.key not in during.values()
        # And they do not all fall upon one other.
        heirs = Counter(during[client] for client in moved)
        assert len(heirs) > 5
        one.set(backend.key, "ready")
        assert picks(one) == before


def test_second_death_moves_again_only_who_lived_there() -> None:
    of = backends(10)
    one = picker(of)
    one.set(of[0].key, "dead")
    before = picks(one)
    one.set(of[1].key, "dead")
    after = picks(one)
    assert all(
        before[client] == after[client] or before[client] == of[1].key
        for client in CLIENTS
    )


def test_retry_of_a_client_goes_where_all_its_like_will_go() -> None:
    # Tried and down are the same to the ring: a failed dial shows the second choice.
    of = backends(6)
    one = picker(of)
    tried = picks(one, (of[2].key,))
    one.set(of[2].key, "dead")
    assert picks(one) == tried


def test_shares_follow_the_weights() -> None:
    of = backends(9)
    counted = Counter(picks(picker(of)).values())
    total = sum(backend.weight for backend in of)
    for backend in of:
        want = len(CLIENTS) * backend.weight / total
        assert counted[backend.key] == pytest.approx(want, rel=0.3)


def test_order_of_the_list_and_history_do_not_matter() -> None:
    of = backends(12)
    shuffled = random.Random(3).sample(of, len(of))
    one, other = picker(of), picker(shuffled)
    for number in range(500):
        one.pick(1, CLIENTS[number])
    assert picks(one) == picks(other)


def test_tier_has_a_ring_of_its_own() -> None:
    # Backends of the second tier are no reason to move in the first.
    of = backends(4)
    backup = [Backend(f"203.0.113.{n}", PORT, tier=1) for n in range(1, 4)]
    with_backup = picker([*of, *backup])
    assert picks(with_backup) == picks(picker(of))
    for backend in of:
        with_backup.set(backend.key, "dead")
    alone = picker([Backend(b.host, b.port) for b in backup])
    assert picks(with_backup) == picks(alone)


def test_one_client_stays_whatever_port_it_comes_from() -> None:
    one = picker(backends(10))
    ports = range(1024, 60_000, 997)
    assert len({one.pick(1, "10.1.2.3", (), port) for port in ports}) == 1


def test_five_tuple_spreads_the_ports_of_one_client() -> None:
    of = backends(10)
    one, table = picker(of, "5-tuple"), ring(of)
    ports = range(1024, 60_000, 997)
    counted = Counter(one.pick(1, "10.1.2.3", (), port) for port in ports)
    assert len(counted) == 10
    # Client, vip, ports in host order, protocol: what each replica hashes.
    client, vip = (
        ipaddress.ip_address(ip).packed for ip in ("10.1.2.3", "198.51.100.7")
    )
    for port in ports:
        numbers = port.to_bytes(2, "little") + (443).to_bytes(2, "little") + b"\x06"
        hash = hash_bytes(client.ljust(16, b"\0") + vip.ljust(16, b"\0") + numbers)
        assert one.pick(1, "10.1.2.3", (), port) == of[table.lookup(hash)].key


def test_ipv4_client_of_an_ipv6_listener_is_the_same_client() -> None:
    one = picker(backends(10))
    for client in CLIENTS[:100]:
        assert one.pick(1, f"::ffff:{client}") == one.pick(1, client)


def test_spelling_of_a_backend_does_not_move_clients() -> None:
    short = picker(backends(6, family=6))
    long = picker([
        Backend(f"2001:0DB8:0:0:0:0:0:{n}", PORT, weight=1 + n % 3) for n in range(1, 7)
    ])  # fmt: skip

    def places(one: Picker) -> list[str]:
        keys = [key for key in picks(one).values() if key is not None]
        return [str(ipaddress.ip_address(key[0])) for key in keys]

    assert places(short) == places(long)
