"""A backup on its way from a cluster into a file: atomically, and proved before the file has its name.

Rule: a file that has its name is whole. What was there before stays until then; what was not finished is removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from raftkv.formats.backups import BackupManifest
from raftkv.storage.backups.reading import verify
from raftkv.storage.disk import RealDisk, translated


@contextlib.contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """A name beside ``target`` to write to, which becomes ``target``, durably, unless something is raised."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield draft
        disk = RealDisk()
        disk.rename(draft, target)
        disk.sync_directory(target.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def store(pieces: Iterable[bytes], path: Path) -> BackupManifest:
    """Write ``pieces`` to ``path``, durably, and prove that they are a backup. Raises ``StartupError``."""
    with translated(path), path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)  # it holds what the store holds, hashes of passwords among it
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return verify(path)


def fetch(pieces: Callable[[], Iterable[bytes]], target: Path) -> BackupManifest:
    """Store a backup at ``target``, which is replaced. Raises ``StartupError``, and what ``pieces`` raise."""
    with drafted(target) as draft:
        return store(pieces(), draft)
