"""Words of policy that cannot be meant are refused when they are made."""

from collections.abc import Callable

import pytest

from fastpath import Forward, Http, Reply, TableError
from tests.support.web_rig import Web

MANY = tuple((f"X-{n}", "") for n in range(65))
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "key-part": (lambda: Http(key=(":port",)), "neither a part"),
    "key-case": (lambda: Http(key=("X-Who",)), "neither a part"),
    "key-twice": (lambda: Http(key=(":path", ":path")), "repeats"),
    "key-long": (lambda: Http(key=tuple(f"x-{n}" for n in range(25))), "more than 24"),
    "no-time": (lambda: Http(header_timeout_s=0), "header_timeout_s"),
    "gateway": (lambda: Http(gateway_status=200), "gateway status"),
    "set-name": (lambda: Forward("u", set=(("a b", ""),)), "no header name"),
    "set-value": (lambda: Forward("u", set=(("a", "1\r\nb: 2"),)), "value of a"),
    "set-length": (lambda: Forward("u", set=(("Content-Length", "1"),)), "edits"),
    "set-host": (lambda: Forward("u", set=(("Host", "a"),)), "edits"),
    "default-coding": (
        lambda: Forward("u", default=(("transfer-encoding", "chunked"),)),
        "edits",
    ),
    "remove-length": (lambda: Forward("u", remove=("content-length",)), "edits"),
    "remove-name": (lambda: Forward("u", remove=("a:",)), "no header name"),
    "many": (lambda: Forward("u", set=MANY), "more than 64"),
    "large": (lambda: Forward("u", set=(("a", "x" * 65_536),)), "bytes to set"),
    "host": (lambda: Forward("u", host="a\r\nb: c"), "characters"),
    "prefix": (lambda: Forward("u", prefix="/a b"), "space"),
    "strip": (lambda: Forward("u", strip=-1), "strip"),
    "upgrades": (lambda: Forward("u", upgrades=("a,b",)), "upgrade"),
    "ask-on": (lambda: Forward("u", ask_on=500), "ask_on"),
    "status": (lambda: Reply(199), "status"),
    "reply-length": (lambda: Reply(200, headers=(("Content-Length", "9"),)), "edits"),
    "reply-value": (lambda: Reply(200, headers=(("a", "b\n"),)), "value of a"),
    "reply-204": (lambda: Reply(204, b"body"), "no body"),
    "reply-304": (lambda: Reply(304, b"body"), "no body"),
    "reply-large": (lambda: Reply(200, bytes((1 << 20) + 1)), "1 MiB"),
}


@pytest.mark.parametrize("name", WRONG)
def test_word_that_cannot_be_meant_is_refused(name: str) -> None:
    make, why = WRONG[name]
    with pytest.raises(TableError, match=why):
        make()


def test_value_that_is_refused_is_not_told() -> None:
    with pytest.raises(TableError) as caught:
        Forward("u", set=(("Authorization", "Bearer s3cret\n"),))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("ttl_s", [-1.0, float("nan")])
def test_verdict_lives_for_no_odd_time(ttl_s: float) -> None:
    with Web(lambda _: None) as web:
        web.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        question = web.question()
        with pytest.raises(ValueError, match="cannot live"):
            web.engine.answer(question, Reply(200), ttl_s=ttl_s)
