"""Planted bugs in who takes part: emptied disks, old copies, differing rules, and replicas whose state differs.

Part of ``raftkv.instruments.sim.planted``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from unittest import mock

import msgspec

from raftkv.backup import recovering
from raftkv.core.rules import Rule
from raftkv.formats.greetings import Greeting
from raftkv.formats.identity import Identity, Standing
from raftkv.instruments.sim import raft
from raftkv.instruments.sim.planted.swaps import Remedy, always, around, gives, instead, rule
from raftkv.peers import acquaintance, greeting
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership.voting import Voting
from raftkv.raft.reading.confirming import Confirming
from raftkv.raft.requests import RaftRequests
from raftkv.raft.standing import readmission
from raftkv.raft.standing.divergence import Divergence, StateJudgement
from raftkv.raft.standing.readmission import Readmission
from raftkv.storage import identity
from raftkv.storage.state import sealed


def _pong_always(on_ping: Any, self: Any, peer: str, ping: Any, now_s: float) -> None:
    with mock.patch.object(Readmission, "counts", property(lambda _self: True)):
        on_ping(self, peer, ping, now_s)


def _met_as_if_blank(met: Any, self: Any, peer: str, **said: bool) -> None:
    met(self, peer, is_blank=True, knew_another_disk=said["knew_another_disk"])


def _disks_not_looked_at(
    original: Any, ours: Identity, rules: Mapping[str, Rule], theirs: Greeting, *, is_blank: bool
) -> Any:
    return original(ours, rules, msgspec.structs.replace(theirs, disk=""), is_blank=is_blank)


def _only_the_outnumbered(judge: Any, self: Any, now_s: float) -> StateJudgement | None:
    judgement: StateJudgement | None = judge(self, now_s)
    return None if judgement is None or judgement.is_tie else judgement


def _remember_the_lost(lost: Any, self: Any, peer: str) -> None:
    voice = self._voices.get(peer)
    lost(self, peer)
    if voice is not None:
        self._voices[peer] = voice


def _tell_hashes_only(news_for: Any, self: Any, peer: str, **_said: bool) -> Any:
    return news_for(self, peer, has_say=True)


def _committed_as_far_as_it_knows(behind: Any, log: Any, newest: Any) -> Any:
    return [entry for entry in behind(log, newest) if entry[1] <= log.commit_index]


def _stands_though_stopped(work: Any, self: Any, now_s: float) -> None:
    if self.readmission.counts:
        work(self, now_s)
        return
    self.core.election_deadline_s = self.elections.next_deadline_s(now_s)
    if self.elections.won(self.core):
        self._stand()


def _counts_any_vote(on_vote: Any, self: Any, peer: str, vote: Any, now_s: float) -> None:
    counts, self.readmission.counts = self.readmission.counts, True
    on_vote(self, peer, vote, now_s)
    self.readmission.counts = counts


COMMON: Final[dict[str, Remedy]] = {
    "old copies": rule(
        "an old copy of a disk takes no part",
        around(greeting, "misfit", _disks_not_looked_at),
        gives(greeting, "own_fault", ""),
    ),
    "rules": rule(
        "nodes with other rules take no part",
        gives(acquaintance, "differences", ""),
        gives(identity, "differences", ""),
    ),
}
"""Of both modes."""

STANDING: Final[dict[str, Remedy]] = {
    **COMMON,
    "restored clusters": rule(
        "a restored cluster is another one than that which the backup is of", gives(acquaintance, "other_origin", "")
    ),
    "read by all": rule("only what every member reads is proposed", gives(RaftRequests, "_not_read")),
    "emptied disks": rule(
        "a node with an emptied disk does not count",
        gives(Readmission, "met"),
        always(Readmission, "counts", value=True),
        gives(Readmission, "may_vote_in", value=True),
    ),
    "uncounted answers": rule(
        "its acknowledgements count for nothing",
        instead(GuardedTransport, "post", lambda self, peer, message: self._peers[peer].outbox.append(message)),
    ),
    "uncounted pongs": rule("it confirms no leader", around(Confirming, "_on_ping", _pong_always)),
    "terms of all": rule("it counts after it has heard everybody's term", instead(Readmission, "unheard", frozenset())),
    "forgotten votes": rule(
        "it votes in no term that it may have voted in",
        instead(Readmission, "may_vote_in", lambda self, _term: self.counts),
    ),
    "durable standing": rule(
        "its standing outlives a restart", instead(Readmission, "_remember", lambda self, memory: self._take(memory))
    ),
    "founders": rule(
        "only a majority of blank nodes founds a cluster",
        around(Readmission, "met", _met_as_if_blank),
        gives(Readmission, "heard_of_term"),
    ),
    "wait for the missing": rule(
        "founders wait for members that are missing", instead(readmission, "FOUNDING_HEARTBEATS", 0)
    ),
    "outdated greetings": rule(
        "a greeting that was long on its way is not met", gives(greeting.Greeter, "_is_outdated", value=False)
    ),
    "own memory": rule("a copy knows that it does not remember a start", gives(greeting, "own_fault", "")),
    "compared hashes": rule("replicas compare the hashes of their states", gives(Divergence, "judge")),
    "stopped replicas": rule(
        "a replica whose state differs serves nobody", always(Readmission, "is_stopped", value=False)
    ),
    "elections of the stopped": rule(
        "a replica that stops wins no election",
        around(Voting, "work", _stands_though_stopped),
        around(Voting, "_on_vote", _counts_any_vote),
    ),
    "repaired replicas": rule(
        "a repaired replica counts once it has all again",
        instead(raft, "discarded", lambda who: msgspec.structs.replace(who, standing=Standing.MEMBER)),
    ),
    "ended differences": rule(
        "a difference ends with the life that had it", around(Divergence, "lost", _remember_the_lost)
    ),
    "givers": rule("a repair waits for who fetches its own data", instead(Divergence, "without_say", lambda _self: [])),
    "one repair at a time": rule(
        "of two that are to be repaired one waits", around(Divergence, "news_for", _tell_hashes_only)
    ),
    "checked rows": rule(
        "a row is checked when it is read", instead(sealed, "opened", lambda _table, _key, row: row[8:])
    ),
    "ties": rule("in a tie all that differ stop", around(Divergence, "judge", _only_the_outnumbered)),
    "entries of a survivor": rule(
        "all that a survivor's log holds is recovered, whatever it knows to be committed",
        around(recovering, "behind", _committed_as_far_as_it_knows),
    ),
    "longest log": rule(
        "of several survivors that of the latest term is chosen, and only then the longest",
        instead(recovering, "longest", lambda summaries: max(summaries, key=lambda one: one.last_index)),
    ),
}
