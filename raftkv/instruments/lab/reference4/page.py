"""The report as Markdown: the answer first, then the rules it follows, the table, and the graphs of every run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from raftkv.instruments.lab.reference4.choices import DELAYS, NODES
from raftkv.instruments.lab.reference4.runs import ReferenceRun
from raftkv.instruments.lab.reference4.verdict import RULES, Recommendation, answer
from raftkv.instruments.load.plan import Ratio
from raftkv.instruments.load.result import Latency
from raftkv.instruments.load.samples import RequestKind

NAME: Final = "report.md"
COMPARISON: Final = "comparison"
COLUMNS: Final = (
    *("choice", "writes/reads", "op/s"),
    *("read p50", "read p99", "read max"),
    *("write p50", "write p99", "write max"),
    *("stale", "backward", "saw old during a write", "errors"),
)


def page(runs: Sequence[ReferenceRun], *, image_format: str, command: str) -> str:
    """The whole text; images are named after their runs and lie beside it."""
    ratios = sorted({run.ratio for run in runs}, key=lambda ratio: ratio.write_share)
    answers = [answer([run for run in runs if run.ratio == ratio]) for ratio in ratios]
    parts = [
        "# Reference 4: sixteen runs" if len(runs) == 16 else f"# Reference 4: {len(runs)} runs",
        _introduction(runs),
        "## Which choice for which ratio, and why",
        _answers(answers),
        f"![Operations per second and stale reads]({COMPARISON}.{image_format})",
        *[_reasons(each) for each in answers],
        "### The rules of this answer",
        "\n".join(f"{place}. {rule}" for place, rule in enumerate(RULES, 1)),
        "## All runs",
        _table([COLUMNS, *[_row(run) for run in runs]]),
        _legend(),
        *[_of_ratio(ratio, [run for run in runs if run.ratio == ratio], image_format) for ratio in ratios],
        "## Again",
        _again(runs[0], command),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(runs: Sequence[ReferenceRun]) -> str:
    plan = runs[0].result.plan
    message_ms, update_ms, read_ms = (round(s * 1000) for s in msgspec.structs.astuple(DELAYS))
    return (
        f"{NODES} nodes on one machine, made slow as the reference says: a leader or coordinator waits {message_ms} ms "
        f"after each message with a write before the next, a follower {update_ms} ms before it takes an update and "
        f"{read_ms} ms before it answers a read. {plan.clients} clients, each waiting for its answer before it sends "
        "the next request, a write to the leader where there is one and all else to a random node, for "
        f"{plan.seconds:g} s after {plan.warm_up_s:g} s of warming up; {plan.keys} keys. Reads are local in time: they "
        "ask for a key whose write has just begun. Before each run, N, R and W were asked of every node and seen in "
        f"what a write and a read through it reported. Begun {runs[0].result.began}."
    )


def _again(first: ReferenceRun, command: str) -> str:
    return (
        f"`{command}` with raftkv {first.result.version}, seed {first.result.plan.seed}. Each run's result, whole "
        "histograms included, is the JSON file of its name."
    )


def _answers(answers: Sequence[Recommendation]) -> str:
    rows = [(str(each.ratio), _named(each.fresh), _named(each.any)) for each in answers]
    return _table([("writes/reads", "reads must be fresh", "reads may be stale"), *rows])


def _named(run: ReferenceRun | None) -> str:
    return "none" if run is None else f"**{run.choice.title}** ({run.result.per_second:.0f} op/s)"


def _reasons(found: Recommendation) -> str:
    lines = [f"**{found.ratio} writes/reads.**", "", *[f"- {reason}" for reason in found.reasons]]
    return "\n".join(lines)


def _row(run: ReferenceRun) -> tuple[str, ...]:
    result, fresh = run.result, run.result.freshness
    return (
        run.choice.title,
        str(run.ratio),
        f"{result.per_second:.0f}",
        *_latency(result.latency.get(RequestKind.READ)),
        *_latency(result.latency.get(RequestKind.WRITE)),
        f"{fresh.stale} ({fresh.stale_share:.1%})",
        str(fresh.backward),
        f"{fresh.during_write_older} of {fresh.during_write}",
        str(result.error_count),
    )


def _latency(found: Latency | None) -> tuple[str, ...]:
    return ("-",) * 3 if found is None else tuple(f"{each:.0f}" for each in (found.p50_ms, found.p99_ms, found.max_ms))


def _legend() -> str:
    return (
        "Latencies in milliseconds. *Stale*: the read returned less than the newest write that was acknowledged before "
        "it began. *Backward*: it returned less than another read had returned before it began. *Saw old during a "
        "write*: of the reads that began while a write of their key was under way, those that did not see it; every "
        "store may."
    )


def _of_ratio(ratio: Ratio, runs: Sequence[ReferenceRun], image_format: str) -> str:
    lines = [f"## {ratio} writes/reads"]
    lines += [f"![{run.choice.title}, {ratio}]({run.name}.{image_format})" for run in runs]
    return "\n\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
