"""Writes the report of runs into a folder: the page, and the graphs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from raftkv.instruments.lab.reference4.page import COMPARISON, NAME, page
from raftkv.instruments.lab.reference4.plots import draw_comparison, draw_run
from raftkv.instruments.lab.reference4.runs import ReferenceRun
from raftkv.instruments.lab.report.images import save

ImageFormat = Literal["png", "svg"]


def write(runs: Sequence[ReferenceRun], folder: Path, *, image_format: ImageFormat, command: str) -> Path:
    """Write the report of ``runs``, at least one; returns where the page is."""
    save(draw_comparison(runs), folder / f"{COMPARISON}.{image_format}")
    for run in runs:
        save(draw_run(run), folder / f"{run.name}.{image_format}")
    path = folder / NAME
    path.write_text(page(runs, image_format=image_format, command=command))
    return path
