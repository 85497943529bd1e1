"""The bench of the reflector runs, and the event loop is not held for long by it."""

import pytest

from loadtests.reflector import report, run


@pytest.mark.slow
def test_bench_measures_both_ways_to_list(
    capsys: pytest.CaptureFixture[str], uvloop_was_used_before: None
) -> None:
    found = run(rounds=1, slices=200, lines=500)
    report(found, 200)
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line in found] == [*found]
    for (sample,) in found.values():
        # 20,000 endpoints would hold it for 60 ms if they were decoded at once. In CPU
        # time, because a busy machine takes any other away; and generous.
        assert sample.held_cpu_s < 0.040
        assert sample.list_cpu_s < 1.5
