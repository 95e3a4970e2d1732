"""How late leases and keys end: held against the time in which somebody led, as the clock of the simulation has it.

That nothing ends early, and everything at the entry that is due, ``log_order`` shows. But time stands still for the
store where no leader brings it into the log. Here is what may be lost of it, and no more:

- *All time in which nobody led whom a majority followed.* Somebody led from when a majority had confirmed one round of
  his until it had the next one, if that took ``ROUND_HEARTBEATS`` at most and all that he had appended by the first was
  committed by the second. So elections count for nothing, nor does the time before they begin, nor a slow network, nor
  what a majority without room, or without the log, cannot commit. But while a majority is up and connected, nothing is
  slow, and no disk fails, somebody leads again within ``ELECTION_PACES`` election timeouts and ``OFFER_S``.
- *What slow clocks lose*: lease time goes by a monotonic clock that may be slow, at ``SLOWEST_RATE`` of that at least.
- *What a leader takes to notice*: it looks once in a heartbeat, and what it appends then is committed by the end of the
  next time that counts, between two rounds like this (``LATE_HEARTBEATS``).
- *What the log does not tell the next leader*: what passed since its newest entry. Where there are leases that is at
  most a tick, and as many heartbeats, for each leader that came; other keys have no ticks.

With the heartbeat that a node has by default, 0.1 s, that is 0.5 s late, and 1.5 s more for each leader that came: two
seconds for one of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

from raftkv.instruments.sim.log_order import LogOrder
from raftkv.instruments.sim.machines import Observer, SimulatedMachine
from raftkv.instruments.sim.raft_replica import SimulatedReplica
from raftkv.raft.leadership.agreed_time import SLOWEST_RATE
from raftkv.raft.writing.proposing import TICK_MS

if TYPE_CHECKING:
    from raftkv.instruments.sim.cluster import SimulatedCluster

ROUND_HEARTBEATS: Final = 2
ELECTION_PACES: Final = 10
"""Elections take up to three or so; where votes are split again and again, longer, and ever less likely."""

OFFER_S: Final = 6.0
"""A snapshot without which nothing can be committed is offered again after five seconds."""

LATE_HEARTBEATS: Final = 1 + 2 * ROUND_HEARTBEATS


class _Round(NamedTuple):
    """The last confirmed round of a leader: in which life and term, and what was in the log when it was confirmed."""

    life: int
    term: int
    began_at_s: float
    confirmed_s: float
    last_index: int
    hands_over: bool


class LedTime(Observer):
    """When somebody led, in ``stretches`` from and until when; and when each leader ``came``, and in which term."""

    def __init__(self, heartbeat_s: float, election_timeout_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self.stretches: list[tuple[float, float]] = []
        self.came: list[tuple[float, int]] = []
        self._patience_s = ELECTION_PACES * election_timeout_s + OFFER_S
        self._looked_s = self._excused_s = self._unled_s = 0.0
        self._rounds: dict[str, _Round] = {}
        self._cluster: SimulatedCluster

    def watch(self, cluster: SimulatedCluster) -> None:
        """Begin."""
        self._cluster, self._excused_s = cluster, cluster.now_s
        cluster.observers.append(self)

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:  # noqa: ARG002
        """See ``Observer``."""
        self._excused_s = self._cluster.now_s

    def worked(self, machine: SimulatedMachine) -> None:
        """See ``Observer``: looks now and then whether somebody should lead."""
        if self._cluster.now_s - self._looked_s > 0.5 * self.heartbeat_s:
            self._look(self._cluster.now_s)
        replica = machine.process
        if not isinstance(replica, SimulatedReplica) or not replica.core.is_leader:
            return
        core, last = replica.core, self._rounds.get(machine.name)
        began_at_s = replica.parts.rounds.confirmed_at_s(core.term)
        if began_at_s < 0.0 or (last is not None and began_at_s == last.began_at_s):
            return
        now_s = machine.now_s() / machine.rate
        this = _Round(
            machine.lives_count, core.term, began_at_s, now_s, core.last_index, replica.parts.handover.under_way
        )
        self._rounds[machine.name] = this
        if last is None or (last.life, last.term) != (this.life, this.term):
            self.came.append((began_at_s / machine.rate, core.term))
        elif last.hands_over or this.hands_over:
            self._excused_s = now_s
        elif now_s - last.confirmed_s <= ROUND_HEARTBEATS * self.heartbeat_s and core.commit_index >= last.last_index:
            self.stretches.append((last.confirmed_s, now_s))
            self._excused_s = now_s

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        network, machines = self._cluster.network, self._cluster.machines
        up = [one.name for one in machines.values() if one.is_working and one.disk.is_sound and _counts(one)]
        is_whole = all(network.is_up(one, other) for one, other in combinations(up, 2))
        if network.is_troubled or not is_whole or not self._could_decide(up):
            self._excused_s = now_s
        self._unled_s = max(self._unled_s, now_s - self._excused_s)

    def _could_decide(self, up: list[str]) -> bool:
        """Do these agree who the members are, and are they a majority of those?"""
        replicas = [self._cluster.machines[name].process for name in up]
        electorates = {one.parts.electorate.voters for one in replicas if isinstance(one, SimulatedReplica)}
        return len(electorates) == 1 and electorates.pop().won(set(up))

    def check(self) -> None:
        """Somebody led whenever somebody could; raises ``AssertionError``."""
        assert self._unled_s <= self._patience_s, f"nobody led for {self._unled_s:.3f} s, though a majority was well"

    def between(self, first_s: float, end_s: float) -> float:
        """For how long somebody led between these times; never counted twice."""
        led_s, seen_s = 0.0, first_s
        for began_s, until_s in self.stretches[bisect.bisect_left(self.stretches, first_s, key=lambda one: one[1]) :]:
            if began_s >= end_s:
                break
            led_s += max(0.0, min(until_s, end_s) - max(began_s, seen_s))
            seen_s = max(seen_s, until_s)
        return led_s


def _counts(machine: SimulatedMachine) -> bool:
    return isinstance(machine.process, SimulatedReplica) and machine.process.counts


class _Life(NamedTuple):
    """A time that was given to a lease or a key at index ``since``; at index ``gone``, if at all, that was over.

    It was given in ``term`` first: where lease time stands still, a leap looks as if it were given anew.
    """

    who: int | bytes
    ttl_s: float
    since: int
    gone: int | None
    term: int


def check_ends(order: LogOrder, led: LedTime, *, slowest: float, now_s: float) -> None:
    """Nothing lives on for longer than it may; ``slowest`` is the rate of the slowest clock; ``AssertionError``."""
    led.check()
    led.stretches.sort()
    late_s = LATE_HEARTBEATS * led.heartbeat_s / slowest
    for life in _lives(order):
        since_s = order.committed_s(life.since)
        gone_s = now_s if life.gone is None else order.committed_s(life.gone)
        if gone_s - since_s <= life.ttl_s:
            continue
        led_s = led.between(since_s, gone_s)
        least_s = life.ttl_s / (SLOWEST_RATE * slowest) + late_s
        # Those, too, who came between its entry and the commit of that.
        came_s = [came_s for came_s, term in led.came if term > life.term and came_s < gone_s]
        untold_s = [TICK_MS / 1000 + late_s if isinstance(life.who, int) else order.untold_s(one) for one in came_s]
        assert led_s <= least_s + sum(untold_s), (
            f"{life.who!r} was given {life.ttl_s} s at {since_s:.4f} s, "
            f"and {'was there still' if life.gone is None else 'ended'} at {gone_s:.4f} s, though somebody led for "
            f"{led_s:.4f} s of that; {len(came_s)} leaders came meanwhile"
        )


def _lives(order: LogOrder) -> Iterator[_Life]:
    """Every time that was given, in the order of their ends."""
    given: dict[int | bytes, _Life] = {}
    ends: dict[int | bytes, int] = {}
    left_s: dict[int | bytes, float] = {}
    for index, state in enumerate(order.states):
        if index and state is order.states[index - 1]:
            continue
        at_ms: dict[int | bytes, int] = {lease: record.expires_at_ms for lease, record in state.leases.items()}
        at_ms |= {key: record.expires_at_ms for key, record in state.keys.items()}
        for who in [who for who in given if not at_ms.get(who)]:
            yield given.pop(who)._replace(gone=index)
        for who, ends_ms in at_ms.items():
            ttl_s, before = (ends_ms - state.clock_ms) / 1000, given.get(who)
            is_given = (
                ends_ms - state.clock_ms == state.leases[who].ttl_ms
                if isinstance(who, int)
                else before is None or ends[who] != ends_ms
            )
            if not ends_ms or not is_given:
                continue
            stands_still = before is not None and left_s[who] == ttl_s and isinstance(who, int)
            term = before.term if before is not None and stands_still else order.terms[index]
            if before is not None:
                yield before._replace(gone=index)
            given[who], ends[who] = _Life(who, ttl_s, index, None, term), ends_ms
        left_s = {who: (ends_ms - state.clock_ms) / 1000 for who, ends_ms in at_ms.items()}
    yield from given.values()
