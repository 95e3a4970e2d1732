"""What one seed decides before its run begins: how large, how fast, which faults, which requests, in which mixture.

Each seed leaves most kinds of faults and of requests out, and draws the weights of the others. Many different narrow
mixtures reach combinations that one broad mixture drowns (Groce et al., "Swarm Testing", ISSTA 2012). Imports the
standard library and msgspec.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Sequence
from typing import Final

import msgspec

FAULTS: Final = (
    "kill",
    "power",
    "power all",
    "crash at a disk step",
    "failing disk",
    "full disk",
    "emptied disk",
    "pause",
    "isolate",
    "split",
    "one way",
    "bridge",
    "broken connection",
    "slow link",
    "slow network",
    "stragglers",
    "wall clock jump",
)

MISTAKES: Final = ("old copy", "differing rules")
STATES: Final = ("flipped row", "differing state")
"""Faults that are drawn apart from the others, each list in every third seed."""

ACTIONS: Final = (
    "get",
    "lease get",
    "barrier get",
    "put",
    "put once",
    "delete",
    "compare and set",
    "compare and delete",
    "create",
    "replace",
    "put on one",
    "put on all",
    "passing put",
)
"""``once``: with an idempotency key; ``on one``, ``on all``: acknowledged by so many; ``passing``: with a lifetime."""

COORDINATION: Final = (
    "transaction",
    "transaction once",
    "batch",
    "increment",
    "increment once",
    "delete span",
    "touch",
    "grant",
    "keep alive",
    "revoke",
    "leased put",
    "compact",
    "list",
    "count",
    "keeping put",
    "several gets",
    "local get",
    "local list",
    "past get",
    "past list",
    "changes",
    "leases",
    "lock",
    "campaign",
    "observe",
)
"""What else is asked for in every second seed; ``past``: at an earlier revision."""

RIGHTS: Final = ("change rights",)
"""In every third seed clients ask as users, whose rights change."""

_READS: Final = ("get", "lease get", "barrier get")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's decisions. Times in seconds; ``pace_s`` is the election timeout, by which the others are measured."""

    seed: int
    size: int
    pace_s: float
    faulty_s: float
    latency_s: tuple[float, float]
    silence_s: float
    redial_s: tuple[float, float]
    turn_s: float
    flush_s: float
    rates: tuple[float, ...]
    clients: int
    keys: int
    think_s: float
    timeout_s: tuple[float, float]
    value_bytes: tuple[int, ...]
    actions: dict[str, float]
    faults: dict[str, float]
    fault_every_s: float
    fault_lasts_s: tuple[float, float]
    aimed: float
    has_users: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The machines."""
        return tuple(f"n{number}" for number in range(1, self.size + 1))


DRIFT_BOUND: Final = 0.1
"""What replicas are told about their clocks; the rates of any two stay within it."""


def draw(seed: int) -> Plan:
    """The plan of ``seed``."""
    dice = random_module.Random(f"plan {seed}")
    pace_s = dice.choice((0.3, 0.5, 1.0))
    faulty_s = pace_s * dice.uniform(5, 12)
    size = dice.choices((1, 2, 3, 5), (1, 1, 20, 3))[0]
    clients = dice.randint(2, 6)
    operations = dice.randint(40, 200)
    low_s = dice.choice((0.0002, 0.001, 0.005))
    is_steady = dice.random() < 0.4
    has_users = random_module.Random(f"askers {seed}").random() < 1 / 3
    return Plan(
        seed=seed,
        size=size,
        pace_s=pace_s,
        faulty_s=faulty_s,
        latency_s=(low_s, low_s * dice.choice((1.0, 3.0, 10.0))),
        silence_s=pace_s * dice.choice((0.8, 2.0, 4.0)),
        redial_s=dice.choice(((0.001, 0.01), (0.05, 0.3))),
        turn_s=dice.choice((0.0, 0.0005, 0.003)),
        flush_s=dice.choice((0.0, 0.002, 0.02)),
        rates=tuple([1.0 if is_steady else dice.uniform(0.951, 1.049) for _ in range(size)]),
        clients=clients,
        keys=dice.choice((1, 2, 3, 6)),
        think_s=clients * faulty_s / operations,
        timeout_s=(0.3 * pace_s, pace_s * dice.choice((1.0, 3.0, 6.0))),
        value_bytes=dice.choice(((1,), (1, 200), (1, 3000))),
        actions=_actions(seed, mixture(dice, ACTIONS, at_least=("put", dice.choice(_READS)), share=0.5))
        | _coordination(seed)
        | (dict.fromkeys(RIGHTS, 2.0) if has_users else {}),
        faults=mixture(dice, FAULTS, at_least=(dice.choice(FAULTS),), share=0.3) | _apart(seed),
        fault_every_s=pace_s * dice.choice((0.3, 1.0, 2.0)),
        fault_lasts_s=(0.05 * pace_s, pace_s * dice.choice((0.5, 2.0, 4.0))),
        aimed=dice.choice((0.0, 0.5, 0.9)),
        has_users=has_users,
    )


def _actions(seed: int, actions: dict[str, float]) -> dict[str, float]:
    """A third of the seeds mostly read: whoever is cut off meanwhile is not behind, and may be elected."""
    if random_module.Random(f"actions {seed}").random() < 2 / 3:
        return actions
    return {kind: weight if kind in _READS else weight * 0.05 for kind, weight in actions.items()}


def _coordination(seed: int) -> dict[str, float]:
    """Drawn apart, so that the other seeds stay what they are."""
    dice = random_module.Random(f"coordination {seed}")
    return mixture(dice, COORDINATION, at_least=("transaction", "grant"), share=0.6) if dice.random() < 1 / 2 else {}


def _apart(seed: int) -> dict[str, float]:
    faults: dict[str, float] = {}
    for kinds in (MISTAKES, STATES):
        dice = random_module.Random(f"{kinds[0]} {seed}")
        if dice.random() < 1 / 3:
            faults |= mixture(dice, kinds, at_least=(dice.choice(kinds),), share=0.5)
    return faults


def mixture(
    dice: random_module.Random, kinds: Sequence[str], *, at_least: Sequence[str], share: float
) -> dict[str, float]:
    """Some of the ``kinds`` with weights that differ by up to a factor of ten."""
    chosen = [kind for kind in kinds if kind in at_least or dice.random() < share]
    return {kind: 10 ** dice.random() for kind in chosen}
