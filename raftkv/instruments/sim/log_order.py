"""Could the log's order explain everything that clients were told? Strict serializability over all keys. Pure.

The order is given: that of the log, in which the model (``raftkv.instruments.sim.model``) says what each command
comes to and how the store stands after each entry. So nothing is searched for, and the time is linear:

- Each answered write is one command of the log with the same answer, and no two are the same one. It was committed
  after it was asked for and before it was answered; so what began after another was answered comes later.
- Each answer to a read is what a state of the revision that it names holds. That state has all that was committed
  before the read was asked for (not for local reads), and nothing that was committed after it was answered.
- Who is told something may be told it by the rights in that very state. Who was refused for want of a right had none
  where the command stands in the log, or in a state that the read could have been answered from.
- What was refused is not in the log, and nothing is there more often than it was asked for. An unknown write may be,
  wholly, or not; later answers then tell.

This is Herlihy's and Wing's definition with the point of each operation named (1990), for several objects at once:
the moment at which a write is committed, and for a read one at which its state was the newest.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import (
    ChangesAfter,
    Consistency,
    CountKeys,
    FindLease,
    FindLeases,
    Get,
    LaterQuery,
    List,
    Query,
    Read,
    Write,
    is_of_past,
    is_read,
)
from raftkv.core.results import (
    Answer,
    Change,
    ChangePage,
    HistoryAhead,
    HistoryGone,
    KeyCount,
    KeyPage,
    KeyRecord,
    LeasePage,
    Missing,
    NoLease,
    Outcome,
    Written,
)
from raftkv.formats import entries
from raftkv.formats.commands import encode_command
from raftkv.formats.entries import REGULAR
from raftkv.instruments.sim.model import FORBIDDEN, ModelledStore, StoreState, in_span, page
from raftkv.instruments.sim.modelled_rights import READ, ModelledRights, Need
from raftkv.instruments.sim.notes import FAILED, OK, Seen
from raftkv.machine.conversion import command_of

_NOTHING: Final = StoreState()

REPEATS_MAX: Final = 1_000
"""What may be asked for again is in the log less often than this."""


class Committed(msgspec.Struct):
    """A command of the log, when it was committed first, and what it came to; an answer claims it."""

    committed_s: float
    outcome: Outcome
    is_claimed: bool = False


class LogOrder:
    """The log of a run, from its beginning. ``states`` has the store after each index."""

    def __init__(self, committed: Mapping[int, tuple[bytes, int]], commits: Sequence[tuple[float, int]]) -> None:
        """``commits`` are the times at which the commit index was seen to move, and where to."""
        store = ModelledStore()
        self._times = [time_s for time_s, _ in commits]
        self._commits = [index for _, index in commits]
        self.states = [_NOTHING, _NOTHING]
        self.terms = [0, 0]
        """In which term each entry was appended, as ``states`` are what each came to."""

        self._commands: defaultdict[bytes, list[Committed]] = defaultdict(list)
        for index in range(2, max(committed, default=1) + 1):
            entry, term = committed[index]
            self.terms.append(term)
            decoded = entries.decode(entry[1:]) if entry[:1] == REGULAR else None
            if decoded is not None:
                stamp_ms, batch = decoded
                committed_s = self.committed_s(index)
                for command, outcome in zip(batch.commands, store.apply(stamp_ms, batch.commands), strict=True):
                    self._commands[encode_command(command)].append(Committed(committed_s, outcome))
            self.states.append(store.state if decoded is not None else self.states[-1])
        self._revisions = [state.revision for state in self.states]
        self._clocks_ms = [state.clock_ms for state in self.states]
        self.changes = store.changes
        self._change_revisions = [change.revision for change in self.changes]

    def committed_s(self, index: int) -> float:
        """When ``index`` was committed."""
        return self._times[bisect.bisect_left(self._commits, index)]

    def untold_s(self, at_s: float) -> float:
        """For how long nothing had been committed at ``at_s``."""
        return at_s - self._times[bisect.bisect_left(self._times, at_s) - 1]

    def check(self, seen: Iterable[Seen]) -> None:
        """Explain all that was ``seen``; raises ``AssertionError``."""
        asked: Counter[bytes] = Counter()
        for one in sorted(seen, key=lambda one: (one.returned_s or 0.0, one.invoked_s)):
            request = one.request
            is_forbidden = one.outcome == FAILED and one.note.endswith(f": {Code.FORBIDDEN}")
            if isinstance(request, Read) or (isinstance(request, Write) and is_read(request)):
                if one.outcome == OK:
                    self._check_read(one)
                elif is_forbidden:
                    self._check_forbidden_read(one)
                continue
            assert request is not None
            command = command_of(request)
            if isinstance(command, Refused):
                assert one.outcome == FAILED, f"no command, but {one.story()}"
                continue
            encoded = encode_command(command)
            asked[encoded] += REPEATS_MAX if one.is_repeatable else one.outcome != FAILED
            if one.outcome == OK:
                self._claim(one, self._commands[encoded])
            elif is_forbidden:
                judged = [command.outcome for command in self._commands[encoded] if _is_in_time(one, command)]
                assert FORBIDDEN in judged, f"nothing forbade it: {one.story()}"
        for encoded, count in asked.items():
            done = [one for one in self._commands[encoded] if not isinstance(one.outcome, Refused)]
            assert len(done) <= count, f"{len(done)} times in the log, asked for {count} times: {encoded!r}"

    # --- writes

    def _claim(self, one: Seen, commands: list[Committed]) -> None:
        """Find the command of the log that ``one`` was told of."""
        told = _comparable(one.answer)
        for command in commands:
            is_told = told == _comparable(command.outcome) and not command.is_claimed
            if is_told and _is_in_time(one, command):
                command.is_claimed = not one.is_repeatable
                return
        outcomes = [(command.committed_s, command.outcome) for command in commands]
        raise AssertionError(f"unexplained: {one.story()}\ntold {one.answer}\nthe log has {outcomes}")

    # --- reads

    def _check_read(self, one: Seen) -> None:
        answer, request = one.answer, one.request
        assert isinstance(answer, Answer | Written)
        is_local = isinstance(request, Read) and request.consistency is Consistency.LOCAL
        first, last = self.window(one.invoked_s, one.returned_s or 0.0)
        first = 0 if is_local else first
        begin = bisect.bisect_left(self._revisions, answer.revision, first, last + 1)
        end = bisect.bisect_right(self._revisions, answer.revision, first, last + 1)
        found = [self._found(state, one) for state in self.states[begin:end] if not _forbids(state, one)]
        told: object
        if isinstance(request, Read) and isinstance(answer, Answer):
            told = _comparable_content(answer.content, request.query)
            found = [_comparable_content(content, request.query) for content in found]
        else:
            assert isinstance(answer, Written)
            told = answer.results
        assert told in found, (
            f"unexplained: {one.story()}\ntold {answer}\nof entries {first} to {last} those from {begin} until {end} "
            f"are at that revision, and the last of them holds\n{found[-1:]}"
        )

    def _check_forbidden_read(self, one: Seen) -> None:
        """Which state it was judged by, the refusal does not say."""
        first, last = self.window(one.invoked_s, one.returned_s or 0.0)
        first = 0 if isinstance(one.request, Read) and one.request.consistency is Consistency.LOCAL else first
        states = self.states[first : last + 1]
        assert any(_forbids(state, one) for state in states), f"nothing forbade it: {one.story()}"

    def window(self, asked_s: float, told_s: float) -> tuple[int, int]:
        """What was committed before somebody asked, and the last that was when he was told: indexes."""
        before, by = bisect.bisect_left(self._times, asked_s), bisect.bisect_right(self._times, told_s)
        return self._commits[before - 1] if before else 0, self._commits[by - 1] if by else 0

    def _found(self, state: StoreState, one: Seen) -> object:
        """What there is in ``state`` of all that was asked for."""
        if isinstance(one.request, Write):
            gets = [operation for operation in one.request.operations if isinstance(operation, Get)]
            return tuple([state.keys.get(get.key) or Missing(key=get.key) for get in gets])
        assert isinstance(one.request, Read)
        return self.found(state, one.request.query, one.answer.content if isinstance(one.answer, Answer) else None)

    def found(self, state: StoreState, query: Query | LaterQuery, told: object) -> object:  # noqa: PLR0911  one line for each kind
        """What there is in ``state`` of what ``query`` asks for; of changes as many as were ``told``."""
        if isinstance(query, FindLease):
            lease = state.leases.get(query.lease)
            attached = tuple(sorted(key for key, record in state.keys.items() if record.lease == query.lease))
            return NoLease(lease=query.lease) if lease is None else msgspec.structs.replace(lease, keys=attached)
        if isinstance(query, FindLeases):
            numbers = [number for number in sorted(state.leases) if number >= query.start]
            return LeasePage(leases=tuple([state.leases[number] for number in numbers]), next_start=None)
        if isinstance(query, Get | List) and query.at_ms:
            moment = self._moment(state, query.at_ms)
            if isinstance(moment, HistoryGone):
                return moment
            past = self._keys_at(moment)
            return page(past, query) if isinstance(query, List) else past.get(query.key) or Missing(key=query.key)
        if query.revision > state.revision:
            return HistoryAhead(revision=state.revision)
        if isinstance(query, ChangesAfter) and not state.keeps_history:
            return HistoryGone(compacted_revision=state.revision + 1)
        if query.revision < state.compacted and (query.revision or isinstance(query, ChangesAfter)):
            return HistoryGone(compacted_revision=state.compacted)
        if isinstance(query, ChangesAfter):
            return self._page_after(state, query, told)
        keys = self._keys_at(query.revision) if query.revision else state.keys
        if isinstance(query, CountKeys):
            found = [*in_span(keys, query.start, query.end), None]
            return KeyCount(count=min(query.limit, len(found) - 1), next_start=(found[: query.limit + 1])[-1])
        return page(keys, query) if isinstance(query, List) else keys.get(query.key) or Missing(key=query.key)

    def _moment(self, state: StoreState, at_ms: int) -> int | HistoryGone:
        """The revision at which the store stood at ``at_ms``, as far as ``state`` knows of its past."""
        if at_ms >= state.clock_ms:
            return state.revision
        revision = self.states[bisect.bisect_right(self._clocks_ms, at_ms) - 1].revision
        is_gone = bool(state.compacted) and revision <= state.compacted
        return HistoryGone(compacted_revision=state.compacted) if is_gone else revision

    def _keys_at(self, revision: int) -> dict[bytes, KeyRecord]:
        """The keys as they stood at ``revision``, which history has; an entry may have several."""
        state = self.states[bisect.bisect_right(self._revisions, revision) - 1]
        keys = dict(state.keys)
        for change in self.changes_between(state.revision, revision):
            if change.record is None:
                del keys[change.key]
            else:
                keys[change.key] = change.record
        return keys

    def changes_between(self, after: int, through: int) -> list[Change]:
        """The changes at revisions > ``after`` and <= ``through``."""
        first, end = [bisect.bisect_right(self._change_revisions, revision) for revision in (after, through)]
        return self.changes[first:end]

    def _page_after(self, state: StoreState, query: ChangesAfter, told: object) -> ChangePage | None:
        """The page that may be told: it ends where it says, which must not be beyond the state."""
        if not isinstance(told, ChangePage) or not query.revision <= told.through <= state.revision:
            return None
        found = self.changes_between(query.revision, told.through)
        keys = set(in_span({change.key for change in found}, query.start, query.end))
        changes = [
            change if query.previous else msgspec.structs.replace(change, previous=None)
            for change in found
            if change.key in keys
        ]
        is_level = told.through == state.revision
        return ChangePage(changes=tuple(changes), through=told.through, is_level=is_level)


def _forbids(state: StoreState, one: Seen) -> bool:
    """May who asked not be told what there is in ``state``?"""
    request = one.request
    assert isinstance(request, Read | Write)
    if request.caller is None:
        return False
    queries = [request.query] if isinstance(request, Read) else request.operations
    needs = [need for query in queries for need in _needs(state, query)]
    return ModelledRights(state.keys).forbids_reading(request.caller, needs)


def _needs(state: StoreState, query: Any) -> list[Need]:
    match query:
        case Get():
            return [Need(READ, query.key, query.key + b"\0")]
        case List() | CountKeys() | ChangesAfter():
            return [Need(READ, query.start, query.end)]
        case FindLease():
            keys = [key for key, record in state.keys.items() if record.lease == query.lease]
            return [Need(READ, key, key + b"\0") for key in keys]
    return []


def _is_in_time(one: Seen, command: Committed) -> bool:
    """Was it committed between the question and the answer?"""
    return one.invoked_s <= command.committed_s <= (one.returned_s or 0.0)


def _comparable(outcome: Outcome | None) -> object:
    """What of an answer to a write must be as in the model: not how many acknowledged it, nor sentences."""
    if not isinstance(outcome, Written):
        return outcome
    results = [one.code if isinstance(one, Refused) else one for one in outcome.results]
    return results, outcome.revision, outcome.refused


def _comparable_content(content: object, query: Query | LaterQuery) -> object:
    """What of an answer to a read must be as in the model: the past does not keep when keys were to expire."""
    if isinstance(content, ChangePage):
        return msgspec.structs.replace(content, changes=tuple(comparable_changes(content.changes)))
    if isinstance(query, Get | List) and is_of_past(query):
        if isinstance(content, KeyPage):
            return msgspec.structs.replace(content, records=tuple(map(_ageless, content.records)))
        if isinstance(content, KeyRecord):
            return _ageless(content)
    return content


def comparable_changes(changes: Iterable[Change]) -> list[Change]:
    """What of ``changes`` must be as in the model: what time removes at one revision has no order among itself."""
    found = [msgspec.structs.replace(one, previous=_ageless(one.previous)) for one in changes]
    return sorted(found, key=lambda one: (one.revision, one.key if one.expired else b""))


def _ageless(record: Any) -> Any:
    return None if record is None else msgspec.structs.replace(record, expires_at_ms=0, lease=0)
