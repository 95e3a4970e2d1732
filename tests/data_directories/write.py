"""Writes small data directories, one of each mode, with something of everything that a version keeps.

``python tests/data_directories/write.py NAME.tar.xz`` with the version that is to write them first on ``PYTHONPATH``.
A file in this folder is named after the commit that wrote it, or the format that was new; every later version must open
it (``tests/formats``).
"""

from __future__ import annotations

import asyncio
import lzma
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from raftkv.core.config import parse_config
from raftkv.core.replicator import Pending
from raftkv.core.requests import (
    ABSENT,
    Compact,
    ComparedField,
    Configure,
    Consistency,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    List,
    Placing,
    Put,
    Read,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import Compacted, Configured, KeptAlive, Written
from raftkv.experiment import Surroundings
from raftkv.replicas.building import build

LONG = "ключ/".encode() * 60
FOREVER_MS = 1 << 40

RAFT = """
[cluster]
name = "kept"
[raft]
segment_bytes = 65536
snapshot_entries = 20
trailing_entries = 2
[[node]]
id = "n1"
http = "127.0.0.1:21001"
peer = "127.0.0.1:21002"
"""

QUORUM = """
[cluster]
name = "kept"
mode = "quorum"
[quorum]
n = 2
r = 1
w = 1
conflicts = "siblings"
vnodes = 8
""" + "".join(
    f'[[node]]\nid = "n{node}"\nhttp = "127.0.0.1:{21000 + 2 * node}"\npeer = "127.0.0.1:{21001 + 2 * node}"\n'
    for node in (1, 2, 3)
)


class Then(Surroundings):
    """The machine at the time when a directory was written: outcomes are kept for an hour, deletions for days."""

    def __init__(self, written_s: float) -> None:
        self._behind_ms = int((time.time() - written_s) * 1000)

    def wall_ms(self) -> int:
        return super().wall_ms() - self._behind_ms


class Node:
    """A replica in this process, driven by hand; ``others`` are driven with it."""

    def __init__(self, text: str, home: Path, name: str = "n1", surroundings: Surroundings | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        secret = home.parent / "secret"
        secret.write_text("an old directory must open for ever 0123456789")
        secret.chmod(0o600)
        config = parse_config(text.replace("[cluster]", f'[cluster]\nsecret_file = "{secret}"'))
        self.built = build(config, name, home, events=self, surroundings=surroundings or Surroundings())
        self.replica = self.built.replica
        self.others: list[Node] = []

    def link_up(self, peer: str) -> None:
        self.built.events.link_up(peer)

    def link_down(self, peer: str) -> None:
        self.built.events.link_down(peer)

    def received(self, peer: str, payload: bytes) -> None:
        self.built.events.received(peer, payload)

    async def begin(self, *others: Node) -> None:
        """Let time pass until this node would lead, or would have heard another."""
        self.others = list(others)
        if others:
            await asyncio.gather(self.built.link.start(), *(other.built.link.start() for other in others))
        await self.pass_time(4.0 if others else 0.5)

    async def pass_time(self, seconds: float, pending: Pending | None = None) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and (pending is None or pending.outcome is None):
            for node in (self, *self.others):
                node.replica.work(time.monotonic())
            await asyncio.sleep(0.002)

    async def ask(self, request):
        """The outcome of ``request``."""
        pending = self.replica.submit(request, time.monotonic() + 20)
        await self.pass_time(20, pending)
        return pending.outcome

    async def write(self, *operations, **options):
        outcome = await self.ask(Write(operations=operations, **options))
        assert isinstance(outcome, Written), outcome
        return outcome

    async def close(self) -> None:
        for node in (self, *self.others):
            node.replica.close()
            await node.built.link.stop()


FIRST = (Put(key=b"first", value=b"1", match=ABSENT), Delete(key=b"first"), Get(key=b"first"))
ONCE = (
    Put(key=b"once", value=b"only", match=ABSENT),
    Delete(key=b"gone"),
    Delete(key=b"never there"),
    Put(key=b"plain", value=b"refused", match=ABSENT),
    Get(key=b"plain"),
)


LEASE = 258
COUNT = (Increment(key=b"later/counter", by=5, maximum=7),)
TRANSACTION = (
    Transaction(
        comparisons=(KeyComparison(start=b"later/counter", target=ComparedField.VALUE, operand=b"5"),),
        success=(
            Put(key=b"later/a", value=b"done"),
            Put(key=b"later/" + LONG, value=b"long", lease=LEASE),
            Increment(key=b"later/counter", by=-1),
            List(start=b"later/", end=b"later0", limit=9, keys_only=True),
            Transaction(success=(Touch(key=b"later/b", ttl_ms=FOREVER_MS), Delete(key=b"later/never"))),
        ),
        failure=(Delete(key=b"later/a"),),
    ),
)


async def write_raft(home: Path) -> None:
    node = Node(RAFT, home)
    await node.begin()
    await write_history(node)
    await node.write(*FIRST, idempotency_key="before the snapshot")
    for number in range(25):
        await node.write(Put(key=b"many/%02d" % number, value=b"%d" % number))
    await node.write(Put(key=b"plain", value=b"\x00\xff"), Put(key=b"gone", value=b"x"), Put(key=LONG, value=b"long"))
    await node.write(*ONCE, idempotency_key="in the log")
    assert isinstance(await node.ask(Configure(r=1, w=1)), Configured)
    await node.write(Put(key=b"mortal", value=b"m", ttl_ms=FOREVER_MS))
    for _ in range(100):
        if list((home / "snapshots").glob("*.manifest")):
            break
        await node.pass_time(0.1)
    await node.write(*TRANSACTION, idempotency_key="in a transaction")
    await node.write(*COUNT, *COUNT, idempotency_key="out of bounds")
    await node.write(Put(key=b"last", value=b"after the snapshot", match=ABSENT))
    await node.close()


async def write_history(node: Node) -> None:
    """What came with commands of format 3; revisions 1 to 4 are compacted."""
    await node.write(Grant(lease=LEASE, ttl_ms=FOREVER_MS), Grant(lease=9, ttl_ms=FOREVER_MS))
    for number in range(10):
        await node.write(Put(key=b"later/a", value=b"%d" % number), Put(key=b"later/b", value=b"", lease=9))
    await node.write(*(Put(key=b"many/gone/%d" % number, value=b"x") for number in range(3)))
    await node.write(DeleteSpan(start=b"many/gone/", end=b"many/gone0"))
    await node.write(*COUNT, idempotency_key="counted")
    assert isinstance(await node.ask(KeepAlive(leases=(LEASE,))), KeptAlive)
    assert isinstance(await node.ask(Compact(revision=5)), Compacted)


async def write_quorum(home: Path) -> None:
    """Node n3 is away: where it is a replica, another keeps a hint."""
    node = Node(QUORUM, home)
    await node.begin(Node(QUORUM, home.parent / "n2", "n2"))
    for number in range(12):
        await node.write(Put(key=b"many/%02d" % number, value=b"%d" % number))
    for number in range(3):
        gone, several = b"gone/%d" % number, b"siblings/%d" % number
        await node.write(Put(key=gone, value=b"x"))
        read = await node.ask(Read(query=Get(key=gone), consistency=Consistency.EVENTUAL))
        await node.write(Delete(key=gone), placing=Placing(context=read.context))
        for value in (b"one", b"other"):
            await node.write(Put(key=several, value=value))
    await node.write(Put(key=LONG, value=b"long", ttl_ms=FOREVER_MS))
    assert isinstance(await node.ask(Configure(n=2, r=1, w=2)), Configured)
    await node.pass_time(1.0)
    await node.close()


def main(target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (("raft", write_raft), ("quorum", write_quorum)):
            asyncio.run(write(Path(folder) / name / "n1"))
        with lzma.open(target, "w", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            for name in ("raft", "quorum"):
                archive.add(Path(folder) / name / "n1", name)


if __name__ == "__main__":
    main(sys.argv[1])
