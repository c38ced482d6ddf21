"""The chart: URLs a second of each stack, a panel for each workload."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.benchmarks.peers.goals import rate
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.workloads import OURS, TITLES, WORKLOADS

_PANELS = ("A", "C", "E", "T", "S", "D")
_OURS, _THEIRS, _COLUMNS = "#1f6f54", "#b9c0c7", 2


def draw(results: Results, path: Path) -> None:
    """Write a PNG. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = [name for name in _PANELS if any(found.reports for found in results.measured.get(name, {}).values())]
    count = -(-len(panels) // _COLUMNS)
    figure, axes = plt.subplots(max(count, 1), _COLUMNS, figsize=(13, 3.2 * max(count, 1)), squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, panels, strict=False):
        axis.set_visible(True)
        _panel(axis, results, name)
    figure.suptitle(f"URLs a second, median of the rounds ({results.date})", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _panel(axis, results: Results, name: str) -> None:  # type: ignore[no-untyped-def]
    rates = {
        contender: statistics.median(map(rate, found.reports))
        for contender, found in results.measured[name].items()
        if found.reports
    }
    order = sorted(rates, key=lambda contender: rates[contender])
    colours = [_OURS if contender in OURS else _THEIRS for contender in order]
    bars = axis.barh(
        [TITLES[contender] for contender in order], [rates[contender] for contender in order], color=colours
    )
    axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axis.set_title(f"{name}: {WORKLOADS[name].title.replace('`', '')}", fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.margins(x=0.12)
    axis.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
