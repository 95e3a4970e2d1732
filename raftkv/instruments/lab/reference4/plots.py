"""The graphs: three for each run, and one that compares all. Drawn from stored results alone; needs no display."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from hdrh.histogram import HdrHistogram
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from raftkv.instruments.lab.reference4.choices import CHOICES
from raftkv.instruments.lab.reference4.runs import Run
from raftkv.instruments.load.result import Latency
from raftkv.instruments.load.samples import Age, Kind

BINS_PER_DECADE: Final = 24
MARGIN: Final = 1.5
DPI: Final = 110
COLORS: Final = {
    "leader-w5-r1": "#0072B2",
    "leader-w1-r5": "#D55E00",
    "leader-w3-r3": "#009E73",
    "leaderless-w5-r1": "#CC79A7",
}
"""Of choices; these four are told apart by people who see few colours (Okabe and Ito)."""

AGES: Final = {
    Age.NEWEST: ("#56B4E9", "returned the last write begun"),
    Age.OVERTAKEN: ("#F0E442", "returned an older one, as they may: writes were under way"),
    Age.STALE: ("#D55E00", "were stale"),
}
GREY: Final = "#555555"
LEGEND: Final[Any] = {"loc": "upper left", "fontsize": 8, "title_fontsize": 8, "edgecolor": "none", "framealpha": 0.9}
STYLE: Final[Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "svg.hashsalt": "raftkv",
}


def draw_run(run: Run, path: Path) -> None:
    """Write the three graphs of ``run`` to ``path``, whose suffix is the format."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 3.6), layout="constrained")
        reads, writes, intervals = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
        figure.suptitle(f"{run.choice.title}, {run.ratio} writes/reads", fontweight="bold", fontsize=11)
        _draw_latency(reads, run.result.latency.get(Kind.READ), "Read latency", "reads")
        _draw_latency(writes, run.result.latency.get(Kind.WRITE), "Write latency", "writes")
        _draw_intervals(intervals, run)
        _save(figure, path)


def draw_comparison(runs: Sequence[Run], path: Path) -> None:
    """Write the graphs that compare all ``runs``."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        speed, stale = figure.subplots(1, 2)
        _draw_bars(speed, runs, {run.name: run.result.per_second for run in runs}, "{:.0f}")
        speed.set(title="Operations per second (logarithmic)", yscale="log")
        speed.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        speed.set_ylim(top=speed.get_ylim()[1] * 2)
        _draw_bars(stale, runs, {run.name: run.result.freshness.stale_share * 100 for run in runs}, "{:.1f}")
        stale.set(title="Stale reads, percent", ylim=(0, max(1.0, stale.get_ylim()[1] * 1.1)))
        handles, labels = speed.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        _save(figure, path)


def counts_us(latency: Latency) -> dict[int, int]:
    """How often each latency, in microseconds to three digits, occurred, out of the stored histogram."""
    histogram = HdrHistogram.decode(latency.histogram)
    return {
        each.value_iterated_to: each.count_added_in_this_iter_step
        for each in histogram.get_recorded_iterator()
        if each.count_added_in_this_iter_step
    }


def edges(first: float, last: float) -> list[int]:
    """Whole numbers about equally far apart on a logarithmic scale, from below ``first`` to beyond ``last``."""
    low = math.floor(math.log10(max(first, 1)) * BINS_PER_DECADE)
    high = math.floor(math.log10(max(last, 1)) * BINS_PER_DECADE) + 1
    found = {math.floor(10 ** (place / BINS_PER_DECADE)) for place in range(low, high)}
    return sorted(found | {math.floor(last) + 1})


def binned(counts: Mapping[int, int], bins: Sequence[int]) -> list[int]:
    """How much of ``counts`` is in each bin, from one edge up to the next; what is below the first counts to it."""
    found = [0] * (len(bins) - 1)
    for value, count in counts.items():
        found[max(0, bisect_right(bins, value) - 1)] += count
    return found


def _draw_latency(axes: Axes, latency: Latency | None, title: str, what: str) -> None:
    axes.set(title=title, xlabel="milliseconds", ylabel=what, xscale="log", yscale="log")
    _plain(axes, 1, 2, 5)
    if latency is None:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center")
        return
    counts = counts_us(latency)
    bins = edges(min(counts), max(counts))
    axes.stairs(binned(counts, bins), [edge / 1000 for edge in bins], baseline=0.5, fill=True, color="#56B4E9")
    marks = (("p50", latency.p50_ms), ("p99", latency.p99_ms), ("max", latency.max_ms))
    for (name, value), style in zip(marks, ("-", "--", ":"), strict=True):
        axes.axvline(value, color=GREY, linestyle=style, linewidth=1.2, label=f"{name} {_ms(value)}")
    axes.set_xlim(bins[0] / 1000 / MARGIN, bins[-1] / 1000 * MARGIN)
    axes.set_ylim(bottom=0.5, top=axes.get_ylim()[1] * 12)  # room for the legend
    axes.legend(title=f"{latency.count:,} {what}", **LEGEND)


def _draw_intervals(axes: Axes, run: Run) -> None:
    axes.set(
        title="Time from a write to a read of the same key",
        xlabel="milliseconds since the last write of the key began",
        ylabel="reads",
        xscale="log",
    )
    _plain(axes, 1)
    since_write_ms = run.result.freshness.since_write_ms
    bins = edges(1, max((interval_ms for counts in since_write_ms.values() for interval_ms in counts), default=1))
    bottoms = [0] * (len(bins) - 1)
    for age, (color, told) in AGES.items():
        counts = since_write_ms.get(age, {})
        tops = [bottom + count for bottom, count in zip(bottoms, binned(counts, bins), strict=True)]
        label = f"{sum(counts.values()):,} {told}"
        axes.stairs(tops, bins, baseline=bottoms, fill=True, color=color, label=label)
        bottoms = tops
    if Kind.WRITE in run.result.latency:
        mean_ms = run.result.latency[Kind.WRITE].mean_ms
        label = f"a write takes {_ms(mean_ms)} on average"
        axes.axvline(mean_ms, color=GREY, linestyle="--", linewidth=1.2, label=label)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.5)
    axes.legend(**LEGEND)


def _draw_bars(axes: Axes, runs: Sequence[Run], values: Mapping[str, float], shown: str) -> None:
    ratios = sorted({run.ratio for run in runs}, key=lambda ratio: ratio.write_share)
    choices = [choice for choice in CHOICES if any(run.choice == choice for run in runs)]
    width = 0.8 / len(choices)
    for place, choice in enumerate(choices):
        own = [run for run in runs if run.choice == choice]
        at = [ratios.index(run.ratio) + (place - (len(choices) - 1) / 2) * width for run in own]
        heights = [values[run.name] for run in own]
        bars = axes.bar(at, heights, width * 0.92, color=COLORS[choice.name], label=choice.title)
        axes.bar_label(bars, [shown.format(height) for height in heights], fontsize=7, padding=2)
    axes.set_xticks(range(len(ratios)), [str(ratio) for ratio in ratios])
    axes.set_xlabel("writes/reads")


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _plain(axes: Axes, *labelled: int) -> None:
    """Numbers as people write them, on the time axis at ``labelled`` of each decade."""
    axes.xaxis.set_major_locator(LogLocator(subs=labelled, numticks=12))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, path: Path) -> None:
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=DPI, metadata=metadata)
