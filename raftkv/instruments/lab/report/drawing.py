"""A canvas for vector pictures: shapes with classes, whose colours come from one palette for light and dark pages.

A picture stands either in a page, which sets the colours as CSS variables, or alone, with the light colours written out
so that any viewer shows it. Pure, but for the file that a picture is saved to.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

_COLOURS: Final = {
    "page": ("#ffffff", "#14171b"),
    "card": ("#f5f6f8", "#1d2228"),
    "ink": ("#1b1f24", "#e8ebee"),
    "muted": ("#57606a", "#a0abb6"),
    "line": ("#d0d7de", "#3a424b"),
    "good": ("#0b7a5c", "#43c59e"),
    "bad": ("#b3123a", "#ff8296"),
    "warn": ("#9a6200", "#f0b94d"),
    "doubt": ("#7d4a94", "#cfa3e3"),
    "write": ("#0a5fa8", "#74b7f5"),
    "band": ("#f3e3c3", "#40361f"),
    "v0": ("#0a5fa8", "#74b7f5"),
    "v1": ("#bf3a0a", "#ff8f66"),
    "v2": ("#0b7a5c", "#43c59e"),
    "v3": ("#8a5a00", "#f0b94d"),
    "v4": ("#7d4a94", "#cfa3e3"),
    "v5": ("#3c4650", "#c3ccd5"),
    "v6": ("#a8326a", "#f58fb8"),
    "v7": ("#2f7f93", "#7fd3e6"),
}
"""On light and on dark pages."""

LIGHT: Final = {name: light for name, (light, _) in _COLOURS.items()}
DARK: Final = {name: dark for name, (_, dark) in _COLOURS.items()}

STYLE: Final = """
text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.small { font-size: 10.5px; fill: var(--muted); }
.strong { font-weight: 600; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.good { fill: var(--good); } .bad { fill: var(--bad); } .warn { fill: var(--warn); } .doubt { fill: var(--doubt); }
.write { fill: var(--write); } .muted { fill: var(--muted); } .ink { fill: var(--ink); } .page { fill: var(--page); }
.band { fill: var(--band); } .line { stroke: var(--line); fill: none; } .edge { stroke: var(--ink); fill: none; }
.moment, .life { stroke: var(--bad); stroke-width: 2; fill: none; } .moment.warn { stroke: var(--warn); }
.moment { stroke-dasharray: 5 3; }
.thin { stroke-width: 1.3; } .thick { stroke-width: 2; }
.dashed { stroke-dasharray: 6 4; } .dotted { stroke-dasharray: 1.5 3; } .faint { opacity: .55; }
.curve { fill: none; stroke-linecap: round; }
""" + "".join(
    f".v{number} {{ fill: var(--v{number}); }} .curve.v{number} {{ fill: none; stroke: var(--v{number}); }}\n"
    for number in range(8)
)

_CHARACTER_PX: Final = 6.9
"""How wide a character of 12 px is, on average and with some room."""


class Canvas:
    """A picture under construction; x and y are pixels from the upper left corner."""

    def __init__(self, width: float, height: float, description: str) -> None:
        """``description`` is for those who cannot see the picture."""
        self.width, self.height = width, height
        self._description = description
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, kind: str, *, round_px: float = 0) -> None:
        """A filled rectangle."""
        corners = f' rx="{round_px:g}"' if round_px else ""
        size = f'width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"'
        self._parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}{corners}/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> None:
        """A straight line."""
        self._parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def curve(self, points: list[tuple[float, float]], kind: str) -> None:
        """A line through all ``points``; a dot if there is only one."""
        if points:
            path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) + (" h0" if len(points) == 1 else "")
            self._parts.append(f'<path class="curve {kind}" d="{path}"/>')

    def mark(self, x: float, y: float, number: int, *, size: float = 4.0) -> None:
        """A mark for the variant of this number: its own colour and shape."""
        s = size
        shapes = [
            f"M{x - s:.1f} {y:.1f} a{s} {s} 0 1 0 {2 * s} 0 a{s} {s} 0 1 0 {-2 * s} 0",
            f"M{x - s:.1f} {y - s:.1f} h{2 * s} v{2 * s} h{-2 * s} z",
            f"M{x:.1f} {y - s:.1f} l{s} {2 * s} h{-2 * s} z",
            f"M{x:.1f} {y - 1.3 * s:.1f} l{s} {1.3 * s} l{-s} {1.3 * s} l{-s} {-1.3 * s} z",
        ]
        self._parts.append(f'<path class="v{number % 8}" d="{shapes[number % len(shapes)]}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Words that begin at ``x`` on the base line ``y``; kinds ``middle`` and ``end`` say otherwise."""
        self._parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>')

    def within(self, kind: str) -> str:
        """The picture as part of a page that has ``STYLE`` and the colours, of this class."""
        return self._svg("", attributes=f' class="{kind}"')

    def alone(self) -> str:
        """The picture as a file of its own, in light colours."""
        return self._svg(f"<style>{with_colours(STYLE, LIGHT)}</style>", background=True)

    def save(self, path: Path) -> None:
        """Write the picture in light colours; the suffix of ``path`` says in which format, see ``can_make_png``."""
        if path.suffix == ".svg":
            path.write_text(self.alone())
            return
        import resvg_py  # noqa: PLC0415  an extra that not everybody has

        path.write_bytes(resvg_py.svg_to_bytes(svg_string=self.alone(), zoom=2.0))

    def _svg(self, style: str, *, attributes: str = "", background: bool = False) -> str:
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        paper = f'<rect class="page" width="{self.width:g}" height="{self.height:g}"/>' if background else ""
        name = f"<title>{escape(self._description)}</title>"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}{attributes}>{name}{style}{paper}'
        return head + "\n".join(self._parts) + "</svg>\n"


def can_make_png() -> bool:
    """Is ``resvg-py`` there, which turns SVG into PNG? The extra ``lab`` brings it."""
    return importlib.util.find_spec("resvg_py") is not None


def text_width(words: str) -> float:
    """About how many pixels ``words`` take."""
    return len(words) * _CHARACTER_PX


def with_colours(style: str, palette: Mapping[str, str]) -> str:
    """``style`` with its variables replaced."""
    return re.sub(r"var\(--(\w+)\)", lambda found: palette[found[1]], style)


def variables(palette: Mapping[str, str]) -> str:
    """``palette`` as CSS variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())
