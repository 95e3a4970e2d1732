"""What every replicator with one order of writes must do with transactions, counters, leases and the past.

That a leaderless one refuses them all is seen by ``test_leaderless_refusals``.
"""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import (
    AnyOperation,
    ChangesAfter,
    Compact,
    ComparedField,
    Consistency,
    Delete,
    DeleteSpan,
    FindLease,
    FindLeases,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    LaterQuery,
    List,
    Put,
    Query,
    Read,
    Revoke,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import (
    Answer,
    AnyResult,
    ChangePage,
    Compacted,
    Granted,
    HistoryAhead,
    HistoryGone,
    Incremented,
    KeptAlive,
    KeyPage,
    KeyRecord,
    LeasePage,
    LeaseRecord,
    Missing,
    NoLease,
    PutDone,
    Revoked,
    SpanDeleted,
    Touched,
    Transacted,
    Written,
)
from tests.contract.conftest import Harness

HOUR_MS = 3_600_000


@pytest.fixture
def ordered(harness: Harness) -> Harness:
    if not harness.has_one_order:
        pytest.skip("a leaderless cluster refuses all of it")
    return harness


def write(harness: Harness, *operations: AnyOperation, key: str | None = None) -> Written:
    written = harness.ask(Write(operations=operations, idempotency_key=key))
    assert isinstance(written, Written)
    assert len(written.results) == len(operations)
    return written


def do(harness: Harness, operation: AnyOperation) -> AnyResult:
    return write(harness, operation).results[0]


def find(harness: Harness, query: Query | LaterQuery) -> Any:
    answer = harness.ask(Read(query=query, consistency=harness.usual))
    assert isinstance(answer, Answer)
    return answer.content


def is_value(key: bytes, value: bytes) -> KeyComparison:
    return KeyComparison(start=key, target=ComparedField.VALUE, operand=value)


def test_a_transaction_takes_the_branch_that_its_comparisons_choose_at_one_revision(ordered: Harness) -> None:
    before = write(ordered, Put(key=b"a", value=b"1")).revision
    swap = Transaction(
        comparisons=(is_value(b"a", b"1"),),
        success=(Put(key=b"a", value=b"2"), Put(key=b"b", value=b"2"), List(start=b"", end=None, limit=9)),
        failure=(Get(key=b"a"), Transaction(success=(Delete(key=b"b"),))),
    )
    first, second = do(ordered, swap), do(ordered, swap)

    assert isinstance(first, Transacted)
    assert first.succeeded
    assert [one.revision for one in first.results[:2] if isinstance(one, PutDone)] == [before + 1] * 2
    assert isinstance(first.results[2], KeyPage)
    assert [(one.key, one.value) for one in first.results[2].records] == [(b"a", b"2"), (b"b", b"2")]
    assert isinstance(second, Transacted)
    assert not second.succeeded
    assert isinstance(second.results[0], KeyRecord)
    assert isinstance(second.results[1], Transacted)
    assert find(ordered, Get(key=b"b")) == Missing(key=b"b")


def test_a_transaction_is_done_wholly_or_not_at_all(ordered: Harness) -> None:
    before = write(ordered, Put(key=b"text", value=b"no number"))
    refused = do(ordered, Transaction(success=(Put(key=b"a", value=b"v"), Increment(key=b"text"))))
    after = find(ordered, Get(key=b"a"))

    assert isinstance(refused, Refused)
    assert refused.code is Code.NOT_AN_INTEGER
    assert after == Missing(key=b"a")
    read = ordered.ask(Read(query=Get(key=b"a")))
    assert isinstance(read, Answer)
    assert read.revision == before.revision


def test_a_key_written_twice_in_a_branch_is_refused_before_anything_is_done(ordered: Harness) -> None:
    refused = ordered.ask(
        Write(operations=(Transaction(success=(Put(key=b"a", value=b"1"), DeleteSpan(start=b"", end=None))),))
    )

    assert isinstance(refused, Refused)
    assert refused.code is Code.BAD_REQUEST


def test_a_retry_of_a_transaction_returns_the_first_outcome_and_reads_anew(ordered: Harness) -> None:
    operation = Transaction(success=(Increment(key=b"n"), Transaction(success=(Get(key=b"other"),))))
    first = write(ordered, operation, key="once")
    write(ordered, Put(key=b"other", value=b"new"))
    again = write(ordered, operation, key="once")
    (done,) = again.results

    assert again.revision == first.revision
    assert isinstance(done, Transacted)
    assert done.results[0] == Incremented(value=1, version=1, revision=first.revision)
    assert isinstance(done.results[1], Transacted)
    assert isinstance(done.results[1].results[0], KeyRecord)
    assert find(ordered, Get(key=b"n")).value == b"1"


def test_counting_stays_within_its_bounds(ordered: Harness) -> None:
    counted = [do(ordered, Increment(key=b"n", by=2, maximum=3)) for _ in range(2)]

    assert isinstance(counted[0], Incremented)
    assert (counted[0].value, counted[0].version) == (2, 1)
    assert isinstance(counted[1], Refused)
    assert counted[1].code is Code.OUT_OF_BOUNDS
    assert find(ordered, Get(key=b"n")).value == b"2"


def test_touching_changes_how_long_a_key_lives_and_nothing_else(ordered: Harness) -> None:
    before = write(ordered, Put(key=b"a", value=b"v")).revision
    touched, missing = do(ordered, Touch(key=b"a", ttl_ms=HOUR_MS)), do(ordered, Touch(key=b"b", ttl_ms=HOUR_MS))
    found = find(ordered, Get(key=b"a"))

    assert isinstance(touched, Touched)
    assert missing == Missing(key=b"b")
    assert (found.value, found.version, found.mod_revision) == (b"v", 1, before)
    assert found.expires_at_ms == touched.expires_at_ms > 0


def test_a_range_is_deleted_at_one_revision(ordered: Harness) -> None:
    before = write(ordered, *(Put(key=key, value=b"v") for key in (b"a", b"b/1", b"b/2", b"c"))).revision
    done, nothing = (do(ordered, DeleteSpan(start=b"b/", end=b"b0")) for _ in range(2))
    page = find(ordered, List(start=b"", end=None, limit=9))

    assert done == SpanDeleted(count=2, revision=before + 1)
    assert nothing == SpanDeleted(count=0, revision=before + 1)
    assert [record.key for record in page.records] == [b"a", b"c"]


def test_a_lease_is_granted_found_kept_alive_and_ended_with_its_keys(ordered: Harness) -> None:
    granted = do(ordered, Grant(ttl_ms=HOUR_MS))
    assert isinstance(granted, Granted)
    lease = granted.lease
    unknown = lease + 1
    before = write(ordered, *(Put(key=key, value=b"v", lease=lease) for key in (b"b", b"a"))).revision
    refused = do(ordered, Put(key=b"c", value=b"v", lease=unknown))
    found, none = find(ordered, FindLease(lease=lease)), find(ordered, FindLease(lease=unknown))
    page = find(ordered, FindLeases(limit=1))
    kept = ordered.ask(KeepAlive(leases=(lease, unknown)))
    ended, again = (do(ordered, Revoke(lease=lease)) for _ in range(2))
    left = find(ordered, List(start=b"", end=None, limit=9))

    assert isinstance(refused, Refused)
    assert refused.code is Code.LEASE_NOT_FOUND
    assert isinstance(found, LeaseRecord)
    assert (found.lease, found.ttl_ms, found.keys) == (lease, HOUR_MS, (b"a", b"b"))
    assert none == NoLease(lease=unknown)
    assert isinstance(page, LeasePage)
    assert [(one.lease, one.key_count) for one in page.leases] == [(lease, 2)]
    assert isinstance(kept, KeptAlive)
    assert [type(one) for one in kept.leases] == [LeaseRecord, NoLease]
    assert ended == Revoked(count=2, revision=before + 1)
    assert isinstance(again, Refused)
    assert left.records == ()


def test_the_past_is_shown_at_every_level_that_is_offered(ordered: Harness) -> None:
    first = write(ordered, Put(key=b"a", value=b"1"), Put(key=b"b", value=b"1")).revision
    write(ordered, Put(key=b"a", value=b"2"), Delete(key=b"b"))
    for level in ordered.replicator.status().offers:
        for query in (Get(key=b"a", revision=first), List(start=b"", end=None, limit=9, revision=first)):
            answer = ordered.ask(Read(query=query, consistency=level, r=int(level is Consistency.EVENTUAL)))
            assert isinstance(answer, Answer)
            content = answer.content
            records = content.records if isinstance(content, KeyPage) else (content,)

            assert [one.value for one in records if isinstance(one, KeyRecord)] == [b"1"] * len(records)
            assert len(records) == (2 if isinstance(query, List) else 1)


def test_a_time_that_was_told_shows_what_stood_then(ordered: Harness) -> None:
    begin = write(ordered, Put(key=b"a", value=b"1")).revision
    write(ordered, Put(key=b"a", value=b"2"))
    (change,) = find(ordered, ChangesAfter(revision=begin)).changes
    for level in ordered.replicator.status().offers:
        for query in (Get(key=b"a", at_ms=change.time_ms), List(start=b"", end=None, limit=9, at_ms=change.time_ms)):
            answer = ordered.ask(Read(query=query, consistency=level, r=int(level is Consistency.EVENTUAL)))
            assert isinstance(answer, Answer)
            content = answer.content
            records = content.records if isinstance(content, KeyPage) else (content,)

            assert [one.value for one in records if isinstance(one, KeyRecord)] == [b"2"]


def test_only_what_stands_now_is_read_from_several_replicas_and_shown_whole(ordered: Harness) -> None:
    if Consistency.EVENTUAL not in ordered.replicator.status().offers:
        pytest.skip("one replica by itself has no other to ask")
    do(ordered, Grant(ttl_ms=HOUR_MS, lease=7))
    revision = write(ordered, Put(key=b"a", value=b"v", lease=7)).revision
    found = ordered.ask(Read(query=Get(key=b"a"), consistency=Consistency.EVENTUAL, r=3))
    refusals = [
        ordered.ask(Read(query=query, consistency=Consistency.EVENTUAL, r=2))
        for query in (Get(key=b"a", revision=revision), Get(key=b"a", at_ms=1))
    ]

    assert isinstance(found, Answer)
    assert len(found.replicas) == 3
    assert isinstance(found.content, KeyRecord)
    assert found.content.lease == 7
    assert [one.code for one in refusals if isinstance(one, Refused)] == [Code.NOT_SUPPORTED] * 2


def test_what_is_not_there_yet_and_what_was_forgotten_is_said_to_be_so(ordered: Harness) -> None:
    revisions = [write(ordered, Put(key=b"a", value=b"%d" % number)).revision for number in range(3)]
    ahead = [find(ordered, Get(key=b"a", revision=revisions[-1] + 1)), ordered.ask(Compact(revision=99))]
    done, late = ordered.ask(Compact(revision=revisions[1])), ordered.ask(Compact(revision=revisions[0]))
    gone = [
        find(ordered, query)
        for query in (
            Get(key=b"a", revision=revisions[0]),
            List(start=b"", end=None, limit=9, revision=revisions[0]),
            ChangesAfter(revision=revisions[0]),
        )
    ]

    assert ahead == [HistoryAhead(revision=revisions[-1])] * 2
    assert done == Compacted(compacted_revision=revisions[1])
    assert [late, *gone] == [HistoryGone(compacted_revision=revisions[1])] * 4
    assert find(ordered, Get(key=b"a", revision=revisions[1])).value == b"1"


def test_changes_are_told_in_whole_revisions_with_what_was_there_before(ordered: Harness) -> None:
    begin = write(ordered, Put(key=b"x", value=b"0")).revision
    write(ordered, Put(key=b"a", value=b"1"), Put(key=b"b", value=b"1"), Put(key=b"z", value=b"1"))
    write(ordered, Delete(key=b"a"))
    first = find(ordered, ChangesAfter(revision=begin, end=b"y", previous=True, limit_bytes=1))
    rest = find(ordered, ChangesAfter(revision=first.through, end=b"y", previous=True))
    level = find(ordered, ChangesAfter(revision=begin + 2))

    assert isinstance(first, ChangePage)
    assert [(one.revision, one.key) for one in first.changes] == [(begin + 1, b"a"), (begin + 1, b"b")]
    assert (first.through, first.is_level) == (begin + 1, False)
    (removed,) = rest.changes
    assert (removed.revision, removed.record, removed.previous.value) == (begin + 2, None, b"1")
    assert (rest.through, rest.is_level) == (begin + 2, True)
    assert (level.changes, level.through, level.is_level) == ((), begin + 2, True)
