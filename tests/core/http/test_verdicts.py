"""What Python decides and the core remembers: by which parts, how long, how much."""

import threading

import pytest

from fastpath import Forward, Reply, Table
from fastpath.api.policy import Question
from tests.support.waiting import wait_until
from tests.support.web_rig import Peer, Verdict, Web, forward

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(path: str = "/x", method: str = "GET", **headers: str) -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {headers.pop('host', 'a')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def echo(question: Question) -> Verdict:
    """Reply with what the verdict was about."""
    return Reply(200, f"{question.method} {question.target}".encode())


PARTS = (
    ":method",
    ":host",
    ":path",
    ":segment",
    ":query",
    ":upgrade",
    ":body",
    "x-who",
)
DIFFER = {
    ":method": (request(), request(method="PUT")),
    ":host": (request(), request(host="b")),
    ":path": (request("/x/a"), request("/x/b")),
    ":segment": (request("/x/a"), request("/y/a")),
    ":query": (request("/x?a"), request("/x?b")),
    ":upgrade": (request(), request(Connection="Upgrade", Upgrade="websocket")),
    ":body": (request(), request(Content_Length="1") + b"b"),
    "x-who": (request(X_Who="1"), request(X_Who="2")),
}


def served(client: Peer, *requests: bytes) -> None:
    """Say requests, one after the other, and read the answers."""
    for each in requests:
        client.say(each)
        client.sized()


@pytest.mark.parametrize("part", DIFFER)
def test_request_that_differs_in_a_named_part_is_asked_about(part: str) -> None:
    one, other = DIFFER[part]
    with Web(echo, key=(part,), parts=PARTS) as web:
        served(web.client(), one, one, other, other, one)
        assert len(web.asked) == 2


@pytest.mark.parametrize("part", DIFFER)
def test_request_that_differs_elsewhere_is_not(part: str) -> None:
    one, other = DIFFER[part]
    alike = (part, ":path") if part == ":segment" else (part,)
    rest = tuple(name for name in PARTS if name not in alike)
    with Web(echo, key=rest, parts=PARTS) as web:
        served(web.client(), one, other, one)
        assert len(web.asked) == 1
        assert web.stats.asked == 1
        assert web.stats.remembered == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [("/x/", "/x/a/b"), ("/x/a.b", "/x/c/"), ("/healthz", "/healthz"), ("/", "/")],
)
def test_segment_is_what_a_path_begins_with(one: str, other: str) -> None:
    with Web(echo, key=(":segment",), parts=PARTS) as web:
        served(web.client(), request(one), request(other))
        assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/x", "/x/"),
        ("/", "/x"),
        ("/x/a", "/x/%61"),
        ("/x/a", "/x/a/../b"),
        ("/x/a", "/x//a"),
        ("/x/a", "/x/a//"),
        ("/x/a", "/x/."),
        ("/x/%61", "/x/%62"),
        ("/x//a", "/x//b"),
        ("http://a/x/a", "http://a"),
        ("http://a", "http://a/x"),
    ],
)
def test_segment_of_a_path_that_is_odd_is_the_whole(one: str, other: str) -> None:
    with Web(echo, key=(":segment",), parts=PARTS) as web:
        served(web.client(), request(one), request(other))
        assert len(web.asked) == 2


def test_header_that_is_missing_or_there_twice_is_not_the_same() -> None:
    twice = request(X_Who="1", x_who="2")
    with Web(echo, key=("x-who",), parts=PARTS) as web:
        served(web.client(), request(X_Who="1"), request(), twice, request(X_Who=""))
        assert len(web.asked) == 4


def test_verdict_is_forgotten_when_its_time_is_over() -> None:
    with Web(echo, ttl_s=0.2) as web:
        client = web.client()
        served(client, request())

        def asked_anew() -> bool:
            served(client, request())
            return len(web.asked) == 2

        wait_until(asked_anew)


def test_verdict_without_a_time_to_live_is_for_one_request() -> None:
    with Web(echo, ttl_s=0.0) as web:
        served(web.client(), request(), request(), request())
        assert len(web.asked) == 3


def test_forget_withdraws_all_of_them() -> None:
    with Web(echo) as web:
        client = web.client()
        served(client, request(), request())
        assert len(web.asked) == 1
        web.engine.forget()
        served(client, request(), request())
        assert len(web.asked) == 2


def test_answer_from_before_a_forget_is_asked_for_again() -> None:
    # Decided under a policy that has been withdrawn since: it must not be used once.
    forgotten = threading.Event()

    def decide(question: Question) -> Verdict:
        if not forgotten.is_set():
            web.engine.forget()
            forgotten.set()
            return Reply(200, b"old")
        return Reply(200, b"new")

    with Web(decide) as web:
        client = web.client(request())
        assert client.sized()[1] == b"new"
        assert len(web.asked) == 2


def test_remembered_requests_do_not_notice_that_python_stands_still() -> None:
    stalled, go_on = threading.Event(), threading.Event()

    def decide(question: Question) -> Verdict:
        if question.path == "/stall":
            stalled.set()
            go_on.wait()
        return Reply(200, b"ok")

    with Web(decide, key=(":path",)) as web:
        client = web.client()
        served(client, request())
        waiting = web.client(request("/stall"))
        stalled.wait()
        served(client, *[request()] * 100)
        assert waiting.silent()
        go_on.set()
        assert waiting.sized()[1] == b"ok"


@pytest.mark.slow
def test_thousands_of_keys_find_room_in_a_memory_that_does_not_grow() -> None:
    with Web(echo, key=(":path",)) as web:
        client = web.client()
        for number in range(0, 12_000, 100):
            paths = [request(f"/{number + step}") for step in range(100)]
            client.say(b"".join(paths))
            for step in range(100):
                assert client.sized()[1] == f"GET /{number + step}".encode()
        served(client, request("/11999"))
        assert web.stats.asked == 12_000
        assert web.stats.remembered == 1


def test_key_that_is_too_long_is_asked_about_each_time() -> None:
    with Web(echo, key=(":path",)) as web:
        served(web.client(), *[request("/" + "x" * 9000)] * 3)
        assert len(web.asked) == 3


def test_reply_is_sent_as_it_is_said() -> None:
    def decide(question: Question) -> Verdict:
        body = b"x" * (1 << 20) if question.path == "/big" else b"hello"
        return Reply(418, body, (("X-A", "1"), ("X-A", "2")), close=True)

    with Web(decide, key=(":path",)) as web:
        client = web.client(request())
        first, headers = client.head()
        assert first == "HTTP/1.1 418 I'm a Teapot"
        assert headers["x-a"] == "2"
        assert headers["connection"] == "close"
        assert headers["date"].endswith(" GMT")
        assert client.rest() == b"hello"
        assert len(web.client(request("/big")).sized()[1]) == 1 << 20
        head = web.client(request("/big", method="HEAD"))
        assert head.head()[1]["content-length"] == str(1 << 20)
        assert head.rest() == b""


def test_401_of_an_upstream_is_asked_about_once_and_the_request_sent_again() -> None:
    def decide(question: Question) -> Verdict:
        token = "new" if question.refused else "old"
        return Forward("up", set=(("Authorization", token),), ask_on=401)

    with Web(decide, ttl_s=0.0) as web:
        client = web.client(request())
        upstream = web.upstreams.accept()
        assert upstream.head()[1]["authorization"] == "old"
        upstream.say(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
        upstream = web.upstreams.accept()
        assert upstream.head()[1]["authorization"] == "new"
        assert [question.refused for question in web.asked] == [0, 401]
        upstream.say(b"HTTP/1.1 401 Still\r\nContent-Length: 2\r\n\r\nno")
        assert client.sized() == ("HTTP/1.1 401 Still", b"no")


def test_upstream_that_changed_is_asked_about_again() -> None:
    with Web(forward) as web:
        client, upstream = web.exchange(request(), OK)
        web.engine.apply(Table([web.vip], [web.changed_upstream()]))
        assert upstream.ended()  # idle, and made for another
        client.say(request())
        again = web.upstreams.accept()
        again.head()
        again.say(OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
        assert len(web.asked) == 2


def test_verdict_for_an_upstream_that_nobody_knows_is_an_error() -> None:
    with Web(lambda _: None) as web:
        client = web.client(request())
        wait_until(lambda: len(web.asked) == 1)
        with pytest.raises(KeyError):
            web.engine.answer(web.asked[0], Forward("nowhere"))
        with pytest.raises(ValueError, match="x-other"):
            web.engine.answer(web.asked[0], Forward("up"), key=("x-other",))
        web.engine.answer(web.asked[0], Reply(200, b"late"))
        assert client.sized()[1] == b"late"
        web.engine.answer(web.asked[0], Reply(200, b"twice"))  # comes to nothing
        assert client.silent()
