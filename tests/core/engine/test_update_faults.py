"""No memory at any allocation of an update: the old table stays, and the next works."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import SANITIZED
from tests.support.faults import UPDATES, Ground, no_collection
from tests.support.tls_tools import Certificates, pem

pytestmark = [pytest.mark.slow, pytest.mark.adversity, pytest.mark.timeout(600)]

SOURCE = Path(__file__).parents[2] / "support" / "fault.c"
AFTERWARDS = 40  # allocations in which a fault shows that the update did not meet
CHECKED_EACH = 25  # faults: then the update is made once without


@pytest.fixture(scope="module")
def texts(certificates: Certificates) -> dict[str, bytes]:
    """An authority, and a certificate of it with its key."""
    certificate, key = pem(certificates.server)
    return {"ca": certificates.ca, "certificate": certificate, "key": key}


def skip_unless_root(name: str) -> None:
    """A transparent listener needs CAP_NET_ADMIN."""
    if name == "transparent" and os.geteuid() != 0:
        pytest.skip("transparent listeners need root")


def fails_at(testcapi: Any, n: int, count: int, update: Any) -> tuple[Any, bool]:
    """Let `count` allocations from the n-th on fail: type of the error; did they?

    One after another, and not all from the n-th on: CPython has one MemoryError that
    needs no memory, chains it to itself when it is raised again while it is handled,
    and looks for the end of the chain for ever (3.11.7, _PyErr_SetObject).
    """
    error, met = None, True
    testcapi.set_nomemory(n, n + count)
    try:
        update()
    except BaseException as raised:
        error = type(raised)  # itself it would hold our frame, which would hold it
    try:
        for _ in range(AFTERWARDS):
            bytearray(1)
    except MemoryError:
        met = False
    testcapi.remove_mem_hooks()
    return error, met


@pytest.mark.root
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("count", [1, 3])
def test_no_memory_for_a_python_object_changes_nothing(
    texts: dict[str, bytes], tmp_path: Path, name: str, count: int
) -> None:
    # Symptoms, all of a MemoryError: the state changed and no table was published; a
    # list comprehension of Cython freed an item twice; a lock crashed at its release.
    testcapi = pytest.importorskip("_testcapi", reason="needs CPython's _testcapi")
    skip_unless_root(name)
    with Ground(tmp_path, texts) as ground, no_collection():
        update = UPDATES[name](ground)
        update()  # what is imported or cached by the first one is there afterwards
        ground.reset()
        failed, n, met = 0, 0, True
        while met:
            n += 1
            before = ground.picture()
            error, met = fails_at(testcapi, n, count, update)
            if error is None:
                ground.reset()
                continue
            assert error is MemoryError, n
            failed += 1
            assert ground.engine.settle()
            assert ground.picture() == before, n
            if n % CHECKED_EACH == 0:
                update()
                ground.reset()
                ground.works()
        assert failed > 50
        ground.works()


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that stands before malloc(3) and fails when it is told to."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("stands before glibc's malloc only")
    if SANITIZED:
        pytest.skip("the sanitizer stands before malloc itself")
    library = tmp_path_factory.mktemp("shim") / "fault.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-fno-builtin"]
    subprocess.run([compiler, *options, "-o", library, SOURCE], check=True)
    return library


@pytest.mark.root
@pytest.mark.parametrize("name", UPDATES)
def test_no_memory_for_a_struct_changes_nothing(
    shim: Path, texts: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    skip_unless_root(name)
    for file, text in texts.items():
        (tmp_path / file).write_bytes(text)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fault_process", name, tmp_path, shim],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 5
