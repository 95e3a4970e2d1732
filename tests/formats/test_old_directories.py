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

from raftkv.core.requests import Consistency, Get, List, Read
from raftkv.core.results import DeleteDone, KeyRecord, Mismatch, Missing, PutDone, Siblings
from tests.data_directories.write import FIRST, LONG, ONCE, QUORUM, RAFT, Node, Then

KEPT = sorted((Path(__file__).parents[1] / "data_directories").glob("*.tar.xz"), key=lambda path: path.name)
MANY = {b"many/%02d" % number: b"%d" % number for number in range(25)}


class Copy(NamedTuple):
    path: Path
    then: Then


@pytest.fixture(params=KEPT, ids=lambda path: path.name.partition(".")[0])
def copy(request, tmp_path):
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path / "kept", filter="data")
        return Copy(tmp_path / "kept", Then(max(member.mtime for member in archive.getmembers())))


async def everything(node, **options):
    page = (await node.ask(Read(query=List(start=b"", end=None, limit=1000), **options))).content
    return {record.key: record for record in page.records}


def reopened(copy, change=lambda home: None):
    home = copy.path / "home" / "n1"
    shutil.copytree(copy.path / "raft", home)
    change(home)
    return Node(RAFT, home, surroundings=copy.then)


@pytest.mark.parametrize("state", ["kept", "trusted", "rebuilt"])
def test_a_raft_node_finds_its_keys_its_outcomes_and_its_sizes(copy, state):
    def change(home):
        if state == "trusted":
            shutil.copy("/proc/sys/kernel/random/boot_id", next((home / "state").glob("*/BOOT")))
        elif state == "rebuilt":
            shutil.rmtree(home / "state")

    async def look():
        node = reopened(copy, change)
        await node.begin()
        status = node.replica.status()
        found = await everything(node)
        early = await node.write(*FIRST, idempotency_key="before the snapshot")
        once = await node.write(*ONCE, idempotency_key="in the log")
        again = await node.ask(Read(query=List(start=b"", end=None, limit=1000)))
        await node.close()
        return status, found, early, once, again

    status, found, early, once, again = asyncio.run(look())

    values = {key: record.value for key, record in found.items()}
    assert values == {
        **MANY,
        b"plain": b"\x00\xff",
        b"once": b"only",
        b"mortal": b"m",
        b"last": b"after the snapshot",
        LONG: b"long",
    }
    assert found[b"mortal"].expires_at_ms > 1 << 40
    assert (status.r, status.w, status.revision) == (1, 1, 34)
    assert (found[b"once"].create_revision, found[b"once"].version) == (31, 1)
    assert early.results == (PutDone(version=1, revision=1), DeleteDone(revision=2), Missing(key=b"first"))
    assert once.results[:4] == (
        PutDone(version=1, revision=31),
        DeleteDone(revision=32),
        Missing(key=b"never there"),
        Mismatch(revision=28),
    )
    assert once.results[4].value == b"\x00\xff"
    assert len(again.content.records) == len(found)
    assert again.revision == status.revision


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
