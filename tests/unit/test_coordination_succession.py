"""The leaders of an election, one after another: held against who leads by the state of every single revision."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from raftkv.coordination import contention, elections, succession
from raftkv.coordination.contention import Attempt
from raftkv.coordination.names import ELECTIONS, Queue, contender_of, encode_note
from raftkv.coordination.names import ContenderNote as Note
from raftkv.coordination.steps import Circumstances, Submit
from raftkv.coordination.succession import Accession, Beginning, Succession
from raftkv.core.requests import (
    ChangesAfter,
    Compact,
    Consistency,
    Delete,
    DeleteSpan,
    Grant,
    List,
    Operation,
    Put,
    Read,
    Revoke,
    Transaction,
    Write,
)
from raftkv.core.results import Answer, ChangePage, Granted, HistoryAhead, HistoryGone, KeyPage, KeyRecord, Written
from tests.contract.solo import SoloReplicator

QUEUE = Queue(ELECTIONS, b"job")
OTHER = Queue(ELECTIONS, b"job!")
HERE = Circumstances(lambda: 0.0, lambda: False)


class Polling:
    """A store in which candidates come and go."""

    def __init__(self) -> None:
        self.solo = SoloReplicator()

    @property
    def revision(self) -> int:
        return self.solo.machine.revision

    def perform(self, plan, meanwhile: Callable[[], object] = lambda: None):
        outcome = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as end:
                return end.value
            assert isinstance(step, Submit)
            outcome = self.solo._carry_out(step.request)
            meanwhile()

    def write(self, *operations: object) -> Written:
        written = self.solo._carry_out(Write(operations=(Transaction(success=operations),)))  # type: ignore[arg-type]
        assert isinstance(written, Written)
        return written

    def grant(self) -> int:
        written = self.solo._carry_out(Write(operations=(Grant(ttl_ms=60_000),)))
        assert isinstance(written, Written)
        (granted,) = written.results
        assert isinstance(granted, Granted)
        return granted.lease

    def begin(self, after: int | None = None):
        return self.perform(succession.begin(QUEUE, after, 1.0, HERE))

    def changes(self, after: int) -> dict[int, list]:
        query = ChangesAfter(revision=after, start=QUEUE.start, end=QUEUE.end, limit_bytes=1 << 30)
        answer = self.solo._carry_out(Read(query=query, consistency=Consistency.LOCAL))
        assert isinstance(answer, Answer)
        assert isinstance(answer.content, ChangePage)
        found: dict[int, list] = {}
        for change in answer.content.changes:
            found.setdefault(change.revision, []).append(change)
        return found

    def read(self, query) -> object:
        answer = self.solo._carry_out(Read(query=query))
        assert isinstance(answer, Answer)
        return answer.content

    def shown(self, accession: Accession) -> tuple[int, KeyRecord | None]:
        query = accession.value_read
        record = accession.record if query is None else self.read(query)
        assert record is None or isinstance(record, KeyRecord)
        return accession.revision, record

    def told(self, begun: Beginning) -> list[tuple[int, KeyRecord | None]]:
        """All that an observer is told that begins there."""
        accessions = [begun.first, *(begun.succession.follow(*one) for one in self.changes(begun.revision).items())]
        return [self.shown(one) for one in accessions if one is not None]

    def leader_at(self, revision: int) -> KeyRecord | None:
        page = self.read(List(start=QUEUE.start, end=QUEUE.end, limit=1000, revision=revision))
        assert isinstance(page, KeyPage)
        return min(page.records, key=lambda one: one.create_revision, default=None)

    def model(self, after: int) -> list[tuple[int, KeyRecord | None]]:
        """Who led at each revision since, where that is not as it was before."""
        leaders: list[tuple[int, KeyRecord | None]] = [(0, None)]
        leaders += [(revision, self.leader_at(revision)) for revision in range(max(1, after), self.revision + 1)]
        return [now for before, now in pairwise(leaders) if now[1] != before[1] and now[0] > after]


@pytest.fixture
def polling() -> Polling:
    return Polling()


def key(lease: int, queue: Queue = QUEUE) -> bytes:
    return queue.key(1, lease)


def put(lease: int, value: bytes = b"v", queue: Queue = QUEUE) -> Put:
    return Put(key=key(lease, queue), value=encode_note(Note(False, value)))


def leaders(told: Iterable[tuple[int, KeyRecord | None]]) -> list[tuple[int, int | None, bytes | None]]:
    found = []
    for revision, record in told:
        note = None if record is None else contender_of(ELECTIONS, record).note
        found.append((revision, record and record.create_revision, note and note.content))
    return found


def test_who_comes_proclaims_and_goes_is_told_in_order_and_nothing_of_who_waits(polling: Polling) -> None:
    begun = polling.begin()
    polling.write(put(9, b"a"))
    polling.write(put(3, b"b"))
    polling.write(put(3, b"b2"))
    polling.write(put(9, b"a2"))
    polling.write(put(5, b"c"))
    polling.write(put(5, b"x", OTHER), Put(key=b"k", value=b""))
    polling.write(Delete(key=key(9)))
    polling.write(Delete(key=key(5)))
    polling.write(Delete(key=key(3)))

    assert leaders(polling.told(begun)) == [
        (0, None, None),
        (1, 1, b"a"),
        (4, 1, b"a2"),
        (7, 2, b"b2"),
        (9, None, None),
    ]


def test_a_revision_is_whole_who_leads_within_it_only_never_does(polling: Polling) -> None:
    polling.write(put(1))
    polling.write(put(2))
    polling.write(put(3))
    begun = polling.begin()
    polling.write(DeleteSpan(start=key(1), end=key(3)))
    polling.write(put(4), Delete(key=key(3)))

    assert leaders(polling.told(begun)) == [(3, 1, b"v"), (4, 3, b"v"), (5, 5, b"v")]


def test_plans_that_campaign_proclaim_and_resign_are_observed(polling: Polling) -> None:
    begun = polling.begin()
    first, second = polling.grant(), polling.grant()
    attempts = [
        Attempt(queue=QUEUE, content=b"%d" % lease, lease=lease, timeout_s=1.0, wait_s=0.0) for lease in (second, first)
    ]
    won = polling.perform(contention.acquire(attempts[0], HERE))
    polling.write(Put(key=key(first), value=encode_note(Note(False, b"waits")), lease=first))
    assert isinstance(polling.perform(elections.proclaim(QUEUE, won.token, b"new", 1.0, HERE)), int)
    polling.solo._carry_out(Write(operations=(Revoke(lease=second),)))

    assert [value for _, _, value in leaders(polling.told(begun))] == [None, b"%d" % second, b"new", b"waits"]


def test_one_goes_on_after_a_revision_unless_it_is_forgotten_or_not_there_yet(polling: Polling) -> None:
    for lease in (1, 2, 3):
        polling.write(put(lease))
    for lease in (1, 2):
        polling.write(Delete(key=key(lease)))
    for after in range(6):
        assert polling.told(polling.begin(after)) == polling.model(after)
    assert polling.begin(6) == HistoryAhead(revision=5)
    polling.solo._carry_out(Compact(revision=4))
    for after in (0, 3):
        assert polling.begin(after) == HistoryGone(compacted_revision=4)
    assert leaders(polling.told(polling.begin(4))) == [(5, 3, b"v")]
    assert leaders(polling.told(polling.begin())) == [(5, 3, b"v")]


def test_more_candidates_than_a_page_has_are_those_of_one_moment(polling: Polling, monkeypatch) -> None:
    monkeypatch.setattr(succession, "PAGE_KEYS", 2)
    for lease in (5, 1, 4, 2, 3):
        polling.write(put(lease))
    begun = polling.perform(
        succession.begin(QUEUE, None, 1.0, HERE), meanwhile=lambda: polling.write(Delete(key=key(5)))
    )
    monkeypatch.setattr(succession, "PAGES_MAX", 2)

    assert begun.revision == 5
    assert leaders(polling.told(begun)) == [(5, 1, b"v"), (6, 2, b"v")]
    polling.write(put(6))
    assert polling.begin().code == "overloaded"


def comes_and_goes(chance: random.Random) -> list[Operation]:
    """A candidate comes, or proclaims, as several go."""
    leases = chance.sample(range(1, 6), chance.choice((1, 1, 3)))
    first: Operation = Delete(key=key(leases[0]))
    if chance.random() < 0.6:
        first = put(leases[0], b"%d" % chance.randrange(3))
    return [first, *(Delete(key=key(lease)) for lease in leases[1:])]


def test_whoever_begins_wherever_is_told_what_every_revision_shows(polling: Polling) -> None:
    chance = random.Random(7)
    early = polling.begin()
    for _ in range(300):
        polling.write(*comes_and_goes(chance), Put(key=b"k", value=b""))

    told = polling.told(early)[1:]

    assert told == polling.model(0)
    assert len(told) > 100
    for after in chance.sample(range(polling.revision), 20):
        assert polling.told(polling.begin(after)) == polling.model(after)
    tokens = [record.create_revision for _, record in told if record is not None]
    assert tokens == sorted(tokens)
    assert Succession({}).leader_key is None
