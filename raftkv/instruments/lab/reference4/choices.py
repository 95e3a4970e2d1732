"""What the fourth reference system compares: which nodes a write and a read wait for, on five slow nodes. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from raftkv.core.delays import DelaysSection
from raftkv.core.voters import majority
from raftkv.instruments.load.plan import Distribution, LoadPlan, Ratio

NODES: Final = 5
MAJORITY: Final = majority(NODES)
DELAYS: Final = DelaysSection(leader_after_message_s=0.2, follower_update_s=0.1, follower_read_s=0.05)
"""The leader waits 200 ms after each message to a follower, a follower 100 ms per update and 50 ms per read."""

KEYS: Final = 100
CLIENTS: Final = 32
"""Few enough that the artificial delays, and not the processors of one machine, decide how fast a choice is."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One way to place N, R and W; ``name`` is for files, ``title`` for people."""

    name: str
    title: str
    mode: Literal["raft", "quorum"]
    r: int
    w: int
    n: int = NODES

    @property
    def sections(self) -> str:
        """What its configuration has beside the nodes."""
        lines = ["[delays]", *[f"{name} = {value:g}" for name, value in msgspec.structs.asdict(DELAYS).items()]]
        if self.mode == "quorum":
            lines += ["[quorum]", f"n = {self.n}", f"r = {self.r}", f"w = {self.w}"]
        return "\n".join([*lines, ""])

    @property
    def least_write_s(self) -> float:
        """A write cannot be answered sooner: it waits for the update of the last of the replicas that it needs."""
        followers = self.w - 1
        return DELAYS.leader_after_message_s * (followers - 1) + DELAYS.follower_update_s if followers else 0.0

    @property
    def down_for_writes(self) -> int:
        """With so many nodes down, writes still go on. A leader cannot be elected without a majority."""
        needed = self.w if self.mode == "quorum" else max(self.w, MAJORITY)
        return self.n - needed

    @property
    def down_for_reads(self) -> int:
        """With so many nodes down, reads still go on."""
        return self.n - self.r

    @property
    def survives(self) -> int:
        """So many nodes can be lost for good and an acknowledged write is still somewhere, or in the leader's log."""
        return self.w - 1

    def plan(self, ratio: Ratio, *, seconds: float, warm_up_s: float, seed: int, clients: int) -> LoadPlan:
        """The load of one run; R and W are named in every request as well."""
        return LoadPlan(
            ratio=ratio,
            seconds=seconds,
            warm_up_s=warm_up_s,
            seed=seed,
            clients=clients,
            keys=KEYS,
            keep=True,  # the cluster is taken down, and a run must not slow the next one
            distribution=Distribution.LOCAL_IN_TIME,
            consistency="eventual",
            r=str(self.r),
            w=str(self.w),
        )


CHOICES: Final = (
    Choice(name="leader-w5-r1", title="leader-follower, W=5 R=1", mode="raft", w=5, r=1),
    Choice(name="leader-w1-r5", title="leader-follower, W=1 R=5", mode="raft", w=1, r=5),
    Choice(name="leader-w3-r3", title="leader-follower, W=3 R=3", mode="raft", w=3, r=3),
    Choice(name="leaderless-w5-r1", title="leaderless, W=5 R=1", mode="quorum", w=5, r=1),
)
