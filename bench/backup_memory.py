"""``python -m bench.backup_memory``: what a backup, its proof and a restore hold in memory, at several sizes.

One node, filled with random values, is backed up by ``raftkv backup`` while nothing else happens; the file is proved, a
new cluster is made of it, and that is started. Every process is looked at ten times a second. Its own memory is the
anonymous part; the peak of RSS counts, besides, pages of mapped files, which the kernel takes back when it needs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench.processes import own_and_peak_kib
from bench.surroundings import Surroundings, data_dir_option, in_new_folder, json_option, observe, store
from raftkv.client import Client
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError, loopback_sites, wait_until
from raftkv.instruments.local.processes import descendants
from raftkv.process.command import module

VALUE_BYTES = 64 << 10
WRITERS = 4
LOOK_S = 0.1
READY_WITHIN_S = 1800.0
COMMAND_S = 7200.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The most that one process held, while this was done; ``own_kib`` is anonymous memory."""

    doing: str
    part: str
    own_kib: int
    peak_kib: int


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """One size: how large the backup came out, how long each step took, and who held what."""

    mode: str
    backup_bytes: int
    seconds: dict[str, float]
    held: tuple[Held, ...]


class BackupMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    sizes: tuple[Sized, ...]


class Weighing:
    """Looks at processes while something is done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._most: dict[tuple[str, str], tuple[int, int]] = {}

    @property
    def held(self) -> tuple[Held, ...]:
        return tuple(
            Held(doing=doing, part=part, own_kib=own, peak_kib=peak)
            for (doing, part), (own, peak) in self._most.items()
        )

    @contextmanager
    def during(self, doing: str, roots: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Weigh ``roots`` and all that they start, again and again."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_S):
                for root in roots():
                    for pid in descendants(root):
                        self._look(doing, pid)

        watcher = threading.Thread(target=look)
        started_s = time.monotonic()
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.seconds[doing] = round(time.monotonic() - started_s, 1)

    def _look(self, doing: str, pid: int) -> None:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            own, peak = own_and_peak_kib(pid)
        except OSError:
            return
        if b"-m" not in command:
            return
        name = command[command.index(b"-m") + 1].decode()
        part = f"raftkv {command[command.index(b'-m') + 2].decode()}" if name == "raftkv" else name
        known_own, known_peak = self._most.get((doing, part), (0, 0))
        self._most[doing, part] = max(own, known_own), max(peak, known_peak)


def weigh(home: Path, mode: Literal["raft", "quorum"], size_bytes: int) -> Sized:
    """Go through it all once, with a backup of about ``size_bytes``."""
    home.mkdir()
    weighing, file = Weighing(), home / "backup"
    sections = "[quorum]\nn = 1\nr = 1\nw = 1\n" if mode == "quorum" else ""
    (home / "old").mkdir()
    with LocalCluster(home / "old", loopback_sites(1), sections, mode=mode, obedient=False) as old:
        old.start()
        old.wait_ready()
        with weighing.during("fill", lambda: [one.pid for one in old.processes.values()]):
            _fill(old, size_bytes // (2 if mode == "raft" else 1))  # history has each value once more
        _command(weighing, "backup", old, "backup", str(file))
        old.stop("n1")
    shutil.rmtree(home / "old" / "data")
    _command(weighing, "verify", None, "backup", "verify", str(file))
    (home / "new").mkdir()
    with LocalCluster(home / "new", loopback_sites(1), sections, mode=mode, obedient=False) as new:
        _command(weighing, "restore", None, "restore", str(file), "--config", str(new.config))
        with weighing.during("start", lambda: [one.pid for one in new.processes.values()]):
            new.start()
            wait_until(lambda: new.is_ready("n1"), "the new cluster", READY_WITHIN_S)
    size = file.stat().st_size
    shutil.rmtree(home)
    return Sized(mode=mode, backup_bytes=size, seconds=weighing.seconds, held=weighing.held)


def _fill(cluster: LocalCluster, size_bytes: int) -> None:
    address = cluster.sites["n1"].http
    with Client([f"http://{address}"], timeout_s=60) as client, ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(
            lambda one: client.set(f"k{one:09d}", os.urandom(VALUE_BYTES)), range(size_bytes // VALUE_BYTES)
        ):
            pass


def _command(weighing: Weighing, doing: str, cluster: LocalCluster | None, *arguments: str) -> None:
    more = () if cluster is None else ("--config", str(cluster.config), "--timeout", "60")
    process = subprocess.Popen(module("raftkv", *arguments, *more), stdout=subprocess.DEVNULL)
    nodes = [] if cluster is None else [one.pid for one in cluster.processes.values()]
    with weighing.during(doing, lambda: [process.pid, *nodes]):
        status = process.wait(COMMAND_S)
    if status:
        raise ClusterError(f"raftkv {doing} ended with status {status}")


def table(sizes: Sequence[Sized]) -> Table:
    """One line for each process of each step; own memory and peak RSS by size, in MiB."""
    found = Table(title="own memory / peak RSS, in MiB")
    for heading in ("mode", "step", "process"):
        found.add_column(heading)
    for one in sizes:
        found.add_column(f"{one.backup_bytes / (1 << 30):.2f} GiB", justify="right")
    for mode, doing, part in dict.fromkeys([(one.mode, held.doing, held.part) for one in sizes for held in one.held]):
        cells = []
        for one in sizes:
            held = next((held for held in one.held if (one.mode, held.doing, held.part) == (mode, doing, part)), None)
            cells.append("-" if held is None else f"{held.own_kib / 1024:.0f} / {held.peak_kib / 1024:.0f}")
        found.add_row(mode, doing, part, *cells)
    for doing in sizes[0].seconds:
        found.add_row("", doing, "seconds", *[str(one.seconds[doing]) for one in sizes])
    return found


@click.command()
@click.option("--gib", "sizes", type=float, multiple=True, default=(0.5, 2.0), show_default=True, help="Of the backup.")
@click.option("--mode", type=click.Choice(["raft", "quorum"]), default="raft", show_default=True)
@data_dir_option
@json_option
def main(
    sizes: tuple[float, ...], mode: Literal["raft", "quorum"], data_dir: Path | None, json_path: Path | None
) -> None:
    """Weigh backup, proof, restore and the first start after it. Needs about four times the largest size on disk."""

    def work(home: Path) -> None:
        surroundings = observe(home)
        weighed = []
        for number, gib in enumerate(sizes):
            weighed.append(weigh(home / str(number), mode, int(gib * (1 << 30))))
            Console(width=120).print(table(weighed))
        store(BackupMemory(surroundings=surroundings, sizes=tuple(weighed)), f"backup_memory_{mode}", json_path)

    in_new_folder(data_dir, work)


if __name__ == "__main__":
    sys.exit(main())
