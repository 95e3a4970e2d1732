"""The network between simulated machines: FIFO connections, as TCP gives them, cut, broken, slow and half open.

Each direction between two machines may be cut on its own: what is sent then waits, as TCP would send it again, and
arrives after the cut is healed, unless an end has given up by then. An end that hears nothing for the silence timeout
closes; the other learns of it when that news gets through, or by its own timeout. So the ends of a connection may
disagree for long about whether there is one. A new connection supersedes an older one at each end separately, and what
was not read from the older one is dropped. A paused machine reads nothing; what waits in its sockets is read when it
goes on, also from a connection whose other end is long gone. A machine that loses its power says nothing to anybody.

For each end ``link_up`` and ``link_down`` alternate, and messages come between them, in order, each once.

Rules: knows nothing of what the bytes mean; all chance comes from the generator it is given.
"""

from __future__ import annotations

import random as random_module
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from raftkv.instruments.sim.schedule import Schedule, ScheduledEvent

FLOOD_COUNT: Final = 20_000
"""Messages that may leave at one moment. A real replica sends a few hundred at most; more is a loop without an end."""

REDIAL_S: Final = 0.05
"""After a dial in vain."""

_OPEN: Final = 1
_CLOSE: Final = 2


class Ends(Protocol):
    """The machines, as the network sees them."""

    def is_working(self, name: str) -> bool:
        """Does its process run? Otherwise it neither reads what comes in nor says that it lives."""

    def link_up(self, name: str, peer: str) -> None:
        """Tell the process of ``name``."""

    def link_down(self, name: str, peer: str) -> None:
        """Tell the process of ``name``."""

    def received(self, name: str, peer: str, payload: bytes) -> None:
        """Tell the process of ``name``."""


class _Line:
    """One direction of one connection: what is on its way, and when the first of it arrives."""

    __slots__ = ("connection", "items", "last_due_s", "pump", "size_bytes", "source", "target")

    def __init__(self, connection: _Connection, source: str, target: str) -> None:
        self.connection = connection
        self.source, self.target = source, target
        self.items: deque[tuple[float, bytes | int]] = deque()
        self.last_due_s = 0.0
        self.size_bytes = 0
        self.pump: ScheduledEvent | None = None

    def clear(self) -> None:
        """What is on its way is lost."""
        self.items.clear()
        self.size_bytes = 0


class _Connection:
    """A connection between two machines; one that ``is_opening`` is known at one end only, so far."""

    def __init__(self, one: str, other: str) -> None:
        self.is_opening = True
        self.to = {other: _Line(self, one, other), one: _Line(self, other, one)}


class Network:
    """All connections of a cluster. ``counts`` are the messages sent, and connections made and lost."""

    def __init__(
        self,
        schedule: Schedule,
        ends: Ends,
        names: Iterable[str],
        *,
        random: random_module.Random,
        latency_s: tuple[float, float],
        silence_s: float,
        redial_s: tuple[float, float],
    ) -> None:
        self.latency_s = self._usual_latency_s = latency_s
        self.straggler_rate = 0.0
        self.sent_count = 0
        self.on_sent: Callable[[str, str, bytes], None] | None = None
        self._schedule = schedule
        self._ends = ends
        self._names = tuple(names)
        self._random = random
        self._silence_s = silence_s
        self._redial_s = redial_s
        self._live: dict[tuple[str, str], _Connection] = {}
        self._cut: set[tuple[str, str]] = set()
        self._slow: dict[tuple[str, str], float] = {}
        self._silent_since_s: dict[tuple[str, str], float] = {}
        self._dials: set[tuple[str, str]] = set()
        self._moment_s = float("-inf")
        self._sent_at_moment = 0

    # --- what processes ask for

    def send(self, source: str, target: str, payload: bytes) -> bool:
        """Put a message on the connection, if this end has one; true says nothing about arrival."""
        connection = self._live.get((source, target))
        if connection is None:
            return False
        if self._moment_s != self._schedule.now_s:
            self._moment_s, self._sent_at_moment = self._schedule.now_s, 0
        self._sent_at_moment += 1
        assert self._sent_at_moment < FLOOD_COUNT, f"{source} floods {target}"
        self.sent_count += 1
        if self.on_sent is not None:
            self.on_sent(source, target, payload)
        self._put(connection.to[target], payload)
        return True

    def outstanding_bytes(self, source: str, target: str) -> int:
        """How much ``source`` has sent that ``target`` has not read yet."""
        connection = self._live.get((source, target))
        return 0 if connection is None else connection.to[target].size_bytes

    def close(self, source: str, target: str) -> None:
        """``source`` gives up its connection to ``target``."""
        self._end(source, target, tell=True)

    # --- faults

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let nothing through from the first to the second of each pair."""
        for source, target in pairs:
            self._cut.add((source, target))
            self._note_silence(source, target)

    def heal(self, pairs: Iterable[tuple[str, str]] | None = None) -> None:
        """End these cuts, or all of them; what waited goes on."""
        for source, target in sorted(self._cut if pairs is None else self._cut & set(pairs)):
            self._cut.discard((source, target))
            self._note_silence(source, target)
            self._go_on(source, target)

    def slow(self, source: str, target: str, factor: float) -> None:
        """Let this direction take ``factor`` times as long from now on."""
        self._slow[source, target] = factor

    def disconnect(self, one: str, other: str, *, now: bool = False) -> None:
        """Break the connection; some of what is on its way still arrives, nothing if ``now``."""
        for source, target in ((one, other), (other, one)):
            connection = self._live.get((source, target))
            if connection is None:
                continue
            if now:
                self._end(source, target, tell=False)
            else:
                line = connection.to[source]
                kept = self._random.randrange(len(line.items) + 1)
                while len(line.items) > kept:
                    item = line.items.pop()[1]
                    line.size_bytes -= 0 if isinstance(item, int) else len(item)
                self._put(line, _CLOSE)
        self._redial(one, other)

    def is_cut(self, source: str, target: str) -> bool:
        """Does nothing get through from ``source`` to ``target``?"""
        return (source, target) in self._cut

    def is_up(self, one: str, other: str) -> bool:
        """Do both ends have the same connection?"""
        live = self._live.get((one, other))
        return live is not None and live is self._live.get((other, one))

    @property
    def is_troubled(self) -> bool:
        """Is anything cut, or slower than usual?"""
        is_slow = self.latency_s != self._usual_latency_s or self.straggler_rate > 0.0
        return is_slow or bool(self._cut) or any(factor != 1.0 for factor in self._slow.values())

    # --- what becomes of machines

    def started(self, name: str) -> None:
        """A process began on ``name``."""
        for peer in self._peers(name):
            self._note_silence(name, peer)
            self._redial(name, peer)

    def stopped(self, name: str, *, silently: bool) -> None:
        """The process of ``name`` is gone; ``silently``: with its machine, which tells nobody."""
        for peer in self._peers(name):
            connection = self._live.pop((name, peer), None)
            if connection is not None:
                connection.to[name].clear()
                line = connection.to[peer]
                if not silently:
                    self._put(line, _CLOSE)
                elif line.items and self._random.random() < 0.5:
                    # What was still in the machine's own buffers never left it.
                    for _ in range(self._random.randrange(len(line.items) + 1)):
                        item = line.items.pop()[1]
                        line.size_bytes -= 0 if isinstance(item, int) else len(item)
            self._note_silence(name, peer)

    def paused(self, name: str) -> None:
        """The process of ``name`` is stopped in its tracks."""
        for peer in self._peers(name):
            self._note_silence(name, peer)

    def resumed(self, name: str) -> None:
        """It goes on: first it reads what waits in its sockets, then it looks at its timers."""
        for peer in self._peers(name):
            self._note_silence(name, peer)
            self._go_on(peer, name, at_once=True)
            since_s = self._silent_since_s.get((peer, name))
            if since_s is not None and self._schedule.now_s - since_s >= self._silence_s:
                self._schedule.after(0.0, lambda peer=peer, since_s=since_s: self._give_up(peer, name, since_s))  # type: ignore[misc]

    # --- within

    def _peers(self, name: str) -> list[str]:
        return [peer for peer in self._names if peer != name]

    def _delay_s(self, source: str, target: str) -> float:
        low_s, high_s = self.latency_s
        delay_s = low_s + (high_s - low_s) * self._random.random()
        if self.straggler_rate and self._random.random() < self.straggler_rate:
            delay_s *= 20
        return min(delay_s * self._slow.get((source, target), 1.0), self._silence_s)

    def _put(self, line: _Line, item: bytes | int) -> None:
        due_s = max(line.last_due_s, self._schedule.now_s + self._delay_s(line.source, line.target))
        line.last_due_s = due_s
        line.items.append((due_s, item))
        if not isinstance(item, int):
            line.size_bytes += len(item)
        if line.pump is None:
            line.pump = self._schedule.at(due_s, lambda: self._pump(line))

    def _pump(self, line: _Line) -> None:
        """Let what is due arrive, unless something is in the way; then ``_go_on`` comes back here."""
        line.pump = None
        now_s = self._schedule.now_s
        while line.items and (line.source, line.target) not in self._cut and self._ends.is_working(line.target):
            due_s, item = line.items[0]
            if due_s > now_s:
                line.pump = self._schedule.at(due_s, lambda: self._pump(line))
                return
            line.items.popleft()
            if isinstance(item, int):
                self._signal(line, item)
            else:
                line.size_bytes -= len(item)
                if self._live.get((line.target, line.source)) is line.connection:
                    self._ends.received(line.target, line.source, item)

    def _go_on(self, source: str, target: str, *, at_once: bool = False) -> None:
        """Something was in the way from ``source`` to ``target`` and is no more; TCP may take a while to notice."""
        lines = [connection.to[target] for connection in self._connections(source, target)]
        for line in lines:
            if line.items and line.pump is None:
                delay_s = 0.0 if at_once else self._delay_s(source, target)
                line.pump = self._schedule.after(delay_s, lambda line=line: self._pump(line))  # type: ignore[misc]

    def _connections(self, one: str, other: str) -> list[_Connection]:
        """Those that either end has, the older one first."""
        found = [self._live.get((one, other)), self._live.get((other, one))]
        unique = {id(connection): connection for connection in found if connection is not None}
        return list(unique.values())

    def _signal(self, line: _Line, item: int) -> None:
        """The connection stands, as far as ``target`` is concerned, or the other end has closed it."""
        here, there = line.target, line.source
        if item == _CLOSE:
            if self._live.get((here, there)) is line.connection:
                self._end(here, there, tell=False)
            return
        line.connection.is_opening = False
        if self._live.get((there, here)) is line.connection:  # else it was given up before it stood
            self._up(here, there, line.connection)

    def _up(self, here: str, there: str, connection: _Connection) -> None:
        """``here`` has a new connection; an older one is closed unread."""
        older = self._live.pop((here, there), None)
        if older is not None:
            older.to[here].clear()
            self._ends.link_down(here, there)
            if not self._ends.is_working(here):
                return
        self._live[here, there] = connection
        self._ends.link_up(here, there)

    def _end(self, here: str, there: str, *, tell: bool) -> None:
        """``here`` closes its end of what it has with ``there``, unread."""
        connection = self._live.pop((here, there), None)
        if connection is None:
            return
        connection.is_opening = False
        connection.to[here].clear()
        if tell:
            self._put(connection.to[there], _CLOSE)
        self._ends.link_down(here, there)
        self._redial(here, there)

    # --- silence

    def _note_silence(self, source: str, target: str) -> None:
        is_silent = (source, target) in self._cut or not self._ends.is_working(source)
        since_s = self._silent_since_s.get((source, target))
        if not is_silent:
            self._silent_since_s.pop((source, target), None)
        elif since_s is None:
            now_s = self._silent_since_s[source, target] = self._schedule.now_s
            self._schedule.after(self._silence_s, lambda: self._give_up(source, target, now_s))

    def _give_up(self, source: str, target: str, since_s: float) -> None:
        """``target`` has heard nothing for too long, if the silence was not interrupted and it could listen."""
        if self._silent_since_s.get((source, target)) == since_s and self._ends.is_working(target):
            self._end(target, source, tell=True)

    # --- dialling

    def _redial(self, one: str, other: str, *, at_least_s: float = 0.0) -> None:
        pair = (min(one, other), max(one, other))
        if pair not in self._dials:
            self._dials.add(pair)
            delay_s = at_least_s + self._random.uniform(*self._redial_s)
            self._schedule.after(delay_s, lambda: self._dial(*pair))

    def _dial(self, one: str, other: str) -> None:
        self._dials.discard((one, other))
        if self.is_up(one, other):
            return
        is_opening = any(connection.is_opening for connection in self._connections(one, other))
        is_cut = (one, other) in self._cut or (other, one) in self._cut
        if is_opening or is_cut or not self._ends.is_working(one) or not self._ends.is_working(other):
            self._redial(one, other, at_least_s=REDIAL_S)
            return
        connection = _Connection(one, other)
        first, second = (one, other) if self._random.random() < 0.5 else (other, one)
        self._put(connection.to[second], _OPEN)  # ahead of what the first end says once it is up
        self._up(first, second, connection)
        if self._live.get((first, second)) is connection:
            self._schedule.after(self._silence_s, lambda: self._check_opened(first, second, connection))

    def _check_opened(self, first: str, second: str, connection: _Connection) -> None:
        """A connection that never came to stand at its other end is given up."""
        if connection.is_opening:
            connection.is_opening = False
            if self._live.get((first, second)) is connection and self._ends.is_working(first):
                self._end(first, second, tell=True)
            self._redial(first, second)

    # --- for directed scenarios

    def in_flight(self, source: str, target: str) -> list[bytes]:
        """What is on its way from ``source`` to ``target``, oldest first."""
        connection = self._live.get((target, source))
        items = connection.to[target].items if connection is not None else ()
        return [item for _, item in items if not isinstance(item, int)]

    def keep_in_flight(self, source: str, target: str, is_kept: Callable[[bytes], bool]) -> None:
        """Lose what is on its way, except what ``is_kept``. No TCP does this; directed scenarios may."""
        line = self._live[target, source].to[target]
        line.items = deque(item for item in line.items if isinstance(item[1], int) or is_kept(item[1]))
        line.size_bytes = sum(len(item) for _, item in line.items if not isinstance(item, int))
