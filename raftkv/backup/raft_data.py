"""The data of a raft node out of a backup: a snapshot, and a log that begins behind it. The state is rebuilt of both.

Only numbers of the table ``meta`` are other than in the backup, which no sum counts: the revision, which is moved on,
and the usual R and W where the new cluster has too few nodes for them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from raftkv.core.config import ClusterConfig
from raftkv.core.errors import StartupError
from raftkv.formats.backups import BackupManifest
from raftkv.formats.entries import NO_OP
from raftkv.formats.layout import META, READ_SIZE, REVISION, WRITE_SIZE, pack_number, unpack_number
from raftkv.formats.snapshots import MAGIC, Manifest, encode_chunk
from raftkv.raft.snapshots.transfer import base_entries
from raftkv.storage.backups.reading import chunks
from raftkv.storage.disk import RealDisk, translated
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import SnapshotFiles


def write_raft(draft: Path, path: Path, manifest: BackupManifest, config: ClusterConfig, advance: int) -> None:
    """Snapshot and log under ``draft``. Raises ``StartupError``."""
    if manifest.index < 2:
        raise StartupError(f"{path} is of a store in which nothing was ever done; start an empty cluster instead")
    size = len(config.node)
    snapshots = SnapshotFiles(draft / "snapshots")
    body = snapshots.directory / "restore.body.tmp"
    body_bytes, checksum = 0, 0
    with translated(body), body.open("xb") as file:
        for part in _body(path, manifest, advance, size):
            file.write(part)
            body_bytes += len(part)
            checksum = zlib.crc32(part, checksum)
        file.flush()
        os.fsync(file.fileno())
    covered = Manifest(
        index=manifest.index,
        term=manifest.term,
        previous_term=manifest.term,
        last_command=NO_OP,
        members=tuple(sorted(node.id for node in config.node)),
        body_bytes=body_bytes,
        body_crc=checksum,
        rows=manifest.rows,
    )
    snapshots.publish_file(body, covered)
    snapshots.close()
    log = Log.open(RealDisk(), draft / "log", segment_bytes=config.raft.segment_bytes)
    log.set_vote(manifest.term, None)
    log.reset(*base_entries(covered))
    log.close()


def _body(path: Path, manifest: BackupManifest, advance: int, size: int) -> Iterator[bytes]:
    yield MAGIC
    for table, flat in chunks(path, manifest):
        yield from encode_chunk(table, moved_on(flat, advance, size) if table == META else flat)


def moved_on(flat: list[bytes], advance: int, size: int) -> list[bytes]:
    """The rows of the table ``meta`` as a new cluster of ``size`` nodes has them: names and values in turn."""
    rows = dict(zip(flat[::2], flat[1::2], strict=True))
    if REVISION in rows:
        rows[REVISION] = pack_number(unpack_number(rows[REVISION]) + advance)
    for name in (READ_SIZE, WRITE_SIZE):
        if name in rows and unpack_number(rows[name]) > size:
            rows[name] = pack_number(size)
    return [part for key in sorted(rows) for part in (key, rows[key])]
