"""Planted bugs of the leaderless mode, by which its simulator is tested: each breaks one rule that the code keeps.

A simulator that finds nothing may be blind. With each of these in place random seeds must find something. For
simulations only: what is changed here is changed for the whole process, for as long as the context lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import msgspec

from raftkv.core import identity, rules
from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.rules import FIRST_SIZES, Rule
from raftkv.instruments.sim.planted_standing import old_copies_welcome, rules_not_compared
from raftkv.instruments.sim.remedy import Replace
from raftkv.quorum import cluster_time
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.conversation import Conversation
from raftkv.quorum.coordination.reads import ReadCoordinator
from raftkv.quorum.coordination.running_writes import RunningEvent, RunningWrites
from raftkv.quorum.coordination.targets import Targets
from raftkv.quorum.coordination.writes import WriteCoordinator
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.rows import Held, StagedTable
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.data.versions import HybridClock, Seen, Stamp, State, Version, visible
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.membership.ring import Range
from raftkv.quorum.repair import exchange
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.repair.handoff import Batch, Handoff
from raftkv.quorum.replica import QuorumReplica
from raftkv.quorum.serving.serving import Serving


class Bug(msgspec.Struct, frozen=True, kw_only=True):
    """``rule`` is what is broken by ``plant``."""

    rule: str
    plant: Callable[[Replace], None]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Everything as it is, but for one bug."""
    with ExitStack() as stack:

        def replace(owner: Any, attribute: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(owner, attribute, value))

        BUGS[name].plant(replace)
        yield


def _no_observing(replace: Replace) -> None:
    replace(Intake, "_observe", lambda _self, _counter, _whose: None)


def _one_stamp(replace: Replace) -> None:
    replace(RunningWrites, "_settle_overtaken", lambda _self: None)


def _early_answers(replace: Replace) -> None:
    original = Serving.take

    def take(self: Serving, node: str, question: Any) -> None:
        original(self, node, question)
        self.committed()

    replace(Serving, "take", take)


def _full_disk_ignored(replace: Replace) -> None:
    replace(Serving, "commit_failed", Serving.committed)


def _hints_dropped_when_sent(replace: Replace) -> None:
    original = Batch.__init__

    def begin(self: Batch, *arguments: Any) -> None:
        original(self, *arguments)
        for hint in self._left.values():
            self._store.drop_hint(self._node, hint.key, hint.state)

    replace(Batch, "__init__", begin)


def _grown_hints_dropped(replace: Replace) -> None:
    def drop_hint(self: Store, target: str, key: bytes, _encoded: bytes) -> None:
        row = target.encode() + b"\0" + key
        if self._hints.standing(row) is not None:
            self._is_staged = True
            self._hints.rows[row] = None

    replace(Store, "drop_hint", drop_hint)


def _hints_of_the_departed(replace: Replace) -> None:
    replace(Handoff, "_take_over", lambda _self, _node: None)


def _overwriting(replace: Replace) -> None:
    def join(self: StagedTable, row: bytes, state: State) -> tuple[State | None, State]:
        held = self.standing(row)
        self.rows[row] = Held(state, held.actor if held is not None else "")
        return None if held is None else held.state, state

    replace(StagedTable, "join", join)


def _tombstones_dropped(replace: Replace) -> None:
    def is_forgotten(_self: Store, state: State) -> bool:
        return not visible(state, 0)

    replace(Store, "_is_forgotten", is_forgotten)


def _one_replica_twice(replace: Replace) -> None:
    original = WriteCoordinator.add

    def add(
        self: WriteCoordinator, node: str, replaced: Sequence[bool], newer: Iterable[tuple[int, Stamp]] = ()
    ) -> bool:
        is_done = original(self, node, replaced, newer)
        return is_done or len(self.acknowledged) + 1 == self._needed

    replace(WriteCoordinator, "add", add)


def _too_few_read(replace: Replace) -> None:
    original = ReadCoordinator.add

    def add(self: ReadCoordinator, node: str, state: State | None) -> bool:
        original(self, node, state)
        return len(self.answers) == 1

    replace(ReadCoordinator, "add", add)


def _always_definite(replace: Replace) -> None:
    def failure(_self: WriteCoordinator, reason: str) -> Refused | Unknown:
        return Refused(code=Code.QUORUM_UNREACHABLE, detail=reason)

    replace(WriteCoordinator, "failure", failure)


def _definite_origin(replace: Replace) -> None:
    def leave_unknown(self: RunningEvent, reason: str) -> None:
        self._give_up(reason)

    replace(RunningEvent, "_leave_unknown", leave_unknown)


def _dropped_without_comparing(replace: Replace) -> None:
    original = AntiEntropy._begin_round  # noqa: SLF001

    def begin_round(self: AntiEntropy, now_s: float) -> None:
        n, here = self._members.sizes[0], self._settings.node_id
        for piece in self._pieces:
            if not self._placement.others and here not in self._placement.owners(piece, n):
                self._store.drop_range(piece)
        original(self, now_s)

    replace(AntiEntropy, "_begin_round", begin_round)


def _not_all_owners_asked(replace: Replace) -> None:
    replace(AntiEntropy, "_lacks", lambda _self: False)


def _moved_nothing(replace: Replace) -> None:
    def gained(_self: AntiEntropy) -> dict[str, list[Range]]:
        return {}

    replace(AntiEntropy, "_gained", gained)


def _stepping_alone(replace: Replace) -> None:
    replace(Members, "is_agreed", property(lambda _self: True))


def _old_owners_only(replace: Replace) -> None:
    original = Placement.targets

    def targets(self: Placement, key: bytes, n: int, *, sloppy: bool, without: frozenset[str] = frozenset()) -> Targets:
        others, self.others = self.others, ()
        try:
            return original(self, key, n, sloppy=sloppy, without=without)
        finally:
            self.others = others

    replace(Placement, "targets", targets)


def _one_actor(replace: Replace) -> None:
    def event(self: StagedTable, row: bytes, version: Version, context: Seen) -> tuple[State | None, Held]:
        held = self.standing(row)
        before = None if held is None else held.state
        version = msgspec.structs.replace(version, node=version.node.partition("~")[0])
        return before, Held(self._conflicts.write(before, version, context), version.node)

    replace(StagedTable, "event", event)


def _done_before_durable(replace: Replace) -> None:
    original = exchange.Session.take

    def take(self: exchange.Session, *arguments: Any) -> None:
        original(self, *arguments)
        self.committed()

    replace(exchange.Session, "take", take)


def _standing_clock(replace: Replace) -> None:
    original = HybridClock.next

    def next_counter(self: HybridClock, count: int = 1) -> int:
        self.last = 0
        return original(self, count)

    replace(HybridClock, "next", next_counter)


def _empty_answers(replace: Replace) -> None:
    replace(Members, "can_read", property(lambda _self: True))


def _empty_acknowledgements(replace: Replace) -> None:
    replace(Serving, "_may_acknowledge", lambda _self: True)


def _strangers_counted(replace: Replace) -> None:
    replace(Members, "_has_proven_itself", lambda _self, _newcomer: True)


def _anybody_let_go(replace: Replace) -> None:
    replace(Members, "_loss", lambda _self, _member: None)


def _made_twice(replace: Replace) -> None:
    replace(WriteCoordinator, "is_shown", lambda _self, _number: False)
    replace(WriteCoordinator, "is_in_doubt", property(lambda _self: False))


def _overtaken_though_shown(replace: Replace) -> None:
    replace(WriteCoordinator, "is_shown_by_enough", lambda _self, _number: False)


def _shown_by_one_is_enough(replace: Replace) -> None:
    replace(WriteCoordinator, "is_shown_by_enough", WriteCoordinator.is_shown)


def _first_sizes_not_compared(replace: Replace) -> None:
    def differences(theirs: Mapping[str, Rule], ours: Mapping[str, Rule]) -> str:
        others = {name: value for name, value in theirs.items() if name not in FIRST_SIZES}
        return rules.differences(others, {name: value for name, value in ours.items() if name not in FIRST_SIZES})

    replace(identity, "differences", differences)


def _own_stamps(replace: Replace) -> None:
    replace(ClusterTime, "now_us", lambda self: self._wall_us())


def _own_expiry(replace: Replace) -> None:
    replace(ClusterTime, "now_ms", lambda self: self._wall_us() // 1000)


def _own_grace(replace: Replace) -> None:
    replace(Upkeep, "_away_ms", lambda self, alive_ms: (self._time._wall_us() // 1000 - alive_ms,) * 2)  # noqa: SLF001


def _shown_before_its_time(replace: Replace) -> None:
    replace(Upkeep, "is_in_service", lambda _self, _now_s: True)


def _declined_stamps_kept(replace: Replace) -> None:
    original = Intake._look_at  # noqa: SLF001

    def look_at(self: Intake, newest: Stamp, *, makes_room: bool) -> Refused | None:
        return None if newest.node == self._settings.node_id else original(self, newest, makes_room=makes_room)

    replace(Intake, "_look_at", look_at)
    replace(QuorumReplica, "_has_run_ahead", property(lambda _self: False))


def _stamping_while_time_leaps(replace: Replace) -> None:
    replace(ClusterTime, "_is_settling", property(lambda _self: False))


def _first_clock_believed(replace: Replace) -> None:
    def reached(clocks: Iterable[float], _size: int) -> tuple[float, float] | None:
        return max(clocks), max(clocks)

    replace(cluster_time, "reached_by_majority", reached)


def _hopeless_waited_for(replace: Replace) -> None:
    replace(WriteCoordinator, "silent", lambda self, node: self._targets.replace(node))
    replace(ReadCoordinator, "silent", lambda self, node: self._targets.replace(node))


def _silent_asked_again(replace: Replace) -> None:
    replace(Conversation, "unanswered", lambda _self, _peer: None)


def _deletions_refused(replace: Replace) -> None:
    replace(Upkeep, "takes", lambda self, *, makes_room: not self.is_full)  # noqa: ARG005


BUGS: Final[dict[str, Bug]] = {
    "hopeless waited for": Bug(rule="who is silent is not counted on", plant=_hopeless_waited_for),
    "silent asked again": Bug(rule="who leaves questions unanswered is asked no more", plant=_silent_asked_again),
    "reserve for deletions": Bug(rule="deletions may use the reserve", plant=_deletions_refused),
    "made twice": Bug(rule="a write that may have been seen is not made again", plant=_made_twice),
    "overtaken though shown": Bug(rule="a write that W replicas came to show is done", plant=_overtaken_though_shown),
    "shown by one": Bug(rule="W replicas have come to show what is done", plant=_shown_by_one_is_enough),
    "strangers counted": Bug(rule="a newcomer counts once it has linked up", plant=_strangers_counted),
    "anybody let go": Bug(rule="nobody leaves without whom a quorum or a key is lost", plant=_anybody_let_go),
    "no observing": Bug(rule="a node's clock passes every stamp that it takes in", plant=_no_observing),
    "standing clock": Bug(rule="a node's clock never goes back", plant=_standing_clock),
    "one stamp": Bug(rule="a write that would lose is stamped again", plant=_one_stamp),
    "early answers": Bug(rule="an acknowledgement leaves after the commit", plant=_early_answers),
    "full disk ignored": Bug(rule="nothing is acknowledged that found no room", plant=_full_disk_ignored),
    "hints dropped when sent": Bug(rule="a hint is dropped after the answer", plant=_hints_dropped_when_sent),
    "grown hints dropped": Bug(rule="a hint that has grown is kept", plant=_grown_hints_dropped),
    "hints of the departed": Bug(rule="hints for who has left go to the owners", plant=_hints_of_the_departed),
    "overwriting": Bug(rule="states are joined, never replaced", plant=_overwriting),
    "tombstones dropped": Bug(rule="a tombstone is kept for the grace", plant=_tombstones_dropped),
    "one replica twice": Bug(rule="W counts distinct replicas", plant=_one_replica_twice),
    "empty answers": Bug(rule="who lost its data answers no reads before it has it back", plant=_empty_answers),
    "empty acknowledgements": Bug(
        rule="who lost its data acknowledges no writes before it has it back", plant=_empty_acknowledgements
    ),
    "too few read": Bug(rule="a read hears R replicas", plant=_too_few_read),
    "always definite": Bug(rule="a failure is definite only if nobody can have the write", plant=_always_definite),
    "definite origin": Bug(rule="nobody knows what an origin that was lost has done", plant=_definite_origin),
    "dropped without comparing": Bug(rule="all owners hold what is forgotten", plant=_dropped_without_comparing),
    "not all owners asked": Bug(rule="a newcomer asks enough of the former owners", plant=_not_all_owners_asked),
    "moved nothing": Bug(rule="a newcomer fetches what it gains", plant=_moved_nothing),
    "stepping alone": Bug(rule="a ring change steps when all act on the step before", plant=_stepping_alone),
    "old owners only": Bug(rule="writes go to the owners to come as well", plant=_old_owners_only),
    "one actor": Bug(rule="whoever forgot a row is another actor", plant=_one_actor),
    "own stamps": Bug(rule="a node stamps by agreed time, never by its own clock", plant=_own_stamps),
    "own expiry": Bug(rule="a key's life ends by agreed time at every node", plant=_own_expiry),
    "own grace": Bug(rule="how long data was away is judged by a majority's clocks", plant=_own_grace),
    "shown before its time": Bug(rule="data stays out until its age is certain", plant=_shown_before_its_time),
    "declined stamps kept": Bug(rule="a coordinator keeps no stamp that others decline", plant=_declined_stamps_kept),
    "stamping in a leap": Bug(rule="nobody stamps while agreed time leaps", plant=_stamping_while_time_leaps),
    "first clock believed": Bug(rule="time is what a majority of clocks has reached", plant=_first_clock_believed),
    "old copies": Bug(rule="an old copy of a disk takes no part", plant=old_copies_welcome),
    "rules": Bug(rule="nodes with other rules take no part", plant=rules_not_compared),
    "first sizes": Bug(rule="a cluster begins with one N, R and W", plant=_first_sizes_not_compared),
    "done before durable": Bug(rule="what was fetched counts once it is durable", plant=_done_before_durable),
}
