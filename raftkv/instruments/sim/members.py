"""The operator of a simulated raft cluster: lets members in, removes, replaces and moves them, asks for other leaders.

Whatever is asked for is asked of any node that runs, whether it makes sense now or not: what may not be done is the
leader's to refuse. Who was removed is started again, like everybody who ends, and may be let in again. When all
faults are over, every machine is, since clients ask them all.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from raftkv.core.errors import Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import (
    AddMember,
    ChangeMember,
    MembersRequest,
    PromoteMember,
    RemoveMember,
    TransferLeadership,
)
from raftkv.core.results import LeaderChanged, MembersChanged
from raftkv.core.rights import CLUSTER
from raftkv.instruments.sim.plan import Plan, mixture

if TYPE_CHECKING:
    from raftkv.instruments.sim.cluster import SimulatedCluster

_ACTS: Final[dict[str, Callable[[str], MembersRequest]]] = {
    "add": lambda name: AddMember(id=name, http=f"{name}:1", peer=f"{name}:2", caller=CLUSTER),
    "remove": lambda name: RemoveMember(id=name, caller=CLUSTER),
    "promote": lambda name: PromoteMember(id=name, caller=CLUSTER),
    "move": lambda name: ChangeMember(id=name, http=f"{name}:3", peer=f"{name}:4", caller=CLUSTER),
    "transfer": lambda name: TransferLeadership(to=name, caller=CLUSTER),
}


_OF_VOTERS: Final = ("add", "remove", "replace")
"""What comes to another number of voters."""


def founders(plan: Plan) -> tuple[str, ...]:
    """The machines that found the cluster of this seed; the others are let in later, or never."""
    return (
        plan.names[: random_module.Random(f"founders {plan.seed}").randint(1, plan.size)]
        if changes(plan)
        else plan.names
    )


def changes(plan: Plan) -> bool:
    """Do members come and go? In every third seed."""
    return plan.size > 1 and random_module.Random(f"members {plan.seed}").random() <= 1 / 3


class MembersOperator:
    """One run's operator; ``counts`` is what came of what it asked for."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        plan: Plan,
        members: Callable[[], tuple[str, ...]],
        may_change_voters: Callable[[], bool],
    ) -> None:
        """Whether he asks for members to come and go, ``may_change_voters`` says at each time."""
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._members = members
        self._may_change_voters = may_change_voters
        self._waits: list[tuple[Pending, float]] = []
        self._random = random_module.Random(f"operator {plan.seed}")
        acts = mixture(self._random, (*_ACTS, "replace"), at_least=("add", "remove"), share=0.6)
        self._kinds, self._weights = list(acts), list(acts.values())
        self._every_s = plan.pace_s * self._random.choice((0.3, 1.0, 3.0))
        self._patience_s = 4 * plan.pace_s
        self._end_s = cluster.now_s + plan.faulty_s

    def begin(self) -> None:
        """Ask now and then."""
        every_s = self._every_s if self._cluster.now_s < self._end_s else self._patience_s / 4
        self._cluster.schedule.after(self._random.expovariate(1.0) * every_s, self._ask)

    @property
    def is_waiting(self) -> bool:
        """Has anything been asked for that may come about yet? Whoever was asked may be no more."""
        now_s = self._cluster.now_s
        self._waits = [
            (pending, until_s) for pending, until_s in self._waits if not pending.outcome and now_s < until_s
        ]
        return bool(self._waits)

    def _ask(self) -> None:
        asked = names = list(self._cluster.machines)
        kind = self._random.choices(self._kinds, self._weights)[0]
        if self._cluster.now_s >= self._end_s:
            members = self._members()
            asked, names, kind = list(members), [name for name in names if name not in members], "add"
            if not names:
                self.begin()  # without a leader, who the members are is what was known last
                return
        self._tell(self._random.choice(asked), kind, self._random.choice(names))
        self.begin()

    def _tell(self, via: str, kind: str, name: str) -> None:
        if kind in _OF_VOTERS and not self._may_change_voters():
            return
        machine = self._cluster.machines[via]
        if not machine.is_working:
            return
        asked = "add" if kind == "replace" else kind
        self._cluster.note(via, f"is told to {asked} {name}")
        pending = machine.submit(_ACTS[asked](name), self._patience_s)
        self._waits.append((pending, self._cluster.now_s + 2 * self._patience_s))
        pending.when_done(lambda outcome: self._told(kind, via, name, outcome))

    def _remove_another(self, name: str, outcome: object) -> None:
        """The second half of a replacement: somebody goes once ``name`` has had time to come to vote."""
        others = [other for other in self._members() if other != name]
        if not isinstance(outcome, MembersChanged) or not others:
            return
        old = self._random.choice(others)

        def remove() -> None:
            if self._cluster.now_s < self._end_s:
                self._tell(self._random.choice(list(self._cluster.machines)), "remove", old)

        self._cluster.schedule.after(self._patience_s, remove)

    def _told(self, kind: str, via: str, name: str, outcome: object) -> None:
        self._cluster.note(via, f"says to {kind}: {getattr(outcome, 'detail', 'done')}")
        is_done = isinstance(outcome, MembersChanged | LeaderChanged)
        self.counts[f"{kind} {'done' if is_done else 'refused' if isinstance(outcome, Refused) else 'in doubt'}"] += 1
        if kind == "replace":
            self._remove_another(name, outcome)
