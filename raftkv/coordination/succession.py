"""Who leads an election, one after another: from its candidates at a revision and the changes after that. Pure.

Who leads is the candidate that came first of those who are there, as ``elections`` has it, at every single revision:
so whoever follows the same changes names the same leaders in the same order, with tokens that never fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from raftkv.coordination.audience import Interest
from raftkv.coordination.contention import PAGE_KEYS, PAGES_MAX
from raftkv.coordination.names import Queue, contender_of, in_order
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code, Refused
from raftkv.core.keys import prefix_end
from raftkv.core.requests import ChangesAfter, Get, List, Query, Read
from raftkv.core.results import Answer, Change, ChangePage, HistoryAhead, HistoryGone, KeyPage, KeyRecord

_TOO_MANY: Final = Refused(code=Code.OVERLOADED, detail="too many contend for it to follow", retry_after_s=1.0)


class Accession(NamedTuple):
    """From ``revision`` on the candidate of ``key`` leads, or leads as ``record``, which was put then.

    ``key`` ``None``: nobody leads. ``record`` ``None``: the key stands as it has before.
    """

    revision: int
    key: bytes | None
    record: KeyRecord | None = None

    @property
    def value_read(self) -> Get | None:
        """Finds the record of who leads, where it is to be found."""
        return None if self.key is None or self.record is not None else Get(key=self.key, revision=self.revision)


class Succession:
    """The candidates of one election, as far as they have been followed; in memory a key and a number each."""

    def __init__(self, tokens: dict[bytes, int]) -> None:
        """``tokens`` are those of the candidates by key, in their order."""
        self._tokens = tokens

    @property
    def leader_key(self) -> bytes | None:
        """The key of who leads."""
        return next(iter(self._tokens), None)

    def follow(self, revision: int, changes: Sequence[Change]) -> Accession | None:
        """What came of all changes of the election at ``revision``; ``None``: the same leads, by the same value.

        A revision is whole: who came to lead within it and went again never did.
        """
        before = self.leader_key
        records: dict[bytes, KeyRecord] = {}
        for change in changes:
            key, record = change.key, change.record
            if record is None or self._tokens.get(key) != record.create_revision:
                self._tokens.pop(key, None)
                records.pop(key, None)
            if record is not None:
                self._tokens[key] = record.create_revision
                records[key] = record
        leader = self.leader_key
        if leader is None:
            return None if before is None else Accession(revision, None)
        record = records.get(leader)
        return None if record is None and leader == before else Accession(revision, leader, record)

    def accessions(self, revisions: Iterable[tuple[int, Sequence[Change]]]) -> Iterator[Accession]:
        """What came of each of these ``revisions``, which are whole and in order."""
        for revision, changes in revisions:
            accession = self.follow(revision, changes)
            if accession is not None:
                yield accession


def interest_in(queue: Queue) -> Interest:
    """The changes that are to be followed."""
    return Interest(start=queue.start, end=prefix_end(queue.start) or queue.end)


class Beginning(NamedTuple):
    """Where one begins to follow: the succession at ``revision``, and who leads then, unless that was told already."""

    succession: Succession
    revision: int
    first: Accession | None


def begin(
    queue: Queue, after: int | None, timeout_s: float, circumstances: Circumstances
) -> Plan[Beginning | HistoryGone | HistoryAhead | Refused]:
    """Follow from now on, with who leads now, or after revision ``after``, up to which all was told."""
    if after == 0:  # nobody was there; but is all that came since kept?
        kept = ChangesAfter(revision=0, start=queue.start, end=queue.start, limit_bytes=0)
        found = yield from _read(kept, timeout_s, circumstances)
        return Beginning(Succession({}), 0, None) if isinstance(found, Answer) else found
    revision, start, contenders = after or 0, queue.start, []
    for _ in range(PAGES_MAX):
        page = List(start=start, end=queue.end, limit=PAGE_KEYS, keys_only=True, revision=revision)
        found = yield from _read(page, timeout_s, circumstances)
        if not isinstance(found, Answer):
            return found
        assert isinstance(found.content, KeyPage)
        revision = revision or found.revision  # of one and the same moment are all pages
        contenders += [contender_of(queue.kind, record) for record in found.content.records]
        if found.content.next_start is None:
            break
        start = found.content.next_start
    else:
        return _TOO_MANY
    succession = Succession({one.key: one.token for one in in_order(contenders)})
    if after is not None:
        return Beginning(succession, revision, None)
    first = Accession(revision, succession.leader_key)
    if first.value_read is not None:
        found = yield from _read(first.value_read, timeout_s, circumstances)
        if not isinstance(found, Answer):
            return found
        assert isinstance(found.content, KeyRecord)
        first = first._replace(record=found.content)
    return Beginning(succession, revision, first)


def _read(
    query: Query | ChangesAfter, timeout_s: float, circumstances: Circumstances
) -> Plan[Answer | HistoryGone | HistoryAhead | Refused]:
    outcome = yield from submitted(Read(query=query), circumstances.now_s() + timeout_s)
    if not isinstance(outcome, Answer):
        return read_failure(outcome)
    content = outcome.content
    assert isinstance(content, HistoryGone | HistoryAhead | ChangePage | KeyPage | KeyRecord)
    return content if isinstance(content, HistoryGone | HistoryAhead) else outcome
