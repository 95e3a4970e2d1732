"""What is measured, and the ratios to etcd that raftkv means to reach: one row for each scenario.

``target`` is the first goal, ``stretch`` the one behind it; both are raftkv's operations per second divided by etcd's.
``leaderless`` is the goal of the leaderless mode, divided by raft mode's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.dialects import Dialect, Load, Pair, batches, gets, puts

KEYS = 10_000
VALUE_BYTES = 100
BATCH_OPERATIONS = 100

Kind = Literal["put", "get", "local-get", "batch"]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """``connections`` 0 means as many as the run is asked for; one connection goes to the leader in both systems."""

    name: str
    title: str
    raftkv: Kind
    etcd: Kind
    connections: int = 0
    target: float | None = None
    stretch: float | None = None
    leaderless: float | None = None

    def goals(self, base: str, other: str) -> tuple[float | None, float | None]:
        """Target and stretch of ``other``, divided by ``base``."""
        if (base, other) == ("raft", "quorum"):
            return self.leaderless, None
        return (self.target, self.stretch) if (base, other) == ("etcd", "raft") else (None, None)


THROUGHPUT = (
    Scenario(name="put", title="put", raftkv="put", etcd="put", target=0.9, stretch=1.2, leaderless=0.8),
    Scenario(name="get", title="linearizable get", raftkv="get", etcd="get", target=1.0, stretch=2.8, leaderless=0.8),
    Scenario(name="local-get", title="local get", raftkv="local-get", etcd="local-get", target=1.1, stretch=4.3),
    Scenario(
        name="put-one", title="put, one connection", raftkv="put", etcd="put", connections=1, target=0.75, stretch=1.0
    ),
    Scenario(
        name="batch", title="/batch of 100 puts against single puts", raftkv="batch", etcd="put", target=5, stretch=10
    ),
    Scenario(name="batch-txn", title="/batch of 100 puts against txn of 100 puts", raftkv="batch", etcd="batch"),
)
IDLE = "idle"
LEADER_CHANGES = "leader-changes"
NAMES = (IDLE, *(scenario.name for scenario in THROUGHPUT), LEADER_CHANGES)
OF_LEADERS = ("local-get", LEADER_CHANGES)
"""What a cluster without a leader is not asked."""

IDLE_TARGET_PERCENT = 2.0
LEADER_CHANGES_TARGET = 0


def load(dialect: Dialect, kind: Kind, pairs: Sequence[Pair]) -> Load:
    """The requests of ``kind`` over ``pairs``; reads find only what was written before."""
    if kind == "put":
        return puts(dialect, pairs)
    if kind == "batch":
        return batches(dialect, pairs, BATCH_OPERATIONS)
    return gets(dialect, [key for key, _ in pairs], local=kind == "local-get")
