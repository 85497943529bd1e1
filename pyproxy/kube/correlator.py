"""Which of many notes are worth an Event, and which only raise a count. Pure.

client-go's correlator (tools/record, events_cache.go) in its order: similar notes
become one, repeated ones are counted, and an object has a limited rate of them.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from pyproxy.kube.objects import ObjectReference

REMEMBERED = 4096  # of each sort; what was not used for longest goes first
BURST, REFILL_S = 25.0, 300.0  # notes of an object at once; seconds for one more
SIMILAR, SIMILAR_S = 10, 600.0  # messages that differ, in this time, become one
COMBINED = "(combined from similar events): "

Kind = Literal["Normal", "Warning"]
V = TypeVar("V")


class Note(NamedTuple):
    """What a caller said, and when, by the clock on the wall."""

    about: ObjectReference
    kind: Kind
    reason: str
    message: str
    at_s: float


@dataclass(slots=True)
class Entry:
    """An Event, as far as we know it."""

    note: Note  # the newest
    first_s: float
    count: int = 1
    unique: int = 0  # part of its name; 0 = none was chosen
    name: str = ""  # of the object that was created; "" = none was


class Recent(Generic[V]):
    """A bounded dict that forgets what was not used for longest."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._found: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Return a value, and remember it for longer."""
        if key not in self._found:
            return None
        self._found.move_to_end(key)
        return self._found[key]

    def put(self, key: Hashable, value: V) -> None:
        """Remember a value."""
        self._found[key] = value
        self._found.move_to_end(key)
        if len(self._found) > self._limit:
            self._found.popitem(last=False)

    def __len__(self) -> int:
        return len(self._found)


@dataclass(slots=True)
class _Group:
    """Notes that differ in their message only."""

    last_s: float
    messages: dict[str, None] = field(default_factory=dict)


class Correlator:
    """Remembers what was said."""

    def __init__(self) -> None:
        self._buckets: Recent[tuple[float, float]] = Recent()  # tokens, and as of when
        self._groups: Recent[_Group] = Recent()
        self._entries: Recent[Entry] = Recent()

    def judge(self, note: Note, now_s: float) -> Entry | None:
        """Return the Event to write, None = its object is above its rate.

        Its `name` tells whether it is there already and only its count changes.
        """
        key, note = self._combine(note, now_s)
        entry = self._entries.get(key)
        if entry is None:
            entry = Entry(note, note.at_s)
            self._entries.put(key, entry)
        else:
            entry.note = note
            entry.count += 1
        return entry if self._take_token(_who(note), now_s) else None

    def _combine(self, note: Note, now_s: float) -> tuple[Hashable, Note]:
        """Return what identifies the Event, and the note as it goes in."""
        group_key = (*_who(note), note.kind, note.reason)
        group = self._groups.get(group_key)
        if group is None or now_s - group.last_s > SIMILAR_S:
            group = _Group(now_s)
        group.last_s = now_s
        group.messages[note.message] = None
        self._groups.put(group_key, group)
        if len(group.messages) < SIMILAR:
            return (*group_key, note.message), note
        del group.messages[next(iter(group.messages))]
        return group_key, note._replace(message=COMBINED + note.message)

    def _take_token(self, key: Hashable, now_s: float) -> bool:
        tokens, as_of_s = self._buckets.get(key) or (BURST, now_s)
        tokens = min(BURST, tokens + (now_s - as_of_s) / REFILL_S)
        enough = tokens >= 1
        self._buckets.put(key, (tokens - enough, now_s))
        return enough


def _who(note: Note) -> tuple[str, str, str, str]:
    about = note.about
    return (about.kind, about.namespace, about.name, about.uid)
