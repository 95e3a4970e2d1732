"""``python -m bench.compare``: raftkv against etcd, or one mode against the other, in one interleaved run.

Both clusters are up for the whole run and only one is under load at a time: an idle one costs a few percent of a core,
which is measured and shown, whereas stopping and starting between turns would cost an election each time. Within a
round every scenario is measured on one and then on the other, so that noise of the machine hits both.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
from rich.console import Console

from bench import processes, report, scenarios
from bench.clusters import SYSTEMS, Measured, QuorumCluster, etcd_program
from bench.dialects import EtcdSpeech, pairs
from bench.load import Measurement, measure, pour
from bench.report import Comparison, Idle, Row, Steadiness
from bench.scenarios import Scenario
from bench.surroundings import connections_option, data_dir_option, json_option, observe, run_at, seconds_option, store
from raftkv.instruments.local.nodes import ClusterError

SETTLE_S = 3.0
BETWEEN_TURNS_S = 0.5
"""What the last load left behind (write-back, a snapshot) is given this long before the next turn."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure and for how long."""

    seconds: float
    rounds: int
    connections: int
    idle_s: float
    steadiness_s: float
    names: tuple[str, ...]


class Run:
    """One run over clusters that are up; results collect in ``comparison``."""

    def __init__(self, plan: Plan, clusters: Sequence[Measured], console: Console, comparison: Comparison) -> None:
        self._plan = plan
        self._clusters = clusters
        self._console = console
        self._pairs = pairs(scenarios.KEYS, scenarios.VALUE_BYTES)
        self.comparison = comparison

    async def all(self) -> None:
        """Idle first, while nothing has been loaded; then the rounds; leadership last."""
        if scenarios.IDLE in self._plan.names:
            await self._idle()
        chosen = [one for one in scenarios.THROUGHPUT if one.name in self._plan.names]
        for cluster in self._clusters:
            for load in scenarios.preloads(cluster.dialect, self._pairs, {one.raftkv for one in chosen}):
                await pour(cluster.servers(), load.requests, load.check)
        gc.freeze()
        await self._rounds(chosen)
        if scenarios.LEADER_CHANGES in self._plan.names:
            for cluster in self._clusters:
                await self._steadiness(cluster)

    async def _idle(self) -> None:
        await asyncio.sleep(SETTLE_S)
        before = [[(one, processes.cpu_s([one])) for one in cluster.parts()] for cluster in self._clusters]
        await asyncio.sleep(self._plan.idle_s)
        found = []
        for cluster, known in zip(self._clusters, before, strict=True):
            by_node: dict[str, float] = {}
            by_part: dict[str, float] = {}
            for one, cpu_s in known:
                percent = max(0.0, processes.cpu_s([one]) - cpu_s) / self._plan.idle_s * 100
                by_node[one.node] = by_node.get(one.node, 0.0) + percent
                by_part[one.part] = by_part.get(one.part, 0.0) + percent
            found.append(Idle(system=cluster.name, percent_by_node=by_node, percent_by_part=by_part))
        self.comparison = msgspec.structs.replace(self.comparison, idle=tuple(found))
        self._console.print(report.idle_table(found))

    async def _rounds(self, chosen: Sequence[Scenario]) -> None:
        measured: dict[tuple[str, str], list[Measurement]] = {}
        for number in range(1, self._plan.rounds + 1):
            for scenario in chosen:
                for cluster in self._clusters:
                    one = await self._turn(cluster, scenario, self._plan.seconds)
                    measured.setdefault((scenario.name, cluster.name), []).append(one)
                    self._say(f"round {number}/{self._plan.rounds}  {scenario.name:10}  {cluster.name:6}", one)
                    rows = [Row(scenario=s, system=c, measurements=tuple(m)) for (s, c), m in measured.items()]
                    self.comparison = msgspec.structs.replace(self.comparison, rows=tuple(rows))

    def _say(self, what: str, one: Measurement) -> None:
        latency = f"p50 {one.latency_ms_p50:.2f} ms, p99 {one.latency_ms_p99:.2f} ms"
        self._console.print(f"{what}  {one.operations_per_s:10,.0f} op/s  {latency}, {one.errors} errors")

    async def _turn(self, cluster: Measured, scenario: Scenario, seconds: float) -> Measurement:
        kind = scenario.etcd if cluster.dialect is EtcdSpeech else scenario.raftkv
        load = scenarios.load(cluster.dialect, kind, self._pairs)
        before = _highest_term(cluster)
        clients = scenario.connections or self._plan.connections
        known = cluster.parts()
        servers = cluster.servers()
        one = await measure(servers, load, seconds, lambda: processes.cpu_s(known), clients=clients)
        await asyncio.sleep(BETWEEN_TURNS_S)
        return msgspec.structs.replace(one, term_changes=_highest_term(cluster) - before)

    async def _steadiness(self, cluster: Measured) -> None:
        leaders: list[str] = []
        terms: set[int] = set()
        unanswered = 0

        async def watch() -> None:
            nonlocal unanswered
            while True:
                standings = await asyncio.to_thread(cluster.standings)
                unanswered += len(cluster.nodes) - len(standings)
                terms.update(standing.term for standing in standings.values())
                for node, standing in standings.items():
                    if standing.leads and leaders[-1:] != [node]:
                        leaders.append(node)
                await asyncio.sleep(0.5)

        watching = asyncio.create_task(watch())
        try:
            put = next(one for one in scenarios.THROUGHPUT if one.name == "put")
            one = await self._turn(cluster, put, self._plan.steadiness_s)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        changes = max(one.term_changes, max(terms) - min(terms) if terms else 0)
        found = Steadiness(
            system=cluster.name,
            seconds=self._plan.steadiness_s,
            term_changes=changes,
            leaders=tuple(leaders),
            unanswered=unanswered,
            measurement=one,
        )
        self._say(f"{scenarios.LEADER_CHANGES}: {changes}  {cluster.name:6}", one)
        self.comparison = msgspec.structs.replace(self.comparison, steadiness=(*self.comparison.steadiness, found))


def _highest_term(cluster: Measured) -> int:
    standings = cluster.standings()
    if not standings:
        raise ClusterError(f"no node of {cluster.name} answers any more")
    return max(standing.term for standing in standings.values())


def show(comparison: Comparison, console: Console) -> None:
    """All tables of a run; the idle one was shown when it was measured."""
    if comparison.rows:
        console.print(report.throughput_table(comparison.rows, comparison.systems))
        console.print(report.cost_table(comparison.rows))
    if comparison.steadiness:
        console.print(report.steadiness_table(comparison.steadiness))
    for line in report.first_errors(comparison.rows):
        console.print(f"first error, {line}", markup=False)


async def _compare(plan: Plan, home: Path, systems: Sequence[type[Measured]], console: Console) -> Comparison:
    surroundings = observe(home)
    if surroundings.file_system in ("tmpfs", "ramfs"):
        console.print("The data is in memory: a flush costs nothing here. Choose a disk with --data-dir.", style="red")
    comparison = Comparison(
        surroundings=surroundings,
        systems=tuple([system.name for system in systems]),
        seconds=plan.seconds,
        rounds=plan.rounds,
        connections=plan.connections,
    )
    with ExitStack() as stack:
        clusters = [stack.enter_context(system(home / system.name)) for system in systems]
        run = Run(plan, clusters, console, comparison)
        stack.callback(lambda: show(run.comparison, console))  # also when it is broken off
        for cluster in clusters:
            cluster.begin()
        await run.all()
    return run.comparison


@click.command()
@seconds_option
@click.option("--rounds", default=5, show_default=True, help="How often every scenario is measured on each system.")
@connections_option
@click.option("--only", multiple=True, type=click.Choice(scenarios.NAMES), help="Repeatable; default: everything.")
@click.option("--idle-seconds", default=20.0, show_default=True, help="How long idle CPU is watched.")
@click.option("--leader-seconds", default=60.0, show_default=True, help="How long leadership is watched under load.")
@click.option(
    "--system",
    "systems",
    type=click.Choice(list(SYSTEMS)),
    multiple=True,
    default=("etcd", "raft"),
    show_default=True,
    help="One, or two that are compared: the second is divided by the first.",
)
@data_dir_option
@json_option
def main(
    *,
    seconds: float,
    rounds: int,
    connections: int,
    only: tuple[str, ...],
    idle_seconds: float,
    leader_seconds: float,
    systems: tuple[str, ...],
    data_dir: Path | None,
    json_path: Path | None,
) -> None:
    """Measure systems against each other: three durable nodes each, 100-byte values, one client, alternating turns."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    chosen = [SYSTEMS[name] for name in systems[:2]]
    if "etcd" in systems and etcd_program() is None:
        console.print("etcd is not installed (Debian: apt install etcd-server): raftkv is measured alone.")
        chosen = [system for system in chosen if system.name != "etcd"]
    names = only or scenarios.NAMES
    if QuorumCluster in chosen:
        names = tuple(name for name in names if name not in scenarios.OF_LEADERS)
    plan = Plan(
        seconds=seconds,
        rounds=rounds,
        connections=connections,
        idle_s=idle_seconds,
        steadiness_s=leader_seconds,
        names=names,
    )
    comparison = run_at(data_dir, lambda home: _compare(plan, home, chosen, console))
    console.print(f"stored in {click.format_filename(store(comparison, 'compare', json_path))}")


if __name__ == "__main__":
    main()
