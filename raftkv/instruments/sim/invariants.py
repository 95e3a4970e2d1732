"""What must hold of a raft cluster after every step (Raft, figure 3), and of its disks.

- Election safety: one leader for each term at most; one vote of each node for each term that could leave it.
- Log matching: entries of equal index and term are equal, and so are those before them.
- Leader completeness: who leads holds what was committed in earlier terms, and no leader of those holds a lease.
- State machine safety: nobody commits or applies anything else at an index, and states at an index are equal.
- A commit index never goes back in one life; and what is committed is durable on a majority: if the power went out
  everywhere at this moment, it would still be on their disks. What was durable there is still there after a restart.
- Announcements: what is announced can be read already, never goes back, and leaves nothing out that can be read.
- Freshness: a node that says that it was level at some time shows, to local reads, all that was committed by then.

Everything is checked as it changes: an entry when it is written, an index when it is committed. Rules: looks, never
touches; a violation is an ``AssertionError``.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raftkv.core.replicator import Shown
from raftkv.core.voters import Voters
from raftkv.formats.segments import Entry
from raftkv.instruments.sim.machines import Observer, SimulatedMachine
from raftkv.instruments.sim.watched_log import UNTOUCHED, WatchedLog

if TYPE_CHECKING:
    from raftkv.instruments.sim.cluster import SimulatedCluster
    from raftkv.instruments.sim.raft_replica import SimulatedReplica


CLOCK_GRAIN_S: Final = 1e-6
"""Clocks are told in microseconds, rounded down; and times of machines are products of floating numbers."""

STEPPING_DOWN_PACES: Final = 2
"""After so many election timeouts without a majority nobody leads; one is the rule, the other for what is under way."""


class _Watched:
    """What was seen of one machine; ``durable`` are the entries that survive the loss of power.

    ``lost`` is what it was when its disk was emptied, until it is a member again: what it had acknowledged still
    counts, as nobody is elected without the others that hold it. An old copy (``is_copy``) is never one by itself.
    """

    def __init__(self) -> None:
        self.term = 0
        self.role = ""
        self.commit_index = 0
        self.applied_index = 0
        self.level_at_s = float("-inf")
        self.heard = Shown(revision=0, applied_index=0)
        self.durable: Sequence[Entry] = ()
        self.lost: _Watched | None = None
        self.is_copy = False
        self.heard_s: dict[str, float] = {}

    def holds_durably(self, index: int, term: int) -> bool:
        """Would the entry be there, or behind a snapshot, after the loss of power?"""
        if not self.durable:
            return False
        first_index = self.durable[0][1]
        if index <= first_index:
            return True
        place = index - first_index
        return place < len(self.durable) and self.durable[place][2] == term


class Invariants(Observer):
    """Watches a cluster; also counts the ``elections`` that somebody won.

    Durable on a majority means: of those by whom the leader that committed it counted. In the turn of its commit it may
    have begun to count by others.
    """

    def __init__(self, voters: Voters) -> None:
        self.counts: Counter[str] = Counter()
        self.committed: dict[int, tuple[bytes, int]] = {}
        self.committed_index = 0
        self.commits: list[tuple[float, int]] = []
        self._committed_in: dict[int, int] = {}
        self._counted_by: tuple[Voters, ...] = (voters,)
        self._leaders: dict[int, str] = {}
        self._votes: dict[tuple[str, int], str] = {}
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._states: dict[int, tuple[int, int, bytes]] = {}
        self._watched: dict[str, _Watched] = {}
        self._strangers: set[str] = set()
        self._cluster: SimulatedCluster

    def watch(self, cluster: SimulatedCluster) -> None:
        """Begin."""
        self._cluster = cluster
        self._watched = {name: _Watched() for name in cluster.machines}
        cluster.observers.append(self)

    def started(self, machine: SimulatedMachine) -> None:
        """A life began: what was committed and durable here must be there."""
        if machine.name in self._strangers:
            return
        replica = _replica(machine)
        watched = self._watched[machine.name]
        watched.heard_s.clear()
        watched.term = watched.commit_index = watched.applied_index = 0
        watched.level_at_s = float("-inf")
        watched.heard = Shown(revision=0, applied_index=0)
        replica.subscribe(lambda shown: self._check_heard(machine.name, replica, shown))
        for index in range(self.committed_index, 0, -1):
            term = self.committed[index][1] if index in self.committed else 0
            if term and watched.holds_durably(index, term):
                log = replica.log
                is_there = index <= log.first_index or (index <= log.last_index and log.entry(index)[2] == term)
                assert is_there, f"{machine.name} lost entry {index}, which was on its disk"
                break
        self.worked(machine)

    def restored(self, name: str, entries: Sequence[Entry]) -> None:
        """The disk of machine ``name`` was made of a backup: its log begins with these."""
        self._watched[name].durable = entries

    def stranger(self, name: str) -> None:
        """Machine ``name`` has the disk of another cluster: what it holds and commits is of that one's log."""
        self._strangers.add(name)

    def emptied(self, name: str, *, is_copy: bool = False) -> None:
        """The disk of machine ``name`` was emptied, or has an old copy of what it held."""
        watched = self._watched[name]
        lost = watched if watched.lost is None else watched.lost
        self._watched[name] = fresh = _Watched()
        fresh.lost, fresh.is_copy = lost, is_copy

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:
        """See ``Observer``: what ends a process in the middle of a turn may come after it has told what it flushed."""
        replica = machine.process
        if replica is not None and not power and machine.name not in self._strangers:
            self._look_at_disk(machine, _replica(machine).log)

    def resumed(self, machine: SimulatedMachine) -> None:
        """A process goes on after a pause: it may be wrong about who leads until its next turn."""
        self._watched[machine.name].heard_s.clear()

    def worked(self, machine: SimulatedMachine) -> None:
        """A machine did something."""
        replica = machine.process
        if replica is None or machine.name in self._strangers:
            return
        replica = _replica(machine)
        core, log, watched = replica.core, replica.log, self._watched[machine.name]
        watched.lost = None if replica.counts and not watched.is_copy else watched.lost
        term, role = core.term, core.role
        if (term, role) != (watched.term, watched.role):
            self._check_role(machine, replica, watched, term, role)
        if log.cut_index != UNTOUCHED:
            first_cut, log.cut_index = log.cut_index, UNTOUCHED
            assert first_cut > watched.commit_index, f"{machine.name} cuts off what it has committed, from {first_cut}"
        has_changed = log.touched_index <= log.last_index
        if has_changed:
            self._check_entries(machine.name, log.entries, log.touched_index)
            log.touched_index = log.last_index + 1
        self._look_at_disk(machine, log)
        commit_index = core.commit_index
        if commit_index != watched.commit_index:
            if role == "leader":
                self._counted_by = replica.parts.configurations.last_two
            self._check_commit(machine.name, log.entries, watched, commit_index)
        applied_index = core.applied_index
        if applied_index != watched.applied_index:
            assert applied_index > watched.applied_index, f"{machine.name} goes back to {applied_index}"
            watched.applied_index = applied_index
            state = (replica.store.revision, replica.store.clock_ms, replica.store.history.packed)
            known = self._states.setdefault(applied_index, state)
            assert known == state, f"{machine.name} has another state at {applied_index}: {state}, not {known}"
        self._check_level(machine, replica, watched)
        heard, tables = watched.heard, replica.tables
        assert heard.applied_index == tables.shown_index, (
            f"{machine.name} shows {tables.shown_index} and has announced {heard.applied_index}"
        )
        assert role != "leader" or not replica.is_stopped, f"{machine.name} leads although its state differs"
        if role == "leader" and not replica.parts.electorate.is_alone:
            self._check_lives(machine, watched, replica.patience_s, replica.parts.electorate.voters)

    def _check_role(
        self, machine: SimulatedMachine, replica: SimulatedReplica, watched: _Watched, term: int, role: str
    ) -> None:
        name = machine.name
        self._cluster.note(name, f"is {role} in term {term}")
        assert term >= watched.term, f"{name} went back to term {term}"
        watched.term, watched.role = term, role
        if role != "leader":
            return
        self.counts["elections"] += 1
        watched.heard_s.clear()  # votes may have come one by one for long: its patience begins now
        leader = self._leaders.setdefault(term, name)
        assert leader == name, f"{name} and {leader} lead in term {term}"
        # A vote may be long on its way, and elect the leader of a term that is over: it need not know what came later.
        index, log = max([0, *(last for over, last in self._committed_in.items() if over < term)]), replica.log
        if index > log.first_index:
            is_there = index <= log.last_index and log.entry(index)[2] == self.committed[index][1]
            assert is_there, f"{name} leads without the committed entry {index}"

        for other in self._cluster.machines.values():
            if other.process is not None and _replica(other).core.term < term:
                assert not _replica(other).holds_lease, f"{name} leads while {other.name} holds a lease"

    def _check_heard(self, name: str, replica: SimulatedReplica, shown: Shown | None) -> None:
        """What a replica announces can be read at that very moment."""
        watched, tables = self._watched[name], replica.tables
        assert shown is not None, f"{name} announces that it is away"
        seen = tables.shown_revision, tables.shown_index
        assert (shown.revision, shown.applied_index) <= seen, f"{name} announces {shown}, and readers see {seen}"
        assert shown.applied_index <= tables.shown_index, f"{name} announces {shown}, and readers see {seen}"
        before = watched.heard
        is_back = shown.revision < before.revision or shown.applied_index < before.applied_index
        assert not is_back, f"{name} announces {shown} after {before}"
        watched.heard = shown

    def _check_lives(self, machine: SimulatedMachine, watched: _Watched, patience_s: float, voters: Voters) -> None:
        """A leader that a majority has not been heard by for long must have stepped down (Raft thesis, section 6.2)."""
        now_s = machine.now_s()
        heard_s = {name: watched.heard_s.setdefault(name, now_s) for name in self._watched if name != machine.name}
        last_s = voters.reached({**heard_s, machine.name: now_s}) or 0.0
        patience_s *= STEPPING_DOWN_PACES
        assert now_s - last_s <= patience_s, f"{machine.name} leads and heard no majority for {now_s - last_s:.3f} s"

    def _check_level(self, machine: SimulatedMachine, replica: SimulatedReplica, watched: _Watched) -> None:
        """What this node shows must be as new as it says, whatever the network did to the messages that told it."""
        if replica.level_at_s == watched.level_at_s:
            return
        assert replica.level_at_s > watched.level_at_s, f"{machine.name} is less level than it was"
        watched.level_at_s = replica.level_at_s
        level_at_s = replica.level_at_s / machine.rate - CLOCK_GRAIN_S
        assert level_at_s <= self._cluster.now_s, f"{machine.name} is level with the future"
        place = bisect.bisect_left(self.commits, (level_at_s, 0))
        index = self.commits[place - 1][1] if place else 0
        shown_index = replica.tables.shown_index
        assert index <= shown_index, (
            f"{machine.name} says it was level {self._cluster.now_s - level_at_s:.3f} s ago, shows {shown_index}, and "
            f"{index} was committed before"
        )

    def received(self, machine: SimulatedMachine, peer: str) -> None:
        """See ``Observer``."""
        self._watched[machine.name].heard_s[peer] = machine.now_s()

    def flushed(self, machine: SimulatedMachine) -> None:
        """In the middle of a turn."""
        if machine.name in self._strangers:
            return
        self._look_at_disk(machine, _replica(machine).log)

    def _look_at_disk(self, machine: SimulatedMachine, log: WatchedLog) -> None:
        if log.dirty or not machine.disk.is_clean:
            return
        self._note_durable(machine.name, self._watched[machine.name], log.entries[:])
        if log.voted_for is not None:
            voted_for = self._votes.setdefault((machine.name, log.term), log.voted_for)
            assert voted_for == log.voted_for, f"{machine.name} voted twice in term {log.term}"

    def _note_durable(self, name: str, watched: _Watched, entries: Sequence[Entry]) -> None:
        """What is on the disk is another now: what was committed must be on a majority's still."""
        before, watched.durable = watched.durable, entries
        index = self.committed_index
        if not before or index <= entries[0][1] or before[-1][1] <= entries[-1][1]:
            return
        term = self.committed[index][1]
        if not watched.holds_durably(index, term):
            self._check_durable(name, index, term)

    def _check_entries(self, name: str, entries: Sequence[Entry], touched_index: int) -> None:
        """From the second entry on: the one before a snapshot's last is known by its term only."""
        first_index = entries[0][1]
        for place in range(max(1, touched_index - first_index), len(entries)):
            command, index, term = entries[place]
            entry = (entries[place - 1][2], command)
            known = self._entries.setdefault((index, term), entry)
            assert known == entry, f"{name} has another entry at {index} of term {term}"

    def _check_commit(self, name: str, entries: Sequence[Entry], watched: _Watched, commit_index: int) -> None:
        assert commit_index > watched.commit_index, f"{name} goes back to commit index {commit_index}"
        first_index = entries[0][1]
        assert commit_index <= entries[-1][1], f"{name} has committed what it does not hold"
        for index in range(max(first_index, watched.commit_index) + 1, commit_index + 1):
            command, _, term = entries[index - first_index]
            known = self.committed.setdefault(index, (command, term))
            assert known == (command, term), f"{name} committed another entry at {index}"
        if commit_index > self.committed_index:
            self.committed_index = self._committed_in[watched.term] = commit_index
            self.commits.append((self._cluster.now_s, commit_index))
            if commit_index > first_index:
                self._check_durable(name, commit_index, entries[commit_index - first_index][2])
        watched.commit_index = commit_index

    def _check_durable(self, name: str, index: int, term: int) -> None:
        if index == 1:
            return  # every log begins with this entry, whoever writes it
        holders = {
            other
            for other, watched in self._watched.items()
            if watched.holds_durably(index, term) or (watched.lost and watched.lost.holds_durably(index, term))
        }
        is_held = any(voters.won(holders) for voters in self._counted_by)
        assert is_held, f"{name} committed {index}, which no majority holds on disk"


def _replica(machine: SimulatedMachine) -> SimulatedReplica:
    replica: SimulatedReplica = machine.process  # type: ignore[assignment]
    return replica
