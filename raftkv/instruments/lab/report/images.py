"""Pictures as files: SVG, or PNG where ``resvg-py`` is installed, which the extra ``lab`` brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from raftkv.instruments.lab.report.drawing import Canvas


def can_make_png() -> bool:
    """Is there what it takes to turn SVG into PNG?"""
    return importlib.util.find_spec("resvg_py") is not None


def save(canvas: Canvas, path: Path) -> None:
    """Write the picture in light colours; the suffix of ``path`` says in which format."""
    if path.suffix == ".svg":
        path.write_text(canvas.alone())
        return
    import resvg_py  # noqa: PLC0415  an extra that not everybody has

    path.write_bytes(resvg_py.svg_to_bytes(svg_string=canvas.alone(), zoom=2.0))
