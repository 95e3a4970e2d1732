"""Where an answer ends: one bound for pages of both modes, for local lists, merged ones and batches of reads."""

import time

import pytest

from raftkv.core import pages
from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Get, List, Put, Read, Write
from raftkv.core.results import KeyPage, KeyRecord, Withheld, Written
from tests.contract.quorum import QuorumSubject
from tests.contract.solo import SoloReplicator

KEYS = [b"k%02d" % number for number in range(20)]
VALUE = b"v" * 1000


@pytest.fixture(params=["raft", "quorum"])
def subject(request, monkeypatch):
    """A store that holds ``KEYS``, and answers of 5 KB at most."""
    monkeypatch.setattr(pages, "ANSWER_BYTES", 5000)
    monkeypatch.setattr("raftkv.quorum.coordination.operations.ANSWER_BYTES", 5000)
    subject = QuorumSubject(1000) if request.param == "quorum" else Solo()
    for key in KEYS:
        assert isinstance(ask(subject, Write(operations=(Put(key=key, value=VALUE),))), Written)
    yield subject
    subject.stop()


class Solo:
    def __init__(self):
        self.replicator = SoloReplicator()

    def turn(self):
        self.replicator.work(time.monotonic())

    def stop(self):
        self.replicator.close()


def ask(subject, request):
    pending = subject.replicator.submit(request, time.monotonic() + 10)
    for _ in range(1000):
        if pending.outcome is not None:
            return pending.outcome
        subject.turn()
    raise AssertionError("no outcome")


@pytest.mark.parametrize("keys_only", [False, True])
def test_pages_at_every_level_end_by_bytes_and_go_on_with_next(subject, keys_only):
    for level in subject.replicator.status().offers:
        found, start = [], b""
        while start is not None:
            query = List(start=start, end=None, limit=1000, keys_only=keys_only)
            page = ask(subject, Read(query=query, consistency=level)).content

            assert isinstance(page, KeyPage)
            assert sum(map(pages.size_of, page.records)) <= 5000 + len(VALUE) + 3
            found += [record.key for record in page.records]
            start = page.next_start
        assert found == KEYS
        assert not keys_only or len(page.records) == len(KEYS)


def test_of_a_batch_of_more_reads_than_an_answer_holds_the_rest_is_withheld():
    subject = QuorumSubject(1000)
    value = b"v" * (1 << 20)
    ask(subject, Write(operations=tuple(Put(key=key, value=value) for key in KEYS)))

    fits = ask(subject, Write(operations=tuple(Get(key=key) for key in KEYS[:8])))
    assert [len(result.value) for result in fits.results] == 8 * [len(value)]
    results = ask(subject, Write(operations=tuple(Get(key=key) for key in KEYS))).results
    assert sum(isinstance(result, KeyRecord) for result in results) == 8
    assert sum(isinstance(result, Withheld) for result in results) == len(KEYS) - 8
    subject.stop()


def test_a_batch_of_reads_holds_few_values_at_a_time(monkeypatch):
    monkeypatch.setattr("raftkv.quorum.coordination.coordination.READS_AT_ONCE", 3)
    subject = QuorumSubject(1000)
    ask(subject, Write(operations=tuple(Put(key=key, value=b"v") for key in KEYS)))
    operations = (*(Get(key=key) for key in KEYS), Put(key=b"a", value=b"1"), Get(key=b"a"))
    pending = subject.replicator.submit(Write(operations=operations), time.monotonic() + 10)
    most = 0
    while pending.outcome is None:
        subject.turn()
        running = subject.replicator.parts.coordination._dispatch.running.values()
        most = max(most, sum(1 for one in running if type(one).__name__ == "RunningRead" and not one._pending.outcome))

    assert most == 3
    assert [result.value for result in pending.outcome.results if isinstance(result, KeyRecord)] == 20 * [b"v"] + [b"1"]


def test_a_batch_of_reads_that_nobody_answers_is_refused_by_its_deadline():
    subject = QuorumSubject(1000)
    for node in ("n1", "n3"):
        subject.replicas[node].work = lambda now_s: now_s
    pending = subject.replicator.submit(
        Write(operations=tuple(Get(key=b"%d" % n) for n in range(100))), time.monotonic() + 0.3
    )
    while pending.outcome is None:
        subject.turn()

    assert isinstance(pending.outcome, Refused)
    assert pending.outcome.code == Code.QUORUM_UNREACHABLE
    assert not subject.replicator.parts.coordination._dispatch.running
