"""The page of a report: one file that opens anywhere, without a network. Pure but for its template, which it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

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
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text())
    run, curve = results.run, staleness(results)
    return template.render(
        run=run,
        scenario=run.scenario,
        setting=_setting(results),
        columns=_COLUMNS.get(len(results.variants), 3),
        variants=[_card(each) for each in results.variants],
        rows=rows(results),
        has_lists="add" in run.scenario.workload.mix and not run.story,
        witnesses=[_witness(each) for each in results.variants if each.judgement.proof is not None],
        staleness=None if curve is None else Markup(curve.inline()),  # noqa: S704  our own picture, escaped inside
        predictions=[_predicted(each) for each in results.variants if each.prediction is not None],
        again=_again(results),
        versions=", ".join(f"{name} {version}" for name, version in run.versions.items()),
        scenario_text=scenario_text,
        faults_text=_faults(results),
        light=variables(LIGHT),
        dark=variables(DARK),
        style=Markup(STYLE),  # noqa: S704  our own
    )


def _setting(results: Results) -> str:
    if results.run.story:
        return results.run.story
    scenario = results.run.scenario
    workload = scenario.workload
    mix = ", ".join(f"{share} {kind.replace('_', ' ')}" for kind, share in workload.mix.items())
    return (
        f"{scenario.nodes} nodes, real processes over HTTP; {workload.clients} clients, "
        f"{'each at a node of its own' if workload.sticky else 'each request to a random node'}, "
        f"about {workload.rate_per_s:g} requests per second ({mix}) for {scenario.duration_s:g} s; seed {scenario.seed}"
    )


def _card(each: VariantResults) -> dict[str, Any]:
    verdict = each.judgement.verdict
    return {
        "name": each.variant.name,
        "about": each.variant.about,
        "tone": _tone(each),
        "sign": _SIGNS[verdict],
        "verdict": sentences.verdict(each),
        "meaning": sentences.verdict_meaning(each),
        "damage": sentences.damage(each),
        "service": sentences.service(each),
        "deaths": ", ".join(f"{node} (status {status})" for node, status in each.deaths),
        "strip": Markup(service(each).inline()),  # noqa: S704  our own picture, escaped inside
    }


def _tone(each: VariantResults) -> str:
    """A variant that lost something is not shown as good, even if every single answer was right."""
    if each.judgement.verdict == "not linearizable":
        return "is-bad"
    return "is-open" if each.judgement.verdict == "undecided" or sentences.is_harmed(each) else "is-good"


def _witness(each: VariantResults) -> dict[str, Any]:
    proof = each.judgement.proof
    assert proof is not None
    sentence = proof.sentence[0].upper() + proof.sentence[1:]
    return {
        "name": each.variant.name,
        "kind": proof.kind,
        "sentence": sentence,
        "key": proof.key.decode(errors="backslashreplace"),
        "picture": Markup(witness(proof).inline()),  # noqa: S704  our own picture, escaped inside
    }


def _predicted(each: VariantResults) -> str:
    assert each.prediction is not None
    return (
        f"{each.variant.name}: 99.9 % of reads see a write {each.prediction.fresh_ms_p999:.1f} ms after it (predicted)"
    )


def _again(results: Results) -> str:
    run = results.run
    if run.story:
        return run.command
    names = {variant.name for variant in run.scenario.variant}
    chosen = "".join(f" --variant '{name}'" for name in sorted(names)) if len(names) == 1 else ""
    network = " --namespaces" if run.in_namespaces else ""
    told = f"--seed {run.scenario.seed} --duration {run.scenario.duration_s:g}"
    return f"raftkv lab run scenario.toml {told}{chosen}{network}"


def _faults(results: Results) -> str:
    lines = []
    for each in results.variants:
        lines.append(f"{each.variant.name}")
        lines += [f"  {band.from_s:6.2f} s to {band.until_s:6.2f} s  {band.words}" for band in each.pace.bands]
    return "\n".join(lines)
