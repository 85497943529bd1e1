"""Near and far clients of a vip, the source that backends see, affinity with a time."""

import contextlib
import ctypes
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fastpath import Backend, Delta, Engine, Pool, TableError, Vip
from tests.support.netns import NetNs
from tests.support.servers import ScriptedServer
from tests.support.waiting import scaled, wait_until

FAMILIES = {"ipv4": "10.7.0.%d", "ipv6": "fd07::%d"}


def server(name: bytes, host: str = "127.0.0.1") -> ScriptedServer:
    """A backend that says its name and who it was dialled by."""

    def say(client: socket.socket) -> None:
        client.sendall(name + b" " + client.getpeername()[0].encode())

    return ScriptedServer(say, host=host)


def answer(address: tuple[str, int], source: str = "") -> tuple[str, str]:
    """Return who answers a client at `source`, and whom that saw."""
    own = (source, 0) if source else None
    with socket.create_connection(address, scaled(5), own) as client:
        client.settimeout(scaled(5))
        text = b""
        while chunk := client.recv(100):
            text += chunk
    name, seen = text.decode().split()
    return name, seen


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of two workers."""
    with Engine(workers=2) as one:
        yield one


@contextlib.contextmanager
def backends(*names: bytes) -> Iterator[list[Backend]]:
    """Servers that say their names."""
    with contextlib.ExitStack() as stack:
        yield [Backend(*stack.enter_context(server(n)).address) for n in names]


def test_near_clients_have_a_pool_of_their_own(engine: Engine) -> None:
    with backends(b"far", b"near") as (far, near):
        vip = Vip(
            *("127.0.0.1", 0, "tcp", Pool((far,))),
            near=("127.0.0.2/32", "10.0.0.0/8"),
            near_pool="near",
        )
        engine.update(Delta(vips=[vip], pools={"near": Pool((near,))}), wait_s=5)
        address = engine.address(vip)
        assert answer(address, "127.0.0.2")[0] == "near"
        assert answer(address, "127.0.0.3")[0] == "far"


def test_pool_of_near_clients_comes_changes_and_goes(engine: Engine) -> None:
    with backends(b"far", b"near", b"other") as (far, near, other):
        base = Vip("127.0.0.1", 0, "tcp", "far", near=("127.0.0.2",))
        pools = {"far": Pool((far,)), "near": Pool((near,))}
        engine.update(Delta(vips=[base], pools=pools), wait_s=5)
        address = engine.address(base)

        def change(pool: Pool | str | None) -> str:
            vip = Vip(*("127.0.0.1", 0, "tcp", "far"), near=base.near, near_pool=pool)
            engine.update(Delta(vips=[vip]), wait_s=5)
            return answer(address, "127.0.0.2")[0]

        for pool, name in (
            *(("near", "near"), (None, "far"), (Pool((other,)), "other")),
            *((Pool((near,)), "near"), ("far", "far"), (Pool((other,)), "other")),
        ):
            assert change(pool) == name
            assert answer(address)[0] == "far"
        change("near")
        with pytest.raises(TableError, match="'near' is removed, and used"):
            engine.update(Delta(remove_pools=["near"]))
        change(None)
        engine.update(Delta(remove_pools=["near"]), wait_s=5)


def test_pool_of_near_clients_must_be_there(engine: Engine) -> None:
    vip = Vip("127.0.0.1", 0, "tcp", Pool(()), near_pool="nowhere")
    with pytest.raises(TableError, match="names no pool: 'nowhere'"):
        engine.update(Delta(vips=[vip]))


@contextlib.contextmanager
def pods(ours: NetNs, pattern: str, count: int) -> Iterator[list[NetNs]]:
    """Namespaces with a link each to ours, which is number 1 for all of them.

    Answers of one to another pass us. On a bridge they would not.
    """
    bits = 128 if ":" in pattern else 32
    gateway = pattern % 1
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(2, 2 + count):
            pod, link = stack.enter_context(contextlib.closing(NetNs())), f"s{number}"
            veth = ["type", "veth", "peer", "name", "c0", "netns", pod.name]
            ours.run("ip", "link", "add", link, *veth)
            for namespace, name, host in (
                (ours, link, gateway),
                (pod, "c0", pattern % number),
            ):
                namespace.run("ip", "link", "set", name, "up")
                address = [f"{host}/{bits}", "dev", name]
                namespace.run("ip", "addr", "add", *address, "nodad")
            ours.run("ip", "route", "add", f"{pattern % number}/{bits}", "dev", link)
            pod.run("ip", "route", "add", f"{gateway}/{bits}", "dev", "c0")
            pod.run("ip", "route", "add", "default", "via", gateway, "dev", "c0")
            found.append(pod)
        yield found


DIVERT = """
    add table inet d;
    add chain inet d c { type filter hook prerouting priority -150; };
    add rule inet d c meta l4proto tcp socket transparent 1 meta mark set 1 accept
"""


def divert(ours: NetNs) -> None:
    """Bring answers to borrowed addresses home."""
    try:
        ours.run("nft", DIVERT)
    except RuntimeError as error:
        pytest.skip(f"answers cannot be diverted: {error}")
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        ours.run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100")
        route = ["local", everything, "dev", "lo", "table", "100"]
        ours.run("ip", family, "route", "add", *route)
    ours.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    ours.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")


@pytest.mark.netns
@pytest.mark.root
@pytest.mark.parametrize("keep", ["none", "near", "far", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_backend_sees_the_client_where_its_source_is_kept(
    netns: NetNs, family: str, keep: str
) -> None:
    pattern = FAMILIES[family]
    hosts = [pattern % number for number in range(5)]
    with contextlib.ExitStack() as stack:
        near, far, pod = stack.enter_context(pods(netns, pattern, 3))
        divert(netns)
        with pod.entered():
            one = stack.enter_context(server(b"pod", hosts[4]))
        with netns.entered():
            engine = stack.enter_context(Engine(workers=1))
            vip = Vip(
                *(hosts[1], 7000, "tcp", Pool((Backend(*one.address),))),
                near=(f"{hosts[2]}/{128 if family == 'ipv6' else 32}",),
                keep_source=keep,  # type: ignore[arg-type]
            )
            engine.update(Delta(vips=[vip]), wait_s=5)
        for namespace, kind, mine in ((near, "near", hosts[2]), (far, "far", hosts[3])):
            with namespace.entered():
                seen = answer((hosts[1], 7000))[1]
            assert seen == (mine if keep in (kind, "all") else hosts[1])
        with pod.entered():  # its own backend: its address would lead back to itself
            assert answer((hosts[1], 7000)) == ("pod", hosts[1])
        assert engine.stats().unkept == 0


@pytest.mark.netns
@pytest.mark.root
def test_dial_falls_back_to_our_address_without_the_right_to_borrow(
    netns: NetNs,
) -> None:
    # A thread without two capabilities makes the engine: its workers have none, too.
    seen: list[tuple[str, str]] = []
    unkept: list[int] = []

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        for word in (0, 1):  # effective, permitted
            data[word] &= ~(1 << 12 | 1 << 13)  # CAP_NET_ADMIN, CAP_NET_RAW
        assert libc.capset(header, data) == 0
        with server(b"one") as one, Engine(workers=1) as engine:
            pool = Pool((Backend("127.0.0.1", one.address[1]),))
            vip = Vip("127.0.0.1", 0, "tcp", pool, keep_source="all")
            engine.update(Delta(vips=[vip]), wait_s=5)
            seen.append(answer(engine.address(vip), "127.0.0.9"))
            unkept.append(engine.stats().unkept)

    with netns.entered():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert seen == [("one", "127.0.0.1")]
    assert unkept == [1]


def test_source_keeps_its_backend_until_it_was_away_for_long(engine: Engine) -> None:
    with backends(*(b"%d" % n for n in range(8))) as all_:
        pool = Pool(tuple(all_), balance="random", affinity_s=1.0)
        vip = Vip("127.0.0.1", 0, "tcp", pool)
        engine.update(Delta(vips=[vip]), wait_s=5)
        address = engine.address(vip)
        sources = [f"127.0.1.{n}" for n in range(1, 21)]
        first = {source: answer(address, source)[0] for source in sources}
        assert len(set(first.values())) > 1
        for source in sources:
            assert {answer(address, source)[0] for _ in range(5)} == {first[source]}

        def moved() -> bool:
            now = {source: answer(address, source)[0] for source in sources}
            return now != first

        # The time is over 2 s after the last use, as clocks of whole seconds see it.
        time.sleep(2.5)
        wait_until(moved)


def test_vips_of_one_pool_share_pins_and_a_dead_backend_loses_them(
    engine: Engine,
) -> None:
    with backends(*(b"%d" % n for n in range(8))) as all_:
        pool = Pool(tuple(all_), balance="random", affinity_s=3600.0)
        vips = [Vip(f"127.0.0.{n}", 0, "tcp", "both") for n in (1, 2)]
        engine.update(Delta(vips=vips, pools={"both": pool}), wait_s=5)
        one, two = (engine.address(vip) for vip in vips)
        sources = [f"127.0.1.{n}" for n in range(1, 21)]
        pinned = {source: answer(one, source)[0] for source in sources}
        assert pinned == {source: answer(two, source)[0] for source in sources}
        gone = pinned[sources[0]]
        engine.set_health(all_[int(gone)].key, "dead")
        fresh = {source: answer(two, source)[0] for source in sources}
        for source in sources:
            assert (fresh[source] == pinned[source]) == (pinned[source] != gone)
        engine.set_health(all_[int(gone)].key, "ready")
        assert fresh == {source: answer(one, source)[0] for source in sources}
