"""Writing a backup: the body of one view, and behind it a manifest, to whatever takes bytes.

This module imports nothing but the standard library, ``raftkv.core``, ``raftkv.formats`` and its neighbours in
``storage``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from raftkv.formats.backups import BackupManifest, encode_ending
from raftkv.storage.engines.port import TableScanner
from raftkv.storage.snapshots.bodies import BodySummary, OutgoingBody

DIGEST_BYTES: Final = 32


def write_backup(
    view: TableScanner,
    tables: Iterable[bytes],
    head: Callable[[], BackupManifest],
    write: Callable[[bytes], object],
    check: Callable[[BodySummary], None] = lambda _: None,
) -> BackupManifest:
    """Give ``write`` a backup of ``tables``, piece by piece; ``head`` is asked for the rest of its manifest at the end.

    ``check`` raises what is wrong with the body, so that the backup gets no end.
    """
    body, digest = OutgoingBody(view, tables), hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in body:
        digest.update(part)
        write(part)
    summary = body.summary()
    check(summary)
    manifest = msgspec.structs.replace(
        head(),
        index=summary.index,
        term=summary.term,
        tables={table.decode(): count for table, count in body.rows.items()},
        rows=summary.rows,
        body_bytes=summary.body_bytes,
        body_crc=summary.body_crc,
        digest=digest.hexdigest(),
    )
    write(encode_ending(manifest))
    return manifest


def blank_manifest(**known: object) -> BackupManifest:
    """A manifest that says nothing yet of the body."""
    empty = {"index": 0, "term": 0, "tables": {}, "rows": 0, "body_bytes": 0, "body_crc": 0, "digest": ""}
    return msgspec.convert({**empty, **known}, BackupManifest)
