"""``python -m bench.checker``: how long the linearizability checker takes over histories of different difficulty.

The histories are made by clients of one register per key on a virtual clock: each waits for its answer, takes an
exponential time per operation, and now and then never hears what became of a write, which then was done or not. What
is measured is the verdict alone: decoding a history and reading it from disk are not in it.
"""

from __future__ import annotations

import heapq
import resource
import time
from collections.abc import Iterator
from random import Random

import click
import msgspec
from rich.console import Console
from rich.table import Table

from raftkv.instruments.lab.checker import GaveUp, Linearizable, NotLinearizable, check
from raftkv.instruments.lab.history import (
    Action,
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
    Result,
)

MEAN_NS = 2_000_000


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What clients do: ``values`` is how many different ones are written, 0 for a fresh one each time.

    ``lies`` reads in the last fifth are told what was read much earlier.
    """

    name: str
    operations: int
    keys: int
    clients: int = 20
    values: int = 0
    unknown_share: float = 0.01
    lies: int = 0


class Registers:
    """One copy of every key, and what clients were told by it."""

    def __init__(self, traffic: Traffic, random: Random) -> None:
        self._traffic = traffic
        self._random = random
        self._values: dict[bytes, bytes | None] = {}
        self._written_count = 0

    def history(self) -> History:
        """Let all clients run until there are enough operations; bounded by their number."""
        return History(self._told_falsely(list(self._operations())))

    def _operations(self) -> Iterator[ObservedOperation]:
        # An operation is three events: a client begins it, the register does it, the client hears of it and goes on.
        events: list[tuple[float, int, int, Action | None]] = []
        for client in range(self._traffic.clients):
            heapq.heappush(events, (self._random.expovariate(1 / MEAN_NS), client, 0, None))
        names = self._traffic.clients
        begun_count = 0
        while events:
            now_ns, client, began_ns, action = heapq.heappop(events)
            if action is None:
                if begun_count < self._traffic.operations:
                    begun_count += 1
                    done_ns = now_ns + self._random.expovariate(2 / MEAN_NS)
                    heapq.heappush(events, (done_ns, client, int(now_ns), self._action()))
                continue
            key = b"key %d" % self._random.randrange(self._traffic.keys)
            returned_ns = now_ns + self._random.expovariate(2 / MEAN_NS)
            is_unknown = not isinstance(action, GetAction) and self._random.random() < self._traffic.unknown_share
            result = self._perform(key, action) if not is_unknown or self._random.random() < 0.5 else None
            yield ObservedOperation(
                client=client,
                key=key,
                action=action,
                invoked_ns=began_ns,
                returned_ns=None if is_unknown else int(returned_ns),
                outcome=Outcome.UNKNOWN if is_unknown else Outcome.OK,
                result=None if is_unknown else result,
            )
            if is_unknown:
                client, names = names, names + 1
            heapq.heappush(events, (returned_ns + 1, client, 0, None))

    def _action(self) -> Action:
        self._written_count += 1
        value = b"%d" % (self._random.randrange(self._traffic.values) if self._traffic.values else self._written_count)
        kind = self._random.random()
        if kind < 0.5:
            return GetAction()
        if kind < 0.75:
            return PutAction(value)
        if kind < 0.8:
            return DeleteAction()
        return CompareAndSet(self._random.choice([*self._values.values(), None]), value)

    def _perform(self, key: bytes, action: Action) -> Result:
        state = self._values.get(key)
        match action:
            case GetAction():
                return state
            case PutAction(value):
                self._values[key] = value
                return None
            case DeleteAction():
                self._values[key] = None
                return state is not None
            case CompareAndSet(expected, value):
                if state == expected:
                    self._values[key] = value
                return state == expected

    def _told_falsely(self, operations: list[ObservedOperation]) -> list[ObservedOperation]:
        reads = [index for index, operation in enumerate(operations) if isinstance(operation.action, GetAction)]
        early, late = reads[: len(reads) // 2], reads[len(reads) * 4 // 5 :]
        for index in self._random.sample(late, self._traffic.lies):
            same_key = [operations[other] for other in early if operations[other].key == operations[index].key]
            operations[index] = msgspec.structs.replace(operations[index], result=self._random.choice(same_key).result)
        return operations


def scenarios(operations: int, keys: int, clients: int) -> list[Traffic]:
    """The first is what the target speaks of: a hundred thousand operations within a minute."""
    return [
        Traffic(name="as asked", operations=operations, keys=keys, clients=clients),
        Traffic(name="few values", operations=operations, keys=keys, clients=clients, values=5),
        Traffic(name="many unknown", operations=operations, keys=keys, clients=clients, unknown_share=0.1),
        Traffic(name="one stale read", operations=operations, keys=keys, clients=clients, lies=1),
        Traffic(name="one key", operations=operations // 20, keys=1, clients=clients),
        Traffic(name="one key, few values", operations=operations // 20, keys=1, clients=clients, values=20, lies=20),
    ]


@click.command()
@click.option("--operations", default=100_000, show_default=True)
@click.option("--keys", default=100, show_default=True)
@click.option("--clients", default=20, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(*, operations: int, keys: int, clients: int, seed: int) -> None:
    """Make histories and judge them."""
    table = Table("history", "operations", "keys", "unknown", "verdict", "steps", "seconds", "CPU s", "peak MiB")
    for traffic in scenarios(operations, keys, clients):
        history = Registers(traffic, Random(seed)).history()
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        verdict = check(history)
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        match verdict:
            case Linearizable():
                said = "linearizable"
            case NotLinearizable(witness=witness):
                said = f"{witness.kind}, witness of {len(witness.operations)}"
            case GaveUp(undecided=undecided):
                said = f"gave up on {len(undecided)}"
        table.add_row(
            traffic.name,
            f"{len(history):,}",
            str(traffic.keys),
            str(sum(operation.outcome is Outcome.UNKNOWN for operation in history)),
            said,
            f"{verdict.steps:,}",
            f"{seconds:.2f}",
            f"{cpu_s:.2f}",
            str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
