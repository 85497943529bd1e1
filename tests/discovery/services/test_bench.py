"""The bench of Services runs, and measures what it says."""

import pytest

from loadtests.services import FRONTS, report, run


@pytest.mark.slow
def test_bench_measures_cold_start_and_changes() -> None:
    (alone,), (whole,) = run(rounds=1, many=200, lines=300)
    assert len(alone.changes_s) == len(whole.changes_s) == 300
    assert len(whole.fronts_s) == FRONTS
    # In CPU time, because a busy machine takes any other away; and generous.
    assert alone.cold_s < 1.0
    assert whole.cold_cpu_s < 3.0
    parts_s = whole.lists_s + whole.table_s + whole.core_s + whole.capture_s
    assert 0 < parts_s < whole.cold_s
    text = report([alone], [whole], 200)
    assert "200 Services" in text
    assert "| change p50, ms " in text
