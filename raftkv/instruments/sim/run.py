"""One seed, one run: clients ask, the nemesis strikes, everything heals, and the promises are looked at.

After the healing the cluster must be useful again within a bounded time: a write through every node succeeds, and all
replicas become equal. What clients saw is left to a checker of histories. Equal seeds give equal runs, to the last
message: the digest of the transcript says so.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import msgspec
import structlog

from raftkv.core.results import Written
from raftkv.instruments.sim import plan as plans
from raftkv.instruments.sim import quorum, raft
from raftkv.instruments.sim.clients import SimulatedClients
from raftkv.instruments.sim.cluster import Mode, SimulatedCluster
from raftkv.instruments.sim.nemesis import SimulatedNemesis, StruckMode
from raftkv.instruments.sim.notes import Seen
from raftkv.instruments.sim.plan import Plan
from raftkv.instruments.sim.transcript import Transcript

HEALING_PACES: Final = 60
"""So many election timeouts after everything was healed the cluster must work again, and ``HEALING_S`` on top.

A few elections may be needed, and connections that half of their ends believe in must be found out first; ``HEALING_S``
is for what is repeated after a fixed time, as the offer of a snapshot is after five seconds.
"""
HEALING_S: Final = 12.0


class SimulatedMode(Mode, StruckMode, Protocol):
    """A mode as a whole run needs it."""

    def clients(self, cluster: SimulatedCluster, plan: Plan) -> SimulatedClients:
        """Those who ask, and judge what they are told."""

    def useful(self) -> tuple[str, ...]:
        """Through whom a write must succeed once everything was healed."""

    def is_level(self) -> bool:
        """Has every replica everything?"""

    def check_end(self) -> None:
        """What this mode promises besides its history; raises ``AssertionError``."""

    def counts(self) -> Counter[str]:
        """Events of this mode worth counting."""


MODES: Final[dict[str, Callable[[Plan], SimulatedMode]]] = {"raft": raft.drawn, "quorum": quorum.drawn}


class SimulatedRun(msgspec.Struct, kw_only=True):
    """What came of one seed. ``failure`` is empty when nothing was broken, as far as it can be told from inside."""

    seed: int
    seen: list[Seen]
    failure: str
    faults: dict[str, int]
    operations: dict[str, int]
    events: dict[str, int]
    virtual_s: float
    steps: int
    messages: int
    cpu_s: float
    digest: str
    lines: list[str]


def simulate(seed: int, *, mode: str = "raft", keep_transcript: bool = False) -> SimulatedRun:
    """Run ``seed``."""
    plan = plans.draw(seed)
    transcript = Transcript(keep=keep_transcript)
    began_s = time.process_time()
    with _log_lines_in(transcript):
        run = _Simulation(plan, MODES[mode](plan), transcript)
        failure = run.play()
    cluster = run.cluster
    return SimulatedRun(
        seed=seed,
        seen=run.clients.seen,
        failure=failure,
        faults=dict(run.nemesis.counts),
        operations=dict(run.clients.counts),
        events=dict(run.mode.counts()),
        virtual_s=cluster.now_s - START_S,
        steps=cluster.schedule.done_count,
        messages=cluster.network.sent_count,
        cpu_s=time.process_time() - began_s,
        digest=transcript.digest(),
        lines=list(transcript.lines),
    )


START_S: Final = 1000.0


class _Simulation:
    def __init__(self, plan: Plan, mode: SimulatedMode, transcript: Transcript) -> None:
        self.plan = plan
        self.mode = mode
        transcript.describe(START_S, "plan", repr(plan))
        self.cluster = SimulatedCluster(
            plan.names,
            mode,
            seed=plan.seed,
            start_s=START_S,
            latency_s=plan.latency_s,
            silence_s=plan.silence_s,
            redial_s=plan.redial_s,
            turn_s=plan.turn_s,
            flush_s=plan.flush_s,
            rates=plan.rates,
            transcript=transcript,
            begins=False,
        )
        self.clients = mode.clients(self.cluster, plan)
        self.nemesis = SimulatedNemesis(self.cluster, plan, mode)

    def play(self) -> str:
        """Do everything; returns what was broken, in words, or nothing."""
        try:
            self._play()
        except Exception as error:  # noqa: BLE001  whatever it is, it is what was looked for
            self.cluster.note("sim", f"fails: {error}")
            return traceback.format_exc(limit=-6) + f"at {self.cluster.now_s:.4f} s"
        return ""

    def _play(self) -> None:
        cluster, plan = self.cluster, self.plan
        cluster.begin()
        end_s = cluster.now_s + plan.faulty_s
        self.clients.begin(end_s)
        self.nemesis.begin(end_s)
        cluster.schedule.run_to(end_s)
        cluster.note("sim", "heals everything")
        self.nemesis.stop()
        limit_s = HEALING_PACES * plan.pace_s + HEALING_S
        end_s = cluster.now_s + limit_s
        for name in self.mode.useful():
            self._write_through(name, end_s)
        self.clients.audit()
        cluster.run_until(lambda: self.clients.is_quiet and self.mode.is_level(), limit_s=limit_s)
        self.mode.check_end()

    def _write_through(self, name: str, end_s: float) -> None:
        """A node is useful again when a write through it succeeds; one that leaves meanwhile need not be.

        A process may end even now, of a damaged state, or to begin anew after a repair.
        """
        while name in self.mode.useful():
            machine = self.cluster.machines[name]
            process, pending = machine.process, None if machine.process is None else self.clients.probe(name)
            while machine.process is process and (pending is None or pending.outcome is None):
                assert self.cluster.schedule.step(end_s), f"no write through {name} succeeds after everything healed"
            if pending is not None and isinstance(pending.outcome, Written):
                return
            assert self.cluster.now_s < end_s, f"no write through {name} succeeds: {pending and pending.outcome}"
            self.cluster.run(0.1 * self.plan.pace_s)


@contextmanager
def _log_lines_in(transcript: Transcript) -> Iterator[None]:
    """What replicas write to their log belongs to the transcript."""

    def into_transcript(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        if transcript.is_kept:
            text = " ".join(f"{name}={value}" for name, value in event.items())
            transcript.describe(transcript.now_s, "log", text)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[into_transcript])
    try:
        yield
    finally:
        structlog.configure(**before)
