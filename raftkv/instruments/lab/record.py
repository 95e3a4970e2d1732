"""What a run of the laboratory leaves behind, and where: everything that its report is computed from.

A run's folder holds ``run.json`` (what was run, when, where) and ``scenario.toml`` (to run it again), and for each
variant a folder with ``history.jsonl`` (what every client asked and was told), ``events.json`` (what the nemesis did),
``delays.jsonl`` (delays between nodes, where they were measured), the cluster's configuration, and the nodes' logs.

Imports its neighbours ``history``, ``nemesis`` and ``scenario``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from raftkv.instruments.lab.history import History
from raftkv.instruments.lab.nemesis import FaultEvent
from raftkv.instruments.lab.scenario import Scenario, Variant

RECORD: Final = "run.json"
SCENARIO: Final = "scenario.toml"
HISTORY: Final = "history.jsonl"
EVENTS: Final = "events.json"
DELAYS: Final = "delays.jsonl"


class MeasuredDelay(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement between two nodes before the workload began, of the request of this ``number`` at ``origin``.

    ``write``: so many ``seconds`` after ``origin`` had acknowledged a write that it alone had on disk, ``node`` showed
    it; below 0 when ``node`` was faster than the answer. ``read``: a read at ``origin`` from one replica, or from two,
    took so many ``seconds``; ``node`` is empty.
    """

    kind: Literal["write", "read"]
    origin: str
    number: int
    node: str = ""
    replicas: int = 1
    seconds: float


class Performed(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's run: the traffic began at ``began_ns`` on the history's clock and ended at ``ended_ns``.

    ``deaths``: nodes that ended by themselves, with their exit status. ``destroyed``: nodes whose disks were lost.
    """

    variant: Variant
    began_ns: int
    ended_ns: int
    deaths: list[tuple[str, int]] = []
    destroyed: list[str] = []


class LabRun(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; ``started`` is RFC 3339, ``machine`` and ``versions`` are for people.

    ``story`` is what clients did where they did not follow the scenario's workload, and ``by_hand`` says that a person
    made the faults, and that it went on for too long to be told operation by operation. With
    ``in_namespaces`` every node had a network of its own.
    """

    name: str
    scenario: Scenario
    command: str
    started: str
    machine: str
    versions: dict[str, str]
    performed: tuple[Performed, ...]
    story: str = ""
    in_namespaces: bool = False
    by_hand: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's run with everything that was written down of it."""

    performed: Performed
    history: History
    events: tuple[FaultEvent, ...]
    delays: tuple[MeasuredDelay, ...]


def write_run(folder: Path, run: LabRun) -> None:
    """Write the run's own file."""
    (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(run)) + b"\n")


def read_run(folder: Path) -> LabRun:
    """Read it; raises ``OSError``, and ``ValueError`` for something else."""
    return msgspec.json.decode((folder / RECORD).read_bytes(), type=LabRun)


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """Write what was seen of one variant into the run's ``folder``."""
    home = folder / evidence.performed.variant.slug
    home.mkdir(exist_ok=True)
    evidence.history.write(home / HISTORY)
    (home / EVENTS).write_bytes(msgspec.json.format(msgspec.json.encode(evidence.events)) + b"\n")
    if evidence.delays:
        (home / DELAYS).write_bytes(b"".join(msgspec.json.encode(delay) + b"\n" for delay in evidence.delays))


def read_evidence(folder: Path, performed: Performed) -> Evidence:
    """Read it; raises ``OSError``, and ``ValueError`` for something else."""
    home = folder / performed.variant.slug
    delays = (home / DELAYS).read_bytes().splitlines() if (home / DELAYS).exists() else []
    return Evidence(
        performed=performed,
        history=History.read(home / HISTORY),
        events=msgspec.json.decode((home / EVENTS).read_bytes(), type=tuple[FaultEvent, ...]),
        delays=tuple(msgspec.json.decode(line, type=MeasuredDelay) for line in delays),
    )
