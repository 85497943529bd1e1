"""How connections end that are not needed any more; each test kills a mutant."""

from fastpath import Forward
from tests.support.waiting import wait_until
from tests.support.web_rig import VIP, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"


def test_client_that_stays_after_a_refusal_is_let_go() -> None:
    # It is read for two seconds, so that a reset does not take the refusal back.
    with Web() as web:
        client = web.client(b"BAD REQUEST LINE\r\n\r\n" + b"x" * 1000)
        assert client.head()[0].startswith("HTTP/1.1 400")
        wait_until(lambda: web.engine.stats().vips[VIP].active == 0)


def test_response_begun_before_a_drain_is_the_last_of_its_connection() -> None:
    with Web(lambda _: Forward("up")) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(HALF)
        assert "connection" not in client.head()[1]  # it promised to stay
        web.engine.drain(wait_s=5)
        upstream.say(b"cd")
        assert client.exactly(4) == b"abcd"
        assert client.ended()
