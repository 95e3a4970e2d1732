"""Makes a run of the laboratory out of what happened in a playground, and its report."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from raftkv.core.config import QuorumSection
from raftkv.instruments.lab.dialect import WEAK
from raftkv.instruments.lab.history import LAST_LOOK, GetAction, History, ObservedOperation
from raftkv.instruments.lab.nemesis import FaultEvent
from raftkv.instruments.lab.playground.manner import Manner, variant_of
from raftkv.instruments.lab.record import Evidence, Performed, write_evidence, write_run
from raftkv.instruments.lab.report.make import PAGE
from raftkv.instruments.lab.run import describe
from raftkv.instruments.lab.scenario import Scenario, ScenarioTraffic
from raftkv.process.command import module

DRAWN_WITHIN_S: Final = 180.0

EXPECT: Final = (
    "Somebody broke a cluster by hand and looked on. Every node was asked for the same keys in two ways all the while: "
    "reads that promise nothing, and reads that promise to be fresh."
)


class SavingError(Exception):
    """It cannot be saved now; the message is for a person."""


def save(
    folder: Path,
    operations: Sequence[ObservedOperation],
    events: tuple[FaultEvent, ...],
    *,
    manner: Manner,
    quorum: QuorumSection,
    node_count: int,
    clients: int,
    rate_per_s: float,
    deaths: list[tuple[str, int]],
    command: str,
) -> Path:
    """Write everything into ``folder``, which is new, and draw its report; returns the report's page.

    Raises ``SavingError`` and ``OSError``.
    """
    began_ns = operations[0].invoked_ns
    ended_ns = max(each.returned_ns or each.invoked_ns for each in operations)
    folder.mkdir(parents=True)
    performed = []
    is_weak = any(WEAK in each.note for each in operations)
    for kind in _KINDS:
        variant = variant_of(manner, quorum, kind, promises=not is_weak)
        history = History(each for each in operations if _belongs(each, kind))
        performed.append(Performed(variant=variant, began_ns=began_ns, ended_ns=ended_ns, deaths=deaths))
        lasted = tuple(event for event in events if event.at_ns >= began_ns)
        write_evidence(folder, Evidence(performed=performed[-1], history=history, events=lasted, delays=()))
    duration_s = (ended_ns - began_ns) / 1e9
    scenario = Scenario(
        title="What happened in a playground",
        expect=EXPECT,
        duration_s=min(3600.0, max(1.0, duration_s)),
        nodes=node_count,
        workload=ScenarioTraffic(clients=clients, keys=3, rate_per_s=rate_per_s),
        variant=tuple(each.variant for each in performed),
    )
    began = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=duration_s)
    story = f"{node_count} nodes, real processes over HTTP; {clients} clients all the while; broken by hand."
    write_run(
        folder,
        describe("playground", scenario, began, command=command, performed=tuple(performed), story=story, by_hand=True),
    )
    _draw(folder)
    return folder / PAGE


_KINDS: Final[tuple[Literal["local", "fresh"], ...]] = ("local", "fresh")


def _belongs(operation: ObservedOperation, kind: str) -> bool:
    """Every write and every last look belongs to both histories, a read to that of its kind."""
    if not isinstance(operation.action, GetAction) or operation.note == LAST_LOOK:
        return True
    return (operation.note.partition(", ")[0] == "local") == (kind == "local")


def _draw(folder: Path) -> None:
    """In a process of its own: it takes a while, and the clients here go on."""
    drawing = module("raftkv", "lab", "report", str(folder))
    try:
        done = subprocess.run(drawing, capture_output=True, text=True, timeout=DRAWN_WITHIN_S, check=False)  # noqa: S603  our own
    except subprocess.TimeoutExpired:
        raise SavingError(f"the report of {folder} took too long; try: raftkv lab report {folder}") from None
    if done.returncode not in (0, 1):
        raise SavingError(f"no report of {folder}: {done.stderr.strip()}")
