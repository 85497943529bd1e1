"""Counters of all workers, summed into the values that Python sees."""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from fastpath.base.linux.atomic cimport load_u32, load_u64
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport (
    LETTER_CONNECT_FAILED,
    LETTER_EJECTED,
    LETTER_RECOVERED,
    letter_t,
    mailbox_clear,
    mailbox_pop,
    mailbox_sleep,
)
from fastpath.base.stats cimport (
    CODES,
    DROP_REASONS,
    HISTOGRAM_BUCKETS,
    VERBS,
    backend_stats,
    backend_stats_t,
    stats_forget_web,
    stats_reserve,
    stats_reserve_web,
    stats_t,
    vip_stats,
    vip_stats_t,
    web_stats,
    web_stats_t,
)
from fastpath.http.verdict cimport memory_t
from fastpath.table.registry cimport Registry, backend_state_t
from fastpath.tcp.relay cimport RELAY_CHUNK
from fastpath.worker.fleet cimport fleet_t, worker_t

from fastpath.api.snapshot import (
    BackendStats,
    Histogram,
    Notice,
    Stats,
    VerdictStats,
    VipStats,
    WebStats,
    WorkerStats,
)
from fastpath.api.spec import Upstream, Vip
from fastpath.base.stats import DROP_NAMES, VERB_NAMES, histogram_bounds_us

HEALTH_NAMES = ("ready", "draining", "dead")  # by HEALTH
NOTICE_NAMES = {
    LETTER_CONNECT_FAILED: "connect-failed",
    LETTER_EJECTED: "ejected",
    LETTER_RECOVERED: "recovered",
}


cdef tally_vip(fleet_t* fleet, uint32_t slot):
    cdef vip_stats_t total
    cdef vip_stats_t* one
    cdef int i, k

    memset(&total, 0, sizeof(total))
    for i in range(fleet.count):
        one = vip_stats(&fleet.workers[i].context.stats, slot)
        total.accepted += one.accepted
        total.active += one.active
        total.retries += one.retries
        for k in range(2):
            total.bytes[k] += one.bytes[k]
        for k in range(DROP_REASONS):
            total.refused[k] += one.refused[k]
            total.closed[k] += one.closed[k]
    return VipStats(
        accepted=total.accepted,
        active=total.active,
        refused={DROP_NAMES[k]: total.refused[k] for k in range(DROP_REASONS)},
        closed={DROP_NAMES[k]: total.closed[k] for k in range(DROP_REASONS)},
        bytes_up=total.bytes[0],
        bytes_down=total.bytes[1],
        retries=total.retries,
    )


cdef tally_backend(
    fleet_t* fleet, const backend_state_t* state, uint32_t slot
):
    cdef backend_stats_t total
    cdef backend_stats_t* one
    cdef int i, k

    memset(&total, 0, sizeof(total))
    for i in range(fleet.count):
        one = backend_stats(&fleet.workers[i].context.stats, slot)
        total.connects += one.connects
        total.failures += one.failures
        total.ejections += one.ejections
        total.connect_us += one.connect_us
        for k in range(2):
            total.bytes[k] += one.bytes[k]
        for k in range(HISTOGRAM_BUCKETS):
            total.connects_in[k] += one.connects_in[k]
    return BackendStats(
        active=load_u32(&state.active),
        connects=total.connects,
        connect_failures=total.failures,
        ejections=total.ejections,
        ejected=load_u64(&state.ejected_until_ms) > clock_us() // 1000,
        health=HEALTH_NAMES[load_u32(&state.health)],
        bytes_up=total.bytes[0],
        bytes_down=total.bytes[1],
        connect_time=Histogram(
            histogram_bounds_us(),
            tuple(total.connects_in[k] for k in range(HISTOGRAM_BUCKETS)),
            total.connect_us,
        ),
    )


cdef tally_worker(const worker_t* w):
    return WorkerStats(
        active=w.context.stats.active,
        accepted=w.context.stats.accepted,
        handed_over=w.context.stats.handed_over,
        turns=w.context.stats.turns,
        bytes_copied=w.context.stats.copied,
        bytes_spliced=w.context.stats.spliced,
        unspliceable=w.context.stats.no_splice,
        pipes=w.context.mover.pipes.total,
        spills=w.context.stats.spills,
        relay_slots=w.relays.chunk_count * RELAY_CHUNK,
    )


cdef tally_web(fleet_t* fleet, uint32_t slot):
    cdef web_stats_t total
    cdef web_stats_t* one
    cdef int i, k, verb

    memset(&total, 0, sizeof(total))
    codes = {}
    for i in range(fleet.count):
        one = web_stats(&fleet.workers[i].context.stats, slot)
        total.remembered += one.remembered
        total.asked += one.asked
        total.unanswered += one.unanswered
        total.unrecorded += one.unrecorded
        total.replayed += one.replayed
        total.reused += one.reused
        total.resumed += one.resumed
        total.unreached += one.unreached
        total.took_us += one.took_us
        for k in range(2):
            total.bytes[k] += one.bytes[k]
        for k in range(HISTOGRAM_BUCKETS):
            total.took_in[k] += one.took_in[k]
        for verb in range(VERBS):
            for k in range(CODES):
                if one.codes[verb][k] > 0:
                    key = (VERB_NAMES[verb], k + 100)
                    codes[key] = codes.get(key, 0) + one.codes[verb][k]
    return WebStats(
        codes=codes,
        took=Histogram(
            histogram_bounds_us(),
            tuple(total.took_in[k] for k in range(HISTOGRAM_BUCKETS)),
            total.took_us,
        ),
        bytes_up=total.bytes[0],
        bytes_down=total.bytes[1],
        remembered=total.remembered,
        asked=total.asked,
        unanswered=total.unanswered,
        unrecorded=total.unrecorded,
        replayed=total.replayed,
        reused=total.reused,
        resumed=total.resumed,
        unreached=total.unreached,
    )


cdef tally_verdicts(fleet_t* fleet):
    cdef const memory_t* m
    cdef int i

    entries, evicted, unkept = 0, 0, 0
    for i in range(fleet.count):
        m = &fleet.workers[i].web.memory
        entries += m.count
        evicted += m.evicted
        unkept += m.unkept
    return VerdictStats(entries, load_u64(&fleet.budget.used), evicted, unkept)


cdef tally(fleet_t* fleet, Registry registry, dict blocks, generation):
    cdef int i
    vips = [(b.spec, b.slot) for b in blocks.values() if isinstance(b.spec, Vip)]

    workers = tuple([tally_worker(fleet.workers[i]) for i in range(fleet.count)])
    return Stats(
        generation=generation,
        relays_active=sum([w.active for w in workers]),
        relays_total=sum([w.accepted for w in workers]),
        notices_lost=sum(
            [fleet.workers[i].context.stats.notices_lost for i in range(fleet.count)]
        ),
        vips={spec.key: tally_vip(fleet, slot) for spec, slot in vips},
        backends={
            key: tally_backend(fleet, registry.backend(slot), slot)
            # Another thread may apply meanwhile: a copy, made in one piece.
            for key, slot in list(registry.backend_slots.items())
            if registry.users.get(slot, 0) > 0
        },
        workers=workers,
        webs={
            spec.key: tally_web(fleet, slot)
            for spec, slot in vips if spec.http is not None
        },
        upstreams={
            b.spec.name: tally_web(fleet, b.slot)
            for b in blocks.values() if isinstance(b.spec, Upstream)
        },
        verdicts=tally_verdicts(fleet),
    )


cdef tally_reserve(stats_t* s, Registry registry, dict blocks):
    if stats_reserve(s, registry.vip_count, registry.backend_count) < 0:
        raise MemoryError
    for block in blocks.values():
        if isinstance(block.spec, Upstream) or block.spec.http is not None:
            if stats_reserve_web(s, block.slot) < 0:
                raise MemoryError


cdef tally_forget(stats_t* s, backends, vips):
    for slot in backends:
        memset(backend_stats(s, slot), 0, sizeof(backend_stats_t))
    for slot in vips:
        memset(vip_stats(s, slot), 0, sizeof(vip_stats_t))
        stats_forget_web(s, slot)


cdef tally_notices(mailbox_t* m, Registry registry):
    cdef letter_t letter

    names = {slot: key for key, slot in list(registry.backend_slots.items())}
    notices = []
    # Asleep before it is emptied: what comes later makes it readable again.
    mailbox_clear(m)
    mailbox_sleep(m)
    while mailbox_pop(m, &letter):
        if letter.slot in names:
            notices.append(Notice(NOTICE_NAMES[letter.kind], names[letter.slot]))
    return notices
