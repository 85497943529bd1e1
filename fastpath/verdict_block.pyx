"""Compiles a Forward or Reply into one block that nobody changes any more."""

from http import HTTPStatus

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy

from fastpath.http.verdict cimport verdict_release
from fastpath.http1.compose cimport edits_t, text_t

from fastpath.api.policy import Reply


class Text:
    """The text of a verdict, growing; each part is named by where it begins."""

    def __init__(self):
        self.bytes = bytearray()

    def add(self, part):
        """Append text or bytes; return (place, size)."""
        data = part.encode("latin-1") if isinstance(part, str) else part
        at = len(self.bytes)
        self.bytes += data
        return at, len(data)


cdef text_t place(tuple where):
    cdef text_t t
    t.at = where[0]
    t.size = where[1]
    return t


cdef str reply_head(spec):
    try:
        phrase = HTTPStatus(spec.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {spec.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in spec.headers]
    if spec.status != 204 and spec.status != 304:
        lines.append(f"Content-Length: {len(spec.body)}")
    return "\r\n".join(lines) + "\r\n"


# (name, line, only if absent) of what a Forward does to headers; the last word counts.
cdef list edits_of(spec):
    edits = {name.lower(): (name.lower(), "", False) for name in spec.remove}
    for name, value in spec.set:
        line = f"{name}: {value}\r\n"
        before = edits.get(name.lower(), ("", "", False))[1]
        edits[name.lower()] = (name.lower(), before + line, False)
    given = {}
    for name, value in spec.default:
        if name.lower() not in edits:
            line = given.get(name.lower(), "") + f"{name}: {value}\r\n"
            given[name.lower()] = line
    edits.update((name, (name, line, True)) for name, line in given.items())
    return list(edits.values())


cdef class VerdictBlock:
    """Compiled from a Forward or Reply; `upstream` is the slot of its upstream."""

    def __cinit__(self, spec, uint32_t upstream=0, uint64_t stamp=0):
        text = Text()
        edits = [] if isinstance(spec, Reply) else [
            (text.add(name), text.add(line), absent)
            for name, line, absent in edits_of(spec)
        ]
        if isinstance(spec, Reply):
            parts = [reply_head(spec), spec.body]
        else:
            allowed = "".join(f",{name.lower()}" for name in spec.upgrades or ())
            parts = [spec.host, spec.prefix, allowed + ","]
        places = [text.add(part) for part in parts]
        self._allocate(bytes(text.bytes), len(edits))
        self._fill_edits(&self.verdict.edits.headers, edits)
        if isinstance(spec, Reply):
            self._fill_reply(spec, places)
        else:
            self._fill_forward(spec, places)
            self.verdict.upstream = upstream
            self.verdict.stamp = stamp

    def __dealloc__(self):
        verdict_release(self.verdict)

    def _allocate(self, bytes text, size_t edits):
        cdef size_t size = sizeof(verdict_t) + len(text)

        size += -size % 16
        self.verdict = <verdict_t*>calloc(1, size + edits * sizeof(edit_t))
        if self.verdict == NULL:
            raise MemoryError
        self.verdict.refs = 1
        self.verdict.size = size + edits * sizeof(edit_t)
        self.verdict.edits.text = self.verdict.bytes
        self.unused = <edit_t*>(<char*>self.verdict + size)
        memcpy(self.verdict.bytes, <const char*>text, len(text))

    cdef _fill_edits(self, headers_t* headers, edits):
        cdef edit_t* e

        headers.list = self.unused
        for name, line, absent in edits:
            e = self.unused
            e.name = place(name)
            e.line = place(line)
            e.only_absent = absent
            headers.sizes |= <uint64_t>1 << <int>min(63, e.name.size)
            headers.count += 1
            self.unused += 1

    def _fill_reply(self, spec, places):
        self.verdict.is_reply = True
        self.verdict.status = spec.status
        self.verdict.close = spec.close
        self.verdict.head = place(places[0])
        self.verdict.body = place(places[1])

    def _fill_forward(self, spec, places):
        cdef edits_t* edits = &self.verdict.edits

        self.verdict.ask_on = spec.ask_on
        self.verdict.replay = spec.replay
        edits.strip = spec.strip
        edits.forwarded_for = spec.forwarded_for
        edits.any_upgrade = spec.upgrades is None
        edits.host = place(places[0])
        edits.prefix = place(places[1])
        edits.upgrades = place(places[2])
