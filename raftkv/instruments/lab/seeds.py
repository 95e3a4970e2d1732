"""Runs simulated clusters by seed and judges what their clients saw: ``python -m raftkv.instruments.lab.seeds``.

Each seed is one run (``raftkv.instruments.sim.run``), whose history then goes to the checker. A failure is told with
the command that repeats it; ``--transcript`` shows all that happened, ``--without`` takes one of our remedies away, to
see whether it is missed. Seeds are spread over processes of bounded memory. The exit status is 1 when anything failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import msgspec

from raftkv.instruments.lab.checker import GaveUp, NotLinearizable, check
from raftkv.instruments.lab.history import (
    ANY,
    Action,
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
)
from raftkv.instruments.lab.witness import render
from raftkv.instruments.sim import planted
from raftkv.instruments.sim.notes import Seen
from raftkv.instruments.sim.run import MODES, SimulatedRun, simulate

CHUNK_SEEDS = 20
"""Seeds that a process takes at a time: enough to make handing them out cheap, few enough to end in time."""

STEPS_PER_KEY_MAX = 200_000
"""Ordinary runs take a few hundred steps for each key; one that takes more is told as undecided."""

FAILURES_MAX = 20


class Judged(msgspec.Struct, kw_only=True):
    """One seed and its verdict; ``failure`` is empty when every promise was kept."""

    run: SimulatedRun
    failure: str
    is_undecided: bool = False


class SeedTotals(msgspec.Struct, kw_only=True):
    """What a number of seeds came to."""

    seeds: int = 0
    failures: list[tuple[int, str]] = []
    undecided: list[int] = []
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    steps: int = 0
    messages: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    operations: Counter[str] = msgspec.field(default_factory=Counter)
    events: Counter[str] = msgspec.field(default_factory=Counter)

    @classmethod
    def of(cls, judged: Judged) -> SeedTotals:
        """One seed."""
        run = judged.run
        return cls(
            seeds=1,
            failures=[(run.seed, judged.failure)] if judged.failure else [],
            undecided=[run.seed] if judged.is_undecided else [],
            virtual_s=run.virtual_s,
            cpu_s=run.cpu_s,
            steps=run.steps,
            messages=run.messages,
            faults=Counter(run.faults),
            operations=Counter(run.operations),
            events=Counter(run.events),
        )

    def merge(self, other: SeedTotals) -> None:
        """Count what ``other`` counted."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def history_of(seen: Sequence[Seen]) -> History:
    """What simulated clients saw, in the checker's words. What nobody ever answered is unknown."""
    return History([_operation(one) for one in seen])


def _operation(seen: Seen) -> ObservedOperation:
    return ObservedOperation(
        client=seen.client,
        key=seen.key,
        action=_action(seen),
        invoked_ns=round(seen.invoked_s * 1e9),
        returned_ns=None if seen.returned_s is None else round(seen.returned_s * 1e9),
        outcome=Outcome(seen.outcome),
        result=seen.result,
        node=seen.node,
        note=seen.note,
    )


def _action(seen: Seen) -> Action:
    match seen.kind:
        case "get":
            return GetAction()
        case "delete":
            return DeleteAction()
        case "put":
            assert seen.value is not None
            return PutAction(seen.value)
    return CompareAndSet(ANY if isinstance(seen.expected, bool) else seen.expected, seen.value)


def judge(seed: int, *, mode: str = "raft", keep_transcript: bool = False) -> Judged:
    """Run ``seed`` and check its history."""
    run = simulate(seed, mode=mode, keep_transcript=keep_transcript)
    if run.failure:
        return Judged(run=run, failure=run.failure)
    verdict = check(history_of(run.seen), steps_per_key_max=STEPS_PER_KEY_MAX)
    if isinstance(verdict, NotLinearizable):
        return Judged(run=run, failure=f"not linearizable\n{render(verdict.witness)}")
    return Judged(run=run, failure="", is_undecided=isinstance(verdict, GaveUp))


# --- many seeds


class _Chunk(msgspec.Struct, frozen=True, kw_only=True):
    mode: str
    without: str
    seeds: tuple[int, ...]
    until_s: float


def _run_chunk(chunk: _Chunk) -> SeedTotals:
    totals = SeedTotals()
    with planted.without(chunk.without, chunk.mode) if chunk.without else nullcontext():
        for seed in chunk.seeds:
            if time.monotonic() > chunk.until_s:
                break
            totals.merge(SeedTotals.of(judge(seed, mode=chunk.mode)))
    return totals


def _bound_memory(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def run_seeds(
    seeds: range, *, mode: str, without: str = "", jobs: int, budget_s: float, memory_bytes: int
) -> Iterator[SeedTotals]:
    """Judge ``seeds`` within ``budget_s``; yields what each chunk came to as it comes in."""
    until_s = time.monotonic() + budget_s
    chunks = [
        _Chunk(mode=mode, without=without, seeds=tuple(seeds[start : start + CHUNK_SEEDS]), until_s=until_s)
        for start in range(0, len(seeds), CHUNK_SEEDS)
    ]
    with multiprocessing.get_context("forkserver").Pool(jobs, _bound_memory, (memory_bytes,)) as pool:
        yield from pool.imap_unordered(_run_chunk, chunks)


def report(totals: SeedTotals, elapsed_s: float) -> str:
    """The totals for people."""
    rate, each_ms = totals.seeds / max(elapsed_s, 1e-9), totals.cpu_s / max(totals.seeds, 1) * 1000
    lines = [
        f"{totals.seeds} seeds: {len(totals.failures)} failed, {len(totals.undecided)} undecided",
        f"{elapsed_s:.0f} s, {rate:.1f} seeds a second, {each_ms:.0f} ms of processor for each",
        f"{totals.virtual_s / 3600:.1f} simulated hours, {totals.steps} steps, {totals.messages} messages",
    ]
    for name, counter in (("faults", totals.faults), ("operations", totals.operations), ("events", totals.events)):
        listed = ", ".join(f"{kind} {count}" for kind, count in sorted(counter.items()))
        lines.append(f"{name}: {counter.total()} ({listed})")
    return "\n".join(lines)


def _told(seed: int, failure: str, mode: str, without: str) -> str:
    more = f" --without '{without}'" if without else ""
    again = f"python -m raftkv.instruments.lab.seeds --mode {mode} --seed {seed}{more} --transcript"
    return f"seed {seed}: {failure.strip()}\nagain with: {again}\n"


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m raftkv.instruments.lab.seeds", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--mode", choices=sorted(MODES), default="raft")
    parser.add_argument("--seeds", default="0-500", metavar="FIRST-END", help="the end is not included")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--transcript", action="store_true", help="with --seed: show everything that happened")
    names = sorted(set().union(*planted.REMEDIES.values()))
    parser.add_argument("--without", choices=names, default="", metavar="REMEDY", help="take one of the mode's away")
    parser.add_argument("--budget-s", type=float, default=600.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=2048, help="of each process")
    return parser.parse_args(words)


def _run_one(arguments: argparse.Namespace) -> int:
    with planted.without(arguments.without, arguments.mode) if arguments.without else nullcontext():
        judged = judge(arguments.seed, mode=arguments.mode, keep_transcript=arguments.transcript)
    lines = judged.run.lines
    lines += [_told(arguments.seed, judged.failure, arguments.mode, arguments.without)] if judged.failure else []
    lines.append(f"digest {judged.run.digest}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if judged.failure else 0


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    arguments = _arguments(sys.argv[1:] if words is None else words)
    if arguments.seed is not None:
        return _run_one(arguments)
    first, end = arguments.seeds.split("-")
    totals, began_s = SeedTotals(), time.monotonic()
    for part in run_seeds(
        range(int(first), int(end)),
        mode=arguments.mode,
        without=arguments.without,
        jobs=arguments.jobs,
        budget_s=arguments.budget_s,
        memory_bytes=arguments.memory_mb << 20,
    ):
        totals.merge(part)
        for seed, failure in part.failures[:FAILURES_MAX]:
            sys.stdout.write(_told(seed, failure, arguments.mode, arguments.without) + "\n")
            sys.stdout.flush()
        if len(totals.failures) >= FAILURES_MAX:
            break
    sys.stdout.write(report(totals, time.monotonic() - began_s) + "\n")
    return 1 if totals.failures else 0


if __name__ == "__main__":
    sys.exit(main())
