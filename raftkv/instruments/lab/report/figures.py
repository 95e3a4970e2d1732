"""The pictures of a report: a contradiction as bars, a variant's service over time, staleness since the write. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from raftkv.instruments.lab.history import GetAction, ObservedOperation, Outcome
from raftkv.instruments.lab.lanes import Moment, begin_of, end_of, lanes, places
from raftkv.instruments.lab.report.axes import Axes, Scale
from raftkv.instruments.lab.report.drawing import Canvas, text_width
from raftkv.instruments.lab.report.pace import Band, PaceSlices
from raftkv.instruments.lab.report.results import Results, VariantResults
from raftkv.instruments.lab.witness import Witness
from raftkv.instruments.lab.wording import Clock, clock_for, described

WIDTH: Final = 1040
MARGIN: Final = 118
LANE_PX: Final = 50
BAR_PX: Final = 12

SHOWN_MAX: Final = 14
"""Nobody reads more bars; the history has them all."""


def witness(proof: Witness) -> Canvas:
    """Who did what, in the order of events: one lane per client, a line where the answer came that cannot be."""
    accused = proof.operations[proof.accused]
    others = [each for each in proof.operations if each is not accused]
    operations = [*others[: SHOWN_MAX - 1], accused]
    clock = clock_for(operations, proof.origin_ns)
    x_of, width = _places(operations, [(proof.moment_ns, 1)])
    canvas = Canvas(width, _height(operations), proof.sentence)
    _timeline(canvas, operations, x_of, clock=clock, accused=accused)
    x = x_of[proof.moment_ns, 1]
    canvas.line(x, 20, x, canvas.height - 24, "moment")
    _over(canvas, x, f"{clock.seconds(proof.moment_ns)} s: this answer cannot be", "bad strong")
    return canvas


def story(operations: Sequence[ObservedOperation], pace: PaceSlices, origin_ns: int, name: str) -> Canvas:
    """All of a few operations in the order of events, one lane per client, with the faults behind them."""

    def moment(at_s: float) -> Moment:
        return origin_ns + round(at_s * 1e9), 1

    x_of, width = _places(operations, [moment(s) for band in pace.bands for s in (band.from_s, band.until_s)])
    canvas = Canvas(width, _height(operations), f"{name}: everything that was asked")
    for band in pace.bands:
        left, right = x_of[moment(band.from_s)], x_of[moment(band.until_s)]
        canvas.rect(left, 20, right - left, canvas.height - 44, "band")
        _over(canvas, left, band.words, "small")
    _timeline(canvas, operations, x_of, clock=clock_for(operations, origin_ns))
    return canvas


def _height(operations: Sequence[ObservedOperation]) -> float:
    return 34 + LANE_PX * len(lanes(operations)) + 26


def service(each: VariantResults) -> Canvas:
    """What the clients of a variant got, and when: every operation of a story, otherwise counts over time."""
    name = each.variant.name
    if each.operations:
        return story(each.operations, each.pace, each.origin_ns, name)
    return strip(each.pace, name)


def _timeline(
    canvas: Canvas,
    operations: Sequence[ObservedOperation],
    x_of: Mapping[Moment, float],
    *,
    clock: Clock,
    accused: ObservedOperation | None = None,
) -> None:
    for row, lane in enumerate(lanes(operations)):
        y = 34 + row * LANE_PX
        canvas.line(MARGIN - 8, y + 21, canvas.width - 8, y + 21)
        canvas.text(8, y + 25, f"client {lane[0].client}", "strong")
        for operation in lane:
            _bar(canvas, operation, x_of, y, kind="bad" if operation is accused else _kind(operation))
            canvas.text(x_of[begin_of(operation)], y + 40, _when(operation, clock), "small")
    note = "Order of events, not to scale."
    if any(operation.outcome is Outcome.UNKNOWN for operation in operations):
        note += " An open end: its client was never told."
    canvas.text(MARGIN - 8, canvas.height - 6, note, "small")


def _over(canvas: Canvas, x: float, words: str, kind: str) -> None:
    """``words`` above the lanes, at ``x`` or as near to it as they fit."""
    fits = x + text_width(words) < canvas.width
    canvas.text(x if fits else canvas.width - 8, 14, words, kind if fits else f"{kind} end")


def _when(operation: ObservedOperation, clock: Clock) -> str:
    until = "?" if operation.outcome is Outcome.UNKNOWN else clock.seconds(operation.returned_ns)
    return f"{operation.node}  {clock.seconds(operation.invoked_ns)} to {until} s"


def label(operation: ObservedOperation) -> str:
    """The operation in few words."""
    return described(operation) + {Outcome.OK: "", Outcome.UNKNOWN: " ?", Outcome.FAILED: " refused"}[operation.outcome]


def _kind(operation: ObservedOperation) -> str:
    if operation.outcome is not Outcome.OK:
        return "doubt"
    return "good" if isinstance(operation.action, GetAction) else "write"


def _bar(canvas: Canvas, operation: ObservedOperation, x_of: Mapping[Moment, float], y: float, *, kind: str) -> None:
    start = x_of[begin_of(operation)]
    is_open = operation.outcome is Outcome.UNKNOWN
    end = canvas.width - 10 if is_open else x_of[end_of(operation)]
    canvas.rect(start, y + 15, end - start, BAR_PX, f"{kind} faint" if is_open else kind, round_px=0 if is_open else 3)
    canvas.text(start, y + 10, label(operation), "strong")


def _places(operations: Sequence[ObservedOperation], moments: Sequence[Moment]) -> tuple[dict[Moment, float], float]:
    """Where everything stands, in pixels from the left; how wide all is."""
    found = places(operations, moments, first=MARGIN, step=16, room=_room)
    ends = [found[begin_of(each)] + _room(each) for each in operations]
    return found, max(WIDTH, max(found.values(), default=0.0) + 16, *ends) + 20


def _room(operation: ObservedOperation) -> float:
    """How wide a bar must be for the words above and below it."""
    return max(text_width(label(operation)) + 8, 128.0)


STRIP_PX: Final = 46
ROW_PX: Final = 13


def strip(pace: PaceSlices, name: str) -> Canvas:
    """Answers, answers by node, and latency over time, with the faults behind them."""
    bands_px = 14 * max(1, len(_stacked(pace))) + 4
    rows_px = ROW_PX * len(pace.by_node)
    height = bands_px + STRIP_PX + 8 + rows_px + 10 + STRIP_PX + 22
    canvas = Canvas(WIDTH, height, f"{name}: answers and latency over time")
    x_of = Scale(low=0, high=pace.duration_s, begin=MARGIN, end=WIDTH - 12)
    for level, bands in enumerate(_stacked(pace)):
        for band in bands:
            left, right = x_of(band.from_s), x_of(band.until_s)
            canvas.rect(left, bands_px, right - left, height - bands_px - 20, "band")
            for x in (left, right):  # faults may overlap
                canvas.line(x, 2 + 14 * level if x == left else bands_px, x, height - 20)
            fits = left + text_width(band.words) < WIDTH
            canvas.text(left + 3 if fits else WIDTH - 4, 11 + 14 * level, band.words, "small" if fits else "small end")
    _answers(canvas, pace, x_of, bands_px)
    top = bands_px + STRIP_PX + 8
    canvas.text(4, top + 9, "by node", "small strong")
    for row, (node, counts) in enumerate(pace.by_node.items()):
        canvas.text(MARGIN - 8, top + row * ROW_PX + 10, node, "small end")
        for number, outcomes in enumerate(counts):
            span = x_of(number * pace.slice_s), x_of((number + 1) * pace.slice_s)
            _pile(canvas, outcomes, span, top + (row + 1) * ROW_PX - 2, (ROW_PX - 2) / max(1, sum(outcomes)))
    _latency(canvas, pace, x_of, top + rows_px + 10)
    _axis(canvas, pace, x_of, height - 18)
    return canvas


def _stacked(pace: PaceSlices) -> list[list[Band]]:
    """Bands in as few lines as keep their words apart."""
    levels: list[list[Band]] = []
    for band in sorted(pace.bands, key=lambda each: each.from_s):
        for level in levels:
            last = level[-1]
            if last.from_s + text_width(last.words) * pace.duration_s / (WIDTH - MARGIN) < band.from_s:
                level.append(band)
                break
        else:
            levels.append([band])
    return levels


def _answers(canvas: Canvas, pace: PaceSlices, x_of: Scale, top: float) -> None:
    most = max((each.answered + each.refused + each.unknown for each in pace.whole), default=1) or 1
    canvas.text(MARGIN - 8, top + 10, f"{most / pace.slice_s:,.0f} /s", "small end")
    canvas.text(4, top + 10, "requests", "small strong")
    for number, each in enumerate(pace.whole):
        span = x_of(number * pace.slice_s), x_of((number + 1) * pace.slice_s)
        _pile(canvas, (each.answered, each.refused, each.unknown), span, top + STRIP_PX, STRIP_PX / most)
    canvas.line(MARGIN, top + STRIP_PX, WIDTH - 12, top + STRIP_PX)


def _pile(
    canvas: Canvas, outcomes: tuple[int, int, int], span: tuple[float, float], bottom: float, unit_px: float
) -> None:
    """Operations that were answered, refused, and of unknown outcome, one on the other."""
    left, right = span
    for count, kind in zip(outcomes, ("good faint", "bad", "doubt"), strict=True):
        if count:
            bottom -= count * unit_px
            canvas.rect(left, bottom, right - left - 0.8, count * unit_px, kind)


def _latency(canvas: Canvas, pace: PaceSlices, x_of: Scale, top: float) -> None:
    values = [ms for each in pace.whole for ms in (each.ms_p50, each.ms_p99) if ms is not None]
    low, high = 10 ** math.floor(math.log10(min(values, default=1.0))), max([*values, 10.0])
    axes = Axes(canvas=canvas, x=x_of, y=Scale(low=low, high=high, begin=top + STRIP_PX, end=top, is_log=True))
    canvas.text(4, top + 10, "latency", "small strong")
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
    step = next(each for each in (0.5, 1, 2, 5, 10, 30, 60, 300, 600) if pace.duration_s / each <= 14)
    for number in range(int(pace.duration_s / step) + 1):
        canvas.text(x_of(number * step), y + 14, f"{number * step:g} s", "small middle")


CURVE_PX: Final = 300


def staleness(results: Results) -> Canvas | None:
    """The probability of a stale read against the time since the write; ``None`` where no read was ever stale."""
    if not any(each.stale for variant in results.variants for each in variant.curve):
        return None
    canvas = Canvas(WIDTH, CURVE_PX + 74, "probability of a stale read against the time since the write")
    last_ms = max(10.0, *(each.ms_p50 for variant in results.variants for each in variant.curve))
    predictions = [variant.prediction.ms[-1] for variant in results.variants if variant.prediction is not None]
    last_ms = max([last_ms, *predictions])
    highest = max(
        [0.05]
        + [_interval(each.stale, each.reads)[1] for variant in results.variants for each in variant.curve]
        + [max(variant.prediction.stale) for variant in results.variants if variant.prediction is not None]
    )
    axes = Axes(
        canvas=canvas,
        x=Scale(low=1, high=last_ms, begin=MARGIN, end=WIDTH - 260, is_log=True),
        y=Scale(low=0, high=highest, begin=16 + CURVE_PX, end=16),
    )
    axes.grid(factors=(1, 2, 5), x_form="{:g} ms", y_form="{:.0%}")
    canvas.text(MARGIN, CURVE_PX + 52, "time since the write was acknowledged (left edge: 1 ms and less)", "small")
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
        y = 30 + 40 * number
        canvas.mark(WIDTH - 236, y - 4, number)
        canvas.text(WIDTH - 224, y, variant.variant.name, "strong")
        told = "measured only" if variant.prediction is None else "dots: measured; line: predicted"
        canvas.text(WIDTH - 224, y + 14, told, "small")
    return canvas


def _interval(count: int, total: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence (Wilson 1927)."""
    z = 1.96
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)
