"""``python -m bench.profile``: where raftkv's processes spend their time under one scenario's load, by py-spy.

For each process the stacks are stored in collapsed form (flamegraph.pl and speedscope.app read it) and the functions
that hold the interpreter most are printed. Without py-spy only the CPU of each process is shown, and a line says so.
Sampling costs something, so the operations per second printed here are no benchmark.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import processes, scenarios
from bench.clusters import RaftkvCluster
from bench.dialects import pairs
from bench.load import WARM_UP_S, Measurement, measure, pour
from bench.processes import Process
from bench.surroundings import RESULTS, connections_option, data_dir_option, run_at, seconds_option

SHOWN = 20
NAMES = [scenario.name for scenario in scenarios.THROUGHPUT]
RECORDER_GRACE_S = 30.0


async def _profile(
    home: Path, scenario: scenarios.Scenario, seconds: float, connections: int, console: Console
) -> None:
    with RaftkvCluster(home / "raftkv") as cluster:
        cluster.begin()
        written = pairs(scenarios.KEYS, scenarios.VALUE_BYTES)
        servers, clients = cluster.servers(), scenario.connections or connections
        for preload in scenarios.preloads(cluster.dialect, written, {scenario.raftkv}):
            await pour(servers, preload.requests, preload.check)
        leader = next((node for node, standing in cluster.standings().items() if standing.leads), "")
        known = cluster.parts()
        recorders = asyncio.create_task(asyncio.to_thread(_record, known, seconds, scenario.name, console))
        before = {one: processes.cpu_s([one]) for one in known}
        load = scenarios.load(cluster.dialect, scenario.raftkv, written)
        measured = await measure(servers, load, seconds, lambda: processes.cpu_s(known), clients=clients)
        spent = {one: processes.cpu_s([one]) - before[one] for one in known}
        console.print(_cpu_table(spent, seconds + WARM_UP_S, leader, measured))
        for process, path in (await recorders).items():
            console.print(_functions_table(process, path, leader))


def _record(known: Sequence[Process], seconds: float, name: str, console: Console) -> dict[Process, Path]:
    """Run py-spy beside every process; returns where each one's stacks were stored. Blocks: for a thread."""
    program = shutil.which("py-spy")
    if program is None:
        console.print("py-spy is not installed (pip install py-spy): only CPU by process is shown, no functions.")
        return {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    time.sleep(WARM_UP_S)
    started = {}
    for number, process in enumerate(known):
        path = RESULTS / f"profile-{stamp}-{name}-{process.node}-{process.part}-{number}.collapsed"
        command = [program, "record", "--pid", str(process.pid), "--duration", str(max(1, int(seconds)))]
        command += ["--rate", "100", "--format", "raw", "--function", "--output", str(path)]
        started[process] = (path, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    found = {}
    for process, (path, recorder) in started.items():
        try:
            _, errors = recorder.communicate(timeout=seconds + RECORDER_GRACE_S)
        except subprocess.TimeoutExpired:
            recorder.kill()
            _, errors = recorder.communicate()
        if recorder.returncode == 0 and path.exists():
            found[process] = path
        else:
            reason = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it did not end in time"]
            console.print(f"py-spy, {process.node} {process.part}: {reason[0]}", style="red", markup=False)
    return found


def _cpu_table(spent: dict[Process, float], seconds: float, leader: str, measured: Measurement) -> Table:
    rate = f"{measured.operations_per_s:,.0f} operations per second, p50 {measured.latency_ms_p50:.2f} ms"
    table = Table(title=f"{rate}, {measured.errors} errors")
    for heading in ("node", "part", "pid", "percent of a core"):
        table.add_column(heading, justify="left" if heading in ("node", "part") else "right")
    for process, cpu_s in spent.items():
        node = f"{process.node} (leader)" if process.node == leader else process.node
        table.add_row(node, process.part, str(process.pid), f"{cpu_s / seconds * 100:.1f}")
    return table


def _functions_table(process: Process, path: Path, leader: str) -> Table:
    """The functions with the most samples of their own, and with what they call."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    samples = max(1, own.total())
    leads = ", leader" if process.node == leader else ""
    table = Table(title=f"{process.node} {process.part}{leads}: {samples} samples, {path.name}")
    for heading in ("own %", "with callees %", "function"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for frame, held in own.most_common(SHOWN):
        table.add_row(f"{held / samples * 100:.1f}", f"{total[frame] / samples * 100:.1f}", frame)
    return table


@click.command()
@seconds_option
@click.option("--scenario", "name", default="put", show_default=True, type=click.Choice(NAMES))
@connections_option
@data_dir_option
def main(*, seconds: float, name: str, connections: int, data_dir: Path | None) -> None:
    """Profile every process of a three-node raftkv cluster under load."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    scenario = next(one for one in scenarios.THROUGHPUT if one.name == name)
    run_at(data_dir, lambda home: _profile(home, scenario, seconds, connections, console))


if __name__ == "__main__":
    main()
