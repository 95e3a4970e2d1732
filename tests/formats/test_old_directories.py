"""Data directories that earlier versions wrote open with this one, and everything is found in them.

One file for each format that was ever kept, named after the commit that wrote it (``tests/data_directories/write.py``).
"""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import ChangesAfter, Consistency, FindLease, Get, List, Put, Read
from raftkv.core.results import (
    DeleteDone,
    HistoryGone,
    Incremented,
    KeyPage,
    KeyRecord,
    Mismatch,
    Missing,
    PutDone,
    Siblings,
    Transacted,
)
from tests.data_directories.write import COUNT, FIRST, LEASE, LONG, ONCE, QUORUM, RAFT, TRANSACTION, Node, Then

KEPT = sorted((Path(__file__).parents[1] / "data_directories").glob("*.tar.xz"), key=lambda path: path.name)
WITH_HISTORY = [path for path in KEPT if path.name == "commands-3.tar.xz"]
MANY = {b"many/%02d" % number: b"%d" % number for number in range(25)}


class Copy(NamedTuple):
    path: Path
    then: Then
    has_history: bool


def name_of(path):
    return path.name.partition(".")[0]


@pytest.fixture(params=KEPT, ids=name_of)
def copy(request, tmp_path):
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path / "kept", filter="data")
        then = Then(max(member.mtime for member in archive.getmembers()))
        return Copy(tmp_path / "kept", then, request.param in WITH_HISTORY)


def with_history():
    return pytest.mark.parametrize("copy", WITH_HISTORY, ids=name_of, indirect=True)


def without_history():
    return pytest.mark.parametrize("copy", [one for one in KEPT if one not in WITH_HISTORY], ids=name_of, indirect=True)


async def everything(node, **options):
    page = (await node.ask(Read(query=List(start=b"", end=None, limit=1000), **options))).content
    return {record.key: record for record in page.records}


def reopened(copy, state):
    home = copy.path / "home" / "n1"
    shutil.copytree(copy.path / "raft", home)
    if state == "trusted":
        shutil.copy("/proc/sys/kernel/random/boot_id", next((home / "state").glob("*/BOOT")))
    elif state == "rebuilt":
        shutil.rmtree(home / "state")
    return Node(RAFT, home, surroundings=copy.then)


async def told(node, query):
    return (await node.ask(Read(query=query))).content


STATES = pytest.mark.parametrize("state", ["kept", "trusted", "rebuilt"])


@STATES
def test_a_raft_node_finds_its_keys_its_outcomes_and_its_sizes(copy, state):
    async def look():
        node = reopened(copy, state)
        await node.begin()
        status = node.replica.status()
        found = await everything(node)
        early = await node.write(*FIRST, idempotency_key="before the snapshot")
        once = await node.write(*ONCE, idempotency_key="in the log")
        again = await node.ask(Read(query=List(start=b"", end=None, limit=1000)))
        await node.close()
        return status, found, early, once, again

    status, found, early, once, again = asyncio.run(look())

    values = {key: record.value for key, record in found.items() if not key.startswith(b"later/")}
    first = 14 if copy.has_history else 1
    created, removed, refused_at, last = (42, 42, 41, 45) if copy.has_history else (31, 32, 28, 34)
    assert values == {
        **MANY,
        b"plain": b"\x00\xff",
        b"once": b"only",
        b"mortal": b"m",
        b"last": b"after the snapshot",
        LONG: b"long",
    }
    assert found[b"mortal"].expires_at_ms > 1 << 40
    assert (status.r, status.w, status.revision) == (1, 1, last)
    assert (found[b"once"].create_revision, found[b"once"].version) == (created, 1)
    assert early.results == (PutDone(version=1, revision=first), DeleteDone(revision=first + 1), Missing(key=b"first"))
    assert once.results[:4] == (
        PutDone(version=1, revision=created),
        DeleteDone(revision=removed),
        Missing(key=b"never there"),
        Mismatch(revision=refused_at),
    )
    assert once.results[4].value == b"\x00\xff"
    assert len(again.content.records) == len(found)
    assert again.revision == status.revision


@STATES
@without_history()
def test_a_directory_from_before_there_was_history_keeps_it_from_its_end_on(copy, state):
    async def look():
        node = reopened(copy, state)
        await node.begin()
        await node.write(Put(key=b"plain", value=b"new"), Put(key=b"mortal", value=b"lives"))
        found = [await told(node, query) for query in (Get(key=b"plain", revision=34), Get(key=b"plain", revision=33))]
        changes = await told(node, ChangesAfter(revision=34, previous=True))
        await node.close()
        return found, changes

    (then, gone), page = asyncio.run(look())

    assert then.value == b"\x00\xff"
    assert gone == HistoryGone(compacted_revision=34)
    assert [(one.revision, one.key, one.record.value, one.previous.value) for one in page.changes] == [
        (35, b"plain", b"new", b"\x00\xff"),
        (35, b"mortal", b"lives", b"m"),
    ]


@STATES
@with_history()
def test_a_raft_node_finds_its_history_its_leases_and_what_its_transactions_did(copy, state):
    long = b"later/" + LONG

    async def look():
        node = reopened(copy, state)
        await node.begin()
        leases = [await told(node, FindLease(lease=lease)) for lease in (LEASE, 9)]
        past = [await told(node, Get(key=b"later/a", revision=revision)) for revision in (4, 5, 43, 44)]
        then = await told(node, List(start=b"many/", end=b"many0", limit=99, revision=11))
        changes = await told(node, ChangesAfter(revision=5))
        counted = await node.write(*COUNT, idempotency_key="counted")
        done = await node.write(*TRANSACTION, idempotency_key="in a transaction")
        refused = await node.write(*COUNT, *COUNT, idempotency_key="out of bounds")
        after = node.replica.status().revision
        await node.close()
        return leases, past, then, changes, counted, done, refused, after

    leases, past, then, changes, counted, done, refused, after = asyncio.run(look())

    assert [(one.lease, one.keys) for one in leases] == [(LEASE, (long,)), (9, ())]
    assert past[0] == HistoryGone(compacted_revision=5)
    assert [one.value for one in past[1:]] == [b"4", b"9", b"done"]
    assert [record.key for record in then.records] == [b"many/gone/%d" % number for number in range(3)]
    assert [one.revision for one in changes.changes][:10] == [6, 6, 7, 7, 8, 8, 9, 9, 10, 10]
    assert [one.key for one in changes.changes if one.revision == 12 and one.record is None] == [
        b"many/gone/%d" % number for number in range(3)
    ]
    assert [one.key for one in changes.changes if one.revision == 44] == [b"later/a", long, b"later/counter"]
    assert counted.results == (Incremented(value=5, version=1, revision=13),)
    (transacted,) = done.results
    assert transacted.succeeded
    assert transacted.results[:3] == (
        PutDone(version=11, revision=44),
        PutDone(version=1, revision=44),
        Incremented(value=4, version=2, revision=44),
    )
    assert isinstance(transacted.results[3], KeyPage)
    assert [record.key for record in transacted.results[3].records] == [b"later/a", b"later/b", b"later/counter", long]
    assert isinstance(transacted.results[4], Transacted)
    assert transacted.results[4].results[1] == Missing(key=b"later/never")
    assert [isinstance(one, Refused) and one.code for one in refused.results] == [Code.OUT_OF_BOUNDS] * 2
    assert after == 45


def test_a_leaderless_node_finds_its_keys_its_siblings_its_tombstones_its_hints_and_its_sizes(copy):
    """Alone it can be asked for nothing but what it holds itself, which of every kind is something."""

    async def look():
        node = Node(QUORUM, copy.path / "quorum", surroundings=copy.then)
        await node.begin()
        status = node.replica.status()
        keys = [
            *list(MANY)[:12],
            *(kind % number for kind in (b"gone/%d", b"siblings/%d") for number in range(3)),
            LONG,
        ]
        local = Consistency.LOCAL
        seen = {key: await node.ask(Read(query=Get(key=key), consistency=local)) for key in keys}
        await node.close()
        return status, seen

    status, seen = asyncio.run(look())

    held = {key: answer.content for key, answer in seen.items() if answer.revision}
    values = {key: content.value for key, content in held.items() if isinstance(content, KeyRecord)}
    assert values == {key: value for key, value in {**MANY, LONG: b"long"}.items() if key in values}
    assert len(values) > 4
    assert held[LONG].expires_at_ms > 1 << 40
    assert any(isinstance(content, Missing) for content in held.values()), "no tombstone"
    several = [content for content in held.values() if isinstance(content, Siblings)]
    assert several
    assert all({record.value for record in content.records} == {b"one", b"other"} for content in several)
    assert status.hints_pending > 0
    assert (status.n, status.r, status.w) == (2, 1, 2)
    assert [member.id for member in status.members] == ["n1", "n2", "n3"]
