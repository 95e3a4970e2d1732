"""Planted bugs in changes of members: when they are in force, who counts meanwhile, and what they may cost.

Part of ``raftkv.instruments.sim.planted``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from raftkv.formats.identity import Standing
from raftkv.instruments.sim.planted.swaps import Remedy, around, called_with, gives, instead, rule, then
from raftkv.raft import assembly
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.membership import amending
from raftkv.raft.membership.changes import MemberChanges
from raftkv.raft.membership.configurations import Configurations
from raftkv.raft.replica import RaftReplica
from raftkv.raft.standing.readmission import Readmission


class _Unconfirmed:
    """The engine, which says of a leader that it has committed something in its term as soon as it leads."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, "is_leader" if name == "leads_committed_term" else name)


def _votes_at_once(added: Any, before: Any, request: Any, member: Any) -> Any:
    """Whoever is let in votes before it has anything."""
    after = added(before, request, member)
    if not hasattr(after, "members"):
        return after
    members = [msgspec.structs.replace(one, votes=one.votes or one.id == request.id) for one in after.members]
    return msgspec.structs.replace(after, members=tuple(members))


def _two_at_once(obstacle: Any, self: Any) -> Any:
    refusal = obstacle(self)
    return None if refusal is not None and "under way" in refusal.detail + "not committed yet" else refusal


def _of_the_file(init: Any, self: Any, founding: Any, manifest: Any, _entries: Any) -> None:
    """A node that starts takes its members from its file and from snapshots, and reads its log later."""
    init(self, founding, manifest, ())


def _promised_nothing(configured: Any, self: Any, configuration: Any) -> None:
    """Whoever is let in again has promised nothing before."""
    configured(self, msgspec.structs.replace(configuration, former=()))


def _forget_to_learn(configured: Any, self: Any, configuration: Any) -> None:
    """Whoever is a learner by one entry asks no more by which disk it votes in the next."""
    configured(self, configuration)
    self._learns = False


def _founds_again(init: Any, self: Any, electorate: Any, memory: Any, **more: Any) -> None:
    """Who is the only member by its file counts, whatever it remembers."""
    init(self, electorate, memory, **more)
    if electorate.is_alone:
        self._become(Standing.MEMBER)


def _remove_itself(self: Any, asked: Any, request: Any, now_s: float) -> None:
    self._append(request, asked.reply, asked.since_index, now_s)


def _whoever_answers(costs: Any, self: Any, after: Any, _since_index: int, now_s: float) -> Any:
    return costs(self, after, 0, now_s)


def _vote(self: Any, *_members: Any) -> None:
    self.votes = True


MEMBERS: Final[dict[str, Remedy]] = {
    "own term before a change": rule(
        "members change only once the leader has committed an entry of its term",
        then(MemberChanges, "__init__", lambda self, **_: setattr(self, "_core", _Unconfirmed(self._core))),
    ),
    "one change at a time": rule(
        "one change of members is under way at most", around(MemberChanges, "_obstacle", _two_at_once)
    ),
    "learning first": rule("who is let in learns before it votes", around(amending, "_added", _votes_at_once)),
    "catching up": rule("and votes only once it has caught up", gives(MemberChanges, "_not_level")),
    "promotion": rule("who has caught up votes by itself", gives(MemberChanges, "_watch_learners")),
    "in force when appended": rule(
        "members count as soon as their entry is appended",
        instead(Configurations, "appended", lambda self, index, command: self._add(index, command)),
    ),
    "undone with its entry": rule("a change is undone with its entry", gives(Configurations, "truncated")),
    "members before votes": rule(
        "a node knows its members before it votes", around(Configurations, "__init__", _of_the_file)
    ),
    "members of the snapshot": rule(
        "a snapshot carries the members of its index",
        instead(Configurations, "at", lambda self, _index: (self.newest_index, self.newest)),
    ),
    "learners do not stand": rule("who only learns does not stand", then(Electorate, "put", _vote)),
    "living quorum": rule("no change costs the quorum of those who answer", gives(MemberChanges, "_costs_quorum")),
    "entries taken": rule(
        "nor counts on who answers and takes no entries", around(MemberChanges, "_costs_quorum", _whoever_answers)
    ),
    "leaders removed": rule(
        "a leader hands over before it is removed", instead(MemberChanges, "_remove_self", _remove_itself)
    ),
    "farewells": rule("who was removed is told so, and ends", gives(MemberChanges, "_on_farewell")),
    "former members": rule(
        "a member that comes back may have promised something",
        around(Readmission, "configured", _promised_nothing),
        gives(Readmission, "met"),
    ),
    "removal withheld": rule(
        "who is removed is sent that entry only once it is committed", gives(MemberChanges, "withholds", value=False)
    ),
    "founded once": rule(
        "who has had other members founds nothing by its file", around(Readmission, "__init__", _founds_again)
    ),
    "disk that caught up": rule(
        "who votes by another disk than its own may have promised something",
        around(Readmission, "configured", _forget_to_learn),
    ),
    "flush of the only voter": rule(
        "what the only voter is sent by learners is flushed before it counts", gives(RaftReplica, "_flush_if_alone")
    ),
    "leaders by request": rule(
        "who asks for a leader need not wait for the last hand-over", called_with(Handover, "hand_over", asked=False)
    ),
    "links by word": rule(
        "who was let in stays linked though its snapshot is older than any change",
        instead(assembly, "_reach", lambda world, members: world.reach({one.id: one.peer for one in members})),
    ),
}
