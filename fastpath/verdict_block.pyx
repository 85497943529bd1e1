"""Compiles a Forward or Reply into one block, which never changes."""

from http import HTTPStatus

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.addr cimport addr_parse, addr_t
from fastpath.http.coding cimport coding_of
from fastpath.http.filter cimport filter_response
from fastpath.http.location cimport filter_t, mapping_t
from fastpath.http.page cimport page_drain, page_feed, page_fini, page_init, page_t
from fastpath.http.quota cimport quota_hold
from fastpath.http.verdict cimport verdict_release
from fastpath.http1.compose cimport SIZES, edit_t, edits_t, out_t, text_t
from fastpath.http1.framing cimport (
    ANSWER_BYTES,
    ANSWER_LINES,
    head_allow,
    head_t,
    header_t,
)
from fastpath.http1.head cimport head_parse_response
from fastpath.verdict_quotas cimport QuotaBlock

from fastpath.api.policy import Reply, ResponseEdits, split_address

NOTHING = ResponseEdits()


class Text:
    """The text of a verdict, growing; each part is named by where it begins."""

    def __init__(self):
        self.data = bytearray()

    def add(self, part):
        """Append text or bytes; return (place, size)."""
        data = part.encode("latin-1") if isinstance(part, str) else part
        at = len(self.data)
        self.data += data
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


# (name, line, only if absent) of what a Forward does to headers; the last one counts.
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


cdef list add_edits(text, spec):
    """Add the text of header edits; return what _fill_edits takes."""
    edits = []
    for name, line, absent in edits_of(spec):
        prefix = not line and name.endswith("-*")  # only `remove` has those
        named = name.removesuffix("*") if prefix else name
        edits.append((text.add(named), text.add(line), absent, prefix))
    return edits


cdef str listed(words):
    """As is_listed of http1/compose reads it."""
    return "".join([f",{word.lower()}" for word in words]) + ","


cdef class VerdictBlock:
    """Compiled from a Forward or Reply; `upstream` is the slot of its upstream."""

    def __cinit__(
        self, spec, uint32_t upstream=0, uint64_t stamp=0, QuotaBlock quota=None
    ):
        if isinstance(spec, Reply):
            self._make_reply(spec)
        else:
            self._make_forward(spec)
            self.verdict.upstream = upstream
            self.verdict.stamp = stamp
            if quota is not None:
                quota_hold(quota.quota)
                self.verdict.quota = quota.quota

    def __dealloc__(self):
        verdict_release(self.verdict)

    def _allocate(self, bytes text, size_t edits=0, size_t mappings=0):
        cdef size_t size = sizeof(verdict_t) + len(text)
        cdef size_t lists = edits * sizeof(edit_t) + mappings * sizeof(mapping_t)

        size += -size % 16
        self.verdict = <verdict_t*>calloc(1, size + lists)
        if self.verdict == NULL:
            raise MemoryError
        self.verdict.refs = 1
        self.verdict.size = size + lists
        self.verdict.edits.text = self.verdict.bytes
        self.unused = <char*>self.verdict + size
        memcpy(self.verdict.bytes, <const char*>text, len(text))

    cdef _fill_edits(self, headers_t* headers, edits):
        cdef edit_t* e = <edit_t*>self.unused
        cdef uint64_t bit

        headers.list = e
        for name, line, absent, prefix in edits:
            e.name = place(name)
            e.line = place(line)
            e.only_absent = absent
            e.is_prefix = prefix
            bit = <uint64_t>1 << <int>min(SIZES, e.name.size)
            # Of a prefix all longer names, too: this bit and all that are higher.
            headers.sizes |= 0 - bit if prefix else bit
            headers.count += 1
            e += 1
        self.unused = <char*>e

    cdef _fill_mappings(self, filter_t* f, mappings):
        cdef mapping_t* m = <mapping_t*>self.unused

        f.mappings = m
        for old, new in mappings:
            m.from_ = place(old)
            m.to = place(new)
            f.mapping_count += 1
            m += 1
        self.unused = <char*>m

    def _make_reply(self, spec):
        text = Text()
        head, body = text.add(reply_head(spec)), text.add(spec.body)
        self._allocate(bytes(text.data))
        self.verdict.is_reply = True
        self.verdict.status = spec.status
        self.verdict.close = spec.close
        self.verdict.head = place(head)
        self.verdict.body = place(body)

    def _make_forward(self, spec):
        cdef edits_t* edits

        text = Text()
        response = spec.response or NOTHING
        headers, others = add_edits(text, spec), add_edits(text, response)
        mappings = [
            (text.add(old.rstrip("/")), text.add(new.rstrip("/")))
            for old, new in response.location
        ]
        parts = (spec.host, spec.prefix, listed(spec.upgrades or ()))
        places = [text.add(part) for part in parts]
        hosts = text.add(listed(response.hosts))
        cookie_path = text.add(response.cookie_path.rstrip("/"))
        self._allocate(bytes(text.data), len(headers) + len(others), len(mappings))
        edits = &self.verdict.edits
        self._fill_edits(&edits.headers, headers)
        self._fill_edits(&self.verdict.filter.headers, others)
        self._fill_mappings(&self.verdict.filter, mappings)
        self.verdict.filter.hosts = place(hosts)
        self.verdict.filter.cookie_path = place(cookie_path)
        self.verdict.filter.cookies = response.cookie_path != ""
        self.verdict.filter.any = response != NOTHING
        self.verdict.filter.upgraded = response.upgrades
        edits.pages = response.html and len(mappings) > 0
        self.verdict.filter.pages = edits.pages
        edits.strip = spec.strip
        edits.forwarded_for = spec.forwarded_for
        edits.any_upgrade = spec.upgrades is None
        edits.host = place(places[0])
        edits.prefix = place(places[1])
        edits.upgrades = place(places[2])
        if spec.address:
            ip, port = split_address(spec.address)
            addr_parse(&self.verdict.address, ip.encode(), port)
        self.verdict.ask_on = spec.ask_on
        self.verdict.replay = spec.replay


# ---- The door for tests.

def filter_head(bytes head, forward, str upstream=""):
    """What becomes of the head of a response; `upstream` as Forward.address."""
    cdef VerdictBlock block = VerdictBlock(forward)
    cdef addr_t address
    cdef header_t lines[ANSWER_LINES]
    cdef head_t h
    cdef out_t o

    memset(&address, 0, sizeof(address))
    if upstream:
        ip, port = split_address(upstream)
        addr_parse(&address, ip.encode(), port)
    h.headers = lines
    head_allow(&h, ANSWER_BYTES, ANSWER_LINES)
    if head_parse_response(&h, head, len(head), 0, False) != 1:
        raise ValueError("not a head")
    into = bytearray(4 * len(head) + 65536)
    o.bytes = into
    o.room = len(into)
    o.size = 0
    o.full = False
    filter_response(
        &o, &h, head, 1, True, False, &block.verdict.filter, &block.verdict.edits,
        &address, False,
    )
    return None if o.full else bytes(into[:o.size])


cdef class Page:
    """A page that is rewritten; `room` bytes come out of each step at most."""

    cdef VerdictBlock block
    cdef page_t page
    cdef char* out
    cdef size_t room
    cdef uint64_t most

    def __cinit__(self, forward, upstream="", coding="", room=32768, most=1 << 40):
        cdef addr_t address
        cdef bytes name = coding.encode()

        memset(&address, 0, sizeof(address))
        if upstream:
            ip, port = split_address(upstream)
            addr_parse(&address, ip.encode(), port)
        self.block = VerdictBlock(forward)
        self.room = room
        self.most = most
        self.out = <char*>malloc(room)
        if self.out == NULL or not page_init(
            &self.page, &self.block.verdict.filter, &self.block.verdict.edits, &address,
            coding_of(name, len(name)),
        ):
            raise MemoryError

    def __dealloc__(self):
        page_fini(&self.page)
        free(self.out)

    cdef _open(self, out_t* o):
        o.bytes = self.out
        o.room = self.room
        o.size = 0
        o.full = False
        self.page.worked = 0

    def feed(self, bytes data):
        """What comes of `data`, in pieces as they come.

        Raises:
            ValueError: their coding is wrong.
        """
        cdef const char* at = data
        cdef size_t left = len(data)
        cdef ssize_t used
        cdef out_t o

        pieces = []
        while left > 0:
            self._open(&o)
            used = page_feed(&self.page, at, left, &o, self.most)
            if used < 0:
                raise ValueError("coding")
            at += used
            left -= used
            pieces.append(self.out[:o.size])
        return pieces + self._drain(False)

    def end(self):
        """What is still to come; as feed."""
        return self._drain(True)

    def _drain(self, bint end):
        cdef int drained = 0
        cdef out_t o

        pieces = []
        while not drained:
            self._open(&o)
            drained = page_drain(&self.page, &o, self.most, end)
            if drained < 0:
                raise ValueError("coding")
            pieces.append(self.out[:o.size])
        return pieces

    @property
    def untouched(self):
        """Values that were too long."""
        return self.page.untouched
