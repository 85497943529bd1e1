"""Clients while fronts, processes and rules change."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fastpath import Delta, Engine, Listener
from pyproxy.capture import LISTENERS, Fronts, Tproxy
from pyproxy.model import Front
from tests.support.lab import HTTP, Lab
from tests.support.lab_proxy import PORT, TRACKING, Proxy, here, vip
from tests.support.waiting import wait_until

HOST = "10.96.0.1"
FRONT = Front("tcp", HOST, 80, "serve", "serve")
RANGES = ("192.168.50.0/24", "10.244.0.0/16")


def test_no_entry_of_conntrack_arises(lab: Lab, proxy: Proxy) -> None:
    node, client = lab.nodes[0], lab.outside[0]
    datagrams = Front("udp", HOST, 53, "serve", "serve")
    rejected = Front("tcp", HOST, 0, "reject", "reject")
    fronts = [FRONT, datagrams, rejected]
    proxy.put(*fronts, to=[lab.nodes[1].pods[0]])
    node.run("nft", TRACKING)
    try:
        for place in (client, node, node.pods[0]):
            assert place.http(HOST, 80) == lab.nodes[1].pods[0].name
            assert "10.96" in place.udp(HOST, 53)
            assert place.http(HOST, 81) == "refused"
        found = node.run("cat", "/proc/net/nf_conntrack")
        assert f"dport={HTTP}" in found, "connections of our own are tracked"
        assert HOST not in found
    finally:
        node.run("nft", "delete table inet foreign")


def test_connections_outlive_their_front(lab: Lab, proxy: Proxy) -> None:
    node = lab.nodes[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with contextlib.ExitStack() as stack:
        live = []
        for place in (lab.outside[0], node.pods[0], node):
            with place.entered():
                live.append(stack.enter_context(socket.create_connection((HOST, 80))))
        proxy.put(Front("tcp", HOST, 80, "reject", "drop"))
        for client in live:
            assert name_by(client) == node.pods[1].name
        proxy.remove(FRONT.key)
        for client in live:
            assert name_by(client) == node.pods[1].name


def name_by(client: socket.socket) -> str:
    """Ask for the name of the pod over a connection that stays."""
    client.settimeout(5)
    client.sendall(b"GET /hostname HTTP/1.1\r\n\r\n")
    return client.recv(1000).partition(b"\r\n\r\n")[2].decode()


@contextlib.contextmanager
def clients(ask: Callable[[], str], wanted: str) -> Iterator[list[str]]:
    """Ask again and again in a thread; yields how often it went well."""
    stop = threading.Event()
    good: list[str] = []
    bad: list[str] = []

    def run() -> None:
        while not stop.is_set():
            said = ask()
            (good if said == wanted else bad).append(said)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield good
    finally:
        stop.set()
        thread.join()
    assert bad == []


def test_no_client_meets_half_a_change(lab: Lab, proxy: Proxy) -> None:
    # A front changes its class, its ranges and its neighbours; each state serves.
    node, client = lab.nodes[0], lab.outside[0]
    target = node.pods[1]
    whole = [Front("tcp", HOST, 0, "reject", "drop")]
    proxy.put(FRONT, to=[target])
    states = [
        [FRONT],
        [Front("tcp", HOST, 80, "drop", "serve")],
        [Front("tcp", HOST, 80, "serve", "serve", RANGES), *whole],
        [Front("tcp", HOST, 80, "reject", "serve", ("0.0.0.0/0",))],
    ]
    with clients(lambda: client.http(HOST, 80), target.name) as good:
        for state in states * 50:
            gone = [front.key for front in whole if front not in state]
            proxy.capture.update(Fronts(state, gone))
            time.sleep(0.002)
        wait_until(lambda: len(good) > 50)


def test_no_client_meets_a_successor_half_way(lab: Lab, proxy: Proxy) -> None:
    # A new process replaces the tables of the old one while clients come.
    node, client = lab.nodes[0], lab.outside[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with clients(lambda: client.http(HOST, 80), node.pods[1].name) as good:
        for _ in range(20):
            with node.entered():
                successor = Tproxy(proxy.layout)
                successor.open(here(proxy.near))
                successor.update(Fronts([FRONT]))
                successor.close(leave=True)
        wait_until(lambda: len(good) > 20)
    with node.entered():
        assert proxy.capture.verify() == []


def test_without_a_listener_clients_wait_for_one(lab: Lab, proxy: Proxy) -> None:
    # A gap of a restart: a SYN is sent again after a second; a client that is connected
    # is told that its connection is gone.
    node, client = lab.nodes[0], lab.outside[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with client.entered(), socket.create_connection((HOST, 80)) as old:
        old.settimeout(5)
        proxy.engine.close()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.append(client.http(HOST, 80)))
    waiting.start()
    wait_until(lambda: "SYN-SENT" in client.run("ss", "-tn"))
    with node.entered(), Engine(workers=2) as successor:
        listeners = [Listener(host, PORT) for host in LISTENERS]
        vips = [vip(FRONT, [node.pods[1]])]
        successor.update(Delta(listeners=listeners, vips=vips), wait_s=5)
        waiting.join()
    assert said == [node.pods[1].name]
