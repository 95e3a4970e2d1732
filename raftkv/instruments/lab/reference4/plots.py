"""The graphs: three for each run, and one that compares all. Drawn from stored results alone. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from hdrh.histogram import HdrHistogram

from raftkv.instruments.lab.reference4.choices import CHOICES
from raftkv.instruments.lab.reference4.runs import ReferenceRun
from raftkv.instruments.lab.report.axes import Axes, Scale
from raftkv.instruments.lab.report.drawing import Canvas, text_width
from raftkv.instruments.load.result import Latency
from raftkv.instruments.load.samples import Age, RequestKind

BINS_PER_DECADE: Final = 24
MARGIN: Final = 1.5
WIDTH: Final = 1240
HEIGHT: Final = 350
TOP, BOTTOM = 106, HEIGHT - 46
"""Of the areas; above them what the lines in them mean."""

AGES: Final = {
    Age.NEWEST: ("good", "returned the last write begun"),
    Age.OVERTAKEN: ("warn faint", "an older one, as they may: writes were under way"),
    Age.STALE: ("bad", "were stale"),
}


def draw_run(run: ReferenceRun) -> Canvas:
    """The three graphs of ``run``."""
    title = f"{run.choice.title}, {run.ratio} writes/reads"
    canvas = Canvas(WIDTH, HEIGHT, f"{title}: latencies, and the time from a write to a read of the same key")
    canvas.text(WIDTH / 2, 18, title, "strong middle")
    _draw_latency(canvas, (60, 400), run.result.latency.get(RequestKind.READ), "Read latency", "reads")
    _draw_latency(canvas, (470, 810), run.result.latency.get(RequestKind.WRITE), "Write latency", "writes")
    _draw_intervals(canvas, (880, WIDTH - 14), run)
    return canvas


def draw_comparison(runs: Sequence[ReferenceRun]) -> Canvas:
    """The graphs that compare all ``runs``."""
    canvas = Canvas(WIDTH, 400, "operations per second and stale reads of every choice under every ratio")
    ratio_count = len({run.ratio for run in runs})
    speeds = {run.name: run.result.per_second for run in runs}
    low = 10.0 ** math.floor(math.log10(max(min(speeds.values()), 1)) - 0.3)
    speed = Axes(
        canvas=canvas,
        x=Scale(low=0, high=ratio_count, begin=60, end=610),
        y=Scale(low=low, high=max([10 * low, *speeds.values()]) * 1.4, begin=320, end=50, is_log=True),
    )
    _draw_bars(speed, runs, speeds, "Operations per second (logarithmic)", "{:.0f}")
    shares = {run.name: run.result.freshness.stale_share * 100 for run in runs}
    share = Axes(
        canvas=canvas,
        x=Scale(low=0, high=ratio_count, begin=680, end=WIDTH - 14),
        y=Scale(low=0, high=max(1.0, *shares.values()) * 1.1, begin=320, end=50),
    )
    _draw_bars(share, runs, shares, "Stale reads, percent", "{:.1f}")
    x = 60.0
    for number, choice in enumerate(CHOICES):
        if any(run.choice == choice for run in runs):
            canvas.mark(x, 380, number)
            canvas.text(x + 12, 384, choice.title)
            x += text_width(choice.title) + 40
    return canvas


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


def _draw_latency(canvas: Canvas, span: tuple[float, float], latency: Latency | None, title: str, what: str) -> None:
    canvas.text(sum(span) / 2, 40, f"{title}, {0 if latency is None else latency.count:,} {what}", "middle")
    if latency is None:
        return
    counts = counts_us(latency)
    bins = edges(min(counts), max(counts))
    heights = binned(counts, bins)
    axes = Axes(
        canvas=canvas,
        x=Scale(low=bins[0] / 1000 / MARGIN, high=bins[-1] / 1000 * MARGIN, begin=span[0], end=span[1], is_log=True),
        y=Scale(low=0.5, high=max(10.0, *heights) * MARGIN, begin=BOTTOM, end=TOP, is_log=True),
    )
    _frame(axes, (1, 2, 5), "milliseconds")
    for left, right, count in zip(bins, bins[1:], heights, strict=False):
        if count:
            axes.bar(left / 1000, right / 1000, axes.y.low, count, "v7")
    # The last of them is the highest, so that no line crosses the words on the left of another.
    marks = (("max", latency.max_ms, "dotted"), ("p99", latency.p99_ms, "dashed"), ("p50", latency.p50_ms, ""))
    for row, (name, value, kind) in enumerate(marks):
        _mark_time(axes, value, f"{name} {_ms(value)}", kind, row)


def _draw_intervals(canvas: Canvas, span: tuple[float, float], run: ReferenceRun) -> None:
    canvas.text(sum(span) / 2, 40, "Time from a write to a read of the same key", "middle")
    since_write_ms = run.result.freshness.since_write_ms
    bins = edges(1, max((interval_ms for counts in since_write_ms.values() for interval_ms in counts), default=1))
    piles = {age: binned(since_write_ms.get(age, {}), bins) for age in AGES}
    highest = max(map(sum, zip(*piles.values(), strict=True)), default=0)
    axes = Axes(
        canvas=canvas,
        x=Scale(low=1, high=max(10, bins[-1]) * MARGIN, begin=span[0], end=span[1], is_log=True),
        y=Scale(low=0, high=max(1, highest) * 1.05, begin=BOTTOM, end=TOP + 16),
    )
    _frame(axes, (1,), "milliseconds since the last write of the key began")
    bottoms = [0] * (len(bins) - 1)
    for row, (age, (kind, told)) in enumerate(AGES.items()):
        for place, count in enumerate(piles[age]):
            if count:
                axes.bar(bins[place], bins[place + 1], bottoms[place], bottoms[place] + count, kind)
                bottoms[place] += count
        y = 58 + 15 * row
        canvas.rect(span[0], y - 9, 10, 10, kind)
        canvas.text(span[0] + 16, y, f"{sum(piles[age]):,} reads {told}", "small")
    if RequestKind.WRITE in run.result.latency:
        mean_ms = run.result.latency[RequestKind.WRITE].mean_ms
        _mark_time(axes, mean_ms, f"a write takes {_ms(mean_ms)} on average", "dashed", 3)


def _frame(axes: Axes, factors: tuple[int, ...], unit: str) -> None:
    axes.grid(factors=factors)
    axes.canvas.text((axes.x.begin + axes.x.end) / 2, axes.y.begin + 34, unit, "small middle")


def _mark_time(axes: Axes, value: float, words: str, kind: str, row: int) -> None:
    """A line at ``value`` of the time axis, and on this row above it what it means."""
    x, y = axes.x(value), 58 + 15 * row
    fits = x - 4 - text_width(words) > axes.x.begin
    axes.canvas.line(x, y - 8, x, axes.y.begin, f"edge thin {kind}")
    axes.canvas.text(x - 4 if fits else x + 4, y, words, "small end" if fits else "small")


def _draw_bars(axes: Axes, runs: Sequence[ReferenceRun], values: Mapping[str, float], title: str, form: str) -> None:
    canvas, middle = axes.canvas, (axes.x.begin + axes.x.end) / 2
    canvas.text(middle, 24, title, "strong middle")
    ratios = sorted({run.ratio for run in runs}, key=lambda ratio: ratio.write_share)
    choices = [choice for choice in CHOICES if any(run.choice == choice for run in runs)]
    axes.levels()
    width = 0.8 / len(choices)
    for run in runs:
        left = ratios.index(run.ratio) + 0.1 + choices.index(run.choice) * width
        axes.bar(left, left + width * 0.92, axes.y.low, values[run.name], f"v{CHOICES.index(run.choice)}")
        words = form.format(values[run.name])
        canvas.text(axes.x(left + width * 0.46), axes.y(values[run.name]) - 4, words, "small middle")
    for number, ratio in enumerate(ratios):
        canvas.text(axes.x(number + 0.5), axes.y.begin + 16, str(ratio), "middle")
    canvas.text(middle, axes.y.begin + 34, "writes/reads", "small middle")


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"
