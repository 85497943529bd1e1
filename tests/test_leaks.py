"""The net under every other test must itself catch what it is for."""

import os
import subprocess
import threading

import pytest

from tests.support.leaks import Holdings, leaked_since, lost_since

pytestmark = pytest.mark.live


def test_open_descriptor_is_named_until_it_is_closed() -> None:
    before = Holdings.now()
    fd = os.open("/etc/passwd", os.O_RDONLY)
    assert leaked_since(before, 0.01) == [f"descriptor {fd} (/etc/passwd)"]
    os.close(fd)
    assert leaked_since(before) == []


def test_reused_descriptor_counts_as_new() -> None:
    fd = os.open("/etc/passwd", os.O_RDONLY)
    before = Holdings.now()
    other = os.open("/etc/group", os.O_RDONLY)
    os.dup2(other, fd)
    os.close(other)
    assert leaked_since(before, 0.01) == [f"descriptor {fd} (/etc/group)"]
    os.close(fd)


def test_running_thread_is_named_until_it_ends() -> None:
    before = Holdings.now()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="forgotten")
    thread.start()
    (leak,) = leaked_since(before, 0.01)
    assert "forgotten" in leak
    gate.set()
    thread.join()
    assert leaked_since(before) == []


def test_child_process_is_named_until_it_is_waited_for() -> None:
    before = Holdings.now()
    child = subprocess.Popen(["sleep", "60"])
    (leak,) = leaked_since(before, 0.01)
    assert str(child.pid) in leak
    child.kill()
    child.wait()
    assert leaked_since(before) == []


def test_closed_standard_stream_is_named() -> None:
    before = Holdings.now()
    kept = os.dup(0)
    os.close(0)
    lost = lost_since(before)
    os.dup2(kept, 0)
    os.close(kept)
    assert lost == ["descriptor 0"]
