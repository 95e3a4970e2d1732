"""``python -m bench.memory``: what each process holds after a million keys were loaded through ``/batch``.

RSS counts every resident page, also those of the mapped state file, which the kernel takes back when it needs them; PSS
divides pages among the processes that share them; the process's own memory is the anonymous part. All three are shown.
The load is checked: every node must have applied the same log and answer sampled keys from its own state.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.clusters import EtcdCluster, Measured, RaftkvCluster, etcd_program
from bench.dialects import Pair, batches, gets, pairs
from bench.load import pour
from bench.processes import Memory
from bench.surroundings import Surroundings, data_dir_option, json_option, observe, run_at, store
from raftkv.instruments.load.engine import LoadTarget
from raftkv.instruments.local.nodes import ClusterError

CONNECTIONS = 6
SAMPLES = 1_000
CAUGHT_UP_WITHIN_S = 120.0
TARGET_REPLICA_MIB = 400
ETCD_BATCH_LIMIT = 128


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One process and its memory once the load is done and settled."""

    node: str
    part: str
    memory: Memory


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """One system after the load; ``disk_bytes`` is what each node's directory takes on disk."""

    system: str
    keys: int
    value_bytes: int
    seconds: float
    held: tuple[Held, ...]
    disk_bytes: dict[str, int]


class MemoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    loaded: tuple[Loaded, ...]


async def load_and_weigh(cluster: Measured, all_pairs: Sequence[Pair], batch: int, settle_s: float) -> Loaded:
    """Load every pair once, check that every node has them, wait, and look at the processes."""
    size = min(batch, ETCD_BATCH_LIMIT) if cluster.name == "etcd" else batch
    servers = cluster.servers()
    check = batches(cluster.dialect, all_pairs[:1], 1).check
    started_s = time.monotonic()
    await pour(servers, _requests(cluster, all_pairs, size), check, clients=CONNECTIONS)
    seconds = time.monotonic() - started_s
    await _caught_up(cluster)
    await _sample(cluster, all_pairs)
    await asyncio.sleep(settle_s)
    held = [Held(node=one.node, part=one.part, memory=processes.memory(one.pid)) for one in cluster.parts()]
    return Loaded(
        system=cluster.name,
        keys=len(all_pairs),
        value_bytes=len(all_pairs[0][1]),
        seconds=seconds,
        held=tuple(held),
        disk_bytes={node: _disk_bytes(cluster.home, node) for node in cluster.nodes},
    )


def _requests(cluster: Measured, all_pairs: Sequence[Pair], size: int) -> Iterator[bytes]:
    """Built while loading, so that a million of them need not be held at once."""
    slices = (all_pairs[start : start + size] for start in range(0, len(all_pairs), size))
    return itertools.chain.from_iterable(batches(cluster.dialect, one, size).requests for one in slices)


async def _caught_up(cluster: Measured) -> None:
    deadline_s = time.monotonic() + CAUGHT_UP_WITHIN_S
    while time.monotonic() < deadline_s:
        standings = cluster.standings()
        if len(standings) == len(cluster.nodes) and len({one.applied_index for one in standings.values()}) == 1:
            return
        await asyncio.sleep(0.5)
    raise ClusterError(f"{cluster.name}: the nodes did not reach the same log index: {standings}")


async def _sample(cluster: Measured, all_pairs: Sequence[Pair]) -> None:
    """Every node answers keys from all over the load out of its own state."""
    keys = [key for key, _ in all_pairs[:: max(1, len(all_pairs) // SAMPLES)]]
    load = gets(cluster.dialect, keys, local=True)
    for node in cluster.nodes:
        http = cluster.sites[node].http
        await pour([LoadTarget(http.host, http.port)], load.requests, load.check)


def _disk_bytes(home: Path, node_id: str) -> int:
    """Blocks really taken below the node's directory; a sparse file counts what it holds."""
    found = 0
    for directory in (home / node_id, home / "data" / node_id):
        for path in directory.rglob("*"):
            if path.is_file():
                found += path.stat().st_blocks * 512
    return found


def table(loaded: Loaded) -> Table:
    """One line for each process, in MiB."""
    load = f"{loaded.keys:,} keys of {loaded.value_bytes} bytes in {loaded.seconds:.1f} s"
    found = Table(title=f"{loaded.system}: {load} ({loaded.keys / loaded.seconds:,.0f}/s); MiB")
    for heading in ("node", "part", "RSS", "target", "PSS", "anonymous", "file", "peak RSS", "disk of the node"):
        found.add_column(heading, justify="left" if heading in ("node", "part") else "right")
    for one in loaded.held:
        memory, is_replica = one.memory, one.part in ("replica", "etcd")
        color = "green" if memory.rss_kib < TARGET_REPLICA_MIB * 1024 else "red"
        found.add_row(
            one.node,
            one.part,
            f"[{color}]{_mib(memory.rss_kib)}[/]" if is_replica else _mib(memory.rss_kib),
            f"< {TARGET_REPLICA_MIB}" if is_replica else "",
            _mib(memory.pss_kib),
            _mib(memory.anonymous_kib),
            _mib(memory.file_kib),
            _mib(memory.peak_kib),
            _mib(loaded.disk_bytes[one.node] // 1024) if is_replica else "",
        )
    return found


def _mib(kib: int) -> str:
    return f"{kib / 1024:,.1f}"


async def _weigh(
    home: Path,
    systems: Sequence[type[Measured]],
    all_pairs: Sequence[Pair],
    *,
    batch: int,
    settle_s: float,
    console: Console,
) -> MemoryReport:
    """One system after the other: here nothing is compared by time."""
    surroundings = observe(home)
    found = []
    for system in systems:
        with system(home / system.name) as cluster:
            cluster.begin()
            found.append(await load_and_weigh(cluster, all_pairs, batch, settle_s))
        console.print(table(found[-1]))
    return MemoryReport(surroundings=surroundings, loaded=tuple(found))


@click.command()
@click.option("--keys", default=1_000_000, show_default=True)
@click.option("--value-bytes", default=100, show_default=True)
@click.option("--batch", default=500, show_default=True, help=f"Puts in a request; etcd: at most {ETCD_BATCH_LIMIT}.")
@click.option(
    "--settle-seconds",
    default=40.0,
    show_default=True,
    help="Wait after the load: memory is given back twice a minute.",
)
@click.option("--etcd", "with_etcd", is_flag=True, help="Load etcd too, by transactions, for comparison.")
@data_dir_option
@json_option
def main(
    *,
    keys: int,
    value_bytes: int,
    batch: int,
    settle_seconds: float,
    with_etcd: bool,
    data_dir: Path | None,
    json_path: Path | None,
) -> None:
    """Load a three-node cluster and show what each of its processes holds, in MiB."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    systems: list[type[Measured]] = [RaftkvCluster]
    if with_etcd and etcd_program() is None:
        console.print("etcd is not installed (Debian: apt install etcd-server): only raftkv is weighed.")
    elif with_etcd:
        systems.append(EtcdCluster)
    all_pairs = pairs(keys, value_bytes)
    found = run_at(
        data_dir,
        lambda home: _weigh(home, systems, all_pairs, batch=batch, settle_s=settle_seconds, console=console),
    )
    console.print(f"stored in {click.format_filename(store(found, 'memory', json_path))}")


if __name__ == "__main__":
    main()
