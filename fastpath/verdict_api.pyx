"""Python's side of requests: questions and records as values, answers as letters."""

from collections import Counter

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.base.addr cimport addr_text
from fastpath.base.linux.socket cimport AF_INET, AF_INET6
from fastpath.base.mailbox cimport (
    LETTER_ANSWER,
    LETTER_RECORD,
    LETTER_WITHDRAWN,
    mailbox_clear,
    mailbox_pop,
    mailbox_sleep,
)
from fastpath.http.key cimport DEPTH_SHIFT, mask_t
from fastpath.http.state cimport RECORD_ABSENT, answer_t, question_t, record_t
from fastpath.http.verdict cimport budget_init, budget_t, epochs_t, verdict_hold
from fastpath.http1.field cimport H_UPGRADE, span_t
from fastpath.http1.framing cimport BODY_NONE, head_ready, head_t, request_head_t
from fastpath.http1.head cimport head_parse_request
from fastpath.table.block cimport UpstreamBlock
from fastpath.tls.peer cimport certificate_read
from fastpath.verdict_quotas cimport QuotaBlock, Quotas

from fastpath.api.policy import Certificate, Forward, Question, Record
from fastpath.api.question import PATH, SEGMENT, depth_of

MAX_TTL_S = 1e9
TAG_MOST = 256        # characters
MEMORY_MOST = 1 << 40  # bytes
VERDICTS_MOST = 4096
SHELVED_MOST = 16384  # bytes; a larger reply is compiled each time
ENDED_MOST = 16384    # records that nobody has asked for yet


cdef str text_of(const char* bytes, span_t s):
    return bytes[s.at:s.at + s.size].decode("latin-1")


# Every line of it: all of them are sent on.
cdef str upgrade_of(const head_t* h, const char* bytes):
    cdef int i

    if not h.upgrade:
        return ""
    return ", ".join([
        text_of(bytes, h.headers[i].value)
        for i in range(h.count) if h.headers[i].known == H_UPGRADE
    ])


cdef object certificate_of(const question_t* q):
    cdef const char* bytes = &q.head[0]

    if q.certificate_size == 0:
        return None
    der = bytes[q.size:q.size + q.certificate_size]
    *words, size = certificate_read(der)
    return Certificate(*words, der[:size], der[size:])


cdef object question_of(const question_t* q, tuple vip, uint64_t moment):
    cdef request_head_t room
    cdef head_t* h = head_ready(&room)
    cdef const char* bytes = &q.head[0]
    cdef int i

    head_parse_request(h, bytes, q.size, 0)
    has_ip = q.client.family == AF_INET or q.client.family == AF_INET6
    headers = [
        (text_of(bytes, h.headers[i].name), text_of(bytes, h.headers[i].value))
        for i in range(h.count)
    ]
    return Question(
        ticket=(q.worker, q.index, q.generation, q.asks, moment),
        vip=vip,
        source=addr_text(&q.client) if has_ip else "",
        method=text_of(bytes, h.method),
        target=text_of(bytes, h.target),
        path=text_of(bytes, h.path),
        query=text_of(bytes, h.query),
        host=text_of(bytes, h.host),
        minor=h.minor,
        upgrade=upgrade_of(h, bytes),
        body=h.body != BODY_NONE,
        refused=q.refused,
        headers=tuple(headers),
        certificate=certificate_of(q),
    )


cdef object record_of(const record_t* r, tuple vip):
    cdef const char* text = &r.text[0]
    cdef uint32_t i, at, path_at, query_at

    has_ip = r.client.family == AF_INET or r.client.family == AF_INET6
    path_at = r.method_size
    query_at = path_at + r.path_size
    at = query_at + r.query_size
    said = text[:at].decode("latin-1")
    headers = []
    for i in range(r.header_count):
        if r.header_sizes[i] == RECORD_ABSENT:
            headers.append(None)
            continue
        headers.append(text[at:at + r.header_sizes[i]].decode("latin-1"))
        at += r.header_sizes[i]
    return Record(
        vip=vip,
        source=addr_text(&r.client) if has_ip else "",
        method=said[:path_at],
        path=said[path_at:query_at],
        query=said[query_at:],
        headers=tuple(headers),
        is_cut=bool(r.is_cut),
        is_over=bool(r.is_over),
        id=r.id,
        label=r.label,
        began_us=r.began_us,
        status=r.status,
        bytes_up=r.bytes[0],
        bytes_down=r.bytes[1],
        took_us=r.took_us,
    )


# ---- Answers.

cdef mask_t mask_of(names, key) except? 0:
    """The parts `key` among `names`, see mask_t."""
    cdef mask_t mask = 0
    cdef int depth = 0

    whole = PATH in key
    for part in key:
        name = part
        if part != SEGMENT and depth_of(part) > 0:
            name = PATH
            if not whole:
                depth = max(depth, depth_of(part))
        if name not in names:
            raise ValueError(f"Http.key does not name {name}")
        mask |= <mask_t>1 << <int>names.index(name)
    return mask | <mask_t>depth << DEPTH_SHIFT


cdef check_answer(question, ttl_s, key, tag):
    if not ttl_s >= 0:
        raise ValueError(f"a verdict cannot live for {ttl_s} s")
    if not isinstance(tag, str) or len(tag) > TAG_MOST:
        raise ValueError(f"a tag is text of at most {TAG_MOST} characters")
    if ttl_s == 0:
        return
    if key is None:
        raise ValueError("a verdict that is remembered needs a key")
    unnamed = question.unnamed(key)
    if unnamed:
        raise ValueError(f"its key does not name {', '.join(unnamed)}, which was read")


cdef answer_letter(
    letter_t* letter, question, VerdictBlock block, ttl_s, names, key, str tag,
    uint64_t label, Tags tags,
):
    cdef answer_t* answer
    cdef mask_t mask

    key = key if key is None else tuple(key)
    check_answer(question, ttl_s, key, tag)
    mask = mask_of(names, key or ())
    _, index, generation, asks, moment = question.ticket
    answer = <answer_t*>calloc(1, sizeof(answer_t))
    if answer == NULL:
        raise MemoryError
    answer.stale = not tags.is_current(moment, tag)
    answer.tag = tags.slot(tag)
    answer.label = label
    answer.moment = tags.now  # after slot(), which may withdraw
    answer.ttl_ms = <uint64_t>(min(ttl_s, MAX_TTL_S) * 1000)
    answer.index = index
    answer.generation = generation
    answer.asks = asks
    answer.mask = mask
    if block is not None:
        verdict_hold(block.verdict)
        answer.verdict = block.verdict
    memset(letter, 0, sizeof(letter_t))
    letter.kind = LETTER_ANSWER
    letter.fd = -1
    letter.load = answer


cdef class VerdictApi:
    """Questions and records as they come; compiled verdicts, for equal answers."""

    def __cinit__(self):
        self.blocks = {}
        self.waiting = {}
        self.gone = []
        self.ended = []
        self.lost = Counter()
        self.meant = {}
        self.quotas = Quotas()
        self.tags = Tags()

    cdef open(self, epochs_t* epochs, budget_t* budget, most, int workers):
        if not 0 <= most <= MEMORY_MOST:
            raise ValueError(f"verdict_bytes: {most} is not in 0-{MEMORY_MOST}")
        budget_init(budget, most, workers)
        self.tags.epochs = epochs

    cdef dict meanings(self, dict changes):
        return {
            block.slot: (key, block.spec.http.key) for key, block in changes.items()
            if block is not None and block.spec.http is not None
        }

    cdef bint differs(self, dict meant) except *:
        for slot, said in meant.items():
            if self.meant.get(slot, said) != said:
                return True
        return False

    cdef list questions(self, mailbox_t* m, Numbers vips):
        cdef letter_t letter

        fresh = {}
        # Asleep before it is emptied: what comes later makes it readable again.
        mailbox_clear(m)
        mailbox_sleep(m)
        while mailbox_pop(m, &letter):
            self._read(&letter, fresh, vips)
            free(letter.load)
        self.waiting.update(fresh)
        return list(fresh.values())

    cdef _read(self, const letter_t* letter, dict fresh, Numbers vips):
        cdef question_t* q = <question_t*>letter.load
        cdef record_t* r = <record_t*>letter.load

        if letter.kind != LETTER_RECORD:
            # A client waits for one answer at a time: another question says that the
            # one before is over, too.
            self._withdraw((q.worker, q.index), fresh)
            if letter.kind == LETTER_WITHDRAWN:
                return
        vip = vips.key(r.vip if letter.kind == LETTER_RECORD else q.vip)
        if vip is None:
            return  # it has left every table
        if letter.kind == LETTER_RECORD:
            if len(self.ended) < ENDED_MOST:
                self.ended.append(record_of(r, vip))
            else:
                self.lost[vip] += 1
        else:
            fresh[q.worker, q.index] = question_of(q, vip, self.tags.now)

    cdef _withdraw(self, tuple place, dict fresh):
        fresh.pop(place, None)
        before = self.waiting.pop(place, None)
        if before is not None:
            self.gone.append(before)

    cdef list withdrawn(self):
        gone, self.gone = self.gone, []
        return gone

    cdef settle(self, question):
        place = question.ticket[:2]
        waiting = self.waiting.get(place)
        if waiting is not None and waiting.ticket == question.ticket:
            del self.waiting[place]

    cdef list records(self):
        records, self.ended = self.ended, []
        return records

    cdef VerdictBlock take(self, question, verdict, dict upstreams):
        cdef UpstreamBlock upstream
        cdef QuotaBlock quota = None
        slot, stamp = 0, 0

        if verdict is None:
            if not question.refused:
                raise ValueError("no response waits that could pass")
            return None
        if isinstance(verdict, Forward):
            upstream = upstreams[verdict.upstream]
            slot, stamp = upstream.slot, upstream.stamp
            # Also of a verdict that is compiled already, for the limits that it says.
            quota = self.quotas.take(verdict.quota, self.blocks)
        elif len(verdict.body) > SHELVED_MOST:
            return VerdictBlock(verdict)
        known = self.blocks.get((verdict, slot, stamp))
        if known is None:
            known = VerdictBlock(verdict, slot, stamp, quota)
            if len(self.blocks) >= VERDICTS_MOST:
                self.blocks.clear()
            self.blocks[verdict, slot, stamp] = known
        return known
