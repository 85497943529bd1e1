"""Files that others write: noticed when they change, kept when they break."""

import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pyproxy.stamp import stamps

logger = logging.getLogger(__name__)

MAX_BYTES = 4 << 20

T = TypeVar("T")


def read(file: str) -> bytes:
    """Return the bytes of a small file. Raise ValueError in Go's words."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ValueError(f"open {file}: {why}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{file}: larger than {MAX_BYTES >> 20} MiB")
    return content


class Kept(Generic[T]):
    """What was last made of some files; a change that cannot be used is only logged."""

    def __init__(self, what: str, files: Iterable[str], make: Callable[[], T]) -> None:
        """Make it now. Raise ValueError where it cannot be made."""
        self._what = what
        self._files = tuple(files)
        self._make = make
        self._stamps = stamps(self._files)
        self._failed = ""
        self.value = make()

    def poll(self, *, force: bool = False) -> bool:
        """Look whether the files changed, or read them anyway; return if `value` did.

        Files of a pair change one after the other: until they fit, the last pair stays.
        """
        found = stamps(self._files)
        if found == self._stamps and not force:
            return False
        self._stamps = found
        try:
            value = self._make()
        except ValueError as error:
            if str(error) != self._failed:  # once per trouble
                self._failed = str(error)
                extra = {"what": self._what, "why": self._failed}
                logger.warning(
                    "credentials not reloaded, keeping the last", extra=extra
                )
            return False
        self._failed = ""
        if value == self.value:
            return False
        self.value = value
        logger.info("credentials reloaded", extra={"what": self._what})
        return True
