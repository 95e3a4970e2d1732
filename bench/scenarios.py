"""What is measured, and the ratios to etcd that raftkv means to reach: one row for each scenario.

``target`` is the first goal, ``stretch`` the one behind it; both are raftkv's operations per second divided by etcd's.
``leaderless`` is the goal of the leaderless mode, divided by raft mode's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import msgspec

from bench.dialects import Dialect, Load, Pair, batches, comparisons, gets, grants, increments, keep_alives, puts

KEYS = 10_000
VALUE_BYTES = 100
BATCH_OPERATIONS = 100
LEASES = range(1, 1001)
"""Those that are kept alive."""

NOT_SLOWER = 0.97
"""Of a later version, divided by an earlier one."""

Kind = Literal["put", "get", "local-get", "batch", "txn", "increment", "grant", "keep-alive"]


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
        if (base, other) == ("earlier", "raft"):
            return NOT_SLOWER, None
        is_against_etcd = base == "etcd" and other in ("raft", "one-process")
        return (self.target, self.stretch) if is_against_etcd else (None, None)


THROUGHPUT = (
    Scenario(name="put", title="put", raftkv="put", etcd="put", target=0.9, stretch=1.2, leaderless=0.8),
    Scenario(name="get", title="linearizable get", raftkv="get", etcd="get", target=1.0, stretch=2.8, leaderless=0.8),
    Scenario(
        name="local-get",
        title="local get",
        raftkv="local-get",
        etcd="local-get",
        target=1.1,
        stretch=4.3,
        leaderless=0.8,
    ),
    Scenario(
        name="put-one", title="put, one connection", raftkv="put", etcd="put", connections=1, target=1.0, stretch=1.2
    ),
    Scenario(
        name="get-one",
        title="linearizable get, one connection",
        raftkv="get",
        etcd="get",
        connections=1,
        target=1.0,
        stretch=1.5,
    ),
    Scenario(
        name="put-128", title="put, 128 connections", raftkv="put", etcd="put", connections=128, target=1.0, stretch=1.6
    ),
    Scenario(
        name="get-128",
        title="linearizable get, 128 connections",
        raftkv="get",
        etcd="get",
        connections=128,
        target=1.0,
        stretch=3.0,
    ),
    Scenario(
        name="batch", title="/batch of 100 puts against single puts", raftkv="batch", etcd="put", target=5, stretch=10
    ),
    Scenario(name="batch-txn", title="/batch of 100 puts against txn of 100 puts", raftkv="batch", etcd="batch"),
    Scenario(name="txn", title="txn: compare a value and put", raftkv="txn", etcd="txn", target=1.0),
    Scenario(
        name="increment",
        title="increments of one key against such txns",
        raftkv="increment",
        etcd="increment",
        target=1.0,
    ),
    Scenario(name="grant", title="lease grant", raftkv="grant", etcd="grant", target=1.0),
    Scenario(name="keep-alive", title="lease kept alive", raftkv="keep-alive", etcd="keep-alive", target=1.0),
)
IDLE = "idle"
LEADER_CHANGES = "leader-changes"
NAMES = (IDLE, *(scenario.name for scenario in THROUGHPUT), LEADER_CHANGES)
OF_LEADERS = ("txn", "increment", "grant", "keep-alive", LEADER_CHANGES)
"""What a cluster without a leader is not asked."""

IDLE_TARGET_PERCENT = 2.0
LEADER_CHANGES_TARGET = 0


def load(dialect: Dialect, kind: Kind, pairs: Sequence[Pair]) -> Load:
    """The requests of ``kind`` over ``pairs``; reads find only what was written before."""
    loads: dict[Kind, Callable[[], Load]] = {
        "put": lambda: puts(dialect, pairs),
        "get": lambda: gets(dialect, [key for key, _ in pairs], local=False),
        "local-get": lambda: gets(dialect, [key for key, _ in pairs], local=True),
        "batch": lambda: batches(dialect, pairs, BATCH_OPERATIONS),
        "txn": lambda: comparisons(dialect, pairs),
        "increment": lambda: increments(dialect, pairs),
        "grant": lambda: grants(dialect),
        "keep-alive": lambda: keep_alives(dialect, LEASES),
    }
    return loads[kind]()


def preloads(dialect: Dialect, pairs: Sequence[Pair], kinds: Collection[Kind]) -> list[Load]:
    """What is poured in before loads of ``kinds`` are measured: the keys, and the leases if they are kept alive."""
    filling = [load(dialect, "batch", pairs)]
    return [*filling, grants(dialect, LEASES)] if "keep-alive" in kinds else filling
