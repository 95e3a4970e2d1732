"""What every replicator must do, whatever it is made of. See ``conftest`` for who is checked."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.replicator import Shown
from raftkv.core.requests import (
    ABSENT,
    ANY,
    Barrier,
    Configure,
    Consistency,
    Delete,
    Get,
    Inspect,
    List,
    Put,
    Read,
    Write,
)
from raftkv.core.results import (
    Answer,
    Configured,
    DeleteDone,
    KeyPage,
    KeyRecord,
    Mismatch,
    Missing,
    PutDone,
    Ready,
    Written,
)
from raftkv.core.status import RaftStatus, Status
from raftkv.frontend.direct import DirectReplicator
from raftkv.frontend.remote import RemoteReplicator
from tests.contract.conftest import MAX_PENDING, Harness


def put(harness: Harness, key: bytes, value: bytes = b"v", **more: int) -> PutDone | Mismatch:
    written = harness.ask(Write(operations=(Put(key=key, value=value, **more),)))
    assert isinstance(written, Written)
    assert written.committed
    (result,) = written.results
    assert isinstance(result, PutDone | Mismatch)
    return result


def get(harness: Harness, key: bytes, level: Consistency | None = None) -> KeyRecord | Missing:
    level = level or harness.usual
    answer = harness.ask(Read(query=Get(key=key), consistency=level))
    assert isinstance(answer, Answer)
    assert answer.consistency is level
    assert isinstance(answer.content, KeyRecord | Missing)
    return answer.content


def test_a_key_is_created_then_replaced(harness: Harness) -> None:
    first, second = put(harness, b"a", b"1"), put(harness, b"a", b"2")
    found = get(harness, b"a")

    assert isinstance(first, PutDone)
    assert isinstance(second, PutDone)
    assert isinstance(found, KeyRecord)
    assert (first.created, second.created) == (True, False)
    assert second.revision > first.revision
    assert (found.value, found.version, found.mod_revision) == (b"2", second.version, second.revision)
    if harness.has_one_order:
        assert (first.version, second.version) == (1, 2)
        assert second.revision == first.revision + 1
        assert found.create_revision == first.revision


def test_versions_start_anew_after_a_delete(harness: Harness) -> None:
    put(harness, b"a")
    deleted = harness.ask(Write(operations=(Delete(key=b"a"),)))
    gone = get(harness, b"a")
    again = put(harness, b"a")

    assert isinstance(deleted, Written)
    assert isinstance(deleted.results[0], DeleteDone)
    assert gone == Missing(key=b"a")
    assert isinstance(again, PutDone)
    assert again.created
    assert again.revision > deleted.revision
    if harness.has_one_order:
        assert (again.version, again.revision) == (1, deleted.revision + 1)


def test_deleting_what_is_not_there_changes_nothing(harness: Harness) -> None:
    before = put(harness, b"other")
    deleted = harness.ask(Write(operations=(Delete(key=b"a"),)))

    assert isinstance(before, PutDone)
    assert isinstance(deleted, Written)
    assert deleted.results == (Missing(key=b"a"),)
    if harness.has_one_order:
        assert deleted.revision == before.revision


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("match", ["none", "absent", "any", "same", "other"])
@pytest.mark.parametrize("kind", [Put, Delete])
def test_compare_and_set(harness: Harness, kind: type[Put | Delete], match: str, *, present: bool) -> None:
    if match != "none" and not harness.has_one_order:
        refusal = harness.ask(Write(operations=(Put(key=b"a", value=b"new", match=7),)))

        assert isinstance(refusal, Refused)
        assert refusal.code is Code.NOT_SUPPORTED
        return
    revision = 0
    if present:
        created = put(harness, b"a", b"old")
        assert isinstance(created, PutDone)
        revision = created.revision
    wanted = {"none": None, "absent": ABSENT, "any": ANY, "same": revision or 77, "other": 99}[match]
    operation = Put(key=b"a", value=b"new", match=wanted) if kind is Put else Delete(key=b"a", match=wanted)

    written = harness.ask(Write(operations=(operation,)))

    assert isinstance(written, Written)
    (result,) = written.results
    passes = match == "none" or (match == "absent" and not present) or (match in ("any", "same") and present)
    if not passes:
        assert result == Mismatch(revision=revision)
        assert (get(harness, b"a") == Missing(key=b"a")) is not present
    elif kind is Put:
        assert isinstance(result, PutDone)
    elif present:
        assert isinstance(result, DeleteDone)
        assert result.revision > revision
    else:
        assert result == Missing(key=b"a")


def test_a_batch_is_many_independent_operations_in_order(harness: Harness) -> None:
    operations = (
        Put(key=b"a", value=b"1"),
        Get(key=b"a"),
        Delete(key=b"a"),
        Get(key=b"a"),
        Put(key=b"b", value=b"3"),
    )

    written = harness.ask(Write(operations=operations))

    assert isinstance(written, Written)
    created, found, deleted, missing, other = written.results
    assert isinstance(created, PutDone)
    assert isinstance(found, KeyRecord)
    assert found.value == b"1"
    assert isinstance(deleted, DeleteDone)
    assert missing == Missing(key=b"a")
    assert isinstance(other, PutDone)
    assert other.created
    assert written.revision == max(deleted.revision, other.revision)
    if harness.has_one_order:
        # One request has one revision, but none at which a key changes twice.
        assert (deleted.revision, other.revision) == (created.revision + 1, created.revision + 1)


def test_a_failed_precondition_spoils_no_other_operation_of_a_batch(harness: Harness) -> None:
    if not harness.has_one_order:
        pytest.skip("compare-and-set is refused, as test_compare_and_set sees")
    operations = (Put(key=b"a", value=b"1"), Put(key=b"a", value=b"2", match=ABSENT), Get(key=b"a"))

    written = harness.ask(Write(operations=operations))

    assert isinstance(written, Written)
    created, refused, found = written.results
    assert isinstance(created, PutDone)
    assert refused == Mismatch(revision=created.revision)
    assert isinstance(found, KeyRecord)
    assert found.value == b"1"


def test_pages_come_in_the_order_of_bytes(harness: Harness) -> None:
    keys = [b"a", b"a/1", b"a/10", b"a/2", b"a0", "ä".encode(), b"\x00"]
    harness.ask(Write(operations=tuple(Put(key=key, value=key) for key in keys)))
    found: list[bytes] = []
    start: bytes | None = b""
    while start is not None:
        answer = harness.ask(Read(query=List(start=start, end=None, limit=3), consistency=harness.usual))
        assert isinstance(answer, Answer)
        assert isinstance(answer.content, KeyPage)
        assert len(answer.content.records) <= 3
        found += [record.key for record in answer.content.records]
        start = answer.content.next_start

    assert found == sorted(keys)


def test_a_range_ends_before_its_end_and_keys_only_leaves_the_values_out(harness: Harness) -> None:
    harness.ask(Write(operations=tuple(Put(key=key, value=b"v") for key in (b"a", b"b", b"c"))))

    answer = harness.ask(Read(query=List(start=b"a", end=b"c", limit=9, keys_only=True), consistency=harness.usual))

    assert isinstance(answer, Answer)
    assert isinstance(answer.content, KeyPage)
    assert [(record.key, record.value) for record in answer.content.records] == [(b"a", b""), (b"b", b"")]
    assert answer.content.next_start is None


def test_keys_are_any_bytes_in_their_order_where_replicas_hold_one_order_and_text_elsewhere(harness: Harness) -> None:
    keys = [b"\0", b"a", b"a\0", b"a\xc3", b"b", b"\xfe\xff", b"\xff", b"\xff\0"]
    if not harness.has_one_order:
        named = [Write(operations=(one,)) for one in (Put(key=b"\xc3", value=b""), Delete(key=b"\xc3"))]
        reads = [Read(query=Get(key=b"\xc3"), consistency=level) for level in (harness.usual, Consistency.LOCAL)]
        for request in (*named, *reads):
            refusal = harness.ask(request)

            assert isinstance(refusal, Refused)
            assert (refusal.code, refusal.detail[:20]) == (Code.BAD_REQUEST, "key: not valid UTF-8")
        return
    for key in reversed(keys):
        put(harness, key, key)
    pages = [
        harness.ask(Read(query=List(start=start, end=end, limit=9), consistency=level))
        for level in (harness.usual, Consistency.LOCAL)
        for start, end in ((b"", None), (b"a\xc3", b"\xff"))
    ]

    for key in keys:
        assert get(harness, key).value == key  # type: ignore[union-attr]
    for number, answer in enumerate(pages):
        assert isinstance(answer, Answer)
        assert isinstance(answer.content, KeyPage)
        assert [one.key for one in answer.content.records] == (keys[3:6] if number % 2 else keys)


def test_a_retry_returns_the_first_outcome(harness: Harness) -> None:
    write = Write(operations=(Put(key=b"a", value=b"v"),), idempotency_key="once")
    other = Write(operations=(Put(key=b"a", value=b"w"),), idempotency_key="once")

    first, again, refused = harness.ask(write), harness.ask(write), harness.ask(other)

    if not harness.has_one_order:
        assert isinstance(first, Refused)
        assert first.code is Code.NOT_SUPPORTED
        return

    assert isinstance(first, Written)
    assert isinstance(again, Written)
    assert isinstance(refused, Written)
    assert (first.results, first.revision) == (again.results, again.revision)
    assert refused.refused is not None
    assert get(harness, b"a").version == 1  # type: ignore[union-attr]


def test_each_offered_level_sees_the_writes_acknowledged_before(harness: Harness) -> None:
    offers = harness.replicator.status().offers
    assert Consistency.LOCAL in offers

    for number in range(5):
        put(harness, b"a", b"%d" % number)
        for level in offers:
            found = get(harness, b"a", level)
            assert isinstance(found, KeyRecord)
            # A local read on the node that acknowledged the write has applied it, too; in a leaderless cluster that
            # holds where it is one of the key's replicas.
            assert found.value == b"%d" % number


def test_the_answer_of_a_read_names_the_revision_it_was_taken_from(harness: Harness) -> None:
    done = put(harness, b"a")
    answer = harness.ask(Read(query=Get(key=b"nothing" if harness.has_one_order else b"a"), consistency=harness.usual))

    assert isinstance(done, PutDone)
    assert isinstance(answer, Answer)
    assert answer.revision == done.revision


def test_a_barrier_is_passed(harness: Harness) -> None:
    put(harness, b"a")

    assert isinstance(harness.ask(Barrier()), Ready if harness.has_one_order else Refused)


def test_a_status_tells_of_the_node(harness: Harness) -> None:
    put(harness, b"a")
    status = harness.ask(Inspect())

    assert isinstance(status, Status)
    assert (status.leader is not None) is harness.has_one_order
    assert isinstance(status, RaftStatus) is harness.has_one_order
    assert not isinstance(status, RaftStatus) or status.applied_index <= status.commit_index
    assert status.revision >= 1


def test_sizes_are_changed_for_requests_that_name_none(harness: Harness) -> None:
    status = harness.ask(Inspect())
    assert isinstance(status, Status)
    if status.cluster_size == 1:
        pytest.skip("one replica by itself has no sizes")

    changed = harness.ask(Configure(r=1, w=3))
    refused = [harness.ask(request) for request in (Configure(w=4), Configure(n=4), Configure(r=4))]
    after = harness.ask(Inspect())
    written = harness.ask(Write(operations=(Put(key=b"a", value=b"v"),)))

    assert changed == Configured(n=3, r=1, w=3)
    assert [one.code for one in refused if isinstance(one, Refused)] == [Code.BAD_REQUEST] * 3
    assert isinstance(after, Status)
    assert after.sizes == (3, 1, 3)
    assert isinstance(written, Written)
    assert written.acks == 3


def test_requests_side_by_side_all_get_their_own_outcome(harness: Harness) -> None:
    pendings = [harness.submit(Write(operations=(Put(key=b"%d" % n, value=b"v"),))) for n in range(MAX_PENDING)]
    written = [harness.wait(pending) for pending in pendings]

    revisions = [one.results[0].revision for one in written]  # type: ignore[union-attr]
    assert len(set(revisions)) == MAX_PENDING
    for number in range(MAX_PENDING):
        assert isinstance(get(harness, b"%d" % number), KeyRecord)


def test_what_waits_is_bounded(harness: Harness) -> None:
    pendings = [harness.submit(Write(operations=(Put(key=b"a", value=b"v"),))) for _ in range(MAX_PENDING + 10)]
    outcomes = [harness.wait(pending) for pending in pendings]

    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(refused) == 10
    assert {one.code for one in refused} == {Code.OVERLOADED}
    assert all(one.retry_after_s for one in refused)
    found = get(harness, b"a")
    assert isinstance(found, KeyRecord)
    if harness.has_one_order:
        assert found.version == MAX_PENDING


@pytest.mark.parametrize(
    "request_",
    [Write(operations=(Put(key=b"a", value=b"v"),)), Read(query=Get(key=b"a")), Barrier()],
    ids=["write", "read", "barrier"],
)
def test_a_deadline_in_the_past_gets_an_outcome_soon(harness: Harness, request_: Write | Read | Barrier) -> None:
    outcome = harness.wait(harness.submit(request_, -1.0), limit_s=2.0)

    assert isinstance(outcome, Refused | Unknown | Written | Answer | Ready)
    if not isinstance(request_, Write):
        assert not isinstance(outcome, Unknown)


def test_after_close_nothing_is_taken_and_nothing_hangs(harness: Harness) -> None:
    waiting = [harness.submit(Write(operations=(Put(key=b"a", value=b"v"),))), harness.submit(Barrier())]
    harness.replicator.close()

    assert all(pending.outcome is not None for pending in waiting)
    assert isinstance(waiting[1].outcome, Refused | Ready)
    assert isinstance(harness.submit(Read(query=Get(key=b"a"), consistency=harness.usual)).outcome, Refused)


def test_a_subscriber_hears_of_every_write_once_it_can_be_read_until_it_ends(harness: Harness) -> None:
    heard: list[Shown | None] = []
    subscription = harness.replicator.subscribe(heard.append)
    revisions = []
    for number in range(3):
        done = put(harness, b"a", b"%d" % number)
        assert isinstance(done, PutDone)
        revisions.append(done.revision)
        harness.until(lambda: heard and heard[-1] is not None and heard[-1].revision >= revisions[-1])
    told = [one for one in heard if one is not None]

    assert [one.revision for one in told] == sorted(one.revision for one in told)
    assert [one.applied_index for one in told] == sorted(one.applied_index for one in told)
    assert harness.replicator.status().revision >= told[-1].revision
    subscription.end()
    subscription.end()
    heard.clear()
    put(harness, b"a")
    for _ in range(20):
        harness.subject.turn()
    assert heard == []


def test_who_subscribes_while_others_do_hears_at_once_what_is_shown_and_may_end_while_hearing(harness: Harness) -> None:
    done = put(harness, b"a")
    assert isinstance(done, PutDone)
    first: list[Shown | None] = []
    second: list[Shown | None] = []
    subscription = harness.replicator.subscribe(first.append)
    harness.until(lambda: first and first[-1] is not None and first[-1].revision >= done.revision)

    def hear_once_more(shown: Shown | None) -> None:
        second.append(shown)
        if len(second) == 2:
            late.end()

    late = harness.replicator.subscribe(hear_once_more)
    at_once: list[Shown | None] = []
    harness.replicator.subscribe(at_once.append).end()

    assert at_once == first[-1:]
    assert second[0] == at_once[0]
    put(harness, b"b")
    harness.until(lambda: len(second) == 2)
    first.clear()
    put(harness, b"c")
    harness.until(lambda: first)
    assert len(second) == 2
    subscription.end()


def test_the_place_of_the_state_is_the_one_that_the_status_tells(harness: Harness) -> None:
    if isinstance(harness.replicator, RemoteReplicator | DirectReplicator):
        pytest.skip("a front-end shares no state of its own")

    assert harness.replicator.state_path == harness.replicator.status().state_path  # type: ignore[attr-defined]
