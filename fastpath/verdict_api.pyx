"""Python's side of verdicts: questions as values, verdicts compiled into one block."""

from collections import deque
from http import HTTPStatus

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.base.addr cimport addr_text
from fastpath.base.linux.atomic cimport release_u64
from fastpath.base.linux.socket cimport AF_INET, AF_INET6
from fastpath.base.mailbox cimport (
    LETTER_ANSWER,
    LETTER_RECORD,
    mailbox_clear,
    mailbox_pop,
    mailbox_sleep,
)
from fastpath.http.verdict cimport verdict_hold, verdict_release
from fastpath.http.web cimport RECORDS_MOST, answer_t, question_t, record_t
from fastpath.http1.compose cimport edit_t, edits_t, headers_t, text_t
from fastpath.http1.field cimport H_UPGRADE, span_t
from fastpath.http1.framing cimport BODY_NONE, head_t
from fastpath.http1.head cimport head_parse_request
from fastpath.table.table cimport VipBlock

from fastpath.api.policy import Forward, Question, Record, Reply

MAX_TTL_S = 1e9
VERDICTS_MOST = 4096
SHELVED_MOST = 16384  # bytes of a reply that is worth to be kept compiled


cdef str text_of(const char* bytes, span_t s):
    return bytes[s.at:s.at + s.size].decode("latin-1")


cdef str upgrade_of(const head_t* h, const char* bytes):
    cdef int i

    if h.upgrade:
        for i in range(h.count):
            if h.headers[i].known == H_UPGRADE:
                return text_of(bytes, h.headers[i].value)
    return ""


cdef object question_of(const question_t* q, tuple vip, uint64_t epoch):
    cdef head_t h
    cdef const char* bytes = &q.head[0]
    cdef int i

    head_parse_request(&h, bytes, q.size, 0)
    has_ip = q.client.family == AF_INET or q.client.family == AF_INET6
    headers = [
        (text_of(bytes, h.headers[i].name), text_of(bytes, h.headers[i].value))
        for i in range(h.count)
    ]
    return Question(
        ticket=(q.worker, q.index, q.generation, q.asks, epoch),
        vip=vip,
        source=addr_text(&q.client) if has_ip else "",
        method=text_of(bytes, h.method),
        target=text_of(bytes, h.target),
        path=text_of(bytes, h.path),
        query=text_of(bytes, h.query),
        host=text_of(bytes, h.host),
        minor=h.minor,
        upgrade=upgrade_of(&h, bytes),
        body=h.body != BODY_NONE,
        refused=q.refused,
        headers=tuple(headers),
    )


cdef object record_of(const record_t* r, tuple vip):
    cdef const char* text = &r.text[0]
    has_ip = r.client.family == AF_INET or r.client.family == AF_INET6
    said = text[:r.method_size + r.path_size].decode("latin-1")

    return Record(
        vip=vip,
        source=addr_text(&r.client) if has_ip else "",
        method=said[:r.method_size],
        path=said[r.method_size:],
        status=r.status,
        bytes_up=r.bytes[0],
        bytes_down=r.bytes[1],
        took_us=r.took_us,
    )


# ---- Answers.

cdef int parts_of(names, key) except -1:
    """Bits of the parts `key` among `names`."""
    if key is None:
        return (1 << len(names)) - 1
    unknown = [part for part in key if part not in names]
    if unknown:
        raise ValueError(f"Http.key does not name {', '.join(unknown)}")
    return sum(1 << names.index(part) for part in set(key))


cdef docket_letter(
    letter_t* letter, question, VerdictBlock block, ttl_s, names, key
):
    cdef answer_t* answer
    cdef int parts = parts_of(names, key)

    if not ttl_s >= 0:
        raise ValueError(f"a verdict cannot live for {ttl_s} s")
    _, index, generation, asks, epoch = question.ticket
    answer = <answer_t*>calloc(1, sizeof(answer_t))
    if answer == NULL:
        raise MemoryError
    answer.epoch = epoch
    answer.ttl_ms = <uint64_t>(min(ttl_s, MAX_TTL_S) * 1000)
    answer.index = index
    answer.generation = generation
    answer.asks = asks
    answer.parts = parts
    verdict_hold(block.verdict)
    answer.verdict = block.verdict
    memset(letter, 0, sizeof(letter_t))
    letter.kind = LETTER_ANSWER
    letter.fd = -1
    letter.load = answer


# ---- Verdicts.

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


cdef class Docket:
    """Questions and records as they come; compiled verdicts, in case of more."""

    def __cinit__(self):
        self.blocks = {}
        self.ended = deque(maxlen=RECORDS_MOST)
        self.meant = {}

    cdef note(self, dict blocks, uint64_t* epoch):
        meant = {
            block.slot: (key, block.spec.http.key) for key, block in blocks.items()
            if getattr(block.spec, "http", None) is not None
        }
        if any([self.meant.get(slot, said) != said for slot, said in meant.items()]):
            release_u64(epoch, epoch[0] + 1)
        self.meant.update(meant)

    cdef list questions(self, mailbox_t* m, dict vips, uint64_t epoch):
        cdef letter_t letter

        questions = []
        # Asleep before it is emptied: what comes later makes it readable again.
        mailbox_clear(m)
        mailbox_sleep(m)
        while mailbox_pop(m, &letter):
            self._read(&letter, questions, vips, epoch)
            free(letter.load)
        return questions

    cdef _read(self, const letter_t* letter, list questions, dict vips, uint64_t epoch):
        cdef question_t* q = <question_t*>letter.load
        cdef record_t* r = <record_t*>letter.load

        if letter.kind == LETTER_RECORD:
            if r.vip in vips:
                self.ended.append(record_of(r, vips[r.vip]))
        elif q.vip in vips:
            questions.append(question_of(q, vips[q.vip], epoch))

    cdef list records(self):
        records = list(self.ended)
        self.ended.clear()
        return records

    cdef VerdictBlock take(self, verdict, dict vips):
        cdef VipBlock upstream
        slot, stamp = 0, 0

        if isinstance(verdict, Forward):
            upstream = vips[(f"@{verdict.upstream}", 0)]
            slot, stamp = upstream.slot, upstream.stamp
        elif len(verdict.body) > SHELVED_MOST:
            return VerdictBlock(verdict)
        known = self.blocks.get((verdict, slot, stamp))
        if known is None:
            known = VerdictBlock(verdict, slot, stamp)
            if len(self.blocks) >= VERDICTS_MOST:
                self.blocks.clear()
            self.blocks[verdict, slot, stamp] = known
        return known
