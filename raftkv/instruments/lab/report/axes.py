"""Scales and axes of a picture: from values to pixels, where to write numbers, and the lines behind it all. Pure."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from raftkv.instruments.lab.report.drawing import Canvas

TICKS_MAX: Final = 6


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Values from ``low`` to ``high``, on pixels from ``begin`` to ``end``; beyond that they stand at its ends."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of ``value``."""
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + (self.end - self.begin) * min(1.0, max(0.0, share))

    def ticks(self, *factors: int) -> list[float]:
        """Round values: multiples of the powers of ten, by ``factors``; on a linear scale a few, equally far apart."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [factor * 10.0**power for power in powers for factor in factors or (1,)]
            found = [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
            return found if len(found) > 2 or len(factors) != 3 else self.ticks(1, 2, 3, 4, 6, 8)
        unit = 10.0 ** math.floor(math.log10((self.high - self.low) / TICKS_MAX))
        step = next(unit * each for each in (1, 2, 5, 10) if (self.high - self.low) / (unit * each) <= TICKS_MAX)
        return [number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


class Axes(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle of ``canvas`` in which things have places by ``x`` and ``y``, which grows upwards."""

    canvas: Canvas
    x: Scale
    y: Scale

    def grid(self, *, factors: tuple[int, ...] = (), x_form: str = "{:,g}", y_form: str = "{:,g}") -> None:
        """Lines and numbers; logarithmic times have numbers at ``factors`` of each power of ten."""
        for value in self.x.ticks(*factors):
            self.canvas.line(self.x(value), self.y.end, self.x(value), self.y.begin)
            self.canvas.text(self.x(value), self.y.begin + 16, x_form.format(value), "small middle")
        self.levels(y_form)

    def levels(self, form: str = "{:,g}") -> None:
        """Level lines with their numbers."""
        for value in self.y.ticks():
            self.canvas.line(self.x.begin, self.y(value), self.x.end, self.y(value))
            self.canvas.text(self.x.begin - 8, self.y(value) + 4, form.format(value), "small end")

    def bar(self, left: float, right: float, low: float, high: float, kind: str) -> None:
        """A filled rectangle between these values."""
        top = self.y(high)
        self.canvas.rect(self.x(left), top, self.x(right) - self.x(left), self.y(low) - top, kind)

    def points(self, pairs: list[tuple[float, float]], kind: str) -> None:
        """A line through all of them."""
        self.canvas.curve([(self.x(x), self.y(y)) for x, y in pairs], kind)
