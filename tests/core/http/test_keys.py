"""Keys of verdicts: which requests are the same to one."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastpath import Http, Reply, TableError
from fastpath.api.policy import Question
from fastpath.api.question import path_to
from fastpath.http import key
from tests.core.http.test_verdicts import echo, request, served
from tests.support.web_rig import Web

PIECES = st.sampled_from(["/", "/", "/", "a", "b", ".", "%", "%2e", "..", "*", "é"])
PATHS = st.lists(PIECES, max_size=24).map("".join)


def reference(path: str, n: int) -> str:
    """Source: the words of Http.key."""
    if re.match(r"/[^/]", path + "x") is None or re.search(r"%|//|/\.", path):
        return path
    found = re.match(rf"/(?:[^/]*/){{{n}}}", path)
    return found[0] if found else path


@given(PATHS, st.integers(1, 15))
@example("/", 1)
@example("", 1)
@example("//", 1)
@example("/a/b/", 2)
def test_path_to_a_segment_is_what_it_is_said_to_be(path: str, n: int) -> None:
    raw = path.encode("latin-1")
    assert key.path_to(raw, n).decode("latin-1") == reference(path, n)
    assert path_to(path, n) == reference(path, n)


@given(PATHS, PATHS, st.integers(1, 15), st.integers(1, 15))
def test_deeper_part_says_all_that_a_shallower_one_says(
    one: str, other: str, n: int, more: int
) -> None:
    # Question.unnamed rests on it.
    deep = min(15, n + more)
    if path_to(one, deep) == path_to(other, deep):
        assert path_to(one, n) == path_to(other, n)


def test_digest_is_siphash_with_128_bits() -> None:
    # Source: vectors_sip128 of the reference implementation, first and eighth row.
    secret = bytes(range(16))
    assert key.digest(b"", secret).hex() == "a3817f04ba25a8e66df67214c7550293"
    assert key.digest(b"\x00", secret).hex() == "da87c1d86b99af44347659119b22fc45"
    assert key.digest(bytes(range(8)), secret) != key.digest(bytes(range(9)), secret)


@given(
    st.binary(max_size=64), st.binary(max_size=64), st.binary(min_size=16, max_size=16)
)
def test_digests_of_two_keys_differ(one: bytes, other: bytes, secret: bytes) -> None:
    same = key.digest(one, secret) == key.digest(other, secret)
    assert same == (one == other)


@pytest.mark.parametrize(
    ("part", "one", "other", "same"),
    [
        (":path/1", "/a/b/c", "/a/x/y", True),
        (":path/2", "/a/b/c", "/a/b/x/y", True),
        (":path/2", "/a/b/c", "/a/x/c", False),
        (":path/3", "/a/b/c", "/a/b/d", False),
        (":path/3", "/a/b/c/", "/a/b/c/d", True),
        (":path/15", "/a" * 15 + "/x", "/a" * 15 + "/y", True),
        (":path/15", "/a" * 16, "/a" * 14 + "/b/a", False),
        (":path/2", "/a/b/c%2e", "/a/b/c%2f", False),
        (":path/2", "/a/b/c/..", "/a/b/c/.", False),
        (":path/2", "/a/b//", "/a/b///", False),
    ],
)
def test_answer_may_name_a_stretch_of_the_path(
    part: str, one: str, other: str, same: bool
) -> None:
    with Web(echo, key=(part,), parts=(":path",)) as web:
        served(web.client(), request(one), request(other))
        assert len(web.asked) == (1 if same else 2)


def test_stretches_of_different_length_stand_beside_each_other() -> None:
    def decide(question: Question) -> Reply:
        return Reply(200, question.path.encode())

    with Web(decide, parts=(":path",)) as web:
        client = web.client()
        web.key = (":path/1",)
        served(client, request("/a/b/c"))
        web.key = (":path/2",)
        served(client, request("/b/b/c"), request("/b/c/c"))
        client.say(request("/a/x/y"), request("/b/b/d"), request("/b/c/d"))
        bodies = [client.sized()[1] for _ in range(3)]
        assert bodies == [b"/a/b/c", b"/b/b/c", b"/b/c/c"]


@pytest.mark.parametrize(
    ("name", "names", "why"),
    [
        (":path/3", (":method",), "does not name :path"),
        (":path/0", (":path",), "does not name :path/0"),
        (":path/16", (":path",), "does not name :path/16"),
        (":segment", (":path",), "does not name :segment"),
        (":certificate", (":path",), "does not name :certificate"),
    ],
)
def test_part_that_the_listener_does_not_name_is_refused(
    name: str, names: tuple[str, ...], why: str
) -> None:
    with Web(lambda _: None, parts=names) as web:
        web.client(request())
        with pytest.raises(ValueError, match=f"{why}$"):
            web.engine.answer(web.question(), Reply(200), ttl_s=1.0, key=(name,))


def test_listener_names_no_stretch_of_the_path() -> None:
    with pytest.raises(TableError, match="neither a part"):
        Http(key=(":path/2",))


def test_more_ways_to_name_parts_than_are_looked_up_do_not_stop_remembering() -> None:
    # Once all listeners had 64 places; the next way was never remembered.
    parts = tuple(f"x-{n}" for n in range(16))
    with Web(echo, parts=(*parts[:15], ":path")) as web:
        client = web.client()
        for n in range(100):
            names = [part for i, part in enumerate(parts[:15]) if n >> i & 1]
            web.key = (":path", *names)
            served(client, request(f"/{n}"), request(f"/{n}"))
            assert len(web.asked) == n + 1
        assert web.stats.remembered == 100
