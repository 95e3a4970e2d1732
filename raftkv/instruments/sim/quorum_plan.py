"""What one seed decides about a leaderless cluster besides ``plan``: sizes, conflicts, requests, what operators do."""

from __future__ import annotations

import random as random_module
from typing import Any, Final

import msgspec

from raftkv.core.delays import DelaysSection
from raftkv.core.voters import minority
from raftkv.instruments.sim.plan import Plan, mixture

ACTIONS: Final = ("get", "put", "delete", "list", "put blindly", "passing put", "batch")
"""``blindly``: without the context of what was read; ``passing``: with a lifetime."""

DEEDS: Final = ("join", "leave", "lose disk", "sizes", "repair")
"""What operators do; where clients ask as users they also ``CHANGE_RIGHTS``."""

CHANGE_RIGHTS: Final = "change rights"
AHEAD_S: Final = 12_000.0
"""How far all clocks are set ahead at once, in some runs, and right again (the deed "set clocks")."""


TRIPS: Final = 4
"""Who is asked must be able to answer in its time, there and back twice, or nothing ever succeeds."""

MAJORITY_AHEAD_S: Final = 20_000.0
"""``clock_ahead_s`` where a majority of clocks may be wrong: above ``AHEAD_S`` and what the nemesis adds."""


class QuorumPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's decisions. ``members`` of the machines begin; the others may join.

    Requests name N, R and W themselves: one of ``sizes``, each (n, r, w). ``strict`` is the part of them that allow no
    fallbacks. ``losses`` disks may be lost.
    """

    members: int
    settings: dict[str, Any]
    sizes: tuple[tuple[int, int, int], ...]
    strict: float
    actions: dict[str, float]
    deeds: dict[str, float]
    deed_every_s: float
    losses: int


def draw(plan: Plan) -> QuorumPlan:
    """What ``plan``'s seed decides."""
    dice = random_module.Random(f"quorum {plan.seed}")
    pace_s = plan.pace_s
    members = dice.randint(max(1, plan.size - 2), plan.size)
    n = dice.choices((1, 2, 3, 4, 5), (1, 3, 8, 1, 1))[0]
    n = min(n, members)
    sizes = tuple([(n, dice.randint(1, n), dice.randint(1, n)) for _ in range(dice.choice((1, 3)))])
    deeds = mixture(dice, DEEDS, at_least=(), share=0.5)
    is_mostly_right = 2 * minority(plan.size) < members and "leave" not in deeds
    if "join" in deeds or "leave" in deeds:
        sizes = sizes[:1]  # data moves by the cluster's own sizes
    if not is_mostly_right and random_module.Random(f"clocks {plan.seed}").random() < 0.3:
        deeds = deeds | {"set clocks": 1.0}
    deed_every_s = plan.faulty_s / dice.choice((2, 5, 12))
    if plan.has_users:
        deeds, deed_every_s = deeds | {CHANGE_RIGHTS: 2.0 + sum(deeds.values())}, plan.faulty_s / 40
    settings: dict[str, Any] = {
        "n": n,
        "r": sizes[0][1],
        "w": sizes[0][2],
        "vnodes": dice.choice((1, 3, 8)),
        "conflicts": dice.choice(("lww", "lww", "siblings")),
        "sloppy": dice.random() < 0.5,
        "gossip_s": pace_s * dice.choice((0.2, 0.5)),
        "suspect_after_s": pace_s * 3,
        "down_after_s": pace_s * 8,
        "replica_timeout_s": max(pace_s * dice.choice((0.1, 0.5, 2.0)), TRIPS * plan.latency_s[1] + 2 * plan.flush_s),
        "anti_entropy_s": pace_s * dice.choice((0.3, 1.0)),
        "max_hints": dice.choice((3, 10_000, 10_000)),
        "transfer_bytes_per_s": dice.choice((50_000, 1 << 30)),
        # After a majority's clocks have leapt, only those who take each other's stamps all the same go on writing.
        "clock_ahead_s": 10.0 if is_mostly_right else MAJORITY_AHEAD_S,
        "window_bytes": dice.choice((3000, 1 << 20)),
        "max_siblings": dice.choice((3, 64, 64)),
        "max_waiting": dice.choice((5, 10_000, 10_000)),
        "disk_reserve_bytes": dice.choice((0, 0, 5000)),
        "rights_validity_s": max(0.6, pace_s * random_module.Random(f"rights {plan.seed}").choice((0.5, 2.0))),
    }
    if dice.random() < 0.1:
        settings["delays"] = DelaysSection(
            leader_after_message_s=dice.choice((0.0, 0.03)), follower_update_s=0.02, follower_read_s=0.01
        )
    return QuorumPlan(
        members=members,
        settings=settings,
        sizes=sizes,
        strict=dice.choice((0.0, 0.5, 1.0)),
        actions=mixture(dice, ACTIONS, at_least=("put", "get"), share=0.5),
        deeds=deeds,
        deed_every_s=deed_every_s,
        losses=max(dice.choice((0, 1)) if "lose disk" in deeds else 0, "old copy" in plan.faults),
    )
