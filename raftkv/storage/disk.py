"""The disk as the log sees it, and the one table that turns operating system errors into ``DiskError``.

Rules: the log does all of its input and output through ``Disk`` and ``File``, so that a simulator can supply a disk
that loses what was not synced, tears writes and crashes anywhere. Every failure leaves here as a ``DiskError`` of one
line that names the path and the reason. Nothing here retries: after a failed sync nobody knows what is on the disk.

This module imports nothing but the standard library and ``raftkv.core.errors``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from raftkv.core.errors import StartupError

Data = bytes | bytearray | memoryview


class DiskError(StartupError):
    """The disk failed; ``full`` says whether making room would have helped. The node cannot go on."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        """``message`` is one line that names the path and the reason."""
        super().__init__(message)
        self.full = full


# What can go wrong, as (reason for a person, is it a lack of room); every other errno speaks for itself.
REASONS: Final[dict[int, tuple[str, bool]]] = {
    errno.ENOSPC: ("no space left on the device", True),
    errno.EDQUOT: ("disk quota exceeded", True),
    errno.EFBIG: ("file grew beyond the allowed size", True),
    errno.EIO: ("input/output error", False),
    errno.EROFS: ("read-only file system", False),
    errno.EACCES: ("permission denied", False),
    errno.EPERM: ("operation not permitted", False),
    errno.ENOENT: ("no such file or directory", False),
    errno.ENOTDIR: ("not a directory", False),
    errno.EISDIR: ("is a directory", False),
    errno.EEXIST: ("already exists", False),
    errno.EMFILE: ("too many open files", False),
    errno.ENFILE: ("too many open files in the system", False),
    errno.ESTALE: ("stale network file handle", False),
}


def disk_error(path: Path | str, number: int, otherwise: str = "") -> DiskError:
    """The ``DiskError`` for errno ``number`` at ``path``; ``otherwise`` is the reason for numbers not in the table."""
    fallback = otherwise or (os.strerror(number) if number > 0 else "unknown failure")
    reason, full = REASONS.get(number, (fallback, False))
    return DiskError(f"{path}: {' '.join(reason.split())}", full=full)


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Let an ``OSError`` raised inside leave as the ``DiskError`` of ``path``."""
    try:
        yield
    except OSError as error:
        raise disk_error(error.filename or path, error.errno or 0, str(error)) from error


class File(Protocol):
    """One file open for writing. One thread owns it.

    Ordering: writes reach the disk in any order until ``sync`` returns. Crash: what was written after the last ``sync``
    may be there wholly, partly or not at all. Retry: after a failed ``write_at`` or ``sync`` the file must not be
    written again.
    """

    def write_at(self, offset: int, data: Data) -> None:
        """Write all of ``data`` at ``offset``."""

    def sync(self) -> None:
        """Return once everything written is durable, including the size if it changed."""

    def truncate(self, size_bytes: int) -> None:
        """Cut the file to ``size_bytes``; durable after ``sync``."""

    def renamed(self, path: Path) -> None:
        """The file is at ``path`` now: errors name it so from here on."""

    def close(self) -> None:
        """Release the file without syncing it."""


class Disk(Protocol):
    """The directory operations a log needs. Each raises ``DiskError``; names are durable after ``sync_directory``."""

    def make_directory(self, path: Path) -> None:
        """Make ``path`` and its parents where they are missing, durably."""

    def list(self, directory: Path) -> list[str]:
        """The names in ``directory``, sorted."""

    def read(self, path: Path) -> bytes:
        """The whole content of ``path``."""

    def create(self, path: Path, preallocate_bytes: int) -> File:
        """Make a new file that reads as ``preallocate_bytes`` zeros; an existing one is an error."""

    def open_for_append(self, path: Path) -> File:
        """Open an existing file for writing."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename atomically, replacing ``target``."""

    def remove(self, path: Path) -> None:
        """Remove the file ``path``."""

    def sync_directory(self, path: Path) -> None:
        """Return once the names in ``path`` are durable."""

    def free_bytes(self, path: Path) -> int:
        """How much an unprivileged writer may still write to the file system of ``path``."""


class RealFile:
    """``File`` over a file descriptor."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write_at(self, offset: int, data: Data) -> None:
        """See ``File``."""
        try:
            size = memoryview(data).nbytes
            written = os.pwrite(self._descriptor, data, offset)
            while written < size:  # a short write: a nearly full disk, a signal, or more than 2 GiB
                more = os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)
                assert more > 0
                written += more
        except OSError as error:
            raise disk_error(self._path, error.errno or 0) from error

    def sync(self) -> None:
        """See ``File``."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise disk_error(self._path, error.errno or 0) from error

    def truncate(self, size_bytes: int) -> None:
        """See ``File``."""
        with translated(self._path):
            os.ftruncate(self._descriptor, size_bytes)

    def renamed(self, path: Path) -> None:
        """See ``File``."""
        self._path = path

    def close(self) -> None:
        """See ``File``."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with translated(self._path):
                os.close(descriptor)


class RealDisk:
    """``Disk`` over the operating system."""

    def make_directory(self, path: Path) -> None:
        """See ``Disk``."""
        with translated(path):
            missing = [each for each in (path, *path.parents) if not each.exists()]
            path.mkdir(parents=True, exist_ok=True)
        for each in reversed(missing):
            self.sync_directory(each.parent)

    def list(self, directory: Path) -> list[str]:
        """See ``Disk``."""
        with translated(directory):
            return sorted(os.listdir(directory))  # noqa: PTH208  names are wanted, not paths

    def read(self, path: Path) -> bytes:
        """See ``Disk``."""
        with translated(path):
            return path.read_bytes()

    def create(self, path: Path, preallocate_bytes: int) -> RealFile:
        """See ``Disk``."""
        with translated(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = RealFile(path, descriptor)
        try:
            if preallocate_bytes > 0:
                with translated(path):
                    _preallocate(descriptor, preallocate_bytes)
        except BaseException:
            file.close()
            raise
        return file

    def open_for_append(self, path: Path) -> RealFile:
        """See ``Disk``."""
        with translated(path):
            return RealFile(path, os.open(path, os.O_WRONLY | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        """See ``Disk``."""
        try:
            source.rename(target)
        except OSError as error:
            # ``source`` is a draft as a rule, of which nobody has heard, and which is gone when this is read.
            raise disk_error(target, error.errno or 0, str(error)) from error

    def remove(self, path: Path) -> None:
        """See ``Disk``."""
        with translated(path):
            path.unlink()

    def sync_directory(self, path: Path) -> None:
        """See ``Disk``."""
        with translated(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        """See ``Disk``."""
        with translated(path):
            found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


# File systems that cannot preallocate say so with one of these; the file then simply grows as it is written.
_CANNOT_PREALLOCATE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def _preallocate(descriptor: int, size_bytes: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_PREALLOCATE:
            raise


def check_room(disk: Disk, path: Path, size_bytes: int, *, spared_bytes: int) -> None:
    """Raise ``DiskError`` unless ``size_bytes`` more at ``path`` leave ``spared_bytes`` of the disk free."""
    if disk.free_bytes(path.parent) - size_bytes < spared_bytes:
        reason = disk_error(path, errno.ENOSPC)
        raise DiskError(f"{reason}; {spared_bytes} bytes are spared for the log", full=True) if spared_bytes else reason


def write_whole(disk: Disk, path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` atomically and durably: after a crash the old or the new content is there, whole."""
    draft = path.with_name(path.name + ".tmp")
    if draft.name in disk.list(path.parent):
        disk.remove(draft)
    file = disk.create(draft, 0)
    try:
        file.write_at(0, content)
        file.sync()
    finally:
        file.close()
    disk.rename(draft, path)
    disk.sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """``write_whole`` on the real disk."""
    write_whole(RealDisk(), path, content)


def remove_file(path: Path) -> None:
    """Remove ``path`` durably, if it is there."""
    with translated(path):
        path.unlink(missing_ok=True)
    RealDisk().sync_directory(path.parent)
