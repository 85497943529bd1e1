"""The plot of a run: the cost of each, as multiples of the best peer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.measure import Sample
from loadtests.report import BARS, Bar, Samples

# Okabe and Ito's palette: told apart with every kind of colour vision.
COLOURS = {
    "ours": "#0072B2",
    "haproxy": "#E69F00",
    "haproxy-forced": "#F0E442",
    "nginx": "#009E73",
    "envoy": "#CC79A7",
    "kubectl": "#D55E00",
}
COLUMNS = 3
WIDEST = 3.0  # ratios beyond this are cut, or nothing else could be told apart


def draw(
    samples: Sequence[Sample], path: Path, title: str, wanted: Sequence[Bar] = BARS
) -> None:
    """Write one panel per bar of the issue; the dashed line is the bar."""
    # Only drawing needs the library; a run without --write does not.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    bars = [bar for bar in wanted if _complete(Samples(samples, bar.work), bar)]
    if not bars:  # ours was not in the run
        return
    height = -(-len(bars) // COLUMNS)
    figure, axes = plt.subplots(
        height, COLUMNS, figsize=(11, 2.3 * height), squeeze=False
    )
    for axis in axes.flat[len(bars) :]:
        axis.set_visible(False)
    for axis, bar in zip(axes.flat, bars, strict=False):
        _panel(axis, Samples(samples, bar.work), bar)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _complete(samples: Samples, bar: Bar) -> bool:
    return "ours" in samples.by_name and bool(samples.peers(bar.against))


def _panel(axis: Any, samples: Samples, bar: Bar) -> None:
    best = samples.best_peer(bar.metric, bar.larger_wins, bar.against)
    names = [name for name in COLOURS if name in samples.by_name][::-1]
    for row, name in enumerate(names):
        ratio = samples.ratio(name, best, bar.metric)
        reach = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        axis.barh(row, ratio.median, xerr=reach, color=COLOURS[name], capsize=2)
        where = axis.get_yaxis_transform()  # x in shares of the panel, y in rows
        words = f"{ratio.median:.2f}"
        axis.text(1.02, row, words, va="center", fontsize=8, transform=where)
    axis.set_xlim(0, min(WIDEST, axis.get_xlim()[1]))
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.axvline(bar.limit, color="black", linestyle="--", linewidth=1)
    better = "more" if bar.larger_wins else "less"
    axis.set_title(f"{bar.work}: {bar.label} ({better} is better)", fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
