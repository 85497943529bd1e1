"""Forward(address=...): requests to a place that no table names."""

import dataclasses

import pytest

from fastpath import Backend, Forward, Pool, Table, TableError
from fastpath.api.policy import Question
from tests.core.http.test_verdicts import OK, request
from tests.support.servers import free_port
from tests.support.web_rig import Upstreams, Verdict, Web


def text(place: tuple[str, int]) -> str:
    """As Forward takes it."""
    return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"


def nobody(_: Question) -> Verdict:
    """To a port of the host on which nobody listens."""
    return Forward("up", address=text(("127.0.0.1", NOBODY)))


NOBODY = free_port()


def test_request_goes_to_the_address_and_connections_are_kept_apart() -> None:
    places = {"/a": Upstreams(), "/b": Upstreams()}

    def decide(question: Question) -> Verdict:
        if question.path == "/pool":
            return Forward("up")
        return Forward("up", address=text(places[question.path].address))

    with Web(decide, key=(":path",)) as web:
        places["/pool"] = web.upstreams
        client = web.client()
        peers = {}
        for path, upstreams in places.items():
            client.say(request(path))
            peers[path] = upstreams.accept()
            assert peers[path].head()[0] == f"GET {path} HTTP/1.1"
            peers[path].say(OK)
            assert client.sized()[1] == b"ok"
        for path in ("/b", "/pool", "/a", "/a", "/b", "/pool"):
            client.say(request(path))
            assert peers[path].head()[0] == f"GET {path} HTTP/1.1"
            peers[path].say(OK)
            assert client.sized()[1] == b"ok"
        stats = web.engine.stats()
        assert stats.upstreams["up"].reused == 6
        assert sum(backend.connects for backend in stats.backends.values()) == 1
    places["/a"].close()
    places["/b"].close()


def test_address_that_refuses_is_told_and_no_other_is_tried() -> None:
    with Web(nobody, ttl_s=0.0) as web:
        client = web.client(request())
        first, body = client.sized()
        assert first == "HTTP/1.1 502 Bad Gateway"
        why = f"dial tcp 127.0.0.1:{NOBODY}: connect: connection refused"
        assert why in body.decode()
        assert web.upstreams.nobody_waits()
        stats = web.engine.stats()
        assert stats.upstreams["up"].unreached == 1
        assert all(each.connect_failures == 0 for each in stats.backends.values())


def test_connection_to_an_address_that_ended_is_made_anew_to_the_same() -> None:
    place = Upstreams()
    with Web(lambda _: Forward("up", address=text(place.address))) as web:
        client = web.client()
        for _ in range(3):
            client.say(request())
            upstream = place.accept()
            upstream.head()
            upstream.say(OK)
            assert client.sized()[1] == b"ok"
            upstream.close()
        assert web.upstreams.nobody_waits()
    place.close()


def test_upstream_needs_no_usable_backend_for_addresses() -> None:
    place = Upstreams()
    decide = lambda _: Forward("up", address=text(place.address))  # noqa: E731
    with Web(decide, backends=[("127.0.0.1", NOBODY)]) as web:
        web.engine.set_health(("127.0.0.1", NOBODY), "dead")
        client = web.client(request())
        upstream = place.accept()
        upstream.head()
        upstream.say(OK)
        assert client.sized()[1] == b"ok"
        # Neither does a reset of backends concern it.
        web.engine.reset(("127.0.0.1", NOBODY))
        client.say(request())
        upstream.head()
        upstream.say(OK)
        assert client.sized()[1] == b"ok"
    place.close()


def test_oldest_idle_connection_makes_room_for_those_to_other_addresses() -> None:
    places = {f"/{n}": Upstreams() for n in range(4)}

    def decide(question: Question) -> Verdict:
        return Forward("up", address=text(places[question.path].address))

    with Web(decide, key=(":path",), uplink={"keepalive": 2}) as web:
        client = web.client()
        peers = []
        for path, upstreams in places.items():
            client.say(request(path))
            peers.append(upstreams.accept())
            peers[-1].head()
            peers[-1].say(OK)
            assert client.sized()[1] == b"ok"
        assert peers[0].ended()
        assert peers[1].ended()
        assert peers[2].silent()
        assert peers[3].silent()
    for upstreams in places.values():
        upstreams.close()


def test_ipv6_address_is_dialled_and_told_in_brackets() -> None:
    decide = lambda _: Forward("up", address=f"[::1]:{NOBODY}")  # noqa: E731
    with Web(decide) as web:
        body = web.client(request()).sized()[1].decode()
        assert f"dial tcp [::1]:{NOBODY}: connect: " in body


def test_idle_connections_to_addresses_end_with_their_upstream() -> None:
    place = Upstreams()
    with Web(lambda _: Forward("up", address=text(place.address))) as web:
        client = web.client(request())
        upstream = place.accept()
        upstream.head()
        upstream.say(OK)
        client.sized()
        other = dataclasses.replace(
            web.upstream, keepalive=7, pool=Pool([Backend("127.0.0.1", NOBODY)])
        )
        web.engine.apply(Table([web.vip], [other]))
        assert upstream.ended()
    place.close()


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.01:80"),
        *("::1:80", "[::1]", "[10.0.0.1]:80", "[::ffff:10.0.0.1]:80", "host:80"),
        *("0.0.0.0:80", "[::]:80", "10.0.0.1:8 0", " 10.0.0.1:80", "[fe80::1%lo]:80"),
    ],
)
def test_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(TableError):
        Forward("up", address=address)
