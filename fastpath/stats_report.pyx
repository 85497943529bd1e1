"""Counters of all workers, summed into the values that Python sees."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastpath.base.linux.atomic cimport acquire_ptr, load_u32, load_u64
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
from fastpath.base.slab cimport slab_count
from fastpath.base.stats cimport (
    DROP_REASONS,
    HISTOGRAM_BUCKETS,
    HUNDREDS,
    VERBS,
    backend_stats_t,
    http_stats_t,
    shelf_look,
    stats_forget_backend,
    stats_forget_upstream,
    stats_forget_vip,
    stats_t,
    vip_stats_t,
)
from fastpath.http.verdict cimport memory_t
from fastpath.table.registry cimport (
    SLOT_END,
    Numbers,
    Registry,
    backend_state_t,
    state_t,
)
from fastpath.worker.fleet cimport fleet_t, worker_t

from fastpath.api.snapshot import (
    BackendStats,
    Histogram,
    HttpStats,
    Notice,
    Stats,
    VerdictStats,
    VipStats,
    WorkerStats,
)
from fastpath.base.stats import DROP_NAMES, VERB_NAMES, histogram_bounds_us

HEALTH_NAMES = ("ready", "draining", "dead")  # by HEALTH
NOTICE_NAMES = {
    LETTER_CONNECT_FAILED: "connect-failed",
    LETTER_EJECTED: "ejected",
    LETTER_RECOVERED: "recovered",
}


cdef report_vip(fleet_t* fleet, uint32_t slot):
    cdef vip_stats_t total
    cdef vip_stats_t* one
    cdef int i, k

    memset(&total, 0, sizeof(total))
    for i in range(fleet.count):
        one = <vip_stats_t*>shelf_look(&fleet.workers[i].context.stats.vips, slot)
        if one == NULL:
            continue
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


cdef report_backend(
    fleet_t* fleet, const backend_state_t* state, uint32_t slot
):
    cdef backend_stats_t total
    cdef backend_stats_t* one
    cdef int i, k

    memset(&total, 0, sizeof(total))
    for i in range(fleet.count):
        one = <backend_stats_t*>shelf_look(
            &fleet.workers[i].context.stats.backends, slot
        )
        if one == NULL:
            continue
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


cdef report_worker(const worker_t* w):
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
        relay_slots=slab_count(&w.relays.slab),
        uncounted=w.context.stats.uncounted,
        unwatched=w.context.stats.unwatched,
        starved=w.context.stats.starved,
    )


cdef report_codes(http_stats_t* one, dict codes):
    cdef const uint64_t* some
    cdef int verb, hundred, k

    for verb in range(VERBS):
        for hundred in range(HUNDREDS):
            some = <const uint64_t*>acquire_ptr(&one.codes[verb][hundred])
            if some == NULL:
                continue
            for k in range(100):
                if some[k] > 0:
                    key = (VERB_NAMES[verb], 100 * (hundred + 1) + k)
                    codes[key] = codes.get(key, 0) + some[k]


cdef report_web(fleet_t* fleet, uint32_t slot, bint upstream):
    cdef const stats_t* stats
    cdef http_stats_t total
    cdef http_stats_t* one
    cdef int i, k

    memset(&total, 0, sizeof(total))
    codes = {}
    for i in range(fleet.count):
        stats = &fleet.workers[i].context.stats
        one = <http_stats_t*>shelf_look(
            &stats.upstreams if upstream else &stats.http, slot
        )
        if one == NULL:
            continue
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
        report_codes(one, codes)
    return HttpStats(
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


cdef report_verdicts(fleet_t* fleet):
    cdef const memory_t* m
    cdef int i

    entries, evicted, unkept = 0, 0, 0
    for i in range(fleet.count):
        m = &fleet.workers[i].http.memory
        entries += m.count
        evicted += m.evicted
        unkept += m.unkept
    return VerdictStats(entries, load_u64(&fleet.budget.used), evicted, unkept)


cdef report(
    fleet_t* fleet, Registry registry, dict vips, dict upstreams, backends, generation
):
    cdef int i

    workers = tuple([report_worker(fleet.workers[i]) for i in range(fleet.count)])
    return Stats(
        generation=generation,
        relays_active=sum([w.active for w in workers]),
        relays_total=sum([w.accepted for w in workers]),
        notices_lost=sum(
            [fleet.workers[i].context.stats.notices_lost for i in range(fleet.count)]
        ),
        no_vip=sum([fleet.workers[i].context.stats.no_vip for i in range(fleet.count)]),
        unpinned=sum(
            [fleet.workers[i].context.stats.unpinned for i in range(fleet.count)]
        ),
        unkept=sum([fleet.workers[i].context.stats.unkept for i in range(fleet.count)]),
        vips={key: report_vip(fleet, block.slot) for key, block in vips.items()},
        backends={
            key: report_backend(fleet, registry.backend(slot), slot)
            for key, slot in [(key, registry.named(key)) for key in backends]
        },
        workers=workers,
        http={
            key: report_web(fleet, block.slot, False)
            for key, block in vips.items() if block.spec.http is not None
        },
        upstreams={
            name: report_web(fleet, block.slot, True)
            for name, block in upstreams.items()
        },
        verdicts=report_verdicts(fleet),
    )


cdef void report_forget(fleet_t* fleet, Registry registry) noexcept:
    cdef Numbers backends = registry.backends
    cdef Numbers vips = registry.vips
    cdef Numbers upstreams = registry.upstreams
    cdef stats_t* s
    cdef uint32_t slot
    cdef int i

    for i in range(fleet.count):
        s = &fleet.workers[i].context.stats
        slot = backends.freed.first
        while slot != SLOT_END:
            stats_forget_backend(s, slot)
            slot = (<state_t*>backends.state(slot)).next
        slot = vips.freed.first
        while slot != SLOT_END:
            stats_forget_vip(s, slot)
            slot = (<state_t*>vips.state(slot)).next
        slot = upstreams.freed.first
        while slot != SLOT_END:
            stats_forget_upstream(s, slot)
            slot = (<state_t*>upstreams.state(slot)).next


cdef report_notices(mailbox_t* m, Registry registry):
    cdef letter_t letter

    notices = []
    # Asleep first, then emptied: a later letter makes it readable again.
    mailbox_clear(m)
    mailbox_sleep(m)
    while mailbox_pop(m, &letter):
        key = registry.backends.key(letter.slot)
        if key is not None:
            notices.append(Notice(NOTICE_NAMES[letter.kind], key))
    return notices
