"""Clients that watch, by the feeds of front-ends, and move from node to node; and whether they were told everything.

A watcher takes what it is told in its own time, breaks off now and then, and goes on elsewhere after the last revision
that it knows; so it does when its node ends. What is promised, and held against the log:

- From where it began it was told every change that it wants, once, in order, whole revisions at a time, with what was
  there before where it wants that, and nothing that was not committed by then.
- How far it has seen is never further than what it was told.
- What was compacted before it was read it was told of, and only that; it begins again from there.

Once everything has healed it is told all that there is.
"""

from __future__ import annotations

import random as random_module
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from raftkv.coordination.audience import Interest
from raftkv.coordination.feed import ChangeListener, Heard
from raftkv.core.keys import SYSTEM
from raftkv.core.results import Change, HistoryGone
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.front_ends import FrontEnd, FrontEnds
from raftkv.instruments.sim.log_order import LogOrder, comparable_changes
from raftkv.instruments.sim.plan import COORDINATION, Plan

WATCHERS_MAX: Final = 4

_SPANS: Final = (
    (b"k0", b"k0\x00"),
    (b"k", b"l"),
    (b"k", b"l"),
    (b"c", b"d"),
    (b"c1", b"k2"),
    (b"", SYSTEM),
    (b"", SYSTEM),
    (SYSTEM, SYSTEM + b"\xff"),
)
"""A key, prefixes, other ranges, and what contends for locks and elections, which only the front-end listens to."""

_HOP_S: Final = 0.001
_HEADER: Final = struct.Struct(">I")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, tuple[Change, ...]]).decode


def _tell(revision: int, changes: Sequence[Change], interest: Interest) -> bytes:
    if not interest.previous:
        changes = [msgspec.structs.replace(change, previous=None) for change in changes]
    message = _encode((revision, changes))
    return _HEADER.pack(len(message)) + message


def _messages(content: bytes) -> list[tuple[int, tuple[Change, ...]]]:
    found, start = [], 0
    while start < len(content):
        (length,) = _HEADER.unpack_from(content, start)
        start += _HEADER.size + length
        found.append(_decode(content[start - length : start]))
    return found


class Stretch(msgspec.Struct):
    """What a watcher was told after revision ``after``, without a gap, ``through`` another, and when."""

    after: int
    through: int
    messages: list[tuple[int, tuple[Change, ...]]] = []
    heard: list[tuple[float, int]] = []
    """Times, and how far it had seen then."""
    gone_s: float = 0.0
    """When it was told that what was before is gone, if not the first."""


class Watcher:
    """One that watches until the run ends; a stretch ends where compaction overtook it."""

    def __init__(self, name: str, watchers: Watchers, interest: Interest, random: random_module.Random) -> None:
        self.interest = interest
        self.stretches = [Stretch(0, 0)]
        self._name = name
        self._watchers = watchers
        self._cluster = watchers.cluster
        self._random = random
        self._is_slow = random.random() < 0.4
        self._front_end: FrontEnd | None = None
        self._listener: ChangeListener | None = None
        self._connection = self._on_the_way = 0

    def move(self) -> None:
        """Break off, if it listens anywhere, and go on at some node."""
        if self._front_end is not None and self._listener is not None:
            self._front_end.after(0.0, self._listener.end)
        self._connection += 1
        connection, self._listener, self._on_the_way = self._connection, None, 0
        machine = self._random.choice(list(self._cluster.machines.values()))
        front_end = self._front_end = self._watchers.front_ends.at(machine)
        if front_end is not None:
            after = self.stretches[-1].through
            self._cluster.note(self._name, f"watches at {machine.name} after {after}")
            front_end.after(self._random.random() * _HOP_S, lambda: self._listen(connection, front_end, after))
        self._look_later(connection)

    def _look_later(self, connection: int) -> None:
        delay_s = self._random.uniform(0.1, 1.0) * self._watchers.pace_s
        self._cluster.schedule.after(delay_s, lambda: self._look(connection))

    def _look(self, connection: int) -> None:
        """Hear how far it has seen, and go elsewhere now and then, or if nobody is there any more."""
        if connection != self._connection:
            return
        self.see()
        if not self._is_served or (self._watchers.are_moving and self._random.random() < 0.3):
            self.move()
        else:
            self._look_later(connection)

    @property
    def _is_served(self) -> bool:
        return self._front_end is not None and self._front_end.door.is_open

    def see(self) -> int:
        """How far it has seen, as it is told while nothing is on its way to it."""
        listener = self._listener
        if listener is not None and listener.hear is not None and not self._on_the_way and self._is_served:
            self._saw(listener.through)
        return self.stretches[-1].through

    def _saw(self, through: int) -> None:
        stretch = self.stretches[-1]
        if through > stretch.through:
            stretch.through = through
            stretch.heard.append((self._cluster.now_s, through))

    def _listen(self, connection: int, front_end: FrontEnd, after: int) -> None:
        if connection == self._connection:
            self._listener = front_end.feed.listen(self.interest, _tell, after)
            self._ask(connection)

    def _ask(self, connection: int) -> None:
        """Ask for what comes next, or, unless it is slow, for all that comes: it arrives in order."""
        if connection == self._connection and self._listener is not None:
            hop_s = self._random.random() * _HOP_S

            def told(heard: Heard) -> bool:
                if connection == self._connection:  # what comes to one that broke off a moment ago is for nobody
                    self._on_the_way += 1
                self._cluster.schedule.after(hop_s, lambda: self._hear(connection, heard))
                return not self._is_slow and not isinstance(heard, HistoryGone)

            self._listener.ask(told)

    def _hear(self, connection: int, heard: Heard) -> None:
        """Whoever breaks off never sees what is on its way to it."""
        if connection != self._connection or self._front_end is None:
            return
        self._on_the_way -= 1
        stretch = self.stretches[-1]
        self._cluster.note(self._name, f"hears after {stretch.through}: {heard}")
        if isinstance(heard, HistoryGone):
            gone = heard.compacted_revision
            assert gone > stretch.through, f"{gone} is compacted, {self._name} has seen all up to {stretch.through}"
            self.stretches.append(Stretch(gone, gone, gone_s=self._cluster.now_s))
            self.move()
            return
        messages = _messages(heard.content)
        assert messages[-1][0] <= heard.through, f"{self._name} is told {messages} through {heard.through}"
        stretch.messages += messages
        self._saw(heard.through)
        if self._is_slow:
            delay_s = self._watchers.pace_s * self._random.random()
            self._front_end.after(delay_s, lambda: self._ask(connection))


class Watchers:
    """Those of a run in which clients coordinate; few interests, so that some watch the same."""

    def __init__(self, cluster: SimulatedCluster, front_ends: FrontEnds, plan: Plan) -> None:
        self.cluster = cluster
        self.front_ends = front_ends
        self.pace_s = plan.pace_s
        self._end_s = 0.0
        dice = random_module.Random(f"watchers {plan.seed}")
        interests = [self._interest(dice) for _ in range(2)]
        count = dice.randint(1, WATCHERS_MAX) if set(COORDINATION) & set(plan.actions) else 0
        self._all = [Watcher(f"w{number}", self, dice.choice(interests), dice) for number in range(count)]

    @staticmethod
    def _interest(dice: random_module.Random) -> Interest:
        start, end = dice.choice(_SPANS)
        return Interest(
            start=start, end=end, previous=dice.random() < 0.5, only=dice.choice((None, None, "put", "delete"))
        )

    def begin(self, end_s: float) -> None:
        """Let all watch, and move about until ``end_s``."""
        self._end_s = end_s
        for watcher in self._all:
            watcher.move()

    @property
    def are_moving(self) -> bool:
        """Do they go elsewhere without need?"""
        return self.cluster.now_s < self._end_s

    def have_seen(self, revision: int) -> bool:
        """Has each been told of everything up to ``revision``?"""
        return all(watcher.see() >= revision for watcher in self._all)

    def check(self, order: LogOrder) -> None:
        """Hold what they were told against the log; raises ``AssertionError``."""
        for watcher in self._all:
            for stretch in watcher.stretches:
                _check_stretch(order, watcher.interest, stretch)
            for stretch in watcher.stretches[1:]:
                _, last = order.window(stretch.gone_s, stretch.gone_s)
                states = order.states[: last + 1]
                # Where no history is kept yet, not even the next revision is promised: see ``HistoryGone``.
                oldest = {state.compacted if state.keeps_history else state.revision + 1 for state in states}
                assert stretch.after in oldest, f"told that {stretch.after} is the oldest, and there were {oldest}"


def _check_stretch(order: LogOrder, interest: Interest, stretch: Stretch) -> None:
    for heard_s, through in stretch.heard:
        _, last = order.window(heard_s, heard_s)
        newest = order.states[last].revision
        assert through <= newest, f"at {heard_s:.4f} it had seen up to {through}, and {newest} was committed"
    found = [
        change if interest.previous else msgspec.structs.replace(change, previous=None)
        for change in order.changes_between(stretch.after, stretch.through)
        if interest.start <= change.key < interest.end
        and (interest.only is None or interest.only == ("delete" if change.record is None else "put"))
    ]
    told = [change for _, changes in stretch.messages for change in changes]
    revisions = [revision for revision, _ in stretch.messages]
    assert revisions == sorted({change.revision for change in told}), f"not whole, once and in order: {revisions}"
    assert comparable_changes(told) == comparable_changes(found), (
        f"{interest} after {stretch.after} through {stretch.through}\ntold {told}\nwas  {found}"
    )
