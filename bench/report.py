"""Results as values and as tables for a person: medians over the rounds, ratios, and the targets beside them.

The ratio is the median of the second system divided by the median of the first; the range beside it is the smallest and
the largest ratio of a single round, which shows how much of it is noise. Pure: it reads results and builds tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec
from rich.table import Table

from bench.load import Measurement
from bench.scenarios import IDLE_TARGET_PERCENT, LEADER_CHANGES_TARGET, THROUGHPUT, Scenario
from bench.surroundings import Surroundings


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One system in one scenario, a measurement for each round."""

    scenario: str
    system: str
    measurements: tuple[Measurement, ...]


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """CPU of idle processes, in percent of one core, by node and part."""

    system: str
    percent_by_node: dict[str, float]
    percent_by_part: dict[str, float]


class Steadiness(msgspec.Struct, frozen=True, kw_only=True):
    """Leadership under full put load; ``unanswered`` counts status requests without an answer."""

    system: str
    seconds: float
    term_changes: int
    leaders: tuple[str, ...]
    unanswered: int
    measurement: Measurement


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    systems: tuple[str, ...]
    seconds: float
    rounds: int
    connections: int
    rows: tuple[Row, ...] = ()
    idle: tuple[Idle, ...] = ()
    steadiness: tuple[Steadiness, ...] = ()


def throughput_table(rows: Sequence[Row], systems: Sequence[str]) -> Table:
    """Operations per second and latencies, with ratios and targets where two systems were measured."""
    base, other = systems[0], systems[-1]
    table = Table(title="operations per second, medians over the rounds; latencies in milliseconds")
    table.add_column("scenario")
    for heading in (
        *(base, other, "ratio", "(rounds)", "target", "stretch"),
        *(f"{base} p50", "p99", f"{other} p50", "p99", "errors", "terms"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for scenario in THROUGHPUT:
        found = {row.system: row.measurements for row in rows if row.scenario == scenario.name}
        if found:
            pair = [found.get(base, ()) if base != other else (), found.get(other, ())]
            table.add_row(*_throughput_cells(scenario, pair, scenario.goals(base, other)))
    return table


def _throughput_cells(
    scenario: Scenario, pair: Sequence[Sequence[Measurement]], goals: tuple[float | None, float | None]
) -> list[str]:
    first, second = pair
    ratio = spread = "-"
    if first and second:
        value = _median(second, "operations_per_s") / max(_median(first, "operations_per_s"), 1e-9)
        ratio = f"{value:.2f}"
        if goals[0] is not None:
            ratio = f"[{'green' if value >= goals[0] else 'red'}]{ratio}[/]"
        # A run that was broken off may have measured only the first in its last round.
        each = [s.operations_per_s / max(f.operations_per_s, 1e-9) for f, s in zip(first, second, strict=False)]
        spread = f"{min(each):.2f}-{max(each):.2f}"
    errors = sum(one.errors for one in (*first, *second))
    terms = sum(one.term_changes for one in (*first, *second))
    return [
        scenario.title,
        _shown(first, "operations_per_s", 0),
        _shown(second, "operations_per_s", 0),
        ratio,
        spread,
        *("-" if goal is None else f"{goal:g}" for goal in goals),
        _shown(first, "latency_ms_p50", 2),
        _shown(first, "latency_ms_p99", 2),
        _shown(second, "latency_ms_p50", 2),
        _shown(second, "latency_ms_p99", 2),
        f"[red]{errors}[/]" if errors else "0",
        f"[red]{terms}[/]" if terms else "0",
    ]


def _median(measurements: Sequence[Measurement], field: str) -> float:
    return float(statistics.median(getattr(one, field) for one in measurements))


def _shown(measurements: Sequence[Measurement], field: str, digits: int) -> str:
    return f"{_median(measurements, field):,.{digits}f}" if measurements else "-"


def cost_table(rows: Sequence[Row]) -> Table:
    """Where the CPU went: a client near one core would be the bottleneck, and the result worthless."""
    table = Table(title="CPU, medians over the rounds")
    table.add_column("scenario")
    for heading in ("system", "client cores", "cluster cores", "cluster microseconds per operation"):
        table.add_column(heading, justify="right")
    for row in rows:
        rate, cores = (_median(row.measurements, field) for field in ("operations_per_s", "cluster_cpu_cores"))
        client = f"{_median(row.measurements, 'client_cpu_cores'):.2f}"
        each = f"{cores / rate * 1e6:,.1f}" if rate else "-"
        table.add_row(row.scenario, row.system, client, f"{cores:.2f}", each)
    return table


def idle_table(found: Sequence[Idle]) -> Table:
    """The busiest idle node of each system, and the parts it is made of."""
    table = Table(title="idle CPU, percent of one core")
    for heading in ("system", "busiest node", "target", "by part, all nodes together"):
        table.add_column(heading, justify="left" if heading == "system" else "right")
    for idle in found:
        busiest = max(idle.percent_by_node.values())
        parts = ", ".join(f"{part} {percent:.2f}" for part, percent in sorted(idle.percent_by_part.items()))
        color = "green" if busiest < IDLE_TARGET_PERCENT else "red"
        table.add_row(idle.system, f"[{color}]{busiest:.2f}[/]", f"< {IDLE_TARGET_PERCENT:g}", parts)
    return table


def steadiness_table(found: Sequence[Steadiness]) -> Table:
    """Leader changes under full load."""
    table = Table(title="leadership under full put load")
    for heading in ("system", "seconds", "term changes", "target", "leaders seen", "puts/s", "errors", "unanswered"):
        table.add_column(heading, justify="left" if heading == "system" else "right")
    for one in found:
        color = "green" if one.term_changes <= LEADER_CHANGES_TARGET else "red"
        table.add_row(
            one.system,
            f"{one.seconds:g}",
            f"[{color}]{one.term_changes}[/]",
            str(LEADER_CHANGES_TARGET),
            ", ".join(one.leaders),
            f"{one.measurement.operations_per_s:,.0f}",
            str(one.measurement.errors),
            str(one.unanswered),
        )
    return table


def first_errors(rows: Sequence[Row]) -> list[str]:
    """One line for each row with errors: the first of them."""
    lines = []
    for row in rows:
        reasons = [one.first_error for one in row.measurements if one.first_error]
        if reasons:
            lines.append(f"{row.system}, {row.scenario}: {reasons[0]}")
    return lines
