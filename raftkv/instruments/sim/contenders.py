"""Clients that contend for locks and elections, by the plans that the front-end performs; and whether they were right.

A plan ends with the node at which it is performed, and then nobody knows what came of it. What is promised of a name,
and held against the log:

- Who is told that it holds came before all others that were there, but for as many as may hold, at some moment between
  its question and the answer. Nobody can come before it later; so it holds until its key goes.
- Of two grants the token of the later one is greater, if that was asked for after the other was told.
- A contender's key belongs to the lease in its name, as long as it is there.
- What is let go by a token is the key with that token; who is told to lead led then, known by that value.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from raftkv.coordination.contention import Attempt, Won, acquire, release
from raftkv.coordination.elections import leader, proclaim
from raftkv.coordination.names import ELECTIONS, LOCKS, Contender, Queue, contender_of
from raftkv.coordination.steps import Circumstances, Plan
from raftkv.core.errors import Refused, Unknown
from raftkv.core.keys import ELECTION_KEYS, LOCK_KEYS
from raftkv.core.results import KeyRecord
from raftkv.instruments.sim.clients import SimulatedClient
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.front_ends import FrontEnds
from raftkv.instruments.sim.log_order import LogOrder
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.model import in_span

CONTENTION: Final = ("lock", "campaign", "observe")


class Contended(msgspec.Struct, kw_only=True):
    """What a client did about a name, and was told; ``token`` and ``content`` are what it did that with."""

    client: int
    what: str
    queue: Queue
    permits: int = 1
    token: int = 0
    content: bytes = b""
    invoked_s: float
    returned_s: float | None = None
    result: object = None


class Contenders:
    """What clients do about names. ``contended`` is what they asked, and were told in the end."""

    def __init__(
        self, cluster: SimulatedCluster, front_ends: FrontEnds, random: random_module.Random, pace_s: float
    ) -> None:
        self.contended: list[Contended] = []
        self._cluster = cluster
        self._random = random
        self._pace_s = pace_s
        self._front_ends = front_ends

    def begin(self, client: SimulatedClient, kind: str, done: Callable[[], None]) -> None:
        """Let ``client`` do something of this ``kind``, through whatever node; it is over in time, or nobody knows."""
        name = self._random.choice((b"a", b"a", b"a", b"b"))
        queue = Queue(ELECTIONS if kind != "lock" else LOCKS, name)
        if kind == "observe":
            self._perform(client, Contended(client=client.number, what=kind, queue=queue, invoked_s=0.0), done)
            return
        one = Contended(client=client.number, what=kind, queue=queue, invoked_s=0.0, content=client.new_value()[:20])
        one.permits = 2 if kind == "lock" and name == b"b" else 1
        self._perform(client, one, lambda: self._hold(client, one, done))

    def _hold(self, client: SimulatedClient, won: Contended, done: Callable[[], None]) -> None:
        """Hold for a while what was won, proclaim something else, and let go of it, or of its lease."""
        if not isinstance(won.result, Won) or self._random.random() < 0.2:
            done()
            return
        token, then = won.result.token, done
        let_go = self._about(won, "release", token)
        let_go_of_it = partial(self._perform, client, let_go, then)
        if won.queue.kind is ELECTIONS and self._random.random() < 0.6:
            said = self._about(won, "proclaim", token)
            said.content = client.new_value()[:20]
            self._later(partial(self._perform, client, said, partial(self._later, let_go_of_it)))
        else:
            self._later(let_go_of_it)

    @staticmethod
    def _about(won: Contended, what: str, token: int) -> Contended:
        return Contended(client=won.client, what=what, queue=won.queue, token=token, invoked_s=0.0)

    def _later(self, action: Callable[[], None]) -> None:
        self._cluster.schedule.after(self._random.random() * self._pace_s, action)

    def _perform(self, client: SimulatedClient, one: Contended, then: Callable[[], None]) -> None:
        """Do what is noted in ``one``, and go on when it is told, or after a while in any case."""
        self.contended.append(one)
        one.invoked_s = self._cluster.now_s
        machine = self._random.choice(list(self._cluster.machines.values()))
        is_over = False

        def told(result: object) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                one.returned_s, one.result = self._cluster.now_s, result
                self._cluster.note(f"c{client.number}", f"{one.what} of {one.queue.name.decode()}: {result}")
                then()

        def lose_patience() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                then()

        self._cluster.schedule.after(6 * self._pace_s, lose_patience)
        front_end = self._front_ends.at(machine)
        if front_end is not None:
            front_end.perform(client, self._plan(client, one, machine, lambda: is_over), told)

    def _plan(
        self, client: SimulatedClient, one: Contended, machine: SimulatedMachine, has_left: Callable[[], bool]
    ) -> Plan[Any]:
        circumstances = Circumstances(machine.now_s, has_left)
        timeout_s = self._pace_s * self._random.uniform(0.5, 2.0)
        match one.what:
            case "release":
                return release(one.queue, one.token, timeout_s, circumstances)
            case "proclaim":
                return proclaim(one.queue, one.token, one.content, timeout_s, circumstances)
            case "observe":
                return leader(one.queue, timeout_s, circumstances)
        lease = self._random.choice((0, *client.leases[-2:]))
        attempt = Attempt(
            queue=one.queue,
            content=one.content,
            lease=lease,
            ttl_ms=0 if lease else self._random.choice((300, 1_500, 6_000)),
            wait_s=self._random.choice((0.0, self._pace_s, 4 * self._pace_s)),
            permits=one.permits,
            timeout_s=timeout_s,
        )
        return acquire(attempt, circumstances)


def check_contention(order: LogOrder, contended: list[Contended]) -> None:
    """Hold what clients were told about names against the log; raises ``AssertionError``."""
    for change in order.changes:
        if change.record is not None and change.key.startswith((LOCK_KEYS, ELECTION_KEYS)):
            lease = int(change.key[-16:], 16)
            assert change.record.lease == lease, f"a contender without its lease: {change}"
    told = [one for one in contended if one.returned_s is not None and not isinstance(one.result, Refused | Unknown)]
    for queue in {one.queue for one in told}:
        line = _Line(order, queue)
        newest: list[tuple[float, int]] = []
        for one in sorted([one for one in told if one.queue == queue], key=lambda one: one.returned_s or 0.0):
            line.check(one)
            if isinstance(one.result, Won):
                before = max([token for returned_s, token in newest if returned_s < one.invoked_s], default=0)
                assert one.permits > 1 or one.result.token >= before, f"a lower token than {before}: {one}"
                newest.append((one.returned_s or 0.0, one.result.token))


class _Line:
    """Those who contended for one name, as they came, at every index of the log."""

    def __init__(self, order: LogOrder, queue: Queue) -> None:
        self._order = order
        self._queue = queue
        self._at: list[list[KeyRecord]] = []
        keys: object = None
        for state in order.states:
            if state.keys is not keys:
                keys = state.keys
                found = [state.keys[key] for key in in_span(state.keys, queue.start, queue.end)]
                found.sort(key=lambda record: record.create_revision)
            self._at.append(found)

    def check(self, one: Contended) -> None:
        """Was ``one`` told what was so at some time after it asked?"""
        first, last = self._order.window(one.invoked_s, one.returned_s or 0.0)
        between = self._at[first : last + 1]
        match one.result:
            case Won():
                held = ((r.create_revision, r.lease) for line in between for r in line[: one.permits])
                assert (one.result.token, one.result.lease) in held, f"it held nothing: {one}"
            case Contender():
                told = (one.result.token, one.result.revision)
                leaders = {line[0].create_revision for line in between if line}
                values = [contender_of(one.queue.kind, record) for line in between for record in line]
                assert told[0] in leaders, f"it did not lead: {one}"
                assert one.result in values, f"it was not known by that: {one}"
            case None:
                assert not all(between), f"somebody led: {one}"
            case int() if one.what == "release":
                gone = [change.previous for change in self._order.changes_between(one.result - 1, one.result)]
                assert one.token in {record.create_revision for record in gone if record}, f"another went: {one}"
            case int():
                said = [change.record for change in self._order.changes_between(one.result - 1, one.result)]
                found = [contender_of(one.queue.kind, record) for record in said if record]
                is_said = [(of.token, of.note and of.note.content) for of in found]
                assert (one.token, one.content) in is_said, f"it is not known by that: {one}"
