"""The process that writes a backup of a raft node's applied state: ``STATE CLUSTER NODE VERSION``.

``raftkv.storage.backups.exporting`` has its rules. One view of the live state is written, which its replica goes on to
change. This module imports nothing but the standard library, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from raftkv.formats.layout import META, REVISION, unpack_number
from raftkv.storage.backups.exporting import Growth, run, send
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.engines.lmdb import DATA, LmdbReader
from raftkv.storage.engines.port import DamagedState
from raftkv.storage.snapshots.bodies import BodySummary
from raftkv.storage.state.sealed import SealedRows
from raftkv.storage.state.sums import stored_sum


def export(state: Path, cluster: str, node: str, version: str) -> None:
    """Write one view of ``state``."""
    growth, reader = Growth(state / DATA), LmdbReader(state, reads_once=True)
    rows = SealedRows(reader, state)

    def write(piece: bytes) -> None:
        growth.check()
        send(piece)

    def check(summary: BodySummary) -> None:
        if stored_sum(rows) not in (None, summary.sum):
            raise DamagedState(state, "its rows do not add up to its sum")

    with reader:
        revision = unpack_number(rows.get(META, REVISION))
        head = blank_manifest(
            cluster=cluster,
            mode="raft",
            nodes=(node,),
            revision=revision,
            made_ms=time.time_ns() // 1_000_000,
            version=version,
        )
        write_backup(rows, reader.tables, lambda: head, write, check)
    reader.close()


def main(arguments: list[str]) -> int:
    """See the module."""
    state, cluster, node, version = arguments
    return run(lambda: export(Path(state), cluster, node, version))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
