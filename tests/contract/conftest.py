"""The list of replicators that the contract is checked against.

To add one: append an ``Entry`` whose ``make`` returns an object that runs it (see ``Subject``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from raftkv.core.replicator import Pending, Replicator
from raftkv.core.requests import Consistency, Request
from raftkv.core.results import Outcome
from tests.contract.direct import DirectSubject
from tests.contract.quorum import QuorumSubject
from tests.contract.raft import RaftSubject
from tests.contract.remote import RemoteSubject
from tests.contract.solo import SoloReplicator


class Subject(Protocol):
    """A replicator that is ready (it has a leader), and the way to let it work."""

    replicator: Replicator

    def turn(self) -> None:
        """Let everything work for a moment: the replicator, its peers, its sockets."""

    def stop(self) -> None:
        """Close and clean up."""


class SoloSubject:
    def __init__(self, max_pending: int) -> None:
        self.replicator = SoloReplicator(max_pending=max_pending)

    def turn(self) -> None:
        self.replicator.work(time.monotonic())

    def stop(self) -> None:
        self.replicator.close()


MAX_PENDING = 50
"""What every entry is made with, so that the suite can fill it."""

Make = Callable[[int, Any], Subject]

REPLICATORS: dict[str, Make] = {
    "solo": lambda max_pending, folder: SoloSubject(max_pending),
    "raft leader": lambda max_pending, folder: RaftSubject(max_pending, ask_the_leader=True),
    "quorum": lambda max_pending, folder: QuorumSubject(max_pending),
    "raft follower": lambda max_pending, folder: RaftSubject(max_pending, ask_the_leader=False),
    "direct": lambda max_pending, folder: DirectSubject(max_pending),
    "remote": lambda max_pending, folder: RemoteSubject(max_pending, folder, shared_state=False),
    "remote with shared state": lambda max_pending, folder: RemoteSubject(max_pending, folder, shared_state=True),
}


class Harness:
    """Asks a subject and waits."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.replicator = subject.replicator
        self.usual = subject.replicator.status().offers[0]
        """The level of a read that names none."""

    @property
    def has_one_order(self) -> bool:
        """Do all writes have one order: revisions, versions that count, compare-and-set, retries applied once?

        The one difference between the modes that the suite declares; what is not offered must be refused.
        """
        return Consistency.LINEARIZABLE in self.replicator.status().offers

    def submit(self, request: Request, timeout_s: float = 10.0) -> Pending:
        return self.replicator.submit(request, time.monotonic() + timeout_s)

    def wait(self, pending: Pending, limit_s: float = 15.0) -> Outcome:
        end_s = time.monotonic() + limit_s
        while pending.outcome is None:
            assert time.monotonic() < end_s, "no outcome"
            self.subject.turn()
        return pending.outcome

    def until(self, condition: Callable[[], object], limit_s: float = 15.0) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, "it never came to be"
            self.subject.turn()

    def ask(self, request: Request, timeout_s: float = 10.0) -> Outcome:
        return self.wait(self.submit(request, timeout_s))


@pytest.fixture(params=REPLICATORS)
def harness(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Harness]:
    subject = REPLICATORS[request.param](MAX_PENDING, tmp_path)
    try:
        yield Harness(subject)
    finally:
        subject.stop()
