"""A disk in memory that loses what was not synced, tears writes, fills up, fails, and crashes before or after any step.

It implements ``raftkv.storage.disk.Disk``. Files and names have a *current* state, which the running program sees, and
a *durable* one with the steps since then; ``after_crash`` keeps any subset of those steps.
"""

import random
from pathlib import Path

from raftkv.storage.disk import DiskError

SECTOR = 512


class Crashed(BaseException):
    """The machine stopped here."""


class Inode:
    def __init__(self):
        self.durable = b""
        self.current = bytearray()
        self.unsynced = []  # ("write", offset, data) | ("resize", size)

    def apply(self, content, step):
        if step[0] == "resize":
            size = step[1]
            del content[size:]
            content.extend(bytes(size - len(content)))
            return
        _, offset, data = step
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def do(self, step):
        self.apply(self.current, step)
        self.unsynced.append(step)

    def after_crash(self, dice):
        kept = Inode()
        content = bytearray(self.durable)
        for step in self.unsynced:
            fate = dice.choice(("keep", "lose", "prefix", "sectors"))
            if fate == "keep":
                self.apply(content, step)
            elif step[0] == "write" and fate == "prefix":
                self.apply(content, ("write", step[1], step[2][: dice.randrange(len(step[2]) + 1)]))
            elif step[0] == "write" and fate == "sectors":
                for piece in _sectors(step[1], step[2]):
                    if dice.random() < 0.5:
                        self.apply(content, piece)
        kept.durable, kept.current = bytes(content), content
        return kept


def _sectors(offset, data):
    position = 0
    while position < len(data):
        end = min(len(data), position + SECTOR - (offset + position) % SECTOR)
        yield ("write", offset + position, data[position:end])
        position = end


class VirtualFile:
    def __init__(self, disk, path, inode):
        self.disk, self.path, self.inode = disk, path, inode

    def write_at(self, offset, data):
        data = bytes(data)
        with self.disk.step(f"write {self.path.name}", self.path):
            grown = max(0, offset + len(data) - len(self.inode.current))
            if self.disk.used() + grown > self.disk.limit_bytes:
                room = max(0, len(data) - (self.disk.used() + grown - self.disk.limit_bytes))
                self.inode.do(("write", offset, data[:room]))
                raise DiskError(f"{self.path}: no space left on the device", full=True)
            self.inode.do(("write", offset, data))

    def sync(self):
        try:
            with self.disk.step(f"sync {self.path.name}", self.path):
                for step in self.inode.unsynced:
                    content = bytearray(self.inode.durable)
                    self.inode.apply(content, step)
                    self.inode.durable = bytes(content)
                self.inode.unsynced.clear()
        except DiskError:
            # As Linux does: what could not be written is still read from the cache, and counts as clean.
            self.inode.unsynced.clear()
            raise

    def truncate(self, size_bytes):
        with self.disk.step(f"truncate {self.path.name}", self.path):
            self.inode.do(("resize", size_bytes))

    def close(self):
        pass


class Step:
    def __init__(self, disk, path):
        self.disk, self.path = disk, path

    def __enter__(self):
        self.disk.tick()
        if self.disk.steps == self.disk.fail_at:
            raise DiskError(f"{self.path}: input/output error")

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.disk.tick()


class VirtualDisk:
    """``crash_at`` and ``fail_at`` count half steps: odd ones are before a step takes effect, even ones after."""

    def __init__(self, *, crash_at=None, fail_at=None, limit_bytes=1 << 40):
        self.durable_names, self.names, self.unsynced_names = {}, {}, []
        self.steps, self.crash_at, self.fail_at, self.limit_bytes = 0, crash_at, fail_at, limit_bytes
        self.journal = []

    def tick(self):
        self.steps += 1
        if self.steps == self.crash_at:
            raise Crashed

    def step(self, name, path):
        self.journal.append(name)
        return Step(self, path)

    def used(self):
        return sum(len(inode.current) for inode in self.names.values())

    def after_crash(self, seed):
        """The disk as the next start finds it."""
        dice = random.Random(seed)
        names = dict(self.durable_names)
        for change in self.unsynced_names:
            if dice.random() < 0.5:
                _rename(names, change)
        fresh = VirtualDisk(limit_bytes=self.limit_bytes)
        kept = {id(inode): inode.after_crash(dice) for inode in names.values()}
        fresh.names = {path: kept[id(inode)] for path, inode in names.items()}
        fresh.durable_names = dict(fresh.names)
        return fresh

    def _change(self, change):
        _rename(self.names, change)
        self.unsynced_names.append(change)

    def make_directory(self, path):
        pass

    def list(self, directory):
        return sorted(path.name for path in self.names if path.parent == directory)

    def read(self, path):
        return bytes(self.names[path].current)

    def create(self, path, preallocate_bytes):
        with self.step(f"create {path.name}", path):
            assert path not in self.names
            if self.used() + preallocate_bytes > self.limit_bytes:
                raise DiskError(f"{path}: no space left on the device", full=True)
            inode = Inode()
            self._change(("link", path, inode))
            inode.do(("resize", preallocate_bytes))
        return VirtualFile(self, path, inode)

    def open_for_append(self, path):
        return VirtualFile(self, path, self.names[path])

    def rename(self, source, target):
        with self.step(f"rename {target.name}", source):
            self._change(("rename", source, target, self.names[source]))

    def remove(self, path):
        with self.step(f"remove {path.name}", path):
            self._change(("unlink", path))

    def sync_directory(self, path):
        with self.step("sync directory", path):
            self.durable_names = dict(self.names)
            self.unsynced_names.clear()

    def free_bytes(self, path):
        return self.limit_bytes - self.used()


def _rename(names, change):
    match change:
        case ("link", path, inode):
            names[path] = inode
        case ("unlink", path):
            names.pop(path, None)
        case ("rename", source, target, inode):
            names.pop(source, None)
            names[target] = inode


LOG_DIRECTORY = Path("/log")
