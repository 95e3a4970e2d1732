"""What the processes have in common that write a backup to standard output, so that neither replica nor workers stop.

Rules: standard input is a pipe held by whoever started the process, whose end ends it too; it runs at a lower priority;
standard output is read as fast as the client takes it, and no faster; what goes wrong is a line on standard error, and
leaves the backup without an end.

A view keeps the pages that it sees from being used again, so the state grows by what is changed meanwhile. One that has
grown by ``GROWTH_BYTES`` or its own size, whichever is more, ends the backup: a client that is slow must not fill the
disk. This module imports nothing but the standard library, ``raftkv.process`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from raftkv.process import streams
from raftkv.storage.disk import DiskError
from raftkv.storage.snapshots.helper import LOWER_PRIORITY

GROWTH_BYTES: Final = 1 << 30


class Growth:
    """Watches a file while a view of it lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun_bytes = path.stat().st_size

    def check(self) -> None:
        """Raise ``DiskError`` once it has grown too far."""
        grown_bytes = self._path.stat().st_size - self._begun_bytes
        if grown_bytes > max(GROWTH_BYTES, self._begun_bytes):
            raise DiskError(
                f"{self._path}: grew by {grown_bytes} bytes while it was read: the client takes the backup too slowly"
            )


def send(piece: bytes) -> None:
    """Write ``piece`` to standard output, whole."""
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(1, rest) :]


def run(export: Callable[[], None]) -> int:
    """Run ``export``; the exit status is 0 when all of it is written."""
    streams.lossy("stderr")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(LOWER_PRIORITY)
    try:
        export()
    except BrokenPipeError:
        return 1  # who asked has left
    except Exception as error:  # noqa: BLE001  whatever it was, who asked must hear of it
        sys.stderr.write(f"{' '.join(str(error).split()) or type(error).__name__}\n")
        sys.stderr.flush()
        return 1
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
