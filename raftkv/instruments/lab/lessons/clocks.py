"""Two leaders by clocks on walls, and one by a lease: a clock jumps, and a leader is suspended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from raftkv.instruments.lab.faults import WallClock
from raftkv.instruments.lab.lessons.actor import Actor
from raftkv.instruments.lab.lessons.candidate import TTL_S
from raftkv.instruments.lab.lessons.fencing import CLUSTER
from raftkv.instruments.lab.lessons.lesson import Lesson, Tell, ToBeSeen
from raftkv.instruments.lab.nemesis import Nemesis
from raftkv.instruments.lab.run import started
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites

JUMP_S: Final = 60
AFTERWARDS_S: Final = 2 * TTL_S
"""How long is looked on after something happened."""

Span = tuple[float, float]


def perform(folder: Path, tell: Tell) -> list[ToBeSeen]:
    """The same clock jumps in both; where leases are, a node's clock jumps as well, and the leader is suspended."""
    tell("Three nodes start on this machine. Ann leads, Bob would like to; each is a process, and renews while it can.")
    with started(CLUSTER, loopback_sites(3), folder) as cluster:
        tell(
            "\n1. The leader is a key that says until when. Whoever finds that past, by a clock on the wall, takes it."
        )
        together = _play(cluster, "wall", tell)
        both_by_wall = overlap_s(*together)
        tell(f"   So both led, for {both_by_wall:.1f} s at once.")
        tell("\n2. The leader is a key that goes with a lease, which ends by clocks that nobody can set.")
        ann, bob = _play(cluster, "lease", tell)
        both_by_lease = overlap_s(ann, bob)
        tell(f"   Both led for {both_by_lease:.1f} s at once; Bob led once Ann did not: {bool(bob)}.")
    return [
        ToBeSeen(
            "by clocks on walls two led at once, when one of the clocks had jumped", both_by_wall > 0, is_elsewhere=True
        ),
        ToBeSeen("by a lease never two led at once", not both_by_lease),
        ToBeSeen("and when the one who led was suspended, the other came to lead", bool(bob)),
    ]


def _play(cluster: LocalCluster, kind: str, tell: Tell) -> tuple[list[Span], list[Span]]:
    """When each of the two believed to lead."""
    addresses = [str(site.http) for site in cluster.sites.values()]
    with Actor("Ann", "candidate", "Ann", kind, *addresses) as ann:
        ann.wait_for("leads")
        tell("   Ann leads.")
        with Actor("Bob", "candidate", "Bob", kind, *addresses) as bob:
            bob.wait_for("wants to lead")
            time.sleep(1)
            tell(
                f"   Bob's clock jumps {JUMP_S} s ahead"
                + (", and that of the leading node." if kind == "lease" else ".")
            )
            with _jumped_node(cluster) if kind == "lease" else contextlib.nullcontext():
                bob.order(f"jump {JUMP_S}")
                time.sleep(AFTERWARDS_S)
                told = "He takes the lead, while Ann has it." if _spans(bob) else "Nothing happens: he does not lead."
                tell(f"   {told}")
                if kind == "lease":
                    ann.pause()
                    tell(f"   Ann is suspended (SIGSTOP) for longer than her lease of {TTL_S:g} s.")
                    bob.wait_for("leads")
                    tell("   Bob leads.")
                    ann.resume()
                    tell("   Ann goes on, and looks at her clock first: she does not lead any more.")
                    time.sleep(AFTERWARDS_S / 2)
            return _spans(ann), _spans(bob)


@contextlib.contextmanager
def _jumped_node(cluster: LocalCluster) -> Iterator[None]:
    with Nemesis(cluster, random=Random(0)) as nemesis:  # noqa: S311  nothing is drawn from it
        nemesis.begin(WallClock(nodes=("leader",), offset_s=float(JUMP_S)))
        yield


def _spans(actor: Actor) -> list[Span]:
    """When ``actor`` believed to lead; the last time may go on."""
    spans: list[Span] = []
    for line in actor.hear_all():
        if line.what == "leads":
            spans.append((line.at_s, time.monotonic()))
        elif line.what == "leads no more":
            spans[-1] = (spans[-1][0], line.at_s)
    return spans


def overlap_s(some: list[Span], others: list[Span]) -> float:
    """For how many seconds both led."""
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in some for b in others)


LESSON: Final = Lesson("Two leaders by the clocks on walls, and one by a lease", perform)
