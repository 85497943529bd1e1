"""Differential fuzzing: what we accept, llhttp and h11 accept and understand alike.

The long run that is guided by coverage is tools/fuzz_head.py.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.http1.chunks import Chunks
from fastpath.http1.head import HeadError, parse_request, parse_response
from tests.support.head_grammar import damaged, requests, responses
from tests.support.head_oracles import agree

INPUTS = max(settings().max_examples, 500)
ENOUGH = 0.4  # of all inputs: fewer would mean that hardly anything is compared


@pytest.mark.slow
@pytest.mark.hypothesis  # `make fuzz` looks for it
def test_request_that_we_accept_is_understood_alike_by_others() -> None:
    outcomes = []

    @settings(max_examples=INPUTS)
    @given(damaged(requests()))
    def compare(data: bytes) -> None:
        outcomes.append(agree(data, request=True))

    compare()
    assert sum(outcomes) / len(outcomes) > ENOUGH


@pytest.mark.slow
@pytest.mark.hypothesis
def test_response_that_we_accept_is_understood_alike_by_others() -> None:
    outcomes = []

    @settings(max_examples=INPUTS)
    @given(damaged(responses()))
    def compare(data: bytes) -> None:
        outcomes.append(agree(data, request=False))

    compare()
    assert sum(outcomes) / len(outcomes) > ENOUGH


def heads(data: bytes, cuts: list[int], request: bool) -> object:
    """The outcome for a head that comes in pieces."""
    seen = 0
    try:
        for size in [*sorted(cuts), len(data)]:
            if request:
                head = parse_request(data[:size], seen)
            else:
                head = parse_response(data[:size], False, seen)  # type: ignore[assignment]
            if head:
                return head
            seen = size
    except HeadError as error:
        return error.fault
    return None


cuts = st.lists(st.integers(0, 400), max_size=5)


@pytest.mark.slow
@settings(max_examples=INPUTS)
@given(data=damaged(requests()), cuts=cuts)
def test_request_in_pieces_has_the_same_outcome(data: bytes, cuts: list[int]) -> None:
    data += b"\r\n"  # a fault is seen at the end of its line, if not before
    cuts = [min(cut, len(data)) for cut in cuts]
    assert heads(data, cuts, True) == heads(data, [], True)


@pytest.mark.slow
@settings(max_examples=INPUTS)
@given(data=damaged(responses()), cuts=cuts)
def test_response_in_pieces_has_the_same_outcome(data: bytes, cuts: list[int]) -> None:
    data += b"\r\n"  # a fault is seen at the end of its line, if not before
    cuts = [min(cut, len(data)) for cut in cuts]
    assert heads(data, cuts, False) == heads(data, [], False)


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_end_in_an_outcome(data: bytes, request: bool) -> None:
    heads(data, [len(data) // 2], request)
    try:
        walked = Chunks().walk(data)
    except HeadError:
        return
    assert 0 <= walked <= len(data)
