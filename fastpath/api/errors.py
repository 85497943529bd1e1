"""What the core raises at its door; nothing is ever raised inside `nogil`."""


class EngineError(RuntimeError):
    """The engine cannot do this now: closed, or a worker does not answer."""


class TableError(ValueError):
    """A table that contradicts itself: two vips on one address, a bad weight."""
