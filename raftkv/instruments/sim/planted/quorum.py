"""Planted bugs of the leaderless mode: each breaks one rule that the code keeps. Part of ``sim.planted``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.rules import FIRST_SIZES, Rule
from raftkv.core.voters import Voters
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.formats.rows import Held
from raftkv.formats.versions import KeyState, Seen, Stamp, Version
from raftkv.instruments.sim.planted.rights import OF_QUORUM
from raftkv.instruments.sim.planted.standing import COMMON
from raftkv.instruments.sim.planted.swaps import Remedy, Swap, always, around, gives, instead, rule, then
from raftkv.peers import acquaintance
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.conversation import QuorumConversation
from raftkv.quorum.coordination import speculation
from raftkv.quorum.coordination.reads import ReadCoordinator
from raftkv.quorum.coordination.running_reads import RunningRead
from raftkv.quorum.coordination.running_writes import RunningEvent, RunningWrites
from raftkv.quorum.coordination.speculation import Speculation
from raftkv.quorum.coordination.writes import WriteCoordinator
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.staged import StagedTable
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.data.versions import HybridClock, visible
from raftkv.quorum.membership import placement
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.repair import exchange
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.repair.handoff import Handoff, HintBatch
from raftkv.quorum.serving.serving import Serving
from raftkv.quorum.timeliness import Timeliness


def _drop_hints_at_once(self: Any, *_arguments: Any) -> None:
    for hint in self._left.values():
        self._store.drop_hint(self._node, hint.key, hint.state)


def _drop_hint_as_it_is(self: Any, target: str, key: bytes, _encoded: bytes) -> None:
    row = target.encode() + b"\0" + key
    if self._hints.standing(row) is not None:
        self._is_staged = True
        self._hints.put(row, None)


def _overwrite(self: StagedTable, row: bytes, state: KeyState) -> tuple[KeyState | None, KeyState]:
    held = self.standing(row)
    self.put(row, Held(state, held.actor if held is not None else ""))
    return None if held is None else held.state, state


def _count_one_twice(original: Any, self: Any, *given: Any) -> Any:
    return original(self, *given) or len(self.acknowledged) + 1 == self.needed


def _first_answer_is_enough(original: Any, self: Any, *given: Any) -> bool:
    original(self, *given)
    return len(self.answers) == 1


def _count_who_is_late(ask_others: Any, self: Any) -> None:
    """Who is late counts as one that agrees."""
    if self._coordinator.answers:
        self._coordinator.needed = len(self._coordinator.answers)
        self._tell()
    else:
        ask_others(self)


def _drop_without_comparing(original: Any, self: Any, now_s: float) -> None:
    n, here = self._members.sizes[0], self._settings.node_id
    for piece in self._pieces:
        if not self._placement.others and here not in self._placement.owners(piece, n):
            self._store.drop_range(piece)
    original(self, now_s)


def _without_owners_to_come(original: Any, self: Any, *given: Any, **named: Any) -> Any:
    others, self.others = self.others, ()
    try:
        return original(self, *given, **named)
    finally:
        self.others = others


def _all_arrive_at_once(
    staying: Mapping[str, str], moving: Sequence[MemberEntry]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    def with_those(*phases: Phase) -> Mapping[str, str]:
        return {**staying, **{entry.id: entry.zone for entry in moving if entry.phase in phases}}

    return with_those(Phase.LEAVING, Phase.DEPARTING), with_those(Phase.JOINING, Phase.SETTLING)


def _name_rings_alone(self: Any, *_members: Any) -> None:
    self.view = "+".join(ring.digest for ring in (self.reading, *self.others) if ring is not None)


def _one_actor(self: Any, row: bytes, version: Version, context: Seen) -> tuple[KeyState | None, Held]:
    held = self.standing(row)
    before = None if held is None else held.state
    version = msgspec.structs.replace(version, node=version.node.partition("~")[0])
    return before, Held(self._conflicts.write(before, version, context), version.node)


def _begin_at_zero(original: Any, self: HybridClock, count: int = 1) -> Any:
    self.last = 0
    return original(self, count)


def _without_first_sizes(original: Any, theirs: Mapping[str, Rule], ours: Mapping[str, Rule]) -> Any:
    return original(
        *({name: value for name, value in all_.items() if name not in FIRST_SIZES} for all_ in (theirs, ours))
    )


def _keep_own_stamps(original: Any, self: Any, newest: Stamp, *, makes_room: bool) -> Any:
    return None if newest.node == self._settings.node_id else original(self, newest, makes_room=makes_room)


def _believe_the_highest(_voters: Voters, clocks: Mapping[str, float]) -> tuple[float, float] | None:
    return max(clocks.values()), max(clocks.values())


def _is_waited_for(coordinator: type) -> Swap:
    return instead(coordinator, "silent", lambda self, node: self._targets.replace(node))


REMEDIES: Final[dict[str, Remedy]] = {
    **COMMON,
    "hopeless waited for": rule(
        "who is silent is not counted on", _is_waited_for(WriteCoordinator), _is_waited_for(ReadCoordinator)
    ),
    "silent asked again": rule(
        "who leaves questions unanswered is asked no more", gives(QuorumConversation, "unanswered")
    ),
    "reserve for deletions": rule(
        "deletions may use the reserve", instead(Upkeep, "takes", lambda self, **_: not self.is_full)
    ),
    "made twice": rule(
        "a write that may have been seen is not made again",
        gives(WriteCoordinator, "is_shown", value=False),
        always(WriteCoordinator, "is_in_doubt", value=False),
    ),
    "overtaken though shown": rule(
        "a write that W replicas came to show is done", gives(WriteCoordinator, "is_shown_by_enough", value=False)
    ),
    "shown by one": rule(
        "W replicas have come to show what is done",
        instead(WriteCoordinator, "is_shown_by_enough", WriteCoordinator.is_shown),
    ),
    "first word believed": rule(
        "a new directory counts once no write quorum of an earlier life can have gone unheard",
        instead(Members, "_has_heard_enough", property(lambda self: bool(self._know_nothing))),
    ),
    "strangers counted": rule(
        "a newcomer counts once it has linked up", gives(Members, "_has_proven_itself", value=True)
    ),
    "anybody let go": rule("nobody leaves without whom a quorum or a key is lost", gives(Members, "_loss")),
    "all let go": rule("who was let go stays where too few others do", gives(Members, "_too_few_stay", value=False)),
    "no observing": rule("a node's clock passes every stamp that it takes in", gives(Intake, "_observe")),
    "standing clock": rule("a node's clock never goes back", around(HybridClock, "next", _begin_at_zero)),
    "one stamp": rule("a write that would lose is stamped again", gives(RunningWrites, "_settle_overtaken")),
    "early answers": rule(
        "an acknowledgement leaves after the commit", then(Serving, "take", lambda self, *_: self.committed())
    ),
    "full disk ignored": rule(
        "nothing is acknowledged that found no room", instead(Serving, "commit_failed", Serving.committed)
    ),
    "hints dropped when sent": rule(
        "a hint is dropped after the answer", then(HintBatch, "__init__", _drop_hints_at_once)
    ),
    "grown hints dropped": rule("a hint that has grown is kept", instead(Store, "drop_hint", _drop_hint_as_it_is)),
    "hints of the departed": rule("hints for who has left go to the owners", gives(Handoff, "_take_over")),
    "overwriting": rule("states are joined, never replaced", instead(StagedTable, "join", _overwrite)),
    "tombstones dropped": rule(
        "a tombstone is kept for the grace",
        instead(Store, "_is_forgotten", lambda _self, state: not visible(state, 0)),
    ),
    "one replica twice": rule("W counts distinct replicas", around(WriteCoordinator, "add", _count_one_twice)),
    "empty answers": rule(
        "who lost its data answers no reads before it has it back", always(Members, "can_read", value=True)
    ),
    "empty acknowledgements": rule(
        "who lost its data acknowledges no writes before it has it back",
        gives(Serving, "_may_acknowledge", value=True),
    ),
    "too few read": rule("a read hears R replicas", around(ReadCoordinator, "add", _first_answer_is_enough)),
    "late counted": rule("who is late has not answered", around(RunningRead, "ask_others", _count_who_is_late)),
    "late waited for": rule("where the first replicas are late others are asked", gives(Speculation, "run")),
    "late asked first": rule("who was late is asked last", gives(Speculation, "is_late", value=False)),
    "fixed delay": rule(
        "how long is waited follows the answers",
        instead(Speculation, "delay_s", property(lambda _self: speculation.DEVIATION_LEAST_S)),
    ),
    "boundless delay": rule(
        "it is bounded, however slow they are",
        instead(Speculation, "delay_s", property(lambda self: (self._smoothed_s or 0.0) + 4 * self._deviation_s)),
    ),
    "passed over": rule("now and then a read asks all", gives(Speculation, "asks_all", value=False)),
    "others left behind": rule(
        "where answers differ all others are asked", always(ReadCoordinator, "differ", value=False)
    ),
    "always definite": rule(
        "a failure is definite only if nobody can have the write",
        instead(
            WriteCoordinator, "failure", lambda _self, reason: Refused(code=Code.QUORUM_UNREACHABLE, detail=reason)
        ),
    ),
    "definite origin": rule(
        "nobody knows what an origin that was lost has done",
        instead(RunningEvent, "_leave_unknown", lambda self, reason: self._give_up(reason)),
    ),
    "dropped without comparing": rule(
        "all owners hold what is forgotten", around(AntiEntropy, "_begin_round", _drop_without_comparing)
    ),
    "not all owners asked": rule(
        "a newcomer asks enough of the former owners", gives(AntiEntropy, "_lacks", value=False)
    ),
    "moved nothing": rule("a newcomer fetches what it gains", instead(AntiEntropy, "_gained", lambda _self: {})),
    "stepping alone": rule(
        "a ring change steps when all act on the step before", always(Members, "is_agreed", value=True)
    ),
    "old owners only": rule(
        "writes go to the owners to come as well", around(Placement, "targets", _without_owners_to_come)
    ),
    "arriving at once": rule(
        "writes go to whoever a key may come to, whichever member arrives first",
        instead(placement, "rings_ahead", _all_arrive_at_once),
    ),
    "changes confused": rule(
        "what was fetched for a change counts for no other one", then(Placement, "update", _name_rings_alone)
    ),
    "one actor": rule("whoever forgot a row is another actor", instead(StagedTable, "event", _one_actor)),
    "own stamps": rule(
        "a node stamps by agreed time, never by its own clock",
        instead(ClusterTime, "now_us", lambda self: self._wall_us()),
    ),
    "own expiry": rule(
        "a key's life ends by agreed time at every node",
        instead(ClusterTime, "now_ms", lambda self: self._wall_us() // 1000),
    ),
    "own grace": rule(
        "how long data was away is judged by a majority's clocks",
        instead(Upkeep, "_away_ms", lambda self, alive_ms: (self._time._wall_us() // 1000 - alive_ms,) * 2),
    ),
    "shown before its time": rule(
        "data stays out until its age is certain", gives(Upkeep, "is_in_service", value=True)
    ),
    "declined stamps kept": rule(
        "a coordinator keeps no stamp that others decline",
        around(Intake, "_look_at", _keep_own_stamps),
        always(Timeliness, "_has_run_ahead", value=False),
    ),
    "stamping in a leap": rule(
        "nobody stamps while agreed time leaps", always(ClusterTime, "_is_settling", value=False)
    ),
    "first clock believed": rule(
        "time is what a majority of clocks has reached",
        instead(Voters, "bounds", _believe_the_highest),
    ),
    "first sizes": rule(
        "a cluster begins with one N, R and W", around(acquaintance, "differences", _without_first_sizes)
    ),
    "done before durable": rule(
        "what was fetched counts once it is durable",
        then(exchange.ExchangeSession, "take", lambda self, *_: self.committed()),
    ),
    **OF_QUORUM,
}
