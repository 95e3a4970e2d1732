"""What time it is in a leaderless cluster: the source of stamps, of expiry, and of how old data and deletions are.

No single clock is believed. It is as late as a majority of all members say that it is (``core.voters``), so clocks
that are wrong, ahead or behind, change nothing while they are less than half. Each member asks the others what their
wall clocks show, over the links that stand anyway, and carries each answer on by its own monotonic clock. Half of the
round trip bounds the error of an answer (NTP; Cristian 1989): a worse one replaces a better one only when both cannot
be true, which means that the clock leapt.

Rules: before a majority of clocks was heard in this life of the process, there is no time at all. Afterwards there
always is one: who is cut off goes on with what it knows. While not all clocks were heard, two times bound the one that
all would agree on: what is written and what has expired goes by the earlier, what is taken from others by the later. So
nobody declines what another stamps, however little either has heard.

When agreed time itself leaps, a majority of clocks has leapt, and nodes notice it one after the other. So nobody stamps
until each had time to ask, and what was right by the time before is taken as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from raftkv.core.voters import Voters
from raftkv.formats.quorum_messages import AskClock, ShowClock
from raftkv.process.loggers import get_logger
from raftkv.quorum.outbox import Outbox
from raftkv.quorum.settings import QuorumSettings

DRIFT: Final = 0.001
"""How much two monotonic clocks may come apart, as a part of what passes; real ones stay below a fifth of it."""

ASKED_AT_ONCE: Final = 8
"""So many members are asked each gossip period, in turn: what is asked does not grow with the cluster."""

SETTLING_PERIODS: Final = 4
"""After a leap nobody stamps for the time in which every member is asked this often."""

log_line = get_logger("raftkv.quorum")


class _Reading(NamedTuple):
    """A member's wall clock: how far it is ahead of this node's monotonic clock, give or take the error."""

    ahead_us: float
    error_us: float
    read_s: float

    def error_at_us(self, now_s: float) -> float:
        """The bound now."""
        return self.error_us + DRIFT * (now_s - self.read_s) * 1e6


class ClusterTime:
    """One node's knowledge of the members' clocks. ``members`` are the ids of all that count, this node's included."""

    def __init__(
        self,
        settings: QuorumSettings,
        *,
        members: Callable[[], Iterable[str]],
        outbox: Outbox,
        now_s: Callable[[], float],
        wall_us: Callable[[], int],
        is_up: Callable[[str], bool],
    ) -> None:
        self._node_id = settings.node_id
        self._gossip_s = settings.gossip_s
        self._ahead_us = settings.clock_ahead_s * 1e6
        self._members = members
        self._outbox = outbox
        self._now_s = now_s
        self._wall_us = wall_us
        self._is_up = is_up
        self._readings: dict[str, _Reading] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        """The question under way to each member, and when it left."""
        self._questions = 0
        self._next_s = now_s()
        self._turn = 0
        self._earlier_us = self._later_us = 0.0
        """Agreed time, by its bounds, less the monotonic clock."""
        self._counted = (0, 0)
        self._leapt_s = 0.0
        self._settled_s = float("-inf")
        self._taken_us = 0.0
        self.is_known = False
        """Was a majority of the clocks heard in this life of the process?"""

    # -- what time it is

    def now_us(self) -> int:
        """Agreed time (microseconds since 1970), the earlier bound; 0 while there is none."""
        return int(self._earlier_us + self._now_s() * 1e6) if self.is_known else 0

    def now_ms(self) -> int:
        """The same in milliseconds: while there is no time nothing has expired."""
        return self.now_us() // 1000

    def later_us(self) -> int:
        """Its later bound."""
        return int(self._later_us + self._now_s() * 1e6) if self.is_known else 0

    def limit_us(self) -> int:
        """No stamp beyond this is taken from anybody."""
        latest_us = max(self._later_us, self._taken_us) if self._is_settling else self._later_us
        return int(latest_us + self._now_s() * 1e6 + self._ahead_us) if self.is_known else 0

    def lead_s(self, counter: int) -> float:
        """How far ``counter`` is ahead of agreed time."""
        return (counter - self.now_us()) / 1e6

    def ahead_s(self, member: str) -> float | None:
        """How much later the clock of ``member`` is than this node's; ``None`` while that was not heard."""
        reading = self._readings.get(member)
        return None if reading is None else reading.ahead_us / 1e6 + self._now_s() - self._wall_us() / 1e6

    @property
    def fault(self) -> str:
        """Why nothing may be stamped now; empty when it may."""
        if not self.is_known:
            heard, size = self._counted
            return f"no agreed time: {heard} of {size} clocks heard"
        if self._is_settling:
            return (
                f"the time that a majority of clocks shows has leapt by {self._leapt_s:+.1f} s: waiting for it to hold"
            )
        return ""

    @property
    def _is_settling(self) -> bool:
        return self._now_s() < self._settled_s

    # -- how it is known

    def work(self, now_s: float) -> None:
        """Look at the clocks, and ask for some when it is time."""
        if now_s >= self._next_s:
            self._next_s = now_s + self._gossip_s
            others = sorted(member for member in self._members() if member != self._node_id and self._is_up(member))
            for offset in range(min(ASKED_AT_ONCE, len(others))):
                self.ask(others[(self._turn + offset) % len(others)], now_s)
            self._turn += ASKED_AT_ONCE
        self._look(now_s)

    def ask(self, member: str, now_s: float) -> None:
        """Ask ``member`` what its clock shows; an earlier question is given up."""
        self._questions += 1
        self._asked[member] = self._questions, now_s
        self._outbox.post(member, AskClock(self._questions))

    def take(self, member: str, message: AskClock | ShowClock, now_s: float) -> None:
        """``member`` asks, or answers."""
        if isinstance(message, AskClock):
            self._outbox.post(member, ShowClock(message.id, self._wall_us()))
            return
        number, asked_s = self._asked.get(member, (0, 0.0))
        if number == message.id and number:
            del self._asked[member]
            half_us = max(0.0, now_s - asked_s) / 2 * 1e6
            self._read(member, _Reading(message.wall_us + half_us - now_s * 1e6, half_us, now_s))
            self._look(now_s)

    def lost(self, member: str) -> None:
        """The connection to ``member`` is gone, and an answer with it; what its clock showed is still known."""
        self._asked.pop(member, None)

    def _read(self, member: str, new: _Reading) -> None:
        old = self._readings.get(member)
        if old is not None:
            aged_us = old.error_at_us(new.read_s)
            could_both_be = abs(old.ahead_us - new.ahead_us) <= aged_us + new.error_us
            if could_both_be and aged_us < new.error_us:
                return
        self._readings[member] = new

    def _look(self, now_s: float) -> None:
        members = set(self._members()) | {self._node_id}
        own = _Reading(self._wall_us() - now_s * 1e6, 0.0, now_s)
        readings: Mapping[str, _Reading] = {**self._readings, self._node_id: own}
        clocks = {member: reading.ahead_us for member, reading in readings.items() if member in members}
        self._counted = len(clocks), len(members)
        bounds = Voters.of(members).bounds(clocks)
        if bounds is None:
            return
        if self.is_known:
            self._look_for_leap(bounds, len(members), now_s)
        self._earlier_us, self._later_us = bounds
        self.is_known = True

    def _look_for_leap(self, bounds: tuple[float, float], size: int, now_s: float) -> None:
        """To hear more clocks moves the bounds towards each other; only a leap moves both past one of them."""
        ahead_us, behind_us = bounds[0] - self._later_us, bounds[1] - self._earlier_us
        leap_us = ahead_us if ahead_us > 0 else min(behind_us, 0.0)
        if abs(leap_us) > self._ahead_us / 2:
            self._taken_us = max(self._taken_us if self._is_settling else self._later_us, self._later_us)
            self._leapt_s = leap_us / 1e6
            rounds = -(-size // ASKED_AT_ONCE)
            self._settled_s = now_s + SETTLING_PERIODS * rounds * self._gossip_s
