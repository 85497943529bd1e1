"""From single results to a state: rise and fall, without clock and without I/O.

The drawing of the states stands at `pyproxy.model.State`. Two counters of failure are
kept apart on purpose: connections are cut only after `fall` *dead* results in a row, so
that an apiserver which answers 500 while it shuts down never counts towards the cut.
"""

from enum import StrEnum

from pyproxy.model import State


class Result(StrEnum):
    """What one probe says."""

    READY = "ready"
    ALIVE = "alive"  # answered, but not with an expected code
    DEAD = "dead"  # refused, silent, or with a wrong certificate


_FIRST = {
    Result.READY: State.UP,
    Result.ALIVE: State.DRAINING,
    Result.DEAD: State.DOWN,
}
_AGREES = {state: result for result, state in _FIRST.items()}


class ProbeState:
    """The state of one backend; `observe` moves it."""

    def __init__(self, rise: int, fall: int) -> None:
        self.rise = rise
        self.fall = fall
        self.state = State.UNCHECKED
        self.hint = False  # the state is from long ago: the next result decides alone
        self.late = False  # a probe waits for its answer for too long
        self._last: Result | None = None
        self._ready = self._alive = self._not_ready = self._dead = 0  # runs

    @property
    def known(self) -> bool:
        """Whether the state is one to act on without asking first."""
        return self.state is not State.UNCHECKED and not self.hint

    @property
    def settled(self) -> bool:
        """Whether the last result agrees with the state: nothing is about to change."""
        return self._last is not None and _AGREES.get(self.state) is self._last

    @property
    def suspect(self) -> bool:
        """Whether it is up, and yet the last thing heard of it is silence or worse."""
        return self.state is State.UP and (self.late or self._last is Result.DEAD)

    def observe(self, result: Result) -> State:
        """Count a result and return the state after it."""
        self._last = result
        if result is not Result.DEAD:
            self.late = False
        self._ready = self._ready + 1 if result is Result.READY else 0
        self._not_ready = self._not_ready + 1 if result is not Result.READY else 0
        self._dead = self._dead + 1 if result is Result.DEAD else 0
        self._alive = self._alive + 1 if result is not Result.DEAD else 0
        self.state = self._next(result)
        self.hint = False
        if self.state is State.DOWN:
            self.late = False
        return self.state

    def _next(self, result: Result) -> State:
        if not self.known:
            return _FIRST[result]
        if self._dead >= self.fall:
            return State.DOWN
        if self._ready >= self.rise:
            return State.UP
        if self.state is State.UP and self._not_ready >= self.fall:
            return State.DRAINING
        if self.state is State.DOWN and self._alive >= self.rise:
            return State.DRAINING
        return self.state
