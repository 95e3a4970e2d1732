"""``python -m bench.curves``: how raftkv and etcd grow with connections, values, keys, nodes, workers and watchers.

At each place of a curve both systems are up and take turns, scenario by scenario, as in ``bench.compare``. Each turn is
stored at once (``curves.json``); with the same ``--out`` a later run goes on: each place is measured until it has
``--rounds`` turns, or ``--budget`` seconds are over. All that is stored is drawn; ``--draw`` does nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console

from bench import processes, scenarios, watch
from bench.clusters import READY_S, SIZE, EtcdCluster, Measured, QuorumCluster, RaftkvCluster, etcd_program
from bench.curve_plots import draw
from bench.curve_points import CURVES, Curve, Curves, Numbers, Turn, load_curves, store_curves
from bench.dialects import Pair, batches, pairs
from bench.load import measure, pour
from bench.surroundings import RESULTS, data_dir_option, observe, run_at, seconds_option
from raftkv.api import paths
from raftkv.instruments.local.nodes import wait_until

CONNECTIONS: Final = 32
POURING: Final = 6
LOAD_BYTES: Final = 32 << 20
"""So much do the values of one load make at most; the requests are held ready."""

RATE_PER_S: Final = 50.0
"""Of puts, where watchers are counted: a thousand hear fifty thousand events a second."""

FILL_BATCH: Final = {"etcd": 100}
KEYS_MAX: Final = {"etcd": 1_000_000}
"""It keeps every key in memory, and ten million would fill its database."""

SETTLE_S: Final = 2.0
BETWEEN_S: Final = 0.5


class _OverError(Exception):
    """The budget is spent."""


class _Run:
    """One run over the chosen curves."""

    def __init__(
        self, curves: Curves, path: Path, home: Path, *, seconds: float, rounds: int, end_s: float, console: Console
    ) -> None:
        self._curves, self._path, self._home = curves, path, home
        self._seconds, self._rounds, self._end_s = seconds, rounds, end_s
        self._console = console
        self._places = itertools.count()

    async def curve(self, curve: Curve, systems: Sequence[str]) -> None:
        """Measure what is lacking of ``curve``; raises ``_OverError`` when the time is up."""
        lacking = [x for x in curve.xs if self._lacks(curve, x, systems)]
        if curve.name == "keys":
            for x, system in itertools.product(lacking, systems):
                if x <= KEYS_MAX.get(system, x):
                    await self._keys(curve, system, int(x))
        elif curve.name in ("nodes", "workers"):
            for x in lacking:
                size, workers = (int(x), 1) if curve.name == "nodes" else (SIZE, int(x))
                await self._on(curve, [x], systems, size, workers)
        elif lacking:
            await self._on(curve, lacking, systems)

    async def _on(
        self, curve: Curve, xs: Sequence[float], systems: Sequence[str], size: int = SIZE, workers: int = 1
    ) -> None:
        """Measure at ``xs`` with the same clusters."""
        with ExitStack() as stack:
            clusters = [stack.enter_context(self._made(system, size, workers)) for system in systems]
            await self._begin(clusters)
            for _, x in itertools.product(range(self._rounds), xs):
                if self._lacks(curve, x, systems):
                    await self._at(curve, clusters, x)

    def _lacks(self, curve: Curve, x: float, systems: Sequence[str]) -> bool:
        wanted = {panel.what for row in curve.rows for panel in row}
        asked = [system for system in systems if curve.name != "keys" or x <= KEYS_MAX.get(system, x)]
        found = [self._curves.point(curve.name, what, system, x) for what in wanted for system in asked]
        return any(len(point.turns) < (1 if curve.name == "keys" else self._rounds) for point in found)

    def _made(self, system: str, size: int = SIZE, workers: int = 1) -> Measured:
        home = self._home / f"{next(self._places)}-{system}"
        if system == "etcd":
            return EtcdCluster(home, size)
        kind = QuorumCluster if system == "quorum" else RaftkvCluster
        return kind(home, size, f"[http]\nworkers = {workers}\n" if workers != 1 else "")

    async def _begin(self, clusters: Iterable[Measured]) -> None:
        for cluster in clusters:
            await asyncio.to_thread(cluster.begin)
        await asyncio.sleep(SETTLE_S)

    # --- turns

    async def _at(self, curve: Curve, clusters: Sequence[Measured], x: float) -> None:
        """One turn of each scenario on each system."""
        if curve.name == "watchers":
            for cluster in clusters:
                await self._watch(curve, cluster, int(x))
            return
        value_bytes = int(x) if curve.name == "values" else scenarios.VALUE_BYTES
        clients = int(x) if curve.name == "connections" else CONNECTIONS
        written = pairs(max(2 * CONNECTIONS, min(scenarios.KEYS, LOAD_BYTES // value_bytes)), value_bytes)
        for cluster in clusters:
            size = max(1, min(scenarios.BATCH_OPERATIONS, (256 << 10) // value_bytes))
            load = batches(cluster.dialect, written, size)
            await pour(cluster.servers(), load.requests, load.check)
        gc.collect()
        for what in ("put", "get", "local-get"):
            for cluster in clusters:
                await self._turn(curve, cluster, what, x, written=written, clients=clients)

    async def _turn(
        self, curve: Curve, cluster: Measured, what: str, x: float, *, written: Sequence[Pair], clients: int
    ) -> None:
        scenario = next(one for one in scenarios.THROUGHPUT if one.name == what)
        load = scenarios.load(cluster.dialect, scenario.raftkv, written)
        known = cluster.parts()
        one = await measure(cluster.servers(), load, self._seconds, lambda: processes.cpu_s(known), clients=clients)
        await asyncio.sleep(BETWEEN_S)
        if one.errors or not one.operations:
            self._console.print(
                f"{cluster.name}, {what}: {one.errors} errors, the first: {one.first_error}", markup=False
            )
            return
        numbers = {
            "operations_per_s": one.operations_per_s,
            "cpu_us": one.cluster_cpu_cores / one.operations_per_s * 1e6,
            "p50_ms": one.latency_ms_p50,
            "p99_ms": one.latency_ms_p99,
            "client_cores": one.client_cpu_cores,
        }
        self._note(curve, what, cluster.name, x, numbers)

    async def _watch(self, curve: Curve, cluster: Measured, count: int) -> None:
        point = self._curves.point(curve.name, "watch", cluster.name, count)
        first = 10_000_000 * (len(point.turns) + 1) + count * 1_000  # every value names its write
        one, _ = await watch.turn(cluster, first, seconds=self._seconds, rate_per_s=RATE_PER_S, count=count)
        if one.errors or one.missing:
            self._console.print(f"{cluster.name}, {count} watchers: {one.errors} errors, {one.missing} missing")
        numbers = {"p50_ms": one.p50_ms, "p99_ms": one.p99_ms, "event_us": 1e6 / max(one.events_per_core, 1e-9)}
        numbers |= {"events_per_s": one.events_per_s, "missing": one.missing, "client_cores": one.client_cores}
        self._note(curve, "watch", cluster.name, count, numbers)

    def _note(self, curve: Curve, what: str, system: str, x: float, numbers: Numbers) -> None:
        load = os.getloadavg()[0]
        self._curves.point(curve.name, what, system, x).turns.append(Turn(numbers=numbers, load_average_1m=load))
        store_curves(self._curves, self._path)
        told = "  ".join(f"{name} {value:,.2f}" for name, value in numbers.items())
        self._console.print(f"{curve.name} {x:g}  {system} {what}  {told}")
        if time.monotonic() > self._end_s:
            raise _OverError

    # --- keys

    async def _keys(self, curve: Curve, system: str, count: int) -> None:
        """Fill a cluster with so many keys, put, look at what it holds, and start it again."""
        with self._made(system) as cluster:
            await self._begin([cluster])
            batch = FILL_BATCH.get(system, 500)
            begun_s, known = time.monotonic(), cluster.parts()
            check = batches(cluster.dialect, pairs(1, scenarios.VALUE_BYTES), 1).check
            await pour(cluster.servers(), _requests(cluster, count, batch), check, clients=POURING)
            seconds, cpu_s = time.monotonic() - begun_s, processes.cpu_s(known)
            self._note(curve, "fill", system, count, {"keys_per_s": count / seconds, "cpu_us": cpu_s / count * 1e6})
            await asyncio.sleep(SETTLE_S)
            written = pairs(min(count, 10 * scenarios.KEYS), scenarios.VALUE_BYTES)
            gc.collect()
            await self._turn(curve, cluster, "put", count, written=written, clients=CONNECTIONS)
            await asyncio.sleep(SETTLE_S)
            self._note(curve, "hold", system, count, _held(cluster))
            begun_s = time.monotonic()
            await asyncio.to_thread(_stop_all, cluster)
            stopped_s = time.monotonic()
            await asyncio.to_thread(_start_all, cluster)
            started_s = time.monotonic()
            numbers = {"seconds": started_s - stopped_s, "stop_s": stopped_s - begun_s}
            self._note(curve, "start", system, count, numbers)


def _requests(cluster: Measured, count: int, batch: int) -> Iterator[bytes]:
    """Built while filling, from values that repeat: ten million are not held at once."""
    values = [value for _, value in pairs(1000, scenarios.VALUE_BYTES)]
    for start in range(0, count, batch):
        each = [(number, values[number % len(values)]) for number in range(start, min(count, start + batch))]
        yield from batches(cluster.dialect, each, batch).requests


def _held(cluster: Measured) -> Numbers:
    """What the largest node takes: memory of its own by all its processes, besides pages of files, and disk."""
    own: dict[str, float] = {}
    rss: dict[str, float] = {}
    for one in cluster.parts():
        found = processes.memory(one.pid)
        own[one.node] = own.get(one.node, 0) + found.anonymous_kib / 1024
        rss[one.node] = rss.get(one.node, 0) + found.pss_kib / 1024
    disk = {node: _disk_mib(cluster.home, node) for node in cluster.nodes}
    numbers = {"own_mib": max(own.values()), "pss_mib": max(rss.values()), "disk_mib": max(disk.values())}
    return numbers | _snapshot(cluster)


def _disk_mib(home: Path, node: str) -> float:
    files = [path for part in (home / node, home / "data" / node) for path in part.rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files) / (1 << 20)


_SNAPSHOTS: Final = re.compile(rb"raftkv_snapshot_make_duration_seconds_(sum|count)(?:{[^}]*})? ([0-9.e+-]+)")


def _snapshot(cluster: Measured) -> Numbers:
    """How long a snapshot took on average since the nodes started, if any was made."""
    if cluster.name != "raft":
        return {}
    total = {b"sum": 0.0, b"count": 0.0}
    for node in cluster.nodes:
        answer = cluster.ask(node, paths.METRICS, 5.0)
        for kind, value in _SNAPSHOTS.findall(b"" if answer is None else answer[1]):
            total[kind] += float(value)
    return {"snapshot_s": total[b"sum"] / total[b"count"]} if total[b"count"] else {}


def _stop_all(cluster: Measured) -> None:
    for node in list(cluster.processes):
        cluster.stop(node)


def _start_all(cluster: Measured) -> None:
    cluster.start()
    wait_until(
        lambda: (
            all(map(cluster.is_ready, cluster.nodes))
            and (not cluster.has_leader or any(standing.leads for standing in cluster.standings().values()))
        ),
        f"{cluster.name} to be ready again",
        20 * READY_S,
    )


def draw_all(curves: Curves, folder: Path) -> list[Path]:
    """Draw every curve of which something is stored, as SVG and PNG; returns where."""
    found = []
    for name in {point.curve for point in curves.points if point.turns}:
        for suffix in (".svg", ".png"):
            path = folder / f"{name}{suffix}"
            draw(CURVES[name], curves).save(path)
            found.append(path)
    return sorted(found)


@click.command()
@click.option(
    "--curve", "names", multiple=True, type=click.Choice(list(CURVES)), help="Repeatable; default: all but keys."
)
@click.option("--system", "systems", multiple=True, default=("etcd", "raft"), show_default=True)
@seconds_option
@click.option("--rounds", default=3, show_default=True, help="Turns of each place; keys have one.")
@click.option(
    "--budget", "budget_s", default=1800.0, show_default=True, help="Begin no further turn after so many seconds."
)
@click.option("--max-x", default=1e9, help="Leave out places beyond this.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS / "curves", show_default=True)
@click.option("--draw", "is_drawing", is_flag=True, help="Only draw what is stored.")
@data_dir_option
def main(
    *,
    names: tuple[str, ...],
    systems: tuple[str, ...],
    seconds: float,
    rounds: int,
    budget_s: float,
    max_x: float,
    out: Path,
    is_drawing: bool,
    data_dir: Path | None,
) -> None:
    """Measure curves of raftkv beside etcd's gateway, and draw them."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    path = out / "curves.json"
    curves = load_curves(path)
    if "etcd" in systems and etcd_program() is None:
        console.print("etcd is not installed (Debian: apt install etcd-server): raftkv is measured alone.")
        systems = tuple(system for system in systems if system != "etcd")

    async def work(home: Path) -> None:
        curves.surroundings.append(observe(home))
        end_s = time.monotonic() + budget_s
        run = _Run(curves, path, home, seconds=seconds, rounds=rounds, end_s=end_s, console=console)
        try:
            for name in names or [name for name in CURVES if name != "keys"]:
                await run.curve(_up_to(CURVES[name], max_x), systems)
        except _OverError:
            console.print("the budget is spent; the same command goes on")

    if not is_drawing:
        run_at(data_dir, work)
    for drawn in draw_all(curves, out):
        console.print(f"drawn: {click.format_filename(drawn)}")


def _up_to(curve: Curve, max_x: float) -> Curve:
    return msgspec.structs.replace(curve, xs=tuple(x for x in curve.xs if x <= max_x))


if __name__ == "__main__":
    main()
