"""The page of a report: one file that opens anywhere, without a network. Pure but for its template, which it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2

from raftkv.instruments.lab.report import sentences
from raftkv.instruments.lab.report.drawing import DARK, LIGHT, STYLE, variables
from raftkv.instruments.lab.report.figures import service, staleness, witness
from raftkv.instruments.lab.report.results import Results, VariantResults
from raftkv.instruments.lab.report.table import rows

TEMPLATE: Final = Path(__file__).with_name("page.html")

_SIGNS: Final = {"linearizable": "✓", "not linearizable": "✗", "undecided": "?"}
_COLUMNS: Final = {1: 1, 2: 2, 4: 4, 7: 4, 8: 4}
"""Cards in a row by how many there are; otherwise 3."""


def page(results: Results, scenario_text: str) -> str:
    """The whole page; ``scenario_text`` is the file that the scenario came from."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE.read_text()).render(
        run=results.run,
        scenario=results.run.scenario,
        workload=results.run.scenario.workload,
        variants=results.variants,
        columns=_COLUMNS.get(len(results.variants), 3),
        rows=rows(results),
        signs=_SIGNS,
        tone=_tone,
        sentences=sentences,
        service=service,
        witness=witness,
        staleness=staleness(results),
        scenario_text=scenario_text,
        light=variables(LIGHT),
        dark=variables(DARK),
        style=STYLE,
    )


def _tone(each: VariantResults) -> str:
    """A variant that lost something is not shown as good, even if every single answer was right."""
    if each.judgement.verdict == "not linearizable":
        return "is-bad"
    return "is-open" if each.judgement.verdict == "undecided" or sentences.is_harmed(each) else "is-good"
