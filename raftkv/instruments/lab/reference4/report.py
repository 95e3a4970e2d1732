"""The report of runs, in a folder: a page of Markdown, and the graphs beside it.

The page has the answer first, then the rules it follows, the table, and the graphs of every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import jinja2

from raftkv.instruments.lab.reference4.choices import DELAYS, NODES
from raftkv.instruments.lab.reference4.plots import draw_comparison, draw_run
from raftkv.instruments.lab.reference4.runs import ReferenceRun
from raftkv.instruments.lab.reference4.verdict import RULES, answer
from raftkv.instruments.load.result import Result
from raftkv.instruments.load.samples import RequestKind

TEMPLATE: Final = Path(__file__).with_name("page.md")
NAME: Final = "report.md"
COMPARISON: Final = "comparison"

ImageFormat = Literal["png", "svg"]


def write(runs: Sequence[ReferenceRun], folder: Path, *, image_format: ImageFormat, command: str) -> Path:
    """Write the report of ``runs``, at least one; returns where the page is."""
    draw_comparison(runs).save(folder / f"{COMPARISON}.{image_format}")
    for run in runs:
        draw_run(run).save(folder / f"{run.name}.{image_format}")
    path = folder / NAME
    path.write_text(page(runs, image_format=image_format, command=command))
    return path


def page(runs: Sequence[ReferenceRun], *, image_format: ImageFormat, command: str) -> str:
    """The whole text; images are named after their runs."""
    ratios = sorted({run.ratio for run in runs}, key=lambda ratio: ratio.write_share)
    by_ratio = {ratio: [run for run in runs if run.ratio == ratio] for ratio in ratios}
    environment = jinja2.Environment(  # noqa: S701  Markdown, of our own numbers
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE.read_text()).render(
        runs=runs,
        by_ratio=by_ratio,
        first=runs[0].result,
        plan=runs[0].result.plan,
        nodes=NODES,
        delays=DELAYS,
        rules=RULES,
        answers=[answer(of_ratio) for of_ratio in by_ratio.values()],
        comparison=COMPARISON,
        image_format=image_format,
        command=command,
        ms=lambda seconds: round(seconds * 1000),
        named=_named,
        latency=_latency,
    )


def _named(run: ReferenceRun | None) -> str:
    return "none" if run is None else f"**{run.choice.title}** ({run.result.per_second:.0f} op/s)"


def _latency(result: Result, kind: RequestKind) -> str:
    """Three cells of the table."""
    found = result.latency.get(kind)
    figures = ("-",) * 3 if found is None else (f"{ms:.0f}" for ms in (found.p50_ms, found.p99_ms, found.max_ms))
    return " | ".join(figures)
