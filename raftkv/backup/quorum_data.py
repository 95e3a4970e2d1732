"""The data of a leaderless node out of a backup: the keys of which it is a replica in the new cluster's ring.

Its clock begins beyond every stamp in the backup, so that what is written from then on is newer. It knows the members
of its configuration and has all that it is to have, as after a restart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from raftkv.core.config import ClusterConfig
from raftkv.formats.backups import BackupManifest
from raftkv.formats.gossip import AgreedSizes, MemberEntry, Remembered, encode_remembered
from raftkv.formats.rows import (
    ALIVE,
    CLOCK,
    CONFLICTS,
    DATA,
    MEMBERS,
    META,
    ORDER,
    RIGHTS,
    TABLES,
    UNPROVEN,
    encode_number,
    mark_of,
    order_key,
)
from raftkv.formats.versions import decode_state
from raftkv.quorum.data.store import CLOCK_AHEAD_US
from raftkv.quorum.membership.ring import Ring, position
from raftkv.storage.backups.reading import chunks
from raftkv.storage.engines.port import RowChange
from raftkv.storage.engines.rocks import RocksEngine

_COMMIT_BYTES: Final = 8 << 20


def write_quorum(draft: Path, path: Path, manifest: BackupManifest, config: ClusterConfig, node: str) -> None:
    """The store of ``node`` under ``draft``. Raises ``StartupError``."""
    engine = RocksEngine(draft / "store", TABLES)
    try:
        for batch in _batches(path, manifest, config, node):
            engine.commit(batch)
        engine.commit(_meta(manifest, config))
    finally:
        engine.close()


def _batches(path: Path, manifest: BackupManifest, config: ClusterConfig, node: str) -> Iterator[list[RowChange]]:
    """Keys of which ``node`` is a replica, and users and roles, which every node has."""
    ring = Ring({one.id: one.zone for one in config.node}, config.quorum.vnodes)
    n, batch, size = config.quorum.n, list[RowChange](), 0
    for table, flat in chunks(path, manifest):
        if table == META:
            yield [(META, key, row) for key, row in zip(flat[::2], flat[1::2], strict=True) if key == RIGHTS]
        if table != DATA:
            continue
        for key, encoded in zip(flat[::2], flat[1::2], strict=True):
            if node not in ring.preference(position(key), n)[:n]:
                continue
            batch += ((DATA, key, encoded), (ORDER, order_key(key), mark_of(decode_state(encoded), encoded)))
            size += len(key) + len(encoded)
        if size >= _COMMIT_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _meta(manifest: BackupManifest, config: ClusterConfig) -> list[RowChange]:
    sizes = config.quorum
    entries = tuple([MemberEntry(one.id, one.http, one.peer, one.zone) for one in config.node])
    remembered = Remembered(entries, AgreedSizes(0, "", sizes.n, sizes.r, sizes.w))
    return [
        (META, CLOCK, encode_number(manifest.revision + CLOCK_AHEAD_US)),
        (META, CONFLICTS, sizes.conflicts.encode()),
        (META, ALIVE, encode_number(time.time_ns() // 1_000_000)),
        (META, UNPROVEN, encode_number(0)),
        (META, MEMBERS, encode_remembered(remembered)),
    ]
