"""Draws curves: each panel one number over x, a line for each system through its medians, bars over all turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from bench.curve_points import Curve, Curves, Panel, Point
from raftkv.instruments.lab.report.axes import Axes, Scale
from raftkv.instruments.lab.report.drawing import Canvas, text_width

WIDTH: Final = 1180
PANEL_HEIGHT: Final = 240
HEAD, FOOT = 62, 14
LEFT, BETWEEN, BELOW = 74, 84, 52
SYSTEMS: Final = ("raft", "etcd", "quorum")
NAMES: Final = {"raft": "raftkv", "etcd": "etcd 3.4, JSON gateway", "quorum": "raftkv, leaderless"}


def draw(curve: Curve, curves: Curves) -> Canvas:
    """The picture of ``curve``."""
    height = HEAD + PANEL_HEIGHT * len(curve.rows) + FOOT
    canvas = Canvas(WIDTH, height, curve.title)
    canvas.text(WIDTH / 2, 20, curve.title, "strong middle")
    _legend(canvas, curve, curves)
    columns = max(len(row) for row in curve.rows)
    width = (WIDTH - LEFT - 20 - BETWEEN * (columns - 1)) / columns
    for down, row in enumerate(curve.rows):
        for along, panel in enumerate(row):
            left = LEFT + along * (width + BETWEEN)
            top = HEAD + down * PANEL_HEIGHT
            found = curves.of(curve.name, panel.what, panel.number)
            _panel(canvas, curve, panel, found, (left, left + width, top))
    return canvas


def _legend(canvas: Canvas, curve: Curve, curves: Curves) -> None:
    measured = [point for point in curves.points if point.curve == curve.name and point.turns]
    present = {point.system for point in measured}
    loads = [turn.load_average_1m for point in measured for turn in point.turns]
    rounds = [len(point.turns) for point in measured]
    least, most = min(rounds, default=0), max(rounds, default=0)
    turns = f"{most}" if least == most else f"{least} to {most}"
    told = f"medians of {turns} turns, taken in turn; bars: all of them"
    if loads:
        told += f"; load average {min(loads):.1f} to {max(loads):.1f}"
    x = float(LEFT)
    for number, system in enumerate(SYSTEMS):
        if system in present:
            canvas.mark(x, 40, number)
            canvas.text(x + 10, 44, NAMES[system])
            x += text_width(NAMES[system]) + 34
    canvas.text(WIDTH - 20, 44, told, "small end")


def _panel(
    canvas: Canvas, curve: Curve, panel: Panel, found: Mapping[str, Sequence[Point]], area: tuple[float, float, float]
) -> None:
    left, right, top = area
    canvas.text((left + right) / 2, top + 12, panel.title, "middle")
    values = [
        value for points in found.values() for point in points for value in point.values(panel.number) if value > 0
    ]
    if not values:
        return
    low, high = _bounds(min(values), max(values))
    axes = Axes(
        canvas=canvas,
        x=Scale(low=min(curve.xs) / 1.15, high=max(curve.xs) * 1.15, begin=left, end=right, is_log=True),
        y=Scale(low=low, high=high, begin=top + PANEL_HEIGHT - BELOW, end=top + 24, is_log=True),
    )
    _frame(axes, curve)
    for system, points in found.items():
        number = SYSTEMS.index(system)
        medians = [(point.x, point.median(panel.number)) for point in points]
        axes.points(medians, f"v{number} thick")
        for point, (x, y) in zip(points, medians, strict=True):
            each = point.values(panel.number)
            canvas.line(axes.x(x), axes.y(min(each)), axes.x(x), axes.y(max(each)), f"curve v{number} thin faint")
            canvas.mark(axes.x(x), axes.y(y), number, size=3.5)


def _bounds(low: float, high: float) -> tuple[float, float]:
    """Round values of 1, 2 or 5 times a power of ten around both."""
    steps = [factor * 10.0**power for power in range(-3, 10) for factor in (1, 2, 5)]
    below = max([step for step in steps if step <= low], default=low / 2)
    above = min([step for step in steps if step >= high], default=high * 2)
    return below, above if above > below else 2 * below


def _frame(axes: Axes, curve: Curve) -> None:
    canvas = axes.canvas
    decades = math.log10(axes.y.high / axes.y.low)
    for value in axes.y.ticks(*((1,) if decades > 2.5 else (1, 2, 5))):
        canvas.line(axes.x.begin, axes.y(value), axes.x.end, axes.y(value))
        canvas.text(axes.x.begin - 8, axes.y(value) + 4, f"{value:,g}" if value < 1e6 else f"{value:.0e}", "small end")
    for x in curve.xs:
        canvas.line(axes.x(x), axes.y.end, axes.x(x), axes.y.begin)
        canvas.text(axes.x(x), axes.y.begin + 15, _short(x), "small middle")
    canvas.text((axes.x.begin + axes.x.end) / 2, axes.y.begin + 30, curve.x_title, "small middle")


def _short(x: float) -> str:
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if x >= unit:
            return f"{x / unit:g}{letter}"
    return f"{x:g}"
