"""Is this process alive, is it ready: named checks, in the words of an apiserver."""

from collections.abc import Callable, Sequence

Check = Callable[[], str | None]  # None: fine, else why not


class Health:
    """Checks of one process. Liveness never depends on anything outside of it."""

    def __init__(self) -> None:
        self._ready: dict[str, Check] = {}
        self._notes: dict[str, Check] = {}

    def require(self, name: str, check: Check) -> None:
        """Be ready only while `check` has no complaint."""
        self._ready[name] = check

    def mention(self, name: str, check: Check) -> None:
        """Say what `check` complains of, and be ready all the same."""
        self._notes[name] = check

    def notes(self) -> list[tuple[str, str]]:
        """Return what is worth knowing and no reason to be red."""
        found = ((name, check()) for name, check in self._notes.items())
        return [(name, said) for name, said in found if said is not None]

    def drop(self, name: str) -> None:
        """Forget a check; unknown ones are fine."""
        self._ready.pop(name, None)

    def named(self, prefix: str) -> list[str]:
        """Return the names of checks that begin with `prefix`."""
        return [name for name in self._ready if name.startswith(prefix)]

    def complaints(self) -> list[tuple[str, str | None]]:
        """Return every check of readiness with what it says."""
        return [("ping", None), *((n, check()) for n, check in self._ready.items())]

    @property
    def ready(self) -> bool:
        """Whether no check complains."""
        return all(complaint is None for _, complaint in self.complaints())


def report(
    name: str,
    checks: list[tuple[str, str | None]],
    notes: Sequence[tuple[str, str]] = (),
    *,
    verbose: bool,
) -> tuple[bool, str]:
    """Return whether all is well, and the text that kube-apiserver would print.

    Notes are lines of a kind that it has not: they change nothing.
    """
    well = all(complaint is None for _, complaint in checks)
    if well and not verbose:
        return True, "ok"
    lines = [
        f"[+]{check} ok" if complaint is None else f"[-]{check} failed: {complaint}"
        for check, complaint in checks
    ]
    lines += [f"[!]{note}: {said}" for note, said in notes]
    return well, "\n".join([*lines, f"{name} check {'passed' if well else 'failed'}\n"])
