"""The page of a report: one file that opens anywhere, without a network. Pure but for its template, which it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2

from raftkv.instruments.lab.report import sentences
from raftkv.instruments.lab.report.drawing import DARK, LIGHT, STYLE, Canvas, variables
from raftkv.instruments.lab.report.figures import service, staleness
from raftkv.instruments.lab.report.results import Results, VariantResults
from raftkv.instruments.lab.report.table import rows
from raftkv.instruments.lab.report.timelines import flaw_name, narrow, of_loss, of_witness, wide

TEMPLATE: Final = Path(__file__).with_name("page.html")

_COLUMNS: Final = {1: 1, 2: 2, 4: 4, 7: 4, 8: 4}
"""Cards in a row by how many there are; otherwise 3."""


def page(results: Results, scenario_text: str) -> str:
    """The whole page; ``scenario_text`` is the file that the scenario came from."""
    results = sentences.worst_first(results)
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
        sentences=sentences,
        losses={each.variant.name: _loss(each) for each in results.variants if each.loss is not None},
        proofs={each.variant.name: _proof(each) for each in results.variants if each.judgement.proof is not None},
        flaw_name=flaw_name,
        service=_service,
        staleness=[each for each in (staleness(results), staleness(results, is_narrow=True)) if each is not None],
        scenario_text=scenario_text,
        light=variables(LIGHT),
        dark=variables(DARK),
        style=STYLE,
    )


def _loss(each: VariantResults) -> tuple[Canvas, Canvas]:
    """A loss, for wide pages and for narrow ones; so are the others."""
    assert each.loss is not None
    scene = of_loss(each.loss, each.pace.bands)
    return wide(scene), narrow(scene)


def _proof(each: VariantResults) -> tuple[Canvas, Canvas]:
    assert each.judgement.proof is not None
    scene = of_witness(each.judgement.proof, is_harm=each.is_promise_broken)
    return wide(scene), narrow(scene)


def _service(each: VariantResults) -> tuple[Canvas, Canvas]:
    return service(each), service(each, is_narrow=True)
