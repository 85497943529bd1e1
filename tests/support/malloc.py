"""What malloc says it has given out."""

import ctypes

import pytest


class MallInfo(ctypes.Structure):
    """Of mallinfo2(3), glibc 2.33."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks"
            " keepcost"
        ).split()
    ]


def held_bytes() -> int:
    """Return what malloc has given out."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def needs_malloc_that_tells() -> None:
    """Skip where it does not, as under a sanitizer."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2") or held_bytes() < 1 << 16:
        pytest.skip("malloc does not say what it holds")
