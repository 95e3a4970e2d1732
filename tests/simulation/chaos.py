"""Random faults under random load, from one seed; at the end everything heals and the promises are checked.

Every write has a key of its own, so the checks are exact: an acknowledged write is there for every linearizable read
that begins afterwards and at the end; a refused one is never there; an unknown one may be either.
"""

from __future__ import annotations

import random
from collections import Counter

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import Consistency
from raftkv.core.results import Answer, Record, Written
from tests.simulation.cluster import Cluster


class Chaos:
    def __init__(self, seed: int, *, size: int = 3, **overrides) -> None:
        self.rng = random.Random(seed)
        settings = {"snapshot_entries": 60, "window_bytes": 1 << 16, "trailing_entries": 5, **overrides}
        self.cluster = Cluster(size, seed=seed, **settings)
        self.writes: list[tuple[bytes, object]] = []
        self.reads: list[tuple[bytes, object]] = []
        self.acknowledged: list[bytes] = []
        self.counts: Counter[str] = Counter()

    def run(self, seconds: float = 30.0) -> Counter[str]:
        cluster = self.cluster
        end_s = cluster.now_s + seconds
        while cluster.now_s < end_s:
            if self.rng.random() < 0.01:
                self.fault()
            if self.rng.random() < 0.4:
                self.write()
            if self.rng.random() < 0.2 and self.acknowledged:
                self.read()
            cluster.step()
            self.notice()
        cluster.settle()
        cluster.run(6.0)
        self.notice()
        self.check()
        return self.counts

    def alive(self) -> list[str]:
        return [m.id for m in self.cluster.members.values() if m.replica is not None and not m.paused]

    def fault(self) -> None:  # noqa: C901  one branch for each kind of fault
        cluster, rng = self.cluster, self.rng
        node = rng.choice(sorted(cluster.members))
        member = cluster.members[node]
        kind = rng.choice(["kill", "power", "power all", "pause", "isolate", "cut", "one way", "heal", "heal", "slow"])
        self.counts[kind] += 1
        if member.replica is None:
            cluster.restart(node)
        elif member.paused:
            cluster.resume(node)
        elif kind in ("kill", "power"):
            cluster.kill(node, power=kind == "power")
        elif kind == "power all":
            for other in sorted(cluster.members):
                if cluster.members[other].replica is not None:
                    cluster.kill(other, power=True)
            for other in sorted(cluster.members):
                cluster.restart(other)
        elif kind == "pause":
            cluster.pause(node)
        elif kind == "isolate":
            cluster.isolate(node)
        elif kind in ("cut", "one way"):
            other = rng.choice([peer for peer in sorted(cluster.members) if peer != node])
            cluster.cut(node, other, both=kind == "cut")
        elif kind == "slow":
            cluster.network.latency_s = rng.choice([(0.0005, 0.004), (0.005, 0.04), (0.02, 0.2)])
        else:
            cluster.heal()

    def write(self) -> None:
        nodes = self.alive()
        if nodes:
            key = b"k%d" % len(self.writes)
            value = self.rng.randbytes(self.rng.choice([10, 100, 5000]))
            pending = self.cluster.put(self.rng.choice(nodes), key, value, timeout_s=self.rng.choice([0.5, 2.0, 5.0]))
            self.writes.append((key, pending))

    def read(self) -> None:
        nodes = self.alive()
        if nodes:
            key = self.rng.choice(self.acknowledged[-20:])
            level = self.rng.choice([Consistency.LINEARIZABLE, Consistency.LEASE])
            self.reads.append((key, self.cluster.get(self.rng.choice(nodes), key, level)))

    def notice(self) -> None:
        waiting = []
        for key, pending in self.reads:
            if pending.outcome is None:
                waiting.append((key, pending))
            elif isinstance(pending.outcome, Answer):
                self.counts["reads answered"] += 1
                assert isinstance(pending.outcome.content, Record), f"a read missed the acknowledged write of {key!r}"
        self.reads = waiting
        known = len(self.acknowledged)
        fresh = [key for key, pending in self.writes[-400:] if isinstance(pending.outcome, Written)]
        if len(fresh) != known:
            seen = set(self.acknowledged)
            self.acknowledged += [key for key in fresh if key not in seen]

    def check(self) -> None:
        leader = self.cluster.leader()
        for key, pending in self.writes:
            # A write whose node was killed has no outcome: its client never heard, and nothing is promised.
            found = self.cluster.get_now(leader, key) is not None
            if isinstance(pending.outcome, Written):
                self.counts["acknowledged"] += 1
                assert found, f"acknowledged write of {key!r} is gone"
            elif isinstance(pending.outcome, Refused):
                self.counts["refused"] += 1
                assert not found, f"refused write of {key!r} was applied"
            elif isinstance(pending.outcome, Unknown):
                self.counts["unknown"] += 1
            else:
                self.counts["unheard"] += 1
