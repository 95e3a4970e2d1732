"""``python -m bench.programs``: the five programs of a new user, how long they are and how long they take.

Lock, election, reloading configuration, counter and registry, by raftkv's client and by etcd's JSON gateway (see
``bench.user_programs``). Both systems are up for the whole run and take turns, program by program. Each call is
checked: who is in, who is found, which numbers were counted, whether the last change was heard of; what is wrong is a
fault.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.clusters import EtcdCluster, Measured, RaftkvCluster, etcd_program
from bench.surroundings import Surroundings, data_dir_option, in_new_folder, json_option, observe, seconds_option, store
from bench.user_programs import PARTS, EtcdPrograms, Programs, RaftkvPrograms, line_count
from raftkv import DefiniteError, IndefiniteError
from raftkv.instruments.local.nodes import ClusterError

WARM_UP_S: Final = 1.0
PAUSE_S: Final = 0.02
"""Between changes of the configuration."""

LATE_S: Final = 5.0
"""How long is waited for the last change to be heard of."""

MANY: Final = 8
SCENARIOS: Final = (
    ("lock", 1),
    ("lock", MANY),
    ("election", 1),
    ("reload", 1),
    ("counter", 1),
    ("counter", MANY),
    ("registry", 1),
)
"""The program, and how many run it at once, on one name, over all nodes."""

FAILURES: Final = (OSError, HTTPException, DefiniteError, IndefiniteError)
PROGRAMS: Final[Mapping[str, type[Programs]]] = {"etcd": EtcdPrograms, "raft": RaftkvPrograms}


class ProgramTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One program of one system. ``*_ms`` are of a call, those of ``reload`` from acknowledgement to being heard of."""

    system: str
    program: str
    clients: int
    calls_per_s: float
    p50_ms: float
    p95_ms: float
    cluster_ms_per_call: float
    faults: int


class ProgramComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored. ``lines`` are by system and program."""

    surroundings: Surroundings
    seconds: float
    lines: dict[str, dict[str, int]]
    turns: tuple[ProgramTurn, ...]


class Taken(msgspec.Struct, frozen=True):
    """What calls took, in milliseconds each, within ``seconds``, and what the cluster's processes spent meanwhile."""

    calls_ms: list[float]
    cluster_s: float
    seconds: float
    faults: int

    def turn(self, system: str, program: str, clients: int) -> ProgramTurn:
        """As it is stored."""
        found = sorted(self.calls_ms) or [float("nan")]
        return ProgramTurn(
            system=system,
            program=program,
            clients=clients,
            calls_per_s=len(self.calls_ms) / self.seconds,
            p50_ms=found[len(found) // 2],
            p95_ms=found[len(found) * 95 // 100],
            cluster_ms_per_call=1000 * self.cluster_s / max(1, len(self.calls_ms)),
            faults=self.faults,
        )


class Inside:
    """Who holds what only one may hold; ``faults`` counts those who were let in while another was."""

    def __init__(self) -> None:
        self._held = threading.Lock()
        self.faults = 0

    def visit(self) -> None:
        """Be in for a moment."""
        if not self._held.acquire(blocking=False):
            self.faults += 1
            return
        time.sleep(0)
        self._held.release()


def miscounted(numbers: Iterable[int]) -> int:
    """How many of the numbers that counters were told are missing, or were told twice."""
    told = list(numbers)
    if not told:
        return 0
    distinct = set(told)
    return max(told) - min(told) + 1 - len(distinct) + len(told) - len(distinct)


class Changes:
    """Numbered changes of a configuration: when each was acknowledged, and when one that is no older was shown."""

    def __init__(self) -> None:
        self.acknowledged_s: dict[int, float] = {}
        self.shown: list[tuple[int, float]] = []

    @property
    def faults(self) -> int:
        """What was shown out of order, and whether the last one never was."""
        numbers = [number for number, _ in self.shown]
        backwards = sum(second < first for first, second in pairwise(numbers))
        return backwards + (not numbers or numbers[-1] < max(self.acknowledged_s))

    def late_ms(self, from_s: float) -> list[float]:
        """How long after its acknowledgement each was heard of, of those acknowledged after ``from_s``."""
        found, shown = [], deque(self.shown)
        for number, acknowledged_s in sorted(self.acknowledged_s.items()):
            while shown and shown[0][0] < number:
                shown.popleft()
            if shown and acknowledged_s >= from_s:
                found.append(1000 * (shown[0][1] - acknowledged_s))
        return found


Cpu = Callable[[], float]
"""The CPU seconds that all processes of a cluster have spent."""


def repeat(calls: Sequence[Callable[[], object]], seconds: float, cpu: Cpu) -> Taken:
    """Make each call again and again, all at once; what ends within the first second is not counted."""
    spans: list[tuple[float, float]] = []
    failures: list[Exception] = []
    is_over = threading.Event()

    def go_on(call: Callable[[], object]) -> None:
        while not is_over.is_set():
            began_s = time.perf_counter()
            try:
                call()
            except FAILURES as failure:
                failures.append(failure)
            else:
                spans.append((began_s, time.perf_counter()))

    with ThreadPoolExecutor(len(calls)) as threads:
        going = [threads.submit(go_on, call) for call in calls]
        try:
            time.sleep(WARM_UP_S)
            from_s, before_s = time.perf_counter(), cpu()
            time.sleep(seconds)
            until_s, spent_s = time.perf_counter(), cpu() - before_s
        finally:
            is_over.set()
        for one in going:
            one.result()
    counted = [1000 * (ended_s - began_s) for began_s, ended_s in spans if from_s <= ended_s <= until_s]
    return Taken(calls_ms=counted, cluster_s=spent_s, seconds=until_s - from_s, faults=len(failures))


def run(program: str, users: Sequence[Programs], seconds: float, cpu: Cpu) -> Taken:
    """Run ``program`` as all ``users`` at once; of two of them only one acts where another hears or finds it."""
    if program == "reload":
        return _reload(users[0], users[1], seconds, cpu)
    if program == "counter":
        numbers: list[int] = []

        def count(user: Programs) -> None:
            numbers.append(user.count("visits"))

        taken = repeat([partial(count, user) for user in users], seconds, cpu)
        return _with_faults(taken, miscounted(numbers))
    if program == "registry":
        server, client = users
        found: list[list[bytes | None]] = []

        def look() -> None:
            found.append(client.find("web"))

        taken = repeat([partial(server.serve, "web", "10.0.0.7:80", look)], seconds, cpu)
        return _with_faults(taken, sum(one != [b"10.0.0.7:80"] for one in found) + (client.find("web") != []))
    inside = Inside()
    if program == "lock":
        calls = [partial(user.lock, "job", inside.visit) for user in users]
    else:
        calls = [partial(user.elect, "fleet", "host-7", inside.visit) for user in users]
    taken = repeat(calls, seconds, cpu)
    return _with_faults(taken, inside.faults)


def _with_faults(taken: Taken, faults: int) -> Taken:
    return msgspec.structs.replace(taken, faults=taken.faults + faults)


def _reload(writer: Programs, reader: Programs, seconds: float, cpu: Cpu) -> Taken:
    """One changes the configuration at a steady pace, another is shown it, from another node."""
    changes, has_begun = Changes(), threading.Event()
    warm_count, count = round(WARM_UP_S / PAUSE_S), round((WARM_UP_S + seconds) / PAUSE_S)
    writer.put("config/limit", "-1")

    def follow() -> None:
        for settings in reader.follow("config/"):
            changes.shown.append((int(settings["config/limit"]), time.perf_counter()))
            has_begun.set()
            if changes.shown[-1][0] == count - 1:
                return

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    if not has_begun.wait(LATE_S):
        raise ClusterError("who follows the configuration was not shown it")
    from_s, before_s = 0.0, 0.0
    for number in range(count):
        if number == warm_count:
            from_s, before_s = time.perf_counter(), cpu()
        writer.put("config/limit", str(number))
        changes.acknowledged_s[number] = time.perf_counter()
        time.sleep(PAUSE_S)
    until_s, spent_s = time.perf_counter(), cpu() - before_s
    following.join(LATE_S)
    late_ms = changes.late_ms(from_s)
    return Taken(calls_ms=late_ms, cluster_s=spent_s, seconds=until_s - from_s, faults=changes.faults)


def turn(cluster: Measured, program: str, clients: int, seconds: float) -> ProgramTurn:
    """Run one program on one cluster; the users' nodes are one after the other, the leader first."""
    servers, known = cluster.servers(), cluster.parts()
    count = 2 if program in ("reload", "registry") else clients
    with ExitStack() as stack:
        users = []
        for place in range(count):
            server = servers[place % len(servers)]
            users.append(stack.enter_context(closing(PROGRAMS[cluster.name](server.host, server.port))))
        taken = run(program, users, seconds, lambda: processes.cpu_s(known))
    return taken.turn(cluster.name, program, clients)


def table(found: ProgramComparison) -> Table:
    """A row for each program and system."""
    shown = Table(title="the programs of a new user; medians over the rounds")
    for heading in (
        "program",
        "at once",
        "system",
        "lines",
        "p50 ms",
        "p95 ms",
        "a second",
        "CPU ms of each",
        "faults",
    ):
        shown.add_column(heading, justify="left" if heading in ("program", "system") else "right")
    for program, clients in SCENARIOS:
        for system, lines in found.lines.items():
            same = [one for one in found.turns if (one.system, one.program, one.clients) == (system, program, clients)]
            p50, p95, rate, cpu = (
                statistics.median(getattr(one, name) for one in same)
                for name in ("p50_ms", "p95_ms", "calls_per_s", "cluster_ms_per_call")
            )
            shown.add_row(
                *(program, str(clients), system, str(lines[program])),
                *(f"{p50:.2f}", f"{p95:.2f}", f"{rate:,.0f}", f"{cpu:.2f}", str(sum(one.faults for one in same))),
            )
    return shown


def compare(home: Path, console: Console, *, seconds: float, rounds: int) -> ProgramComparison:
    """Every program in every round, on one system after the other."""
    surroundings = observe(home)
    kinds: list[type[EtcdCluster | RaftkvCluster]] = [EtcdCluster, RaftkvCluster]
    turns: list[ProgramTurn] = []
    with ExitStack() as stack:
        clusters = [
            stack.enter_context(kind(home / kind.name)) for kind in kinds if kind is RaftkvCluster or etcd_program()
        ]
        for cluster in clusters:
            cluster.begin()
        for number in range(1, rounds + 1):
            for program, clients in SCENARIOS:
                for cluster in clusters:
                    one = turn(cluster, program, clients, seconds)
                    turns.append(one)
                    console.print(
                        f"round {number}/{rounds}  {program:8} by {clients}  {one.system:5} p50 {one.p50_ms:7.2f} ms  "
                        f"{one.calls_per_s:7,.0f}/s  {one.faults} faults"
                    )
    lines = {
        cluster.name: {name: line_count(PROGRAMS[cluster.name], parts) for name, parts in PARTS.items()}
        for cluster in clusters
    }
    return ProgramComparison(surroundings=surroundings, seconds=seconds, lines=lines, turns=tuple(turns))


@click.command()
@seconds_option
@click.option("--rounds", default=3, show_default=True)
@data_dir_option
@json_option
def main(*, seconds: float, rounds: int, data_dir: Path | None, json_path: Path | None) -> None:
    """Measure the programs of a new user of raftkv and of etcd's gateway in turn."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    if etcd_program() is None:
        console.print("etcd is not installed (Debian: apt install etcd-server): raftkv is measured alone.")
    found = in_new_folder(data_dir, lambda home: compare(home, console, seconds=seconds, rounds=rounds))
    console.print(table(found))
    console.print(f"stored in {click.format_filename(store(found, 'programs', json_path))}")


if __name__ == "__main__":
    main()
