"""The life of a real cluster, through reflector's decoding, table and deltas."""

from pyproxy.discovery.services import Table
from pyproxy.kube.slices import READY, SERVING, TERMINATING
from tests.support.kube_golden import records
from tests.support.services_golden import TABLES, Replay, added, tables


def test_the_table_after_each_phase_is_what_was_read_out_of_the_recording() -> None:
    assert tables() == TABLES.read_text()


def test_deltas_of_all_lines_add_up_to_the_table_and_to_a_rebuild() -> None:
    replay, told = Replay(), Table()
    for phase, deltas in replay.phases():
        for delta in deltas:
            told = added(told, delta)
        assert told == replay.table.whole(), phase
        assert told == replay.rebuilt(), phase


def test_lines_about_other_kinds_and_bookmarks_change_nothing() -> None:
    replay = Replay()
    for record in records("services-and-slices"):
        replay.take(record)
        is_other = record["kind"] in ("pods", "leases")
        if is_other or record.get("watch", {}).get("type") == "BOOKMARK":
            assert not replay.table.is_marked
        replay.table.take()


def test_pods_that_end_serve_until_they_are_gone() -> None:
    # Scale to 0: for some lines, all that is left of the Service is one such Pod.
    replay, seen = Replay(), 0
    for record in records("services-and-slices"):
        replay.take(record)
        replay.table.take()
        slices = replay.stores["endpointslices"].by("service", "golden/plain")
        rows = [row for each in slices for row in each.endpoints]
        states = {row[1] for row in rows}
        if states and not any(state & READY for state in states):
            leaving = [r for r in rows if r[1] & (SERVING | TERMINATING) == 6]
            pools = replay.table.made("golden/plain").pools.values()
            backends = {each.host for pool in pools for each in pool.backends}
            assert backends == {row[0] for row in leaving}
            seen += bool(leaving)
    assert seen
