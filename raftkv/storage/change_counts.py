"""Counts of changes by key in memory that processes share: one writes, any number of others look.

A key has one of ``PLACES`` places by its hash, and each change of one of its keys makes the count there another. Who
has looked at the count, then learned what a key holds, knows it still while the count is the same. Many keys share a
place: what such a reader takes for changed may not be, but never the other way round.

The memory is a file without a name (memfd_create(2)), which goes with the processes that hold it and is never written
to a disk. This module imports the standard library only.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from typing import Final
from zlib import crc32

PLACES: Final = 1 << 16
"""Half a MiB, of which pages exist where a key was changed."""

_COUNT_BYTES: Final = 8
_SIZE_BYTES: Final = PLACES * _COUNT_BYTES


class ChangeCounts:
    """The writer's side. One thread owns it. ``path`` names the memory to other processes while this one lives.

    Raises ``OSError`` where a system has no such memory.
    """

    def __init__(self) -> None:
        create = getattr(os, "memfd_create", None)
        if create is None:
            raise OSError("no memory can be shared here")
        self._descriptor: int = create("raftkv-changes")
        os.ftruncate(self._descriptor, _SIZE_BYTES)
        self._memory = mmap.mmap(self._descriptor, _SIZE_BYTES)
        self._counts = memoryview(self._memory).cast("Q")
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def changed(self, keys: Iterable[bytes]) -> None:
        """These have changed: to be told after whoever asks is shown the change, and before anybody is told of it."""
        counts = self._counts
        for key in keys:
            place = crc32(key) % PLACES
            counts[place] = counts[place] + 1  # an aligned word: whoever looks sees the one or the other

    def close(self) -> None:
        """Let go of the memory; who looks at it may go on."""
        self._counts.release()
        self._memory.close()
        os.close(self._descriptor)


class ChangeCountsReader:
    """What another process counts at ``path``. Raises ``OSError`` when it is gone."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(descriptor, _SIZE_BYTES, prot=mmap.PROT_READ)
        except ValueError as error:
            raise OSError(str(error)) from error
        finally:
            os.close(descriptor)
        self._counts = memoryview(self._memory).cast("Q")

    def count(self, key: bytes) -> int:
        """The count where ``key`` has its place."""
        return self._counts[crc32(key) % PLACES]

    def close(self) -> None:
        """Let go of the memory."""
        self._counts.release()
        self._memory.close()
