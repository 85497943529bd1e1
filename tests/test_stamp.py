"""What tells that a file has changed, whoever changed it and how."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyproxy.stamp import stamp


def replaced(file: Path) -> None:
    """Swap a symlink, as projected volumes do."""
    other = file.with_name("link")
    other.symlink_to(file.with_name("next"))
    os.replace(other, file)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f.write_text("two"), id="content"),
        pytest.param(lambda f: os.utime(f, ns=(1, 1)), id="time"),
        pytest.param(lambda f: f.chmod(0o400), id="mode"),
        pytest.param(lambda f: f.unlink(), id="removal"),
        pytest.param(replaced, id="symlink"),
    ],
)
def test_stamp_shows_every_kind_of_change(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    file = tmp_path / "file"
    file.write_text("one!")
    (tmp_path / "next").write_text("one!")
    before = stamp(str(file))
    assert stamp(str(file)) == before
    change(file)
    assert stamp(str(file)) != before


def test_stamp_of_a_pipe_does_not_change() -> None:
    # `--kubeconfig <(command)`: what can be read once only is read once only.
    reading, writing = os.pipe()
    try:
        name = f"/proc/self/fd/{reading}"
        before = stamp(name)
        os.write(writing, b"x")
        os.read(reading, 1)
        assert stamp(name) == before
    finally:
        os.close(reading)
        os.close(writing)
