"""Planted bugs in who takes part: emptied disks, old copies, differing rules, and replicas whose state differs.

Part of ``raftkv.instruments.sim.planted``, which takes them away; the rules of that module hold here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from unittest import mock

import msgspec

from raftkv.core import identity
from raftkv.core.rules import Rule
from raftkv.instruments.sim import raft
from raftkv.instruments.sim.remedy import Remedy, Replace, remedy
from raftkv.peers import greeting
from raftkv.raft import conversation
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.standing import readmission
from raftkv.raft.standing.divergence import Divergence, Judgement
from raftkv.raft.standing.readmission import Readmission
from raftkv.storage.sealed import Table


def _always(*, value: bool) -> property:
    """In place of an attribute: whatever is assigned, it is ``value``."""
    return property(lambda _self: value, lambda _self, _assigned: None)


def _emptied_disks_unnoticed(replace: Replace) -> None:
    replace(Readmission, "met", lambda _self, _peer, **_: None)
    replace(Readmission, "counts", _always(value=True))
    replace(Readmission, "may_vote_in", lambda _self, _term: True)


def _uncounted_acknowledgements_count(replace: Replace) -> None:
    def post(self: Any, peer: str, message: Any) -> None:
        self._peers[peer].outbox.append(message)

    replace(GuardedTransport, "post", post)


def _who_does_not_count_confirms(replace: Replace) -> None:
    on_ping = conversation.Conversation._on_ping

    def pong_always(self: Any, peer: str, ping: Any) -> None:
        with mock.patch.object(Readmission, "counts", _always(value=True)):
            on_ping(self, peer, ping)

    replace(conversation.Conversation, "_on_ping", pong_always)


def _terms_not_asked(replace: Replace) -> None:
    replace(Readmission, "unheard", frozenset())


def _forgotten_votes_given_again(replace: Replace) -> None:
    replace(Readmission, "may_vote_in", lambda self, _term: self.counts)


def _standing_forgotten(replace: Replace) -> None:
    replace(Readmission, "_remember", lambda self, memory: self._take(memory))


def _founded_by_one(replace: Replace) -> None:
    met = Readmission.met

    def met_as_if_blank(self: Any, peer: str, **said: bool) -> None:
        met(self, peer, is_blank=True, knew_another_disk=said["knew_another_disk"])

    replace(Readmission, "met", met_as_if_blank)
    replace(Readmission, "heard_of_term", lambda _self: None)


def _founded_without_waiting(replace: Replace) -> None:
    replace(readmission, "FOUNDING_HEARTBEATS", 0)


def old_copies_welcome(replace: Replace) -> None:
    """What is known of the disk that a node greets with is not looked at."""

    def other_rules(ours: identity.Identity, rules: Mapping[str, Rule], theirs: identity.Greeting) -> str:
        return identity.misfit(ours, rules, msgspec.structs.replace(theirs, disk=""))

    replace(greeting, "misfit", other_rules)
    replace(greeting, "own_fault", lambda _identity, _greeting: "")


def _own_memory_unasked(replace: Replace) -> None:
    replace(greeting, "own_fault", lambda _identity, _greeting: "")


def rules_not_compared(replace: Replace) -> None:
    """Neither a disk nor a peer is asked for its rules."""
    replace(identity, "differences", lambda _theirs, _ours: "")


def _hashes_not_compared(replace: Replace) -> None:
    replace(Divergence, "judge", lambda _self, _now_s: None)


def _the_diverged_serve(replace: Replace) -> None:
    replace(Readmission, "is_stopped", _always(value=False))


def _the_repaired_count_at_once(replace: Replace) -> None:
    replace(raft, "discarded", lambda who: msgspec.structs.replace(who, standing=identity.Standing.MEMBER))


def _outdated_greetings_met(replace: Replace) -> None:
    replace(greeting.Greeter, "_is_outdated", lambda _self, _greeting, _judged_by: False)


def _ties_not_judged(replace: Replace) -> None:
    judge = Divergence.judge

    def only_the_outnumbered(self: Any, now_s: float) -> Judgement | None:
        judgement = judge(self, now_s)
        return None if judgement is None or judgement.is_tie else judgement

    replace(Divergence, "judge", only_the_outnumbered)


def _ended_differences_remembered(replace: Replace) -> None:
    lost = Divergence.lost

    def lose(self: Any, peer: str) -> None:
        voice = self._voices.get(peer)
        lost(self, peer)
        if voice is not None:
            self._voices[peer] = voice

    replace(Divergence, "lost", lose)


def _repaired_by_whom_it_may(replace: Replace) -> None:
    replace(Divergence, "without_say", lambda _self: [])


def _rows_unchecked(replace: Replace) -> None:
    replace(Table, "opened", lambda _self, _key, row: row[8:])


STANDING: Final[dict[str, Remedy]] = {
    "emptied disks": remedy("-", "a node with an emptied disk does not count", _emptied_disks_unnoticed),
    "uncounted answers": remedy("-", "its acknowledgements count for nothing", _uncounted_acknowledgements_count),
    "uncounted pongs": remedy("-", "it confirms no leader", _who_does_not_count_confirms),
    "terms of all": remedy("-", "it counts after it has heard everybody's term", _terms_not_asked),
    "forgotten votes": remedy("-", "it votes in no term that it may have voted in", _forgotten_votes_given_again),
    "durable standing": remedy("-", "its standing outlives a restart", _standing_forgotten),
    "founders": remedy("-", "only a majority of blank nodes founds a cluster", _founded_by_one),
    "wait for the missing": remedy("-", "founders wait for members that are missing", _founded_without_waiting),
    "old copies": remedy("-", "an old copy of a disk takes no part", old_copies_welcome),
    "outdated greetings": remedy("-", "a greeting that was long on its way is not met", _outdated_greetings_met),
    "own memory": remedy("-", "a copy knows that it does not remember a start", _own_memory_unasked),
    "rules": remedy("-", "nodes with other rules take no part", rules_not_compared),
    "compared hashes": remedy("-", "replicas compare the hashes of their states", _hashes_not_compared),
    "stopped replicas": remedy("-", "a replica whose state differs serves nobody", _the_diverged_serve),
    "repaired replicas": remedy("-", "a repaired replica counts once it has all again", _the_repaired_count_at_once),
    "ended differences": remedy("-", "a difference ends with the life that had it", _ended_differences_remembered),
    "givers": remedy("-", "a repair waits for who fetches its own data", _repaired_by_whom_it_may),
    "checked rows": remedy("-", "a row is checked when it is read", _rows_unchecked),
    "ties": remedy("-", "in a tie all that differ stop", _ties_not_judged),
}
