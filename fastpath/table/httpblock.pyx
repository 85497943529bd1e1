"""What Python says of HTTP, an Http of fastpath.api.policy, as workers read it."""

from fastpath.table.table cimport (
    PART_BODY, PART_CERTIFICATE, PART_HEADER, PART_HOST, PART_METHOD, PART_PATH,
    PART_QUERY, PART_SEGMENT, PART_SOURCE, PART_UPGRADE, PART_WORD, failure_t, part_t,
)

from fastpath.api.question import word_of

PARTS = {
    ":method": PART_METHOD,
    ":host": PART_HOST,
    ":path": PART_PATH,
    ":segment": PART_SEGMENT,
    ":query": PART_QUERY,
    ":upgrade": PART_UPGRADE,
    ":source": PART_SOURCE,
    ":body": PART_BODY,
    ":certificate": PART_CERTIFICATE,
}


cdef uint32_t ms_of(seconds) except? 0xffffffff:
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


cdef http_fill(http_t* http, spec, list kept):
    http.header_ms = ms_of(spec.header_timeout_s)
    http.idle_ms = ms_of(spec.idle_timeout_s)
    http.park_ms = ms_of(spec.park_timeout_s)
    http.stall_ms = ms_of(spec.stall_timeout_s)
    http.gateway_status = spec.gateway_status
    failure_fill(&http.gateway, spec.gateway, kept)
    upgrade = spec.gateway_upgrade or spec.gateway
    failure_fill(&http.gateway_upgrade, upgrade, kept)
    failure_fill(&http.not_upgraded, spec.not_upgraded or upgrade, kept)
    failure_fill(&http.too_many, spec.too_many, kept)
    failure_fill(&http.untrusted, spec.untrusted, kept)
    for name in spec.key:
        part_fill(&http.parts[http.part_count], name, kept)
        http.part_count += 1
    http.log = spec.log
    http.log_target = spec.log_target
    for name in spec.log_headers:
        part_fill(&http.logged[http.logged_count], name, kept)
        http.logged_count += 1


cdef part_fill(part_t* part, str name, list kept):
    part.kind = PARTS.get(name, PART_HEADER)
    text = b"upgrade" if name == ":upgrade" else name.encode()
    if word_of(name):
        part.kind = PART_WORD
        text = word_of(name).encode()
    kept.append(text)
    part.name = text
    part.size = len(text)


cdef failure_fill(failure_t* failure, spec, list kept):
    if spec is None:
        return
    texts = spec.texts
    kept.extend(texts)
    failure.head, failure.before, failure.after = texts
    failure.status = spec.status
