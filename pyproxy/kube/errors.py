"""What an apiserver refuses, and that it cannot be reached: one class for both."""

from pyproxy.errors import PyproxyError

UNREACHABLE = "Unreachable"  # status 0: no answer at all
MALFORMED = "Malformed"  # status 0: an answer that is none of the API's


class KubeError(PyproxyError):
    """A request to an apiserver failed.

    `status` is HTTP's, 0 = there was no answer that could be read; `reason` is a word
    of the API (NotFound, Conflict, Expired) or of ours; `retry_after_s` is how long the
    apiserver wants us to wait, 0 = it did not say.
    """

    def __init__(
        self, message: str, status: int = 0, reason: str = "", retry_after_s: float = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s

    @property
    def is_missing(self) -> bool:
        """Whether there is no such object."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Whether the object is another one than we thought."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def is_taken(self) -> bool:
        """Whether there is such an object already."""
        return self.reason == "AlreadyExists"

    @property
    def is_expired(self) -> bool:
        """Whether the history that we asked for is forgotten."""
        return self.status == 410 or self.reason in ("Expired", "Gone")

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 408, 425, 429) or self.status >= 500


class TooLargeVersionError(KubeError):
    """The apiserver has not come to the revision that we know already."""
