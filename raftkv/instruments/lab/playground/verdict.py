"""The verdict while it happens: what clients were told is judged as they are told it, by the laboratory's own checker.

Each key is judged in windows. A window ends at a *quiet point*, where no client has anything under way on the key and
one more read, the *look*, is answered alone: whatever was acknowledged before is in it, or lost. What the look found is
where the next window begins. So the whole is judged as if it had never been cut, and each check is short:

- a window is linearizable with its look, and begins with the write that the look before it found;
- a write of unknown outcome may take effect at any time later, so it belongs to every window until somebody has seen
  it; where nobody did, no answer depends on it (``raftkv.instruments.lab.search``, rule 4), and it may be left out.

Reads that promise to be fresh are judged so; local reads, which promise nothing, are only measured: how many versions
they are behind, and for how long what they showed had been overwritten. A write that was acknowledged by fewer than a
majority (``w=leader``) binds nobody, so that for readers it may or may not have happened; its loss is counted apart.

Pure: no clock, no thread. Every value of a key is written once. Bounded by the constants below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from raftkv.instruments.lab.checker import GaveUp, NotLinearizable, check
from raftkv.instruments.lab.dialect import WEAK
from raftkv.instruments.lab.history import GetAction, History, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.playground.telling import Teller
from raftkv.instruments.lab.report.reading import KeyHistory, shown

BEHIND_MAX: Final = 1000
"""So many acknowledged writes of a key are held; who is further behind than that is said to be behind by that many."""

UNSEEN_MAX: Final = 20_000
"""Writes of unknown outcome that are held for a key; of more the oldest are taken for never done."""

REFUSED_MAX: Final = 500
STORIES_MAX: Final = 20
STEPS_MAX: Final = 400_000
"""Of one check of one window: a second or so."""

BY_ENOUGH: Final = "was acknowledged by as many nodes as it takes"
BY_LEADER: Final = "was acknowledged by the leader alone"

Promise = Literal["fresh", "none"]
"""What a read is told to be: that it shows every write acknowledged before it began, or nothing of the kind."""


class AnswerAge(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer left out: ``behind`` acknowledged writes; ``first`` of them was done ``stale_ms`` before."""

    behind: int
    stale_ms: float
    first: ObservedOperation


class PlayStory(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell: who did what and when, and what follows from it; ``at_s`` is when it showed."""

    kind: Literal["stale", "harm"]
    title: str
    lines: tuple[str, ...]
    at_s: float


class PlayScore(msgspec.Struct, kw_only=True):
    """What there is to say so far, in numbers.

    ``fresh_reads`` were answered and promised to be fresh; of them ``fresh_stale`` were not. ``contradictions`` are
    windows that no order of events explains, ``undecided`` those that were too much to search. ``local_reads`` promised
    nothing, and ``local_stale`` of them were behind, at most by ``worst_behind`` versions and ``worst_ms``. ``looks``
    found the state of a key; ``lost`` writes had been acknowledged by as many nodes as it takes and were not in it,
    ``weak_lost`` by fewer. ``unknown`` writes were neither acknowledged nor refused.
    """

    writes: int = 0
    refused: int = 0
    unknown: int = 0
    fresh_reads: int = 0
    fresh_refused: int = 0
    fresh_stale: int = 0
    local_reads: int = 0
    local_stale: int = 0
    sibling_reads: int = 0
    worst_behind: int = 0
    worst_ms: float = 0.0
    contradictions: int = 0
    undecided: int = 0
    looks: int = 0
    lost: int = 0
    weak_lost: int = 0


class _KeyWindow:
    """One key: what has been acknowledged lately, and the window that is open."""

    def __init__(self) -> None:
        self.base: ObservedOperation | None = None
        self.operations: list[ObservedOperation] = []
        self.unseen: dict[bytes, ObservedOperation] = {}
        """Writes under way and of unknown outcome, as unknown, by what they write."""

        self.weak: list[ObservedOperation] = []
        self.refused: deque[ObservedOperation] = deque(maxlen=REFUSED_MAX)
        self.gone: set[bytes] = set()
        self.newest: ObservedOperation | None = None
        """What was acknowledged last, or found by the last look."""

        self.is_changed = self.is_condemned = False
        self._acknowledged: deque[ObservedOperation] = deque(maxlen=BEHIND_MAX)
        self._count = 0
        self._place: dict[bytes, tuple[int, ObservedOperation]] = {}

    def acknowledge(self, write: ObservedOperation) -> None:
        if len(self._acknowledged) == BEHIND_MAX:
            self._place.pop(written(self._acknowledged[0]), None)
        self._acknowledged.append(write)
        self._place[written(write)] = (self._count, write)
        self._count += 1

    def writer(self, value: bytes) -> ObservedOperation | None:
        """Who wrote ``value``, if it was acknowledged and is not forgotten."""
        return self._place[value][1] if value in self._place else None

    def missed(self, read: ObservedOperation) -> list[ObservedOperation]:
        """The acknowledged writes that ``read`` was certainly too old for, in the order of acknowledgement."""
        values = [value for value in shown(read) if value is not None]
        if any(value in self.unseen for value in values):
            return []  # it may still be under way, and then nothing is newer
        known = [self._place[value] for value in values if value in self._place]
        later_count = self._count - 1 - max((place for place, _ in known), default=-1)
        held = len(self._acknowledged)
        later = [self._acknowledged[index] for index in range(max(0, held - later_count), held)]
        if not later:
            return []
        missed = KeyHistory(History([*(write for _, write in known), *later, read])).missed(read)
        return [write for write in later if write in missed]

    def judged(self) -> list[ObservedOperation]:
        """What a check of this window looks at."""
        seen = {each.result for each in self.operations if isinstance(each.action, GetAction)}
        doubtful = [write for value, write in self.unseen.items() if value in seen]
        refused = [write for write in self.refused if written(write) in seen]
        return [*([] if self.base is None else [self.base]), *self.operations, *doubtful, *refused]


class LiveVerdict:
    """All keys. ``is_linearizable``: what is promised to be fresh is promised to be linearizable, too."""

    def __init__(self, keys: Iterable[bytes], *, teller: Teller, is_linearizable: bool) -> None:
        self.score = PlayScore()
        self.stories: deque[PlayStory] = deque(maxlen=STORIES_MAX)
        self.worst: PlayStory | None = None
        self._windows = {key: _KeyWindow() for key in keys}
        self._teller = teller
        self._is_linearizable = is_linearizable

    def newest(self, key: bytes) -> ObservedOperation | None:
        """The write of ``key`` that was acknowledged last."""
        return self._windows[key].newest

    def size(self, key: bytes) -> int:
        """How many operations the window of ``key`` has."""
        return len(self._windows[key].operations)

    def begun(self, write: ObservedOperation) -> None:
        """``write`` is on its way: of unknown outcome, until ``ended`` says more."""
        window = self._windows[write.key]
        window.unseen[written(write)] = write
        if len(window.unseen) > UNSEEN_MAX:
            del window.unseen[next(iter(window.unseen))]

    def ended(self, operation: ObservedOperation, promise: Promise = "fresh") -> AnswerAge | None:
        """What came of ``operation``; says how old the answer of a read was, ``None`` where it was not."""
        if isinstance(operation.action, PutAction):
            self._written(operation)
            return None
        if operation.outcome is Outcome.OK:
            return self._read(operation, promise)
        self.score.fresh_refused += promise == "fresh"
        return None

    def _written(self, write: ObservedOperation) -> None:
        window, value = self._windows[write.key], written(write)
        if write.outcome is Outcome.UNKNOWN:
            self.score.unknown += 1
            window.unseen[value] = write
        elif write.outcome is Outcome.FAILED:
            self.score.refused += 1
            window.unseen.pop(value, None)
            window.refused.append(write)
        elif WEAK in write.note:
            self.score.writes += 1
            window.weak.append(write)
        else:
            self.score.writes += 1
            window.unseen.pop(value, None)
            window.acknowledge(write)
            window.newest = write
            self._note(window, write)

    def _note(self, window: _KeyWindow, operation: ObservedOperation) -> None:
        if self._is_linearizable:
            window.operations.append(operation)
            window.is_changed = True

    def _read(self, read: ObservedOperation, promise: Promise) -> AnswerAge | None:
        window, score = self._windows[read.key], self.score
        score.sibling_reads += bool(read.siblings)
        missed = window.missed(read)
        age = _age(read, missed) if missed else None
        if promise == "fresh":
            score.fresh_reads += 1
            self._note(window, read)
            if age is not None:
                score.fresh_stale += 1
                self._tell(self._stale(window, read, age, "harm"))
            return age
        score.local_reads += 1
        if age is not None:
            score.local_stale += 1
            score.worst_behind = max(score.worst_behind, age.behind)
            if self.worst is None or age.stale_ms >= score.worst_ms:
                score.worst_ms = age.stale_ms
                self.worst = self._stale(window, read, age, "stale")
        return age

    def counted(self, write: ObservedOperation) -> None:
        """What came of ``write`` of a key of its own, which ``audited`` judges."""
        self.score.writes += write.outcome is Outcome.OK
        self.score.refused += write.outcome is Outcome.FAILED
        self.score.unknown += write.outcome is Outcome.UNKNOWN

    def audited(self, write: ObservedOperation, look: ObservedOperation) -> None:
        """``write`` of a key of its own was acknowledged, and ``look`` is what was there later."""
        if not KeyHistory(History([write, look])).missed(look):
            return
        is_weak = WEAK in write.note
        self.score.weak_lost += is_weak
        self.score.lost += not is_weak
        self._tell(self._lost([write], look, BY_LEADER if is_weak else BY_ENOUGH))

    def check(self) -> None:
        """Judge the windows that have changed, as they are now."""
        for window in self._windows.values():
            if window.is_changed and not window.is_condemned:
                window.is_changed = False
                self._check(window)

    def close(self, key: bytes, look: ObservedOperation) -> None:
        """At a quiet point of ``key``, ``look`` was answered: judge, and begin anew from what it found."""
        assert look.outcome is Outcome.OK
        window, score = self._windows[key], self.score
        score.looks += 1
        lost = [write for write in window.missed(look) if written(write) not in window.gone]
        if lost:
            score.lost += len(lost)
            window.gone |= {written(write) for write in lost}
            self._tell(self._lost(lost, look, BY_ENOUGH))
        self._close_weak(window, look)
        if isinstance(look.result, bytes):
            window.newest = window.writer(look.result) or window.unseen.get(look.result)
        if not self._is_linearizable:
            return
        window.operations.append(look)
        if not window.is_condemned:
            self._check(window)
        for operation in window.operations:
            if isinstance(operation.result, bytes):
                self._settle(window, operation.result, look)
        window.base = None if not isinstance(look.result, bytes) else window.writer(look.result)
        window.operations = []
        window.is_changed = window.is_condemned = False

    def _settle(self, window: _KeyWindow, value: bytes, look: ObservedOperation) -> None:
        """``value`` was seen: so its write was done, which can happen once."""
        write = window.unseen.pop(value, None)
        if write is None and window.writer(value) is None and value == look.result:
            write = look  # the check has said that nobody wrote it; it is there all the same
        if write is None:
            return
        done = msgspec.structs.replace(
            write, action=PutAction(value), outcome=Outcome.OK, returned_ns=look.returned_ns, result=None
        )
        window.acknowledge(done)

    def _close_weak(self, window: _KeyWindow, look: ObservedOperation) -> None:
        weak, window.weak = window.weak, []
        found = [write for value in shown(look) if value is not None and (write := window.writer(value)) is not None]
        missed = KeyHistory(History([*found, *weak, look])).missed(look)
        lost = [write for write in weak if write in missed]
        if lost:
            self.score.weak_lost += len(lost)
            self._tell(self._lost(lost, look, BY_LEADER))

    def _check(self, window: _KeyWindow) -> None:
        verdict = check(History(window.judged()), steps_per_key_max=STEPS_MAX)
        if isinstance(verdict, GaveUp):
            self.score.undecided += 1
            window.is_condemned = True
        elif isinstance(verdict, NotLinearizable):
            self.score.contradictions += 1
            window.is_condemned = True
            witness = verdict.witness
            accused = witness.operations[witness.accused]
            title = f"Not linearizable: {witness.kind}"
            lines = tuple(self._teller.line(each) for each in witness.operations)
            self._tell(PlayStory(kind="harm", title=title, lines=lines, at_s=self._teller.end_s(accused)))

    # -- stories

    def _tell(self, story: PlayStory) -> None:
        self.stories.append(story)

    def _stale(
        self, window: _KeyWindow, read: ObservedOperation, age: AnswerAge, kind: Literal["stale", "harm"]
    ) -> PlayStory:
        value = read.result
        writer = window.writer(value) if isinstance(value, bytes) else None
        lines = [self._teller.line(each) for each in (writer, age.first, read) if each is not None]
        lines.append(self._teller.age(age.behind, age.stale_ms))
        title = "An answer from the past, at a node that promised none"
        if kind == "harm":
            title = "A read that promised to be fresh was stale"
        return PlayStory(kind=kind, title=title, lines=tuple(lines), at_s=self._teller.end_s(read))

    def _lost(self, lost: list[ObservedOperation], look: ObservedOperation, how: str) -> PlayStory:
        lines = [self._teller.line(lost[-1]), self._teller.line(look), f"The write {how}, and it is gone."]
        if len(lost) > 1:
            lines.append(f"So are {len(lost) - 1} more.")
        title = "An acknowledged write is lost"
        return PlayStory(kind="harm", title=title, lines=tuple(lines), at_s=self._teller.end_s(look))


def _age(read: ObservedOperation, missed: list[ObservedOperation]) -> AnswerAge:
    first = min(missed, key=_returned_ns)
    return AnswerAge(behind=len(missed), stale_ms=(read.invoked_ns - _returned_ns(first)) / 1e6, first=first)


def _returned_ns(write: ObservedOperation) -> int:
    assert write.returned_ns is not None
    return write.returned_ns


def written(write: ObservedOperation) -> bytes:
    """What was written."""
    assert isinstance(write.action, PutAction)
    return write.action.value
