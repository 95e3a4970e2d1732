"""A backup on its way from a cluster into a file: atomically, and proved before the file has its name.

Rule: a file that has its name is whole. What was there before stays until then; what was not finished is removed, by
who began it or, if that was killed, by who comes next. Until then it lies in a directory whose name begins with a dot.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from raftkv.formats.backups import BackupManifest
from raftkv.storage.backups.reading import verify
from raftkv.storage.disk import DiskError, RealDisk, disk_error, translated

WORKING: Final = ".tmp"


@contextlib.contextmanager
def workspace(directory: Path, stem: str) -> Iterator[Path]:
    """A directory of our own in ``directory``, which is there as long as this lasts.

    Those of processes that were killed over the same ``stem`` are removed: one that lives holds a lock on its own.
    Raises ``DiskError``.
    """
    with translated(directory):
        for left in sorted(directory.glob(f".{glob.escape(stem)}.*{WORKING}")):
            _remove_left(left)
        # It gets the name by which it may be removed once it is locked.
        try:
            made = Path(tempfile.mkdtemp(prefix=f".{stem}.", dir=directory))
        except OSError as error:  # it is the directory that refuses, and not the name, which nobody chose
            raise disk_error(directory, error.errno or 0, str(error)) from error
        lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with translated(made):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made = made.rename(made.with_name(made.name + WORKING))
        yield made
    finally:
        try:
            shutil.rmtree(made, ignore_errors=True)
        except BaseException:  # a signal that ends the process while this goes on already
            shutil.rmtree(made, ignore_errors=True)
            raise
        finally:
            os.close(lock)


def _remove_left(left: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else's, or in use: it is none of our business
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        finally:
            os.close(lock)


@contextlib.contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """A place to write to, which becomes ``target``, durably, unless something is raised.

    A link stands for the file that it leads to. What is there and no file is never replaced: a directory, and devices
    and pipes, which root's ``rename`` would take away from everybody. Raises ``DiskError`` before anything is written.
    """
    target = _file_at(target)
    with workspace(target.parent, target.name) as work:
        draft = work / "draft"
        yield draft
        publish(draft, target)


def _file_at(target: Path) -> Path:
    with translated(target):
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        real = target.resolve()
    if stat.S_ISDIR(mode):
        raise disk_error(target, errno.EISDIR)
    if not stat.S_ISREG(mode):
        raise DiskError(f"{target}: not a file, and only a file becomes a backup (- is standard output)")
    return real


def publish(draft: Path, target: Path) -> None:
    """Give ``draft``, which is durable, its name ``target``, durably."""
    disk = RealDisk()
    disk.rename(draft, target)
    disk.sync_directory(target.parent)


def store(pieces: Iterable[bytes], path: Path) -> BackupManifest:
    """Write ``pieces`` to ``path``, durably, and prove that they are a backup. Raises ``StartupError``."""
    with translated(path), path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)  # it holds what the store holds, hashes of passwords among it
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return verify(path)
