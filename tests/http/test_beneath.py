"""A directory that is never left, while somebody swaps what is in it."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyproxy.http import beneath
from pyproxy.http.files import Directory, File

Open = Callable[[int, str, int], int]
WAYS = {"kernel": beneath.open_beneath, "steps": beneath.walk_beneath}
TRIES = 4000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with links of every kind, and a secret beside it."""
    root = tmp_path / "www"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "file").write_text("file")
    (root / "sub" / "inner").write_text("inner")
    (root / "link").symlink_to("sub/inner")
    (root / "sub" / "up").symlink_to("../file")
    (root / "sub" / "deep" / "far").symlink_to("../../sub/up")
    (root / "absolute").symlink_to(root / "sub")
    (tmp_path / "www-not").mkdir()
    for place in (tmp_path, tmp_path / "www-not"):
        (place / "secret").write_text("secret")
    (root / "out").symlink_to("../secret")
    (root / "outdir").symlink_to(tmp_path)
    (root / "beside").symlink_to(tmp_path / "www-not")
    (root / "sub" / "out").symlink_to("../../secret")
    (root / "loop").symlink_to("loop")
    (root / "self").symlink_to("/proc/self/root")
    return root


def read(way: Open, root: Path, path: str) -> str:
    """What stands in a file below the root."""
    with beneath.directory(str(root)) as number:
        with open(way(number, path, os.O_RDONLY), encoding="ascii") as file:
            return file.read()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("file", "file"),
        ("/file", "file"),
        ("sub/inner", "inner"),
        ("link", "inner"),
        ("sub/up", "file"),
        ("sub/deep/far", "file"),
        ("absolute/inner", "inner"),
        ("absolute/up", "file"),
    ],
)
def test_what_is_inside_is_opened(
    root: Path, way: str, path: str, content: str
) -> None:
    assert read(WAYS[way], root, path) == content


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "path",
    [
        "out",
        "outdir/secret",
        "beside/secret",
        "sub/out",
        "self/etc/passwd",
        "../secret",
        "sub/../../secret",
        "absolute/out",
    ],
)
def test_what_is_outside_is_not_there(root: Path, way: str, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        read(WAYS[way], root, path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("loop", errno.ELOOP),
        ("file/x", errno.ENOTDIR),
        ("none", errno.ENOENT),
        ("x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_what_cannot_be_opened_says_why(
    root: Path, way: str, path: str, number: int
) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        read(WAYS[way], root, path)


def test_kernel_without_the_call_is_no_obstacle(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ENOSYS: older than 5.6. EPERM: a sandbox that has not heard of it.
    for number in (errno.ENOSYS, errno.EPERM):

        def refuse(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(beneath, "_openat2", refuse)
        assert read(beneath.open_beneath, root, "sub/inner") == "inner"
        with pytest.raises(FileNotFoundError):
            read(beneath.open_beneath, root, "out")


@contextmanager
def swapped(root: Path) -> Iterator[None]:
    """While the body runs, `www/d` is now a directory, now a link to outside."""
    inside, aside = root / "d", root / "aside"
    inside.mkdir()
    (inside / "x.txt").write_text("inside")
    (root.parent / "x.txt").write_text("secret")
    done = threading.Event()

    def swap() -> None:
        while not done.wait(0.0001):  # that long it is what it should be
            inside.rename(aside)
            inside.symlink_to(root.parent)
            inside.unlink()
            aside.rename(inside)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.adversity
@pytest.mark.parametrize("way", WAYS)
def test_directory_swapped_for_a_link_never_leads_outside(
    root: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Symptom: resolved, then opened by name; 3 of 100 tries read the secret.
    monkeypatch.setattr(beneath, "open_beneath", WAYS[way])
    directory = Directory(str(root))
    seen = {"inside": 0, "nothing": 0}
    with swapped(root):
        for _ in range(TRIES):
            found = directory.find("/d/x.txt")
            if isinstance(found, File):
                with found.file as file:
                    seen[file.read().decode()] += 1
            else:
                seen["nothing"] += 1
    assert seen["inside"] > 0
