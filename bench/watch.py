"""``python -m bench.watch``: how soon after its acknowledgement a watcher hears of a write, and what that costs.

Puts of one prefix go to all nodes at a fixed rate; watchers, spread evenly over the nodes, read it as streams of
Server-Sent Events, or of etcd's gateway. Both systems are up for the whole run and take turns. An event counts once for
each watcher. Every value names its write, so that each is known to have come to each watcher once.
"""

from __future__ import annotations

import asyncio
import base64
import re
import statistics
import sys
import time
from array import array
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.clusters import EtcdCluster, Measured, RaftkvCluster, etcd_program
from bench.surroundings import Surroundings, data_dir_option, json_option, observe, run_at, seconds_option, store
from raftkv.api import headers, paths
from raftkv.client.async_channels import AsyncChannel
from raftkv.client.events import LineReader
from raftkv.client.reach import Host
from raftkv.instruments.load.dialect import form, json_post
from raftkv.instruments.load.engine import Failure, LoadCall, LoadTarget, OpenLoop, Times, drive

PREFIX = "watched-"
VALUE_BYTES = 100
CLIENTS = 256
OPEN_S = 5.0
TIMEOUT_S = 15.0
WARM_UP_S = 1.0
LATE_S = 5.0
"""How long is waited for events of writes that were acknowledged."""

KEYS = 1000
_RAFTKV_VALUE = re.compile(rb'"value":"(\d+)\.')
_ETCD_VALUE = re.compile(rb'"value":"([A-Za-z0-9+/=]+)"')


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. ``*_ms`` are from the acknowledgement to a watcher, below 0 where the watcher was first."""

    system: str
    puts_per_s: float
    events_per_s: float
    cluster_cores: float
    client_cores: float
    events_per_core: float
    p50_ms: float
    p99_ms: float
    missing: int
    repeated: int
    errors: int


class WatchComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One whole run, as stored."""

    surroundings: Surroundings
    seconds: float
    rate_per_s: float
    watchers: int
    turns: tuple[Watching, ...]


class _Puts:
    """``Work``: numbered puts, and when each was acknowledged."""

    def __init__(self, system: str, servers: int, first: int) -> None:
        self._system = system
        self._servers = servers
        self.next = first
        self.first = first
        self.acknowledged_s: dict[int, float] = {}
        self.errors = 0

    def begin(self, client: int, began_s: float) -> LoadCall:  # noqa: ARG002  see Work
        number, self.next = self.next, self.next + 1
        key, value = f"{PREFIX}{number % KEYS}", f"{number}.".encode().ljust(VALUE_BYTES, b"x")
        if self._system == "etcd":
            request = json_post("/v3/kv/put", {"key": key.encode(), "value": value})
        else:
            request = form("PUT").request(paths.filled(paths.KEY, key), value)
        return _Put(request=request, server=number % self._servers, number=number)

    def answered(self, call: LoadCall, status: int, body: bytes, times: Times) -> bool:  # noqa: ARG002  see Work
        assert isinstance(call, _Put)
        if status not in (200, 201):
            self.errors += 1
            return False
        self.acknowledged_s[call.number] = times.ended_s
        return True

    def failed(self, call: LoadCall, failure: Failure, times: Times) -> None:  # noqa: ARG002  see Work
        self.errors += 1


class _Put(LoadCall, kw_only=True):
    number: int


class _Watcher:
    """One stream, and when each number came by it."""

    def __init__(self, system: str, server: LoadTarget) -> None:
        self._is_etcd = system == "etcd"
        self._channel = AsyncChannel(Host(server.host, server.port))
        self.numbers, self.heard_s = array("q"), array("d")

    async def open(self) -> None:
        """Be sure to hear of what is written from now on."""
        if self._is_etcd:
            first, end = PREFIX.encode(), PREFIX.encode()[:-1] + bytes([PREFIX.encode()[-1] + 1])
            request = json_post("/v3/watch", {"create_request": {"key": first, "range_end": end}})
        else:
            request = form("GET", ("Accept", headers.EVENTS)).request(f"{paths.WATCH}?prefix={PREFIX}")
        await self._channel.open(OPEN_S)
        answer = await self._channel.begin(request, "POST" if self._is_etcd else "GET")
        assert answer.status == 200, answer

    async def listen(self) -> None:
        """Until cancelled."""
        lines = LineReader()
        try:
            while piece := await self._channel.piece():
                now_s = time.perf_counter()
                for line in lines.feed(piece):
                    for value in (_ETCD_VALUE if self._is_etcd else _RAFTKV_VALUE).findall(line):
                        self.numbers.append(int(base64.b64decode(value).partition(b".")[0] if self._is_etcd else value))
                        self.heard_s.append(now_s)
        finally:
            self._channel.close()

    def late_ms(self, acknowledged_s: Mapping[int, float], from_s: float) -> Iterator[float]:
        """How long after its acknowledgement each write came, of those that were acknowledged after ``from_s``."""
        for number, heard_s in zip(self.numbers, self.heard_s, strict=True):
            if acknowledged_s.get(number, 0.0) >= from_s:
                yield (heard_s - acknowledged_s[number]) * 1000


async def turn(cluster: Measured, first: int, *, seconds: float, rate_per_s: float, count: int) -> tuple[Watching, int]:
    """Let ``count`` watchers hear of puts numbered from ``first`` on; what came of it, and the next number."""
    servers = cluster.servers()
    watchers = [_Watcher(cluster.name, servers[number % len(servers)]) for number in range(count)]
    for watcher in watchers:
        await watcher.open()
    listening = [asyncio.create_task(watcher.listen()) for watcher in watchers]
    puts = _Puts(cluster.name, len(servers), first)
    begin_s = time.perf_counter()
    known = cluster.parts()
    cluster_before_s, client_before_s = processes.cpu_s(known), time.process_time()
    pace = OpenLoop(begin_s, begin_s + WARM_UP_S + seconds, rate_per_s)
    await drive(puts, servers, pace, clients=CLIENTS, timeout_s=TIMEOUT_S)
    took_s = time.perf_counter() - begin_s
    cluster_s, client_s = processes.cpu_s(known) - cluster_before_s, time.process_time() - client_before_s
    for _ in range(round(LATE_S / 0.1)):
        if all(len(watcher.numbers) >= len(puts.acknowledged_s) for watcher in watchers):
            break
        await asyncio.sleep(0.1)
    for task in listening:
        task.cancel()
    ended = await asyncio.gather(*listening, return_exceptions=True)
    late_ms = sorted(one for watcher in watchers for one in watcher.late_ms(puts.acknowledged_s, begin_s + WARM_UP_S))
    events = sum(len(watcher.numbers) for watcher in watchers)
    one = Watching(
        system=cluster.name,
        puts_per_s=len(puts.acknowledged_s) / took_s,
        events_per_s=events / took_s,
        cluster_cores=cluster_s / took_s,
        client_cores=client_s / took_s,
        events_per_core=events / max(cluster_s, 0.01),
        p50_ms=late_ms[len(late_ms) // 2] if late_ms else float("nan"),
        p99_ms=late_ms[len(late_ms) * 99 // 100] if late_ms else float("nan"),
        missing=sum(len(puts.acknowledged_s.keys() - set(watcher.numbers)) for watcher in watchers),
        repeated=sum(len(watcher.numbers) - len(set(watcher.numbers)) for watcher in watchers),
        errors=puts.errors + sum(not isinstance(end, asyncio.CancelledError) for end in ended),
    )
    return one, puts.next


def _table(turns: Sequence[Watching]) -> Table:
    table = Table(title="medians over the rounds")
    names = [name for name in Watching.__struct_fields__ if name != "system"]
    table.add_column("system")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for system in dict.fromkeys(turn.system for turn in turns):
        found = [turn for turn in turns if turn.system == system]
        medians = [statistics.median(getattr(turn, name) for turn in found) for name in names]
        table.add_row(system, *(f"{value:,.2f}" for value in medians))
    return table


async def _compare(
    home: Path,
    kinds: Sequence[type[RaftkvCluster | EtcdCluster]],
    rounds: int,
    console: Console,
    *,
    seconds: float,
    rate_per_s: float,
    watchers: int,
) -> WatchComparison:
    surroundings = observe(home)
    turns: list[Watching] = []
    with ExitStack() as stack:
        clusters = [stack.enter_context(kind(home / kind.name)) for kind in kinds]
        for cluster in clusters:
            cluster.begin()
        numbers = dict.fromkeys([cluster.name for cluster in clusters], 0)
        for number in range(rounds):
            for cluster in clusters:
                first = numbers[cluster.name]
                one, numbers[cluster.name] = await turn(
                    cluster, first, seconds=seconds, rate_per_s=rate_per_s, count=watchers
                )
                turns.append(one)
                told = f"p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, {one.missing} missing, {one.errors} errors"
                console.print(f"round {number + 1}/{rounds}  {one.system:5} {one.events_per_s:9,.0f} events/s  {told}")
    console.print(_table(turns))
    return WatchComparison(
        surroundings=surroundings, seconds=seconds, rate_per_s=rate_per_s, watchers=watchers, turns=tuple(turns)
    )


@click.command()
@seconds_option
@click.option("--rounds", default=5, show_default=True)
@click.option("--rate", "rate_per_s", default=1000.0, show_default=True, help="Puts a second.")
@click.option("--watchers", default=3, show_default=True, help="Spread evenly over the three nodes.")
@data_dir_option
@json_option
def main(
    *, seconds: float, rounds: int, rate_per_s: float, watchers: int, data_dir: Path | None, json_path: Path | None
) -> None:
    """Measure watches of raftkv and of etcd's gateway in turn."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    kinds: list[type[RaftkvCluster | EtcdCluster]] = [EtcdCluster, RaftkvCluster]
    if etcd_program() is None:
        console.print("etcd is not installed (Debian: apt install etcd-server): raftkv is measured alone.")
        kinds = [RaftkvCluster]

    def work(home: Path) -> Coroutine[None, None, WatchComparison]:
        return _compare(home, kinds, rounds, console, seconds=seconds, rate_per_s=rate_per_s, watchers=watchers)

    console.print(f"stored in {click.format_filename(store(run_at(data_dir, work), 'watch', json_path))}")


if __name__ == "__main__":
    main()
