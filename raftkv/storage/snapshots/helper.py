"""The short-lived process that writes or loads a snapshot's body, so that the replica need not stop for it.

``python -P -m raftkv.storage.snapshots.helper`` with ``write STATE BODY SPARED`` or ``load BODY STATE SPARED``, where
SPARED bytes of the disk are left free. Rules: one line of
JSON on standard output says what came of it; standard input is a pipe held by the replica, whose end ends this process
too; it runs at a lower priority; a file or state that was not finished is removed, or keeps a name that is never
trusted.

This module imports nothing but the standard library, msgspec, ``raftkv.process`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Final

import msgspec

from raftkv.process import streams
from raftkv.storage.disk import RealDisk, check_room
from raftkv.storage.engines.lmdb import LmdbReader
from raftkv.storage.engines.port import DamagedState
from raftkv.storage.snapshots.bodies import load_body, read_table_names, write_body
from raftkv.storage.state.sealed import SealedRows
from raftkv.storage.state.sums import stored_sum
from raftkv.storage.state.trust import close_cleanly, discard, open_state

LOWER_PRIORITY: Final = 10


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The line on standard output: either ``error``, or what was written or loaded.

    ``damaged``: the state in this directory was to be written, and does not check out.
    """

    error: str = ""
    damaged: str = ""
    index: int = 0
    term: int = 0
    rows: int = 0
    bytes: int = 0
    crc: int = 0


def write(state: Path, body: Path, spared_bytes: int) -> Report:
    """Write a body from one consistent view of the live state."""
    reader = LmdbReader(state, reads_once=True)
    rows = SealedRows(reader, state)
    try:
        with reader:
            summary = write_body(rows, reader.tables, body, spared_bytes=spared_bytes)
            _check_sum(state, stored_sum(rows), summary.sum)
    except BaseException:
        body.unlink(missing_ok=True)
        raise
    finally:
        reader.close()
    return Report(
        index=summary.index, term=summary.term, rows=summary.rows, bytes=summary.body_bytes, crc=summary.body_crc
    )


def _check_sum(state: Path, stored: int | None, found: int) -> None:
    if stored not in (None, found):
        raise DamagedState(state, "its rows do not add up to its sum")


def load(body: Path, state: Path, spared_bytes: int) -> Report:
    """Load a body into a new state; without its end the state has applied nothing and no mark vouches for it."""
    discard(state)
    disk = RealDisk()
    check_room(disk, state, body.stat().st_size, spared_bytes=spared_bytes)
    loaded = open_state(state, read_table_names(body), trusted_boot="")

    def settle() -> None:
        loaded.sync()
        check_room(disk, state, 0, spared_bytes=spared_bytes)

    try:
        rows = load_body(body, loaded, settle=settle)
        close_cleanly(loaded)
    except BaseException:
        loaded.close()
        discard(state)
        raise
    return Report(rows=rows)


def _end_with_parent() -> None:
    """Wait for the end of standard input, which comes when the replica closes it or dies."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Run one job; the exit status is 0 when it is done."""
    streams.lossy("stderr")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(LOWER_PRIORITY)
    try:
        match arguments:
            case ["write", state, body, spared]:
                report = write(Path(state), Path(body), int(spared))
            case ["load", body, state, spared]:
                report = load(Path(body), Path(state), int(spared))
            case _:
                report = Report(error="usage: write STATE BODY SPARED | load BODY STATE SPARED")
    except DamagedState as error:
        report = Report(error=str(error), damaged=str(error.directory))
    except Exception as error:  # noqa: BLE001  whatever it was, the replica must hear of it
        report = Report(error=str(error) or type(error).__name__)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()
    return 1 if report.error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
