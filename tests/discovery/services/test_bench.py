"""The bench of Services runs, and measures what it says."""

import pytest

from loadtests.services import report, run


@pytest.mark.slow
def test_bench_measures_cold_start_and_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (sample,) = run(rounds=1, many=200, lines=300)
    assert len(sample.changes_s) == 300
    # In CPU time, because a busy machine takes any other away; and generous.
    assert sample.cold_s < 1.0
    report([sample], 200)
    assert "200 Services" in capsys.readouterr().out
