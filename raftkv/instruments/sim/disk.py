"""A disk in memory that loses what was not synced, tears writes, fills up, fails, and crashes before or after any step.

It implements ``raftkv.storage.disk.Disk``. Files and names have a *current* state, which the running program sees, and
a *durable* one with the steps since then; ``after_crash`` keeps any subset of those steps. Sectors are written whole or
not at all. What it cannot do: lie about a sync, alter what is at rest, reorder a name before the file that it names.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

from raftkv.storage.disk import Data, DiskError

SECTOR: Final = 512
UNLIMITED: Final = 1 << 40
_FATES: Final = ("keep", "lose", "prefix", "sectors")


class Crashed(BaseException):
    """The machine stopped here."""


class _Write(NamedTuple):
    """Bytes at an offset."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        end = self.offset + len(self.data)
        if end > len(content):
            content.extend(bytes(end - len(content)))
        content[self.offset : end] = self.data


class _Resize(NamedTuple):
    """A new size; what is added reads as zeros."""

    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


class _Inode:
    """One file's content: durable, current, and the steps between the two."""

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self.durable = bytearray(content)
        self.current = bytearray(content)
        self.unsynced: list[_Write | _Resize] = []
        self.has_failed = False

    @property
    def is_clean(self) -> bool:
        """Is the durable content the current one, but for zeros at its end, which a log takes for nothing?"""
        return not self.unsynced and not (self.has_failed and self.durable.rstrip(b"\0") != self.current.rstrip(b"\0"))

    def do(self, step: _Write | _Resize) -> None:
        step.apply(self.current)
        self.unsynced.append(step)

    def sync(self) -> None:
        for step in self.unsynced:
            step.apply(self.durable)
        self.unsynced.clear()

    def after_crash(self, dice: random_module.Random) -> _Inode:
        content = bytearray(self.durable)
        for step in self.unsynced:
            fate = dice.choice(_FATES)
            if fate == "keep":
                step.apply(content)
            elif isinstance(step, _Write) and fate == "prefix":
                _Write(step.offset, step.data[: dice.randrange(len(step.data) + 1)]).apply(content)
            elif isinstance(step, _Write) and fate == "sectors":
                for piece in _sectors(step):
                    if dice.random() < 0.5:
                        piece.apply(content)
        return _Inode(content)


def _sectors(write: _Write) -> Iterator[_Write]:
    position = 0
    while position < len(write.data):
        end = min(len(write.data), position + SECTOR - (write.offset + position) % SECTOR)
        yield _Write(write.offset + position, write.data[position:end])
        position = end


class _Link(NamedTuple):
    """A name for an inode, ``None``: the name is gone; ``replaces`` is the name it had before."""

    path: Path
    inode: _Inode | None
    replaces: Path | None = None

    def apply(self, names: dict[Path, _Inode]) -> None:
        if self.replaces is not None:
            names.pop(self.replaces, None)
        if self.inode is None:
            names.pop(self.path, None)
        else:
            names[self.path] = self.inode


class _Half:
    """The two moments around one step at which the machine can stop; failures come at the first."""

    def __init__(self, disk: VirtualDisk, path: Path) -> None:
        self._disk, self._path = disk, path

    def __enter__(self) -> Self:
        self._disk.tick()
        if self._disk.steps == self._disk.fail_at:
            raise DiskError(f"{self._path}: input/output error")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._disk.tick()


class VirtualFile:
    """Implements ``raftkv.storage.disk.File``."""

    def __init__(self, disk: VirtualDisk, path: Path, inode: _Inode) -> None:
        self._disk, self._path, self._inode = disk, path, inode

    def write_at(self, offset: int, data: Data) -> None:
        """See ``File``; what finds no room is written as far as there is some."""
        data = bytes(data)
        disk, inode = self._disk, self._inode
        with disk.step("write", self._path):
            grown = max(0, offset + len(data) - len(inode.current))
            over = disk.used() + grown - disk.limit_bytes if grown else 0
            if over > 0:
                inode.do(_Write(offset, data[: max(0, len(data) - over)]))
                raise DiskError(f"{self._path}: no space left on the device", full=True)
            inode.do(_Write(offset, data))

    def sync(self) -> None:
        """See ``File``; after a failure the cache counts as clean, as on Linux."""
        try:
            with self._disk.step("sync", self._path):
                self._inode.sync()
        except DiskError:
            self._inode.unsynced.clear()
            self._inode.has_failed = True
            raise

    def truncate(self, size_bytes: int) -> None:
        """See ``File``."""
        with self._disk.step("truncate", self._path):
            self._inode.do(_Resize(size_bytes))

    def renamed(self, path: Path) -> None:
        """See ``File``."""
        self._path = path

    def close(self) -> None:
        """See ``File``."""


class VirtualDisk:
    """``crash_at`` and ``fail_at`` count half steps: odd ones are before a step takes effect, even ones after.

    ``journal`` holds what was done, for tests.
    """

    def __init__(
        self, *, crash_at: int | None = None, fail_at: int | None = None, limit_bytes: int = UNLIMITED
    ) -> None:
        self.steps = 0
        self.crash_at = crash_at
        self.fail_at = fail_at
        self.limit_bytes = limit_bytes
        self.journal: list[str] = []
        self.names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._unsynced_names: list[_Link] = []

    @property
    def is_clean(self) -> bool:
        """Would everything that was written survive the loss of power?"""
        return not self._unsynced_names and all(inode.is_clean for inode in self.names.values())

    @property
    def is_sound(self) -> bool:
        """Has it room, and no failure ahead?"""
        return self.limit_bytes == UNLIMITED and self.crash_at is None and self.fail_at is None

    def tick(self) -> None:
        """One half step more; raises ``Crashed`` if it was to be the last."""
        self.steps += 1
        if self.steps == self.crash_at:
            raise Crashed

    def step(self, name: str, path: Path) -> _Half:
        """The surroundings of one step."""
        self.journal.append(f"{name} {path.name}")
        return _Half(self, path)

    def used(self) -> int:
        """Bytes of all files, holes included."""
        return sum([len(inode.current) for inode in self.names.values()])

    def after_crash(self, seed: int) -> VirtualDisk:
        """The disk as the next start finds it after the loss of power."""
        dice = random_module.Random(seed)
        names = dict(self._durable_names)
        for change in self._unsynced_names:
            if dice.random() < 0.5:
                change.apply(names)
        fresh = VirtualDisk(limit_bytes=self.limit_bytes)
        kept = {id(inode): inode.after_crash(dice) for inode in names.values()}
        fresh.names = {path: kept[id(inode)] for path, inode in names.items()}
        fresh._durable_names = dict(fresh.names)
        return fresh

    def copied(self) -> VirtualDisk:
        """A copy of all files as a program sees them, on a disk of its own, where it is durable."""
        copy = VirtualDisk()
        copy.names = {path: _Inode(inode.current) for path, inode in self.names.items()}
        copy._durable_names = dict(copy.names)
        return copy

    def _change(self, change: _Link) -> None:
        change.apply(self.names)
        self._unsynced_names.append(change)

    # --- what the log asks of a disk

    def make_directory(self, path: Path) -> None:
        """See ``Disk``."""

    def list(self, directory: Path) -> list[str]:
        """See ``Disk``."""
        return sorted(path.name for path in self.names if path.parent == directory)

    def read(self, path: Path) -> bytes:
        """See ``Disk``."""
        return bytes(self.names[path].current)

    def create(self, path: Path, preallocate_bytes: int) -> VirtualFile:
        """See ``Disk``."""
        with self.step("create", path):
            assert path not in self.names
            if self.used() + preallocate_bytes > self.limit_bytes:
                raise DiskError(f"{path}: no space left on the device", full=True)
            inode = _Inode()
            self._change(_Link(path, inode))
            inode.do(_Resize(preallocate_bytes))
        return VirtualFile(self, path, inode)

    def open_for_append(self, path: Path) -> VirtualFile:
        """See ``Disk``."""
        return VirtualFile(self, path, self.names[path])

    def rename(self, source: Path, target: Path) -> None:
        """See ``Disk``."""
        with self.step("rename", target):
            self._change(_Link(target, self.names[source], source))

    def remove(self, path: Path) -> None:
        """See ``Disk``."""
        with self.step("remove", path):
            self._change(_Link(path, None))

    def sync_directory(self, path: Path) -> None:
        """See ``Disk``."""
        with self.step("sync directory", path):
            self._durable_names = dict(self.names)
            self._unsynced_names.clear()

    def free_bytes(self, _path: Path) -> int:
        """See ``Disk``."""
        return self.limit_bytes - self.used()
