"""``python -m bench.profile``: CPU microseconds per request, by process and by layer of the code, in both modes.

The CPU of each process is the kernel's figure over the measured seconds. How it divides among the layers is sampled
inside the process (``bench.sampling``), once each kernel tick of CPU time: of 1,000 samples, a share of 10 % is right
within 1 % or 2. The innermost frame of raftkv's has the sample (``bench.layers``). With ``--stacks`` the stacks are
kept in collapsed form, which flamegraph.pl and speedscope.app read.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import layers, processes, scenarios
from bench.clusters import SYSTEMS, Measured
from bench.dialects import Load, pairs
from bench.load import Measurement, measure, pour
from bench.processes import Process
from bench.sampling.sitecustomize import SIGNAL
from bench.surroundings import (
    Surroundings,
    connections_option,
    data_dir_option,
    json_option,
    observe,
    run_at,
    seconds_option,
    store,
)
from raftkv.instruments.local.nodes import wait_until

NAMES = ("put", "get", "local-get", "put-one")
MODES = ("raft", "quorum")
PARTS = ("front-ends", "leader replica", "follower replicas", "replicas", "arbiters")
SAMPLED = ("replica", "front-end")
CLIENT = "client"
LIBRARIES_SHOWN_FROM_US = 1.0
WRITTEN_WITHIN_S = 10.0


class Profiled(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario in one mode: microseconds of CPU per request, all nodes together.

    ``parts`` are by process, ``layers`` by part and layer, ``libraries`` by layer and the library that it called,
    ``functions`` by part and function, without what they call.
    """

    mode: str
    scenario: str
    measurement: Measurement
    samples: int
    parts: dict[str, float]
    layers: dict[str, dict[str, float]]
    libraries: dict[str, dict[str, float]]
    functions: dict[str, dict[str, float]]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    seconds: float
    connections: int
    profiled: tuple[Profiled, ...]


class _Window:
    """What processes spend between its two calls, while their samplers run."""

    def __init__(self, known: Mapping[Process, str]) -> None:
        self._known = known
        self.spent_s: dict[Process, float] = {}

    def __call__(self) -> float:
        now_s = {one: processes.cpu_s([one]) for one in self._known}
        self.spent_s = {one: now_s[one] - before_s for one, before_s in self.spent_s.items()} or now_s
        for one in self._known:
            if one.part in SAMPLED:
                os.kill(one.pid, SIGNAL)
        return sum(now_s.values())


async def _profile(
    cluster: Measured, name: str, load: Load, *, seconds: float, clients: int, samples: Path
) -> Profiled:
    leader = next((node for node, standing in cluster.standings().items() if standing.leads), None)
    known = {one: _part(one, leader) for one in cluster.parts()}
    window = _Window(known)
    measured = await measure(cluster.servers(), load, seconds, window, clients=clients)
    stacks = await asyncio.to_thread(_collect, name, [one for one in known if one.part in SAMPLED], samples)
    requests = max(1, measured.operations)
    parts: Counter[str] = Counter()
    found: dict[str, Counter[str]] = {}
    libraries: dict[str, Counter[str]] = {}
    functions: dict[str, Counter[str]] = {}
    seen = 0
    for one, part in known.items():
        us = window.spent_s[one] / requests * 1e6
        parts[part] += us
        lines = stacks.get(one, [])
        costs = layers.costs(lines)
        if not costs.layers:
            found.setdefault(part, Counter())[layers.OTHER] += us
            continue
        seen += costs.samples
        each = us / costs.samples
        for layer, count in costs.layers.items():
            found.setdefault(part, Counter())[layer] += count * each
            libraries.setdefault(layer, Counter()).update({key: n * each for key, n in costs.libraries[layer].items()})
        for line in lines:
            stack, _, count = line.rpartition(" ")
            functions.setdefault(part, Counter())[stack.rpartition(";")[2]] += int(count) * each
    parts[CLIENT] = measured.client_cpu_cores * seconds / requests * 1e6
    return Profiled(
        mode=cluster.name,
        scenario=name,
        measurement=measured,
        samples=seen,
        parts=dict(parts),
        layers={part: dict(each) for part, each in found.items()},
        libraries={layer: dict(each) for layer, each in libraries.items()},
        functions={part: dict(each.most_common(100)) for part, each in functions.items()},
    )


def _part(one: Process, leader: str | None) -> str:
    if one.part != "replica" or leader is None:
        return {"replica": "replicas", "front-end": "front-ends", "arbiter": "arbiters"}[one.part]
    return "leader replica" if one.node == leader else "follower replicas"


def _collect(name: str, known: Sequence[Process], samples: Path) -> dict[Process, list[str]]:
    """The stacks that each process wrote, once all have; they stay there by the ``name``. Blocks: for a thread."""
    paths = {one: samples / f"{one.pid}.collapsed" for one in known}
    wait_until(lambda: all(path.exists() for path in paths.values()), "samples to be written", WRITTEN_WITHIN_S)
    found = {one: path.read_text().splitlines() for one, path in paths.items()}
    for one, path in paths.items():
        path.rename(samples / f"{name}-{one.node}-{one.part}-{one.pid}.stacks")
    return found


def _cluster(kind: type[Measured], home: Path, samples: Path) -> Measured:
    """A cluster whose Python processes have the sampler in them."""
    cluster = kind(home)
    under = ("env", f"PYTHONPATH={Path(__file__).parent / 'sampling'}", f"BENCH_SAMPLES={samples}")
    cluster.sites = {node: msgspec.structs.replace(site, under=under) for node, site in cluster.sites.items()}
    return cluster


async def _run(
    home: Path,
    *,
    modes: Sequence[str],
    names: Sequence[str],
    seconds: float,
    connections: int,
    stacks: Path | None,
    console: Console,
) -> Profile:
    surroundings = observe(home)
    written = pairs(scenarios.KEYS, scenarios.VALUE_BYTES)
    found: list[Profiled] = []
    for mode in modes:
        samples = (stacks or home / "stacks").resolve() / mode
        samples.mkdir(parents=True, exist_ok=True)
        with _cluster(SYSTEMS[mode], home / mode, samples) as cluster:
            cluster.begin()
            for load in scenarios.preloads(cluster.dialect, written, {"put"}):
                await pour(cluster.servers(), load.requests, load.check)
            for name in names:
                scenario = next(one for one in scenarios.THROUGHPUT if one.name == name)
                load = scenarios.load(cluster.dialect, scenario.raftkv, written)
                clients = scenario.connections or connections
                one = await _profile(cluster, name, load, seconds=seconds, clients=clients, samples=samples)
                found.append(one)
                console.print(
                    f"{mode:6} {name:9} {one.measurement.operations_per_s:9,.0f} op/s, {one.samples:,} samples,"
                    f" {one.measurement.errors} errors"
                )
    return Profile(surroundings=surroundings, seconds=seconds, connections=connections, profiled=tuple(found))


# --- shown


def tables(profile: Profile, libraries: bool, functions: int) -> Iterable[Table]:  # noqa: FBT001
    """By process, by layer, by library below a layer; and the functions with most of their own, for each part."""
    yield _by_process(profile.profiled)
    yield _by_layer(profile.profiled)
    if libraries:
        yield _by_library(profile.profiled)
    for one in profile.profiled:
        for part, each in one.functions.items():
            if functions:
                yield _by_function(one, part, each, functions)


def _headed(title: str, profiled: Sequence[Profiled], first: str) -> Table:
    table = Table(title=title, padding=(0, 0, 0, 1))
    table.add_column(first, no_wrap=True)
    for one in profiled:
        words = {"local-get": "local", "put-one": "put 1"}.get(one.scenario, one.scenario)
        table.add_column(f"{one.mode}\n{words}", justify="right", no_wrap=True)
    return table


def _us(value: float) -> str:
    return f"{value:,.1f}" if 0 < value < 99.95 else f"{value:,.0f}" if value else "-"


def _by_process(profiled: Sequence[Profiled]) -> Table:
    table = _headed("CPU microseconds per request", profiled, "process")
    for part in PARTS:
        if any(part in one.parts for one in profiled):
            table.add_row(part, *[_us(one.parts.get(part, 0)) for one in profiled])
    table.add_section()
    totals = [sum(us for part, us in one.parts.items() if part != CLIENT) for one in profiled]
    table.add_row("the cluster", *map(_us, totals), style="bold")
    table.add_row("the client", *[_us(one.parts[CLIENT]) for one in profiled])
    table.add_row("operations/s", *[f"{one.measurement.operations_per_s:,.0f}" for one in profiled])
    return table


def _by_layer(profiled: Sequence[Profiled]) -> Table:
    table = _headed("the same by layer", profiled, "layer")
    summed = [Counter[str]() for _ in profiled]
    for one, total in zip(profiled, summed, strict=True):
        for each in one.layers.values():
            total.update(each)
    for layer in layers.TOLD:
        if any(total[layer] for total in summed):
            table.add_row(layer, *[_us(total[layer]) for total in summed])
    return table


def _by_library(profiled: Sequence[Profiled]) -> Table:
    table = _headed("of it in libraries", profiled, "layer: library")
    for layer in layers.TOLD:
        names = dict.fromkeys(name for one in profiled for name in one.libraries.get(layer, {}))
        for name in names:
            values = [one.libraries.get(layer, {}).get(name, 0) for one in profiled]
            if name != "raftkv" and max(values) >= LIBRARIES_SHOWN_FROM_US:
                table.add_row(f"{layer}: {name}", *map(_us, values))
    return table


def _by_function(one: Profiled, part: str, functions: Mapping[str, float], shown: int) -> Table:
    table = Table(title=f"{one.mode}, {one.scenario}, {part}: {_us(one.parts[part])} us per request")
    table.add_column("own us", justify="right")
    table.add_column("function")
    for name, us in Counter(functions).most_common(shown):
        table.add_row(_us(us), name)
    return table


@click.command()
@seconds_option
@click.option("--mode", "modes", multiple=True, default=MODES, show_default=True, type=click.Choice(MODES))
@click.option("--scenario", "names", multiple=True, default=NAMES, show_default=True, type=click.Choice(NAMES))
@connections_option
@click.option("--libraries", is_flag=True, help="Show what layers spend in libraries.")
@click.option("--functions", default=0, help="Show so many functions of each process.")
@click.option("--stacks", type=click.Path(file_okay=False, path_type=Path), help="Keep the stacks here.")
@data_dir_option
@json_option
def main(
    *,
    seconds: float,
    modes: tuple[str, ...],
    names: tuple[str, ...],
    connections: int,
    libraries: bool,
    functions: int,
    stacks: Path | None,
    data_dir: Path | None,
    json_path: Path | None,
) -> None:
    """Profile three-node clusters under load: what a request costs, by process and by layer."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)

    def work(home: Path) -> Coroutine[None, None, Profile]:
        chosen = {"seconds": seconds, "connections": connections, "stacks": stacks}
        return _run(home, modes=modes, names=names, console=console, **chosen)

    found = run_at(data_dir, work)
    for table in tables(found, libraries, functions):
        console.print(table)
    console.print(f"load average at the start: {found.surroundings.load_average_1m:.1f}")
    console.print(f"stored in {click.format_filename(store(found, 'profile', json_path))}")


if __name__ == "__main__":
    main()
