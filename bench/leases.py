"""``python -m bench.leases``: what many leases cost that are kept alive, each every three seconds.

By raftkv one by one, and many in a request as its clients can; by etcd's gateway one by one. The systems are up for the
whole run and take turns; half a core in all is the goal for ten thousand.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.clusters import EtcdCluster, Measured, RaftkvCluster, etcd_program
from bench.dialects import Load, grants, keep_alives
from bench.load import Measurement, measure, pour
from bench.surroundings import Surroundings, data_dir_option, json_option, observe, run_at, seconds_option, store
from raftkv.api import paths
from raftkv.api.bodies import LeaseIds
from raftkv.instruments.load.dialect import json_post

EVERY_S = 3.0
CLIENTS = 64


class LeaseTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One system, kept alive in one way."""

    system: str
    per_request: int
    measurement: Measurement


class LeaseComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    leases: int
    turns: tuple[LeaseTurn, ...]


def _load(cluster: Measured, leases: int, per_request: int) -> Load:
    if per_request == 1:
        return keep_alives(cluster.dialect, range(1, leases + 1))
    groups = [range(first, min(first + per_request, leases + 1)) for first in range(1, leases + 1, per_request)]
    requests = [json_post(paths.KEEPALIVES, LeaseIds(ids=list(group))) for group in groups]
    return Load(
        requests=requests,
        check=lambda status, body: status == 200 and b'"missing":[]' in body,
        operations_per_request=per_request,
    )


async def _compare(
    home: Path, console: Console, *, leases: int, many: int, seconds: float, rounds: int
) -> LeaseComparison:
    surroundings = observe(home)
    turns: list[LeaseTurn] = []
    kinds: list[type[EtcdCluster | RaftkvCluster]] = [EtcdCluster, RaftkvCluster]
    with ExitStack() as stack:
        clusters = [
            stack.enter_context(kind(home / kind.name)) for kind in kinds if kind is RaftkvCluster or etcd_program()
        ]
        for cluster in clusters:
            cluster.begin()
            granted = grants(cluster.dialect, range(1, leases + 1))
            await pour(cluster.servers(), granted.requests, granted.check, clients=CLIENTS)
        for number in range(1, rounds + 1):
            for cluster in clusters:
                known = cluster.parts()
                for per_request in (1, many) if cluster.name == "raft" else (1,):
                    one = await measure(
                        cluster.servers(),
                        _load(cluster, leases, per_request),
                        seconds,
                        lambda known=known: processes.cpu_s(known),  # type: ignore[misc]
                        clients=CLIENTS,
                        rate_per_s=leases / EVERY_S / per_request,
                    )
                    turns.append(LeaseTurn(system=cluster.name, per_request=per_request, measurement=one))
                    console.print(
                        f"round {number}/{rounds}  {cluster.name:5} {per_request:4} a request "
                        f"{one.operations_per_s:8,.0f}/s  {one.cluster_cpu_cores:.2f} cores, {one.errors} errors"
                    )
    return LeaseComparison(surroundings=surroundings, leases=leases, turns=tuple(turns))


def _table(found: LeaseComparison) -> Table:
    table = Table(title=f"{found.leases:,} leases, each kept alive every {EVERY_S:g} s; medians over the rounds")
    for heading in ("system", "a request", "kept alive a second", "cores, all processes", "p99 ms", "errors"):
        table.add_column(heading, justify="left" if heading == "system" else "right")
    for system, per_request in dict.fromkeys((turn.system, turn.per_request) for turn in found.turns):
        same = [t.measurement for t in found.turns if (t.system, t.per_request) == (system, per_request)]
        rate, cores, p99 = (
            statistics.median(getattr(one, name) for one in same)
            for name in ("operations_per_s", "cluster_cpu_cores", "latency_ms_p99")
        )
        table.add_row(
            system, str(per_request), f"{rate:,.0f}", f"{cores:.2f}", f"{p99:.1f}", str(sum(one.errors for one in same))
        )
    return table


@click.command()
@seconds_option
@click.option("--rounds", default=3, show_default=True)
@click.option("--leases", default=10_000, show_default=True)
@click.option(
    "--many", default=100, show_default=True, help="How many are kept alive by one request, where that can be."
)
@data_dir_option
@json_option
def main(*, seconds: float, rounds: int, leases: int, many: int, data_dir: Path | None, json_path: Path | None) -> None:
    """Measure what leases cost that are kept alive."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    found = run_at(
        data_dir,
        lambda home: _compare(home, console, leases=leases, many=many, seconds=seconds, rounds=rounds),
    )
    console.print(_table(found))
    console.print(f"stored in {click.format_filename(store(found, 'leases', json_path))}")


if __name__ == "__main__":
    main()
