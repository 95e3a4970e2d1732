"""``python -m bench.store``: what one replica of the leaderless mode pays for its data, apart from network and quorums.

RocksDB on the disk of the chosen directory. Every figure is the median of some rounds, per key unless it says
otherwise: the time that passed, and the CPU time of the calling thread, which a busy machine disturbs less. A synced
commit is mostly the disk's own time, so the disk is measured beside it with a bare ``fdatasync``.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table as Printed

from raftkv.formats.rows import TABLES
from raftkv.formats.versions import KeyState, Version
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.trees import Trees
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.membership.ring import POSITIONS, Range
from raftkv.storage.engines.rocks import RocksEngine

VALUE_BYTES = 100
BATCH_KEYS = 1_000
ROUNDS = 9
WHOLE = Range(0, POSITIONS - 1)


class Replica:
    """A store, its trees, and the counter of its next write."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(RocksEngine(directory, TABLES), CONFLICTS["lww"])
        self.trees = Trees(self.store.scan_order)
        self.trees.set_ranges((WHOLE,))
        self.counter = 1_800_000_000_000_000
        self.dice = random.Random(1)

    def put(self, keys: int, of: int) -> None:
        """Write ``keys`` random ones of the first ``of``, in one commit."""
        for _ in range(keys):
            self.counter += 1
            key = b"key-%08d" % self.dice.randrange(of)
            value = self.dice.randbytes(VALUE_BYTES)
            self.store.stage(key, KeyState((Version(self.counter, "n1", value),)))
        self.store.commit()

    def get(self, keys: int, of: int) -> None:
        """Read ``keys`` random ones of the first ``of``."""
        for _ in range(keys):
            self.store.read(b"key-%08d" % self.dice.randrange(of))

    def hash_all(self) -> None:
        """Make the tree of everything anew."""
        self.trees.set_ranges(())
        self.trees.set_ranges((WHOLE,))
        self.trees.leaves(WHOLE)
        while self.trees.is_busy:
            self.trees.grow(2_000)


def _timed(action: Callable[[], object], count: int = 1, rounds: int = ROUNDS) -> tuple[float, float]:
    """Microseconds, passed and of CPU, for each of the ``count`` things that ``action`` does: medians of ``rounds``."""
    passed, worked = [], []
    for _ in range(rounds):
        begun_s, begun_cpu_s = time.perf_counter(), time.thread_time()
        action()
        worked.append((time.thread_time() - begun_cpu_s) / count * 1e6)
        passed.append((time.perf_counter() - begun_s) / count * 1e6)
    return median(passed), median(worked)


def _bare_sync(directory: Path) -> Callable[[], None]:
    descriptor = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT)

    def append() -> None:
        os.write(descriptor, bytes(VALUE_BYTES))
        os.fdatasync(descriptor)

    return append


def _measure(home: Path, keys: int) -> list[tuple[str, tuple[float, float]]]:
    replica = Replica(home / "data")
    store = replica.store
    rows = [("the disk alone: append and fdatasync", _timed(_bare_sync(home), rounds=200))]
    for _ in range(2 * keys // BATCH_KEYS):
        replica.put(BATCH_KEYS, keys)
    held = sum(1 for _ in store.scan_order(WHOLE))
    rows += [
        ("put, one synced commit each", _timed(lambda: replica.put(1, keys), rounds=200)),
        (f"put, a synced commit of {BATCH_KEYS}", _timed(lambda: replica.put(BATCH_KEYS, keys), BATCH_KEYS)),
        ("get", _timed(lambda: replica.get(BATCH_KEYS, keys), BATCH_KEYS)),
        ("scan of keys and states", _timed(lambda: sum(1 for _ in store.scan(b"", None)), held)),
        ("scan of the ring order", _timed(lambda: sum(1 for _ in store.scan_order(WHOLE)), held)),
        ("purge that finds nothing", _timed(lambda: store.purge(0, 0, b"", held + 1), held)),
        ("making the tree", _timed(replica.hash_all, held)),
    ]
    store.on_change = replica.trees.changed
    rows.append(
        (f"put, a synced commit of {BATCH_KEYS}, tree kept", _timed(lambda: replica.put(BATCH_KEYS, keys), BATCH_KEYS))
    )
    store.close()

    def open_and_close() -> None:
        Replica(home / "data").store.close()

    rows.append(("opening and closing the directory", _timed(open_and_close, rounds=3)))
    return rows


@click.command()
@click.option("--keys", default=100_000, show_default=True, help="How many keys the store is filled with.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="On which disk; a temporary one.")
def main(keys: int, directory: Path | None) -> None:
    """Measure the store of one replica."""
    with tempfile.TemporaryDirectory(dir=directory) as home:
        printed = Printed(title=f"{keys} keys, {VALUE_BYTES}-byte values")
        printed.add_column("")
        for heading in ("passed, µs", "CPU, µs"):
            printed.add_column(heading, justify="right")
        for name, taken_us in _measure(Path(home), keys):
            printed.add_row(name, *(f"{one:,.2f}" for one in taken_us))
    Console().print(printed)


if __name__ == "__main__":
    main()
