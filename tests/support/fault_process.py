"""Every malloc(3) of an update fails once, in a process that is started for it.

`python -m tests.support.fault_process UPDATE FOLDER SHIM`, with SHIM preloaded, prints
how many allocations failed, or what went wrong and a status that is not 0.
"""

import ctypes
import gc
import sys
from pathlib import Path
from typing import Any

from tests.support.faults import UPDATES, Ground, no_collection

REPEATS = 4  # of a fault after which more blocks are held: caches fill, leaks go on
CHECKED_EACH = 100
# Of OpenSSL's 20,000 allocations some are enough. OpenSSL 3.0 goes on without what it
# found no memory for, or says that the certificate is bad, and loses blocks of its own
# in SSL_CTX_new.
STEP = {"tls": 61}
OTHERS = {
    "tls": (
        *("ee key too small", "does not match", "broken", "unsupported"),
        "OpenSSL knows none",
    )
}


class Faults:
    """One update, and its failures."""

    def __init__(self, ground: Ground, name: str, shim: Any) -> None:
        self.ground, self.shim = ground, shim
        self.update = UPDATES[name](ground)
        self.step, self.others = STEP.get(name, 1), OTHERS.get(name, ())
        self.failed = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Let the first allocation fail, then the second, until none is left."""
        n, left = 0, 0
        while not left:
            n += self.step
            for _ in range(REPEATS):
                left, grown = self._once(n)
                if grown <= 0 or self.others:
                    break
            else:
                self.wrong.append(f"allocation {n}: {grown} blocks are lost")
            if n // self.step % CHECKED_EACH == 0:
                self.update()
                self.ground.reset()
                self.ground.works()

    def _once(self, n: int) -> tuple[int, int]:
        before, live = self.ground.picture(), self._live()
        error = ""
        with no_collection():
            self.shim.fault_arm(n)
            try:
                self.update()
            except BaseException as raised:
                error = "none" if type(raised) is MemoryError else repr(raised)
            left = self.shim.fault_left()
            self.shim.fault_arm(0)
        if not error:
            self.ground.reset()
            return left, 0
        if error != "none" and not any(other in error for other in self.others):
            self.wrong.append(f"allocation {n}: {error}")
        self.failed += 1
        assert self.ground.engine.settle()
        after = self.ground.picture()
        if after != before:
            self.wrong.append(f"allocation {n}: {before} -> {after}")
        del before, after
        return left, self._live() - live

    def _live(self) -> int:
        gc.collect()
        return int(self.shim.fault_live())


def main(name: str, folder: Path, library: str) -> int:
    """Report on one update."""
    shim = ctypes.CDLL(library)
    for function in (shim.fault_left, shim.fault_live):
        function.restype = ctypes.c_long
    shim.fault_arm.argtypes = [ctypes.c_long]
    texts = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "empty").mkdir()
    with Ground(folder / "empty", texts) as ground:
        faults = Faults(ground, name, shim)
        for _ in range(3):
            faults.update()
            ground.reset()
        faults.run()
        ground.works()
    sys.stdout.write(f"{faults.failed} failed\n")
    sys.stdout.writelines(f"{line}\n" for line in faults.wrong)
    return 1 if faults.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
