"""The ring between threads: order, fullness, wake-ups, what becomes of fds."""

import os
import select
import threading
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.mailbox import Mailbox
from tests.support.waiting import scaled, wait_until


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mailbox of eight, closed afterwards."""
    box = Mailbox(8)
    yield box
    box.close()


def pop_all(mailbox: Mailbox) -> list[int]:
    """Numbers of all letters in it."""
    numbers = []
    while (letter := mailbox.pop()) is not None:
        numbers.append(letter[0])
    return numbers


def woken(mailbox: Mailbox) -> bool:
    """Whether the descriptor of the reader is readable."""
    return bool(select.select([mailbox], [], [], 0)[0])


def test_letters_come_out_in_the_order_they_went_in(mailbox: Mailbox) -> None:
    for number in range(8):
        assert mailbox.push(number)
    assert mailbox.depth() == 8
    assert pop_all(mailbox) == list(range(8))
    assert mailbox.depth() == 0


def test_empty_one_gives_nothing(mailbox: Mailbox) -> None:
    assert mailbox.pop() is None
    assert mailbox.depth() == 0


def test_full_one_refuses_and_loses_nothing(mailbox: Mailbox) -> None:
    for number in range(8):
        assert mailbox.push(number)
    for _ in range(3):
        assert not mailbox.push(99)
    assert mailbox.depth() == 8
    assert mailbox.pop() == (0, -1)
    assert mailbox.push(8)
    assert not mailbox.push(99)
    assert pop_all(mailbox) == list(range(1, 9))


def test_cells_are_used_over_and_over(mailbox: Mailbox) -> None:
    for turn in range(10_000):
        assert mailbox.push(turn)
        assert mailbox.pop() == (turn, -1)
    assert mailbox.pop() is None


@settings(max_examples=200, deadline=None)
@given(
    size=st.sampled_from([2, 4, 16]),
    pushes=st.lists(st.booleans(), max_size=80),
)
def test_it_is_a_bounded_queue(size: int, pushes: list[bool]) -> None:
    mailbox, model = Mailbox(size), list[int]()
    for number, push in enumerate(pushes):
        if push:
            assert mailbox.push(number) == (len(model) < size)
            model += [number] if len(model) < size else []
        else:
            expected = (model.pop(0), -1) if model else None
            assert mailbox.pop() == expected
        assert mailbox.depth() == len(model)
    mailbox.close()


def test_many_writers_keep_their_own_order_and_lose_nothing() -> None:
    writers, letters = 8, 2000
    mailbox = Mailbox(1024)

    def write(writer: int) -> None:
        for number in range(letters):
            wait_until(partial(mailbox.push, writer << 16 | number), 20.0)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    came: dict[int, list[int]] = defaultdict(list)

    def all_read() -> bool:
        for number in pop_all(mailbox):
            came[number >> 16].append(number & 0xFFFF)
        return sum(map(len, came.values())) == writers * letters

    wait_until(all_read, 20.0)
    for thread in threads:
        thread.join(scaled(5))
    assert came == {writer: list(range(letters)) for writer in range(writers)}
    assert mailbox.pop() is None
    mailbox.close()


def test_reader_that_is_awake_is_not_woken(mailbox: Mailbox) -> None:
    mailbox.push(1)
    assert not woken(mailbox), "a system call for nothing"
    mailbox.sleep()
    mailbox.rise()
    mailbox.push(2)
    assert not woken(mailbox)


def test_sleeping_reader_is_woken_once_whoever_writes(mailbox: Mailbox) -> None:
    mailbox.sleep()
    assert not woken(mailbox)
    for number in range(3):
        mailbox.push(number)
        assert woken(mailbox)
    assert int.from_bytes(os.read(mailbox.fileno(), 8), "little") == 1
    mailbox.sleep()
    mailbox.push(3)
    assert woken(mailbox)
    mailbox.clear()
    assert not woken(mailbox)


def test_letter_before_sleep_is_seen_by_the_last_look(mailbox: Mailbox) -> None:
    # The protocol: sleep, look at the depth, block only if it is 0.
    mailbox.push(1)
    mailbox.sleep()
    assert mailbox.depth() == 1


def test_full_mailbox_wakes_nobody_anew(mailbox: Mailbox) -> None:
    for number in range(8):
        mailbox.push(number)
    mailbox.sleep()
    assert not mailbox.push(8)
    assert not woken(mailbox), "but its depth told the reader not to block"
    assert mailbox.depth() == 8


def test_clear_of_a_quiet_one_does_not_block(mailbox: Mailbox) -> None:
    mailbox.clear()
    assert not woken(mailbox)


def test_reader_that_follows_the_protocol_misses_no_letter() -> None:
    mailbox, letters = Mailbox(512), 3000

    def write() -> None:
        for number in range(letters):
            wait_until(partial(mailbox.push, number))

    thread = threading.Thread(target=write)
    thread.start()
    came: list[int] = []
    while len(came) < letters:
        mailbox.sleep()
        timeout_s = scaled(5.0) if mailbox.depth() == 0 else 0
        readable = bool(select.select([mailbox], [], [], timeout_s)[0])
        assert readable or timeout_s == 0, f"overslept after {len(came)} letters"
        mailbox.rise()
        mailbox.clear()
        came += pop_all(mailbox)
    thread.join(scaled(5))
    assert came == list(range(letters))
    mailbox.close()


def test_descriptor_travels_with_its_letter(mailbox: Mailbox) -> None:
    read_end, write_end = os.pipe()
    mailbox.push(5, write_end)
    assert mailbox.pop() == (5, write_end)
    os.close(read_end)
    os.close(write_end)


def test_descriptors_of_unread_letters_are_closed_with_the_mailbox() -> None:
    mailbox = Mailbox(4)
    ends = [os.pipe() for _ in range(3)]
    for number, (_, write_end) in enumerate(ends):
        assert mailbox.push(number, write_end)
    mailbox.push(9)
    mailbox.close()
    mailbox.close()
    for read_end, _ in ends:
        assert os.read(read_end, 1) == b"", "its other end is still open"
        os.close(read_end)


def test_refused_letter_leaves_its_descriptor_to_the_writer() -> None:
    mailbox = Mailbox(2)
    mailbox.push(0)
    mailbox.push(1)
    read_end, write_end = os.pipe()
    assert not mailbox.push(2, write_end)
    mailbox.close()
    os.write(write_end, b"x")
    assert os.read(read_end, 1) == b"x"
    os.close(read_end)
    os.close(write_end)
