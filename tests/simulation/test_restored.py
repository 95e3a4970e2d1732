"""A cluster that was made of a backup is another one than that which the backup is of, and its revisions go on.

The restored nodes begin as ``raftkv.backup`` lets them begin; their disks are the simulator's. The first is tried
without its remedy in ``test_remedies``.
"""

from __future__ import annotations

import zlib

import msgspec

from raftkv.backup.raft_data import moved_on
from raftkv.backup.restoring import raft_identity
from raftkv.core.results import Written
from raftkv.formats import layout
from raftkv.formats.snapshots import Manifest
from raftkv.instruments.sim.raft import LOG_DIRECTORY
from raftkv.instruments.sim.snapshots import MemorySnapshots, rows_of
from raftkv.raft.snapshots.transfer import base_entries
from raftkv.storage.log.log import Log
from tests.simulation.cluster import Cluster

ADVANCE = 1000
DIGEST = "ab" * 32


class Backup(msgspec.Struct, frozen=True):
    """One state of a simulated cluster, at one entry of its log."""

    manifest: Manifest
    rows: list[tuple[bytes, bytes, bytes]]
    revision: int


def back_up(cluster: Cluster, name: str) -> Backup:
    replica = cluster.members[name].replica
    core, rows = replica.core, rows_of(replica.tables)
    last_command, index, term = replica.log.entry(core.applied_index)
    manifest = Manifest(
        index=index,
        term=term,
        previous_term=term,
        last_command=last_command,
        members=tuple(sorted(cluster.machines)),
        body_bytes=0,
        body_crc=0,
        rows=len(rows),
    )
    return Backup(manifest, rows, replica.store.revision)


def restore(cluster: Cluster, name: str, backup: Backup, advance: int = ADVANCE) -> None:
    """Give machine ``name``, which never ran, what ``raftkv restore`` gives a node."""
    machine = cluster.machines[name]
    meta = [part for table, key, row in backup.rows if table == layout.META for part in (key, row)]
    moved = moved_on(meta, advance, len(cluster.machines))
    rows = [row for row in backup.rows if row[0] != layout.META]
    rows += [(layout.META, key, row) for key, row in zip(moved[::2], moved[1::2], strict=True)]
    body = msgspec.msgpack.encode(rows)
    manifest = msgspec.structs.replace(backup.manifest, body_bytes=len(body), body_crc=zlib.crc32(body))
    machine.keeps = MemorySnapshots(machine.random, machine.now_s)
    machine.keeps.received(manifest, body)
    log = Log.open(machine.disk, LOG_DIRECTORY, segment_bytes=1 << 16, random_bytes=machine.random.randbytes)
    log.set_vote(manifest.term, None)
    log.reset(*base_entries(manifest))
    log.close()
    cluster._mode.invariants.restored(name, list(base_entries(manifest)))
    machine.identity = raft_identity(name, DIGEST, advance, machine.random.randbytes)


def put_back(cluster: Cluster, name: str, old: Cluster) -> None:
    """Give machine ``name``, which never ran, the disk that it had in the cluster before."""
    machine, before = cluster.machines[name], old.machines[name]
    cluster._mode.invariants.stranger(name)
    machine.identity, machine.disk, machine.keeps = before.identity, before.disk, before.keeps


def destroyed(size: int = 3) -> tuple[Cluster, Backup, int]:
    """A cluster that was backed up, written to and then switched off; and the last revision that it gave."""
    old = Cluster(size)
    leader = old.elect()
    old.fill(leader, 20)
    old.settle()
    backup = back_up(old, old.leader())
    for number in range(10):
        last = old.put_now(old.leader(), b"later%d" % number)
    old.settle()
    for name in old.machines:
        old.kill(name, power=True)
    return old, backup, last.revision


def anew(size: int = 3) -> Cluster:
    return Cluster(size, seed=1, start_s=5000.0, begins=False)


def start(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.machines[name].start()


def holds(cluster: Cluster, name: str, key: bytes) -> bool:
    return cluster.members[name].replica.tables.get(layout.KEYS, key) is not None


def test_a_node_of_the_old_cluster_takes_no_part_in_the_restored_one():
    """It has written more than is in the backup, and would be followed by who knows no better."""
    old, backup, last = destroyed()
    cluster = anew()
    for name in ("n1", "n2"):
        restore(cluster, name, backup)
    put_back(cluster, "n3", old)
    start(cluster, *cluster.machines)

    leader = cluster.elect()
    assert leader in ("n1", "n2")
    outcome = cluster.put_now(leader, b"new")
    assert isinstance(outcome, Written)
    assert outcome.revision > last, "a revision was given again"
    cluster.run(20.0)
    assert all(holds(cluster, name, b"new") for name in ("n1", "n2"))
    assert not any(holds(cluster, name, b"later9") for name in ("n1", "n2"))
    assert not holds(cluster, "n3", b"new")
    told = cluster.members[leader].replica.status()
    assert [(peer.id, "before this one was restored" in peer.misfit) for peer in told.peers if peer.misfit] == [
        ("n3", True)
    ]


def test_its_revisions_and_what_it_holds_go_on_from_the_backup_on_every_node():
    _, backup, last = destroyed()
    cluster = anew()
    for name in cluster.machines:
        restore(cluster, name, backup)
    start(cluster, *cluster.machines)

    leader = cluster.elect()
    assert cluster.get_now(leader, b"k19") == b"v"
    assert cluster.get_now(leader, b"later0") is None
    assert cluster.put_now(leader, b"new").revision == backup.revision + ADVANCE + 1 > last
    for _ in range(3):
        cluster.start_again(*cluster.machines, power=True)
        cluster.put_now(cluster.elect(), b"newer")
    cluster.settle()


def test_a_node_with_an_empty_disk_becomes_one_of_the_restored_cluster_and_stays_one():
    old, backup, _ = destroyed()
    cluster = anew()
    for name in ("n1", "n2"):
        restore(cluster, name, backup)
    start(cluster, *cluster.machines)

    cluster.run_until(lambda: cluster.members["n3"].replica.counts, 60)
    leader = cluster.elect()
    cluster.put_now(leader, b"new")
    cluster.settle()
    assert cluster.get_now("n3", b"new") == b"v"
    assert cluster.machines["n3"].identity.origin == cluster.machines["n1"].identity.origin

    cluster.kill("n2", power=True)
    cluster.machines["n2"].keeps = cluster.machines["n2"].identity = None
    put_back(cluster, "n2", old)
    cluster.restart("n2")
    cluster.run(10.0)
    assert any(peer.id == "n2" and peer.misfit for peer in cluster.members["n3"].replica.status().peers)


def test_clusters_of_one_backup_that_were_advanced_otherwise_are_two():
    _, backup, _ = destroyed()
    cluster = anew()
    restore(cluster, "n1", backup)
    restore(cluster, "n2", backup)
    restore(cluster, "n3", backup, 5 * ADVANCE)
    cluster._mode.invariants.stranger("n3")
    start(cluster, *cluster.machines)

    leader = cluster.elect()
    cluster.put_now(leader, b"new")
    cluster.run(5.0)
    assert leader != "n3"
    assert not holds(cluster, "n3", b"new")
