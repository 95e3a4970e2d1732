"""``python -m bench.large``: a state of 10 GB and more under a writer: snapshots, a backup, a new member, a restore.

One node in raft mode is filled with random values; history has each once more, so half as much as the state is written.
The log may grow to a tenth of that (``docs/scaling.rst`` says why). A writer overwrites keys at a fixed rate, so that
snapshots are due,

- ``snapshot``: until two snapshots more are there;
- ``backup``: until ``raftkv backup`` is done, and has proved its file;
- ``join``: until a second node that was started empty votes.

At last the backup is restored into a new cluster of one. For each phase: how long it took, and what the writer saw: the
longest time without any write being acknowledged, and the slowest writes. With ``--home`` the data stays, and what is
done is not done again. Disk: six times the state at once.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench.surroundings import Surroundings, in_new_folder, json_option, observe, store
from raftkv.client import Client, RaftkvError
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError, Site, loopback_sites, wait_until
from raftkv.process.command import module

VALUE_BYTES = 64 << 10
FILLERS = 2
PATIENCE_S = 3600.0
SLOW_MS = 1000.0
LEAST_FREE_BYTES = 6 << 30
"""With less than this left on the disk a phase is given up: others need some."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One phase: ``stop_s`` is the longest time in which no write was acknowledged while one waited."""

    name: str
    seconds: float
    state_bytes: int
    writes: int = 0
    stop_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    slow: tuple[tuple[float, float], ...] = ()
    errors: tuple[str, ...] = ()
    load_average_1m: float = 0.0


class Large(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    phases: tuple[Phase, ...] = ()


class _Writer(threading.Thread):
    """Overwrites keys, one after the other, at a fixed rate: a stop lets the next be late, and is seen by each."""

    def __init__(self, url: str, keys: int, rate_per_s: float) -> None:
        super().__init__(daemon=True)
        self._client = Client([url], timeout_s=60)
        self._keys, self._rate_per_s = keys, rate_per_s
        self._ended = threading.Event()
        self.begun_s = time.monotonic()
        self.seen: list[tuple[float, float]] = []
        self.errors: list[str] = []

    def run(self) -> None:
        """See ``Thread``."""
        number = 0
        while not self._ended.wait(max(0.0, self.begun_s + number / self._rate_per_s - time.monotonic())):
            number += 1
            before_s = time.monotonic()
            try:
                self._client.set(f"k{(number * 7919) % self._keys:09d}", os.urandom(VALUE_BYTES))
            except RaftkvError as error:
                self.errors.append(str(error))
            after_s = time.monotonic()
            self.seen.append((round(after_s - self.begun_s, 3), after_s - before_s))

    def end(self) -> None:
        """Write no more."""
        self._ended.set()
        self.join()
        self._client.close()


class _Run:
    def __init__(self, home: Path, gib: float, rate_per_s: float, console: Console) -> None:
        self._home, self._console, self._rate_per_s = home, console, rate_per_s
        self._keys = int(gib * (1 << 30) / 2 / VALUE_BYTES)
        self._sections = f"[raft]\nsnapshot_log_bytes = {max(64 << 20, int(gib * (1 << 30) / 10))}\n"
        self._notes = home / "large.json"
        self.large = Large(surroundings=observe(home))
        if self._notes.exists():
            self.large = msgspec.json.decode(self._notes.read_bytes(), type=Large)

    def _knows(self, name: str) -> bool:
        return any(phase.name == name for phase in self.large.phases)

    def _note(self, phase: Phase) -> None:
        self.large = msgspec.structs.replace(self.large, phases=(*self.large.phases, phase))
        self._notes.write_bytes(msgspec.json.format(msgspec.json.encode(self.large), indent=1))
        self._console.print(table(self.large))

    def all(self) -> None:
        """Every phase that is not done yet."""
        home = self._home / "old"
        home.mkdir(exist_ok=True)
        sites = _sites(self._home)
        file = self._home / "backup"
        if not self._knows("fill"):
            with LocalCluster(home, sites[:1], self._sections, obedient=False) as cluster:
                self._fill(cluster)
        if not self._knows("join"):
            with LocalCluster(home, sites[:1], self._sections, newcomers=sites[1:], obedient=False) as cluster:
                begun_s = time.monotonic()
                cluster.start("n1")
                wait_until(lambda: cluster.is_ready("n1"), "n1 to be ready", PATIENCE_S)
                if not self._knows("start"):
                    self._note(
                        Phase(name="start", seconds=time.monotonic() - begun_s, state_bytes=_state_bytes(cluster))
                    )
                self._phase(cluster, "snapshot", lambda: self._snapshots(cluster))
                self._phase(
                    cluster, "backup", lambda: self._command("backup", str(file), "--config", str(cluster.config))
                )
                self._phase(cluster, "join", lambda: self._join(cluster))
        self._restore(file)

    def _fill(self, cluster: LocalCluster) -> None:
        cluster.start()
        cluster.wait_ready()
        begun_s = time.monotonic()
        seen: list[tuple[float, float]] = []
        url = f"http://{cluster.sites['n1'].http}"

        def pour(part: int) -> None:
            with Client([url], timeout_s=60) as client:
                for number in range(part, self._keys, FILLERS):
                    before_s = time.monotonic()
                    client.set(f"k{number:09d}", os.urandom(VALUE_BYTES))
                    after_s = time.monotonic()
                    seen.append((round(after_s - begun_s, 3), after_s - before_s))

        threads = [threading.Thread(target=pour, args=(part,), daemon=True) for part in range(FILLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._note(_phase_of("fill", time.monotonic() - begun_s, _state_bytes(cluster), seen, []))
        cluster.stop("n1")

    def _phase(self, cluster: LocalCluster, name: str, work: Callable[[], None]) -> None:
        if self._knows(name):
            return
        with self._writing(cluster) as writer:
            begun_s = time.monotonic()
            try:
                work()
            except BaseException:
                name += ", broken off"  # what the writer saw until then is worth knowing
                raise
            finally:
                seconds = time.monotonic() - begun_s
                self._note(_phase_of(name, seconds, _state_bytes(cluster), [*writer.seen], [*writer.errors]))

    @contextmanager
    def _writing(self, cluster: LocalCluster) -> Iterator[_Writer]:
        writer = _Writer(f"http://{cluster.sites['n1'].http}", self._keys, self._rate_per_s)
        writer.start()
        try:
            yield writer
        finally:
            writer.end()

    def _snapshots(self, cluster: LocalCluster) -> None:
        bodies = cluster.data_dir("n1") / "snapshots"

        def newest() -> int:
            return max((int(path.stem) for path in bodies.glob("*.manifest")), default=0)

        first = newest()
        self._wait(lambda: newest() >= first + 2, "two snapshots")

    def _join(self, cluster: LocalCluster) -> None:
        cluster.start("n2")

        def votes() -> bool:
            status = cluster.status("n1")
            return status is not None and any(one.id == "n2" and one.state == "voter" for one in status.members)

        self._wait(votes, "the new member to vote")

    def _restore(self, file: Path) -> None:
        if self._knows("restore") or not file.exists():
            return
        home = self._home / "new"
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(self._home / "old")  # the disk may not hold both
        home.mkdir()
        with LocalCluster(home, loopback_sites(1), name="new", obedient=False) as cluster:
            begun_s = time.monotonic()
            self._command("restore", str(file), "--config", str(cluster.config))
            restored_s = time.monotonic()
            cluster.start()
            wait_until(lambda: cluster.is_ready("n1"), "the restored node", PATIENCE_S)
            size = _state_bytes(cluster)
            self._note(Phase(name="restore", seconds=restored_s - begun_s, state_bytes=size))
            self._note(
                Phase(name="start of what was restored", seconds=time.monotonic() - restored_s, state_bytes=size)
            )
        shutil.rmtree(home)

    def _command(self, *arguments: str) -> None:
        process = subprocess.Popen(module("raftkv", *arguments), stdout=subprocess.DEVNULL)
        try:
            self._wait(lambda: process.poll() is not None, f"raftkv {arguments[0]}")
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise ClusterError(f"raftkv {arguments[0]} ended with status {process.returncode}")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def done() -> bool:
            if shutil.disk_usage(self._home).free < LEAST_FREE_BYTES:
                raise ClusterError(f"the disk is nearly full while waiting for {what}")
            return condition()

        wait_until(done, what, PATIENCE_S)


def _sites(home: Path) -> tuple[Site, ...]:
    """The same addresses each time, as the data knows them."""
    path = home / "sites.json"
    if not path.exists():
        path.write_bytes(msgspec.json.encode(loopback_sites(2)))
    return msgspec.json.decode(path.read_bytes(), type=tuple[Site, ...])


def _state_bytes(cluster: LocalCluster) -> int:
    files = (cluster.data_dir("n1") / "state").rglob("data.mdb")
    return sum(path.stat().st_blocks * 512 for path in files)


def _phase_of(name: str, seconds: float, state_bytes: int, seen: list[tuple[float, float]], errors: list[str]) -> Phase:
    took = sorted(latency_s for _, latency_s in seen)
    ends = sorted(seen)
    # While one write waits for long, others wait beside it: between two answers nobody was answered.
    stops = [min(latency_s, now - before) for (before, _), (now, latency_s) in itertools.pairwise(ends)]
    return Phase(
        name=name,
        seconds=seconds,
        state_bytes=state_bytes,
        writes=len(seen),
        stop_s=max(stops, default=0.0),
        p50_ms=took[len(took) // 2] * 1000 if took else 0.0,
        p99_ms=took[len(took) * 99 // 100] * 1000 if took else 0.0,
        slow=tuple(sorted(seen, key=lambda one: -one[1])[:20]),
        errors=tuple(errors[:20]),
        load_average_1m=os.getloadavg()[0],
    )


def table(large: Large) -> Table:
    """One line for each phase."""
    found = Table(title="a large state under a writer")
    for heading in ("phase", "seconds", "state, GB", "writes", "longest stop, s", "p50 ms", "p99 ms", "errors", "load"):
        found.add_column(heading, justify="left" if heading == "phase" else "right")
    for one in large.phases:
        written = (f"{one.stop_s:.2f}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", str(len(one.errors)))
        found.add_row(
            one.name,
            f"{one.seconds:,.1f}",
            f"{one.state_bytes / 1e9:.1f}",
            f"{one.writes:,}" if one.writes else "",
            *(written if one.writes else ("",) * 4),
            f"{one.load_average_1m:.1f}" if one.load_average_1m else "",
        )
    return found


@click.command()
@click.option("--gib", default=10.0, show_default=True, help="Size of the state.")
@click.option("--rate", "rate_per_s", default=100.0, show_default=True, help="Writes a second, of 64 KiB each.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Keep the data here, and go on.")
@json_option
def main(*, gib: float, rate_per_s: float, home: Path | None, json_path: Path | None) -> None:
    """Fill a node, and see what stops while it makes snapshots and backups and a member joins."""
    console = Console(width=120, highlight=False)

    def work(folder: Path) -> None:
        run = _Run(folder, gib, rate_per_s, console)
        run.all()
        console.print(f"stored in {click.format_filename(store(run.large, 'large', json_path))}")

    if home is None:
        in_new_folder(None, work)
    else:
        home.mkdir(parents=True, exist_ok=True)
        try:
            work(home)
        except ClusterError as error:
            raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
