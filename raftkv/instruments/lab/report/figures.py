"""The pictures of many operations: a variant's service over time, staleness since the write. Pure.

Each is drawn for wide pages, or for narrow ones, as phones have.
"""

from __future__ import annotations

import math
from typing import Final

from raftkv.instruments.lab.report.axes import Axes, Scale
from raftkv.instruments.lab.report.drawing import Canvas, text_width
from raftkv.instruments.lab.report.pace import Band, PaceSlices, Tally
from raftkv.instruments.lab.report.results import Results, VariantResults
from raftkv.instruments.lab.report.timelines import NARROW, WIDTH, Scene, narrow, wide


def service(each: VariantResults, *, is_narrow: bool = False) -> Canvas:
    """What the clients of a variant got, and when: every operation of a story, otherwise counts over time."""
    if not each.operations:
        return strip(each.pace, each.variant.name, is_narrow=is_narrow)
    scene = Scene(
        description=f"{each.variant.name}: everything that was asked",
        operations=each.operations,
        origin_ns=each.origin_ns,
        stale=each.stale,
        lost=each.lost,
        bands=each.pace.bands,
        over=None if each.loss is None else each.loss.over,
        absent="" if each.loss is None else each.loss.element,
    )
    return narrow(scene) if is_narrow else wide(scene)


STRIP_PX: Final = 46
ROW_PX: Final = 13

PILED: Final = {"good": "good faint", "stale": "warn", "lost": "bad", "refused": "muted faint", "unknown": "doubt"}
"""How operations are drawn, from the bottom to the top of a pile."""


def strip(pace: PaceSlices, name: str, *, is_narrow: bool = False) -> Canvas:
    """Answers, answers by node, and latency over time, with the faults behind them."""
    width, margin = (NARROW, 58) if is_narrow else (WIDTH, 118)
    stacked = _stacked(pace, width - margin)
    bands_px = 14 * max(1, len(stacked)) + 4
    head_px = 14 if is_narrow else 0  # where there is no room beside them, names stand above
    rows_px = ROW_PX * len(pace.by_node)
    height = bands_px + 3 * head_px + STRIP_PX + 8 + rows_px + 10 + STRIP_PX + 22
    canvas = Canvas(width, height, f"{name}: answers and latency over time")
    x_of = Scale(low=0, high=pace.duration_s, begin=margin, end=width - 12)
    for level, bands in enumerate(stacked):
        for band in bands:
            left, right = x_of(band.from_s), x_of(band.until_s)
            canvas.rect(left, bands_px, right - left, height - bands_px - 20, "band")
            for x in (left, right):  # faults may overlap
                canvas.line(x, 2 + 14 * level if x == left else bands_px, x, height - 20)
            fits = left + text_width(band.words) < width
            canvas.text(left + 3 if fits else width - 4, 11 + 14 * level, band.words, "small" if fits else "small end")
    top = bands_px
    for words, draw, px in (
        ("requests", _requests, STRIP_PX + 8),
        ("by node", _by_node, rows_px + 10),
        ("latency", _latency, STRIP_PX),
    ):
        canvas.text(4, top + 10, words, "small strong")
        draw(canvas, pace, x_of, top + head_px)
        top += head_px + px
    _axis(canvas, pace, x_of, height - 18)
    return canvas


def _stacked(pace: PaceSlices, room: float) -> list[list[Band]]:
    """Bands in as few lines as keep their words apart."""
    levels: list[list[Band]] = []
    for band in sorted(pace.bands, key=lambda each: each.from_s):
        for level in levels:
            last = level[-1]
            if last.from_s + text_width(last.words) * pace.duration_s / room < band.from_s:
                level.append(band)
                break
        else:
            levels.append([band])
    return levels


def _requests(canvas: Canvas, pace: PaceSlices, x_of: Scale, top: float) -> None:
    most = max((each.tally.total for each in pace.whole), default=1) or 1
    canvas.text(x_of.begin - 8, top + 10, f"{most / pace.slice_s:,.0f} /s", "small end")
    for number, each in enumerate(pace.whole):
        span = x_of(number * pace.slice_s), x_of((number + 1) * pace.slice_s)
        _pile(canvas, each.tally, span, top + STRIP_PX, STRIP_PX / most)
    canvas.line(x_of.begin, top + STRIP_PX, x_of.end, top + STRIP_PX)


def _by_node(canvas: Canvas, pace: PaceSlices, x_of: Scale, top: float) -> None:
    for row, (node, tallies) in enumerate(pace.by_node.items()):
        canvas.text(x_of.begin - 8, top + row * ROW_PX + 10, node, "small end")
        for number, tally in enumerate(tallies):
            span = x_of(number * pace.slice_s), x_of((number + 1) * pace.slice_s)
            _pile(canvas, tally, span, top + (row + 1) * ROW_PX - 2, (ROW_PX - 2) / max(1, tally.total))


def _pile(canvas: Canvas, tally: Tally, span: tuple[float, float], bottom: float, unit_px: float) -> None:
    """Operations by what became of them, one on the other."""
    left, right = span
    for name, kind in PILED.items():
        count = getattr(tally, name)
        if count:
            bottom -= count * unit_px
            canvas.rect(left, bottom, right - left - 0.8, count * unit_px, kind)


def _latency(canvas: Canvas, pace: PaceSlices, x_of: Scale, top: float) -> None:
    values = [ms for each in pace.whole for ms in (each.ms_p50, each.ms_p99) if ms is not None]
    low, high = 10 ** math.floor(math.log10(min(values, default=1.0))), max([*values, 10.0])
    axes = Axes(canvas=canvas, x=x_of, y=Scale(low=low, high=high, begin=top + STRIP_PX, end=top, is_log=True))
    axes.levels("{:g} ms")
    for kind, name in (("v5 dashed thin", "ms_p99"), ("v0 thick", "ms_p50")):
        points: list[tuple[float, float]] = []
        for number, each in enumerate(pace.whole):
            value = getattr(each, name)
            if value is None:
                axes.points(points, kind)
                points = []
            else:
                points.append(((number + 0.5) * pace.slice_s, value))
        axes.points(points, kind)


def _axis(canvas: Canvas, pace: PaceSlices, x_of: Scale, y: float) -> None:
    most = 14 if x_of.end > NARROW else 7
    step = next(each for each in (0.5, 1, 2, 5, 10, 30, 60, 300, 600) if pace.duration_s / each <= most)
    for number in range(int(pace.duration_s / step) + 1):
        canvas.text(x_of(number * step), y + 14, f"{number * step:g} s", "small middle")


CURVE_PX: Final = 300


def staleness(results: Results, *, is_narrow: bool = False) -> Canvas | None:
    """The probability of a stale read against the time since the write; ``None`` where that was not the question."""
    is_asked = results.run.scenario.predicts_staleness
    if not is_asked or not any(each.stale for variant in results.variants for each in variant.curve):
        return None
    names_px = 40 * len(results.variants) if is_narrow else 0
    width = NARROW if is_narrow else WIDTH
    canvas = Canvas(width, CURVE_PX + 74 + names_px, "probability of a stale read against the time since the write")
    last_ms = max(10.0, *(each.ms_p50 for variant in results.variants for each in variant.curve))
    predictions = [variant.prediction.ms[-1] for variant in results.variants if variant.prediction is not None]
    last_ms = max([last_ms, *predictions])
    highest = max(
        [0.05]
        + [_interval(each.stale, each.reads)[1] for variant in results.variants for each in variant.curve]
        + [max(variant.prediction.stale) for variant in results.variants if variant.prediction is not None]
    )
    left, right = (46, width - 12) if is_narrow else (118, width - 260)
    axes = Axes(
        canvas=canvas,
        x=Scale(low=1, high=last_ms, begin=left, end=right, is_log=True),
        y=Scale(low=0, high=highest, begin=16 + CURVE_PX, end=16),
    )
    axes.grid(factors=() if is_narrow else (1, 2, 5), y_form="{:.0%}")
    told = "milliseconds since the write was acknowledged" + ("" if is_narrow else " (left edge: 1 and less)")
    canvas.text(left, CURVE_PX + 52, told, "small")
    canvas.text(8, 12, "stale reads", "small")
    for number, variant in enumerate(results.variants):
        if variant.prediction is not None:
            points = list(zip(variant.prediction.ms, variant.prediction.stale, strict=True))
            axes.points(points, f"v{number} thick")
        for each in variant.curve:
            low, high = _interval(each.stale, each.reads)
            x = axes.x(each.ms_p50)
            canvas.line(x, axes.y(low), x, axes.y(high))
            canvas.mark(x, axes.y(each.stale / each.reads), number)
        x, y = (left + 8, CURVE_PX + 82 + 40 * number) if is_narrow else (width - 236, 30 + 40 * number)
        canvas.mark(x, y - 4, number)
        canvas.text(x + 12, y, variant.variant.name, "strong")
        told = "measured only" if variant.prediction is None else "dots: measured; line: predicted"
        canvas.text(x + 12, y + 14, told, "small")
    return canvas


def _interval(count: int, total: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence (Wilson 1927)."""
    z = 1.96
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)
