"""A cluster is upgraded node by node: what a later version has is used once every member reads it, and no sooner."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import (
    ChangesAfter,
    Compact,
    Configure,
    Consistency,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    List,
    Put,
    Read,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import Answer, Compacted, Configured, HistoryGone, KeptAlive, Transacted, Written
from raftkv.formats import commands, entries
from tests.simulation.cluster import Cluster

LATER = entries.NEWEST + 1


@contextmanager
def later_version():
    """The installed files are of a version whose format of commands is the next, and which configures by it."""
    with (
        mock.patch.dict(entries._READERS, {LATER: commands.decode_batch}),
        mock.patch.dict(commands.LEAST_FORMATS, {commands.ConfigureCommand: LATER}),
    ):
        yield


def cluster_that_reads(**formats):
    cluster = Cluster(3, begins=False)
    for name, machine in cluster.machines.items():
        machine.reads = formats.get(name, entries.NEWEST)
        cluster.restart(name)
    cluster.elect()
    for name in cluster.members:
        cluster.put_now(name, name.encode())
    return cluster


def configure(cluster, name):
    return ask(cluster, name, Configure(r=1, w=3))


def ask(cluster, name, request):
    pending = cluster.submit(name, request)
    try:
        cluster.await_outcome(pending)
    except entries.UnsupportedCommandError as error:
        pytest.fail(f"a node stopped: {error}")
    return pending.outcome


BEFORE_HISTORY = commands.HISTORY_FORMAT - 1
TWO_PUTS = (Put(key=b"a", value=b"1"), Put(key=b"b", value=b"2"))
OF_HISTORY = (
    Write(operations=(Transaction(success=TWO_PUTS),)),
    Write(operations=(Increment(key=b"i"),)),
    Write(operations=(Touch(key=b"a", ttl_ms=1),)),
    Write(operations=(DeleteSpan(start=b"x", end=None),)),
    Write(operations=(Grant(ttl_ms=60_000, lease=7),)),
    Write(operations=(Put(key=b"a", value=b"1", lease=7),)),
    KeepAlive(leases=(7,)),
    Compact(revision=1),
)


def test_there_is_history_once_every_member_reads_its_commands_and_until_then_nothing_that_needs_it():
    cluster = cluster_that_reads(n3=BEFORE_HISTORY)
    refusals = [ask(cluster, name, request) for name in ("n1", "n2") for request in OF_HISTORY]
    before = ask(cluster, "n1", Write(operations=TWO_PUTS))
    past = [
        ask(cluster, "n1", Read(query=query)).content for query in (Get(key=b"a", revision=1), ChangesAfter(revision=1))
    ]
    changes = ask(cluster, "n1", Read(query=ChangesAfter(revision=before.revision))).content

    for refusal in refusals:
        assert isinstance(refusal, Refused)
        assert refusal.code is Code.NOT_SUPPORTED
        assert refusal.detail.startswith("node n3 reads commands up to format 2, this one has format 3")
    assert [one.revision for one in before.results] == [before.revision - 1, before.revision]
    assert past == [HistoryGone(compacted_revision=before.revision + more) for more in (0, 1)]
    assert changes == HistoryGone(compacted_revision=before.revision + 1)
    cluster.kill("n3")
    cluster.machines["n3"].reads = commands.HISTORY_FORMAT
    cluster.restart("n3")
    cluster.run(2.0)

    begun = before.revision
    results = [ask(cluster, "n3", request) for request in OF_HISTORY]
    (transacted,) = results[0].results
    assert isinstance(transacted, Transacted)
    assert [one.revision for one in transacted.results] == [begun + 1] * 2
    assert all(isinstance(one, Written | KeptAlive) for one in results[:-1])
    assert results[-1] == HistoryGone(compacted_revision=begun)
    assert ask(cluster, "n1", Compact(revision=begun + 1)) == Compacted(compacted_revision=begun + 1)
    found = ask(cluster, "n2", Read(query=Get(key=b"b", revision=begun + 1)))
    assert isinstance(found, Answer)
    assert found.content.value == b"2"
    cluster.settle()


def test_a_leader_that_reads_no_commands_of_history_begins_none_and_takes_what_it_reads():
    cluster = cluster_that_reads(n1=BEFORE_HISTORY, n2=BEFORE_HISTORY, n3=commands.HISTORY_FORMAT)
    for leader in ("n1", "n2"):
        cluster.kill(leader)
        cluster.elect()
        for name in cluster.members:
            if name != leader:
                cluster.put_now(name, name.encode())
        cluster.restart(leader)
        cluster.run(2.0)

    refusal = ask(cluster, "n3", OF_HISTORY[0])
    deleted = ask(cluster, "n3", Write(operations=(Delete(key=b"n1"), Delete(key=b"n2"))))

    assert isinstance(refusal, Refused)
    assert [one.revision for one in deleted.results] == [deleted.revision - 1, deleted.revision]
    cluster.settle()


def test_history_begins_though_the_member_that_was_upgraded_last_is_away_again():
    cluster = cluster_that_reads(n3=BEFORE_HISTORY)
    cluster.kill("n3")
    for name in ("n1", "n2"):
        cluster.start_again(name)
    leader = cluster.elect()

    assert isinstance(ask(cluster, leader, OF_HISTORY[0]), Refused)
    cluster.machines["n3"].reads = commands.HISTORY_FORMAT
    cluster.restart("n3")
    cluster.run(2.0)
    cluster.kill("n3")
    for name in ("n1", "n2"):
        cluster.start_again(name)
    leader = cluster.elect()
    cluster.run(1.0)

    assert isinstance(ask(cluster, leader, OF_HISTORY[0]), Written)
    found = ask(cluster, leader, Read(query=ChangesAfter(revision=0), consistency=Consistency.LOCAL))
    assert isinstance(found.content, HistoryGone)
    cluster.settle()


def test_keys_that_are_no_text_are_stored_once_every_member_can_tell_of_them():
    cluster = cluster_that_reads(n3=commands.BYTES_FORMAT - 1)
    request = Write(operations=(Put(key=b"\xfe\xc3", value=b"v"),))
    refusals = [ask(cluster, name, request) for name in ("n1", "n2")]
    cluster.kill("n3")
    cluster.machines["n3"].reads = commands.BYTES_FORMAT
    cluster.restart("n3")
    cluster.run(2.0)

    for refusal in refusals:
        assert isinstance(refusal, Refused)
        assert refusal.code is Code.NOT_SUPPORTED
    assert isinstance(ask(cluster, "n2", request), Written)
    found = ask(cluster, "n3", Read(query=List(start=b"\xfe", end=SYSTEM, limit=9)))
    assert [one.key for one in found.content.records] == [b"\xfe\xc3"]
    cluster.settle()


def test_what_a_member_does_not_read_is_refused_by_its_name_until_it_is_upgraded():
    with later_version():
        cluster = cluster_that_reads(n1=LATER, n2=LATER, n3=entries.NEWEST)
        refusals = [configure(cluster, name) for name in ("n1", "n2")]
        cluster.put_now("n3", b"written all the same")

        for refusal in refusals:
            assert isinstance(refusal, Refused)
            assert refusal.code is Code.NOT_SUPPORTED
            assert refusal.detail.startswith(
                f"node n3 reads commands up to format {entries.NEWEST}, this one has format {LATER}"
            )
        cluster.kill("n3")
        cluster.machines["n3"].reads = LATER
        cluster.restart("n3")
        cluster.run(2.0)

        assert configure(cluster, "n1") == Configured(n=3, r=1, w=3)
        cluster.settle()


def test_what_a_member_read_is_known_while_it_is_away_and_after_a_restart():
    with later_version():
        cluster = cluster_that_reads(n1=LATER, n2=LATER, n3=entries.NEWEST)
        cluster.kill("n3")
        for name in ("n1", "n2"):
            cluster.start_again(name)
        leader = cluster.elect()

        assert isinstance(configure(cluster, leader), Refused)
        cluster.machines["n3"].reads = LATER
        cluster.restart("n3")
        cluster.run(2.0)
        cluster.kill("n3")
        for name in ("n1", "n2"):
            cluster.start_again(name)

        assert isinstance(configure(cluster, cluster.elect()), Configured)
