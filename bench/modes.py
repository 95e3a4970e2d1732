"""``python -m bench.modes``: the leaderless mode against raft mode, in one interleaved run on this machine.

W = 2 puts and R = 2 gets on three nodes against puts and linearizable gets of raft mode. Both clusters are up for the
whole run and one is under load at a time, as in ``bench.compare``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop

from bench import processes
from bench.clusters import Cluster, ClusterError, QuorumCluster, RaftkvCluster
from bench.dialects import Pair, pairs
from bench.load import LoadError, measure, pour
from bench.scenarios import KEYS, VALUE_BYTES, load
from bench.surroundings import workplace

KINDS = (("put", 0.8), ("get", 0.8), ("batch", None))


async def _turn(cluster: Cluster, kind: str, known: Sequence[Pair], seconds: float, connections: int) -> float:
    running = cluster.processes()
    one = await measure(
        await cluster.servers(),
        load(cluster.dialect, kind, known),  # type: ignore[arg-type]  # a literal of KINDS
        seconds,
        lambda: processes.cpu_s(running),
        clients=connections,
    )
    click.echo(
        f"{kind:6} {cluster.name:6} {one.operations_per_s:10,.0f} op/s  p50 {one.latency_ms_p50:6.2f} ms  "
        f"p99 {one.latency_ms_p99:6.2f} ms  {one.cluster_cpu_cores:4.2f} cores  {one.errors} errors {one.first_error}"
    )
    return one.operations_per_s


async def _run(home: Path, *, seconds: float, rounds: int, connections: int) -> None:
    known = pairs(KEYS, VALUE_BYTES)
    clusters = [kind(home / kind.name) for kind in (RaftkvCluster, QuorumCluster)]
    ratios: dict[str, list[float]] = {}
    try:
        for cluster in clusters:
            await cluster.start()
            batches = load(cluster.dialect, "batch", known)
            await pour(await cluster.servers(), batches.requests, batches.check)
        for _ in range(rounds):
            for kind, _ in KINDS:
                raft, quorum = [await _turn(one, kind, known, seconds, connections) for one in clusters]
                ratios.setdefault(kind, []).append(quorum / raft)
    finally:
        for cluster in clusters:
            for process in cluster.end():
                click.echo(f"{cluster.name}: {process} was killed")
    for kind, target in KINDS:
        wanted = "" if target is None else f" (wanted: {target})"
        found = ratios[kind]
        click.echo(f"{kind}: {statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f}) x raft mode{wanted}")


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="Length of one measurement, after a warm-up of 1 s.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--connections", default=32, show_default=True, help="Spread evenly over the three nodes.")
@click.option("--data-dir", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Where data goes.")
def main(*, seconds: float, rounds: int, connections: int, data_dir: Path | None) -> None:
    """Measure the two modes against each other: 100-byte values, the same client, alternating turns."""
    try:
        with workplace(data_dir) as home:
            uvloop.run(_run(home, seconds=seconds, rounds=rounds, connections=connections))
    except (ClusterError, LoadError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
