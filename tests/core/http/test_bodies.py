"""Bodies through the core, both ways: framing, moments, ends that come too early.

Sources: RFC 9112 6 and 7, RFC 9110 10.1.1 and 15.2; kubectl#628 for what is flushed.
"""

import hashlib
import threading

import pytest

from tests.support.web_rig import Peer, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(framing: bytes, body: bytes = b"") -> bytes:
    """A POST with this framing header."""
    return b"POST /x HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body


def sized(size: int) -> bytes:
    """The framing header of a body of known size."""
    return b"Content-Length: %d" % size


def answered(client: Peer, upstream: Peer) -> None:
    """The exchange ends well, and the connection goes on."""
    upstream.say(OK)
    assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
    client.say(GET)
    assert upstream.head()[0] == "GET /x HTTP/1.1"


@pytest.mark.parametrize("cut", [1, 7, 4096], ids=lambda size: f"by {size}")
def test_sized_request_body_arrives_whole_however_it_is_cut(cut: int) -> None:
    body = bytes(range(256)) * 40
    with Web() as web:
        client = web.client(post(sized(len(body))))
        upstream = web.upstreams.accept()
        assert upstream.head()[1]["content-length"] == str(len(body))
        for at in range(0, len(body), cut):
            client.say(body[at : at + cut])
        assert upstream.exactly(len(body)) == body
        answered(client, upstream)


def test_body_that_comes_with_its_head_goes_on_with_it() -> None:
    with Web() as web:
        client = web.client(post(sized(5), b"hello"))
        upstream = web.upstreams.accept()
        assert upstream.sized() == ("POST /x HTTP/1.1", b"hello")
        answered(client, upstream)


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;name=value\r\nhello\r\n0\r\n\r\n",
        b"1\r\nh\r\n4\r\nello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        b"0\r\n\r\n",
    ],
    ids=["plain", "extension", "trailers", "empty"],
)
@pytest.mark.parametrize("cut", [1, 1000])
def test_chunked_body_goes_on_as_it_came(body: bytes, cut: int) -> None:
    parts = [body[at : at + cut] for at in range(0, len(body), cut)]
    with Web() as web:
        client = web.client(post(b"Transfer-Encoding: chunked"), *parts)
        upstream = web.upstreams.accept()
        assert upstream.head()[1]["transfer-encoding"] == "chunked"
        assert upstream.exactly(len(body)) == body
        upstream.say(CHUNKED, *parts)
        assert client.head()[1]["transfer-encoding"] == "chunked"
        assert client.exactly(len(body)) == body
        client.say(GET)
        assert upstream.head()[0] == "GET /x HTTP/1.1"


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"5\nhello\r\n", b"5\r\nhelloX", b" 5\r\nhello\r\n", b"-1\r\n"],
    ids=["not hex", "bare LF", "no CRLF behind", "space", "sign"],
)
def test_wrong_chunks_of_a_client_never_end_well(body: bytes) -> None:
    with Web() as web:
        client = web.client(post(b"Transfer-Encoding: chunked"))
        upstream = web.upstreams.accept()
        upstream.head()
        client.say(body)
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert upstream.rest().endswith(b"0\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")


def test_wrong_chunks_behind_good_ones_are_answered() -> None:
    # As nginx, HAProxy and kubectl's proxy do; it was a reset that explained nothing.
    with Web() as web:
        client = web.client(post(b"Transfer-Encoding: chunked", b"2\r\nhi\r\n"))
        upstream = web.upstreams.accept()
        upstream.head()
        assert upstream.exactly(7) == b"2\r\nhi\r\n"
        client.say(b"2\nhi\r\n0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            upstream.rest()
        assert client.sized() == ("HTTP/1.1 400 Bad Request", b"malformed chunk\n")
        assert client.rest() == b""
        assert web.stats.codes == {("POST", 400): 1}


def test_wrong_chunks_of_an_upstream_look_broken_to_the_client() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(CHUNKED, b"5\r\nhello\r\n")
        client.head()
        assert client.exactly(10) == b"5\r\nhello\r\n"
        upstream.say(b"5\nhello")
        with pytest.raises(ConnectionResetError):
            client.rest()
        web.wait_dropped("reset_by_backend")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"]
)
def test_response_that_breaks_off_resets_the_client(framing: bytes) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        client.head()
        upstream.close()
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_request_that_breaks_off_breaks_off_upstream() -> None:
    with Web() as web:
        client = web.client(post(sized(10), b"half"))
        upstream = web.upstreams.accept()
        upstream.head()
        assert upstream.exactly(4) == b"half"
        client.close()
        with pytest.raises(ConnectionResetError):
            upstream.rest()


def test_head_and_each_chunk_arrive_while_the_next_is_not_there() -> None:
    # kubectl#628: a watch without events must show its head at once.
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(CHUNKED)
        assert client.head()[0] == "HTTP/1.1 200 OK"
        for _ in range(3):
            upstream.say(b"3\r\none\r\n")
            assert client.exactly(8) == b"3\r\none\r\n"


def test_both_bodies_move_at_once() -> None:
    with Web() as web:
        client = web.client(post(b"Transfer-Encoding: chunked"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(CHUNKED)
        client.head()
        for _ in range(5):
            client.say(b"1\r\nx\r\n")
            assert upstream.exactly(6) == b"1\r\nx\r\n"
            upstream.say(b"1\r\ny\r\n")
            assert client.exactly(6) == b"1\r\ny\r\n"
        client.say(b"0\r\n\r\n")
        assert upstream.exactly(5) == b"0\r\n\r\n"
        upstream.say(b"0\r\n\r\n")
        assert client.exactly(5) == b"0\r\n\r\n"
        client.say(GET)
        assert upstream.head()[0] == "GET /x HTTP/1.1"


def test_megabytes_arrive_unchanged_both_ways() -> None:
    body = hashlib.sha256(b"seed").digest() * (1 << 18)  # 8 MiB
    with Web() as web:
        client = web.client(post(sized(len(body))))
        upstream = web.upstreams.accept()
        sender = threading.Thread(target=client.say, args=(body,))
        sender.start()
        first, got = upstream.sized()
        sender.join()
        assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
        response = b"HTTP/1.1 200 OK\r\n" + sized(len(got)) + b"\r\n\r\n"
        sender = threading.Thread(target=upstream.say, args=(response, got))
        sender.start()
        first, back = client.sized()
        sender.join()
        assert first == "HTTP/1.1 200 OK"
        assert hashlib.sha256(back).digest() == hashlib.sha256(body).digest()


def test_early_answer_is_passed_on_and_the_rest_of_the_request_is_taken() -> None:
    with Web() as web:
        client = web.client(post(sized(8), b"half"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        assert client.sized() == ("HTTP/1.1 413 Too Large", b"no")
        client.say(b"rest")
        assert upstream.exactly(8) == b"halfrest"
        client.say(GET)
        assert upstream.head()[0] == "GET /x HTTP/1.1"


def test_early_answer_of_an_upstream_that_leaves_is_still_delivered() -> None:
    with Web() as web:
        client = web.client(post(sized(1 << 20), b"x" * 1000))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        assert client.sized() == ("HTTP/1.1 413 Too Large", b"no")
        upstream.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.say(b"x" * 100_000_000)


def test_early_answer_of_an_upstream_that_will_leave_says_so_to_the_client() -> None:
    # Else the next request would be taken for the rest of this one.
    with Web() as web:
        client = web.client(post(sized(8), b"half"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n")
        upstream.say(b"Content-Length: 2\r\n\r\n")
        assert client.head()[1]["connection"] == "close"


def test_expectation_that_is_not_met_ends_the_connection() -> None:
    # Whether such a client sends its body is its choice (RFC 9110 10.1.1): what comes
    # next may be the one or the other. As kubectl's proxy does it.
    with Web() as web:
        client = web.client(post(sized(5) + b"\r\nExpect: 100-continue"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 103 Hint\r\n\r\n")
        assert client.head()[0] == "HTTP/1.1 103 Hint"
        upstream.say(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
        first, headers = client.head()
        assert (first, headers["connection"]) == ("HTTP/1.1 417 No", "close")
        assert client.exactly(2) == b"no"
        assert client.rest() == b""
        assert upstream.ended()


def test_expectation_and_its_answer_are_passed_on() -> None:
    with Web() as web:
        client = web.client(post(sized(5) + b"\r\nExpect: 100-continue"))
        upstream = web.upstreams.accept()
        assert upstream.head()[1]["expect"] == "100-continue"
        assert client.silent()
        upstream.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.head()[0] == "HTTP/1.1 100 Continue"
        client.say(b"hello")
        assert upstream.exactly(5) == b"hello"
        answered(client, upstream)


def test_several_informational_responses_are_passed_on_in_order() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        upstream.say(hints + b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
        assert client.head() == ("HTTP/1.1 103 Early Hints", {"link": "</a>"})
        assert client.head()[0] == "HTTP/1.1 102 Processing"
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_response_without_a_body_ends_with_its_head(status: bytes) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
        assert client.head()[0] == f"HTTP/1.1 {status.decode()}"
        client.say(GET)
        upstream.head()


def test_length_of_a_body_that_cannot_be_is_not_passed_on() -> None:
    # RFC 9110 8.6: a client may wait for it, or take what comes next for it.
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")
        assert client.head() == ("HTTP/1.1 204 No Content", {})
        assert upstream.ended()
        client.say(GET)
        again = web.upstreams.accept()
        again.head()
        answered(client, again)


def test_answer_to_head_has_the_length_and_no_body() -> None:
    with Web() as web:
        client = web.client(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        assert client.head()[1]["content-length"] == "1000"
        client.say(GET)
        upstream.head()
        upstream.say(OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


def test_body_to_the_end_closes_the_client_behind_it() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\n\r\n", b"all there is")
        assert client.head()[1]["connection"] == "close"
        upstream.close()
        assert client.rest() == b"all there is"


def test_informational_responses_without_end_are_a_bad_gateway() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 103 Hint\r\n\r\n" * 33)
        for _ in range(32):
            assert client.head()[0] == "HTTP/1.1 103 Hint"
        assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"
        assert upstream.ended()


def test_trailers_are_announced_as_they_were() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(CHUNKED[:-2] + b"Trailer: X-Sum\r\n\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert client.head()[1]["trailer"] == "X-Sum"
        assert client.exactly(15) == b"0\r\nX-Sum: 1\r\n\r\n"


def test_client_of_http_1_0_gets_no_informational_response() -> None:
    # RFC 9110 15.2: it would take it for the final one.
    with Web() as web:
        client = web.client(b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n")
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


def test_client_of_http_1_0_gets_data_without_chunks() -> None:
    with Web() as web:
        client = web.client(b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n")
        upstream = web.upstreams.accept()
        assert upstream.head()[0] == "GET /x HTTP/1.1"
        upstream.say(CHUNKED, b"5\r\nhe", b"llo\r\n3\r\n yo\r\n0\r\nA: b\r\n\r\n")
        headers = client.head()[1]
        assert "transfer-encoding" not in headers
        assert headers["connection"] == "close"
        assert client.rest() == b"hello yo"
