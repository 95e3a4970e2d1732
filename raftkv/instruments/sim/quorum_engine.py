"""The engine of a simulated leaderless replica: in memory, and kept by its machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from raftkv.formats.rows import TABLES
from raftkv.instruments.sim.disk import UNLIMITED
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.engines.port import Batch

_PATH: Final = Path("/store")


class SimulatedEngine(MemoryEngine):
    """An engine whose commits are steps of the machine's disk.

    A batch that found no room is gone for this life, and comes to light at the next start, or not: as with a
    write-ahead log whose last record was written but not synced.
    """

    def __init__(self, machine: SimulatedMachine) -> None:
        super().__init__(TABLES)
        self._machine = machine
        self._doubtful: dict[tuple[bytes, bytes], bytes | None] = {}

    def commit(self, batch: Batch) -> None:
        """See ``StorageEngine``."""
        batch, disk = list(batch), self._machine.disk
        with disk.step("commit", _PATH):
            size_bytes = sum(len(key) + len(value or b"") for _, key, value in batch)
            if disk.limit_bytes < UNLIMITED:
                if disk.limit_bytes < size_bytes:
                    self._doubtful.update({(table, key): value for table, key, value in batch})
                    raise DiskError("no space left on the device", full=True)
                disk.limit_bytes -= size_bytes
            super().commit(batch)
        for table, key, _ in batch:
            self._doubtful.pop((table, key), None)

    def copied(self) -> SimulatedEngine:
        """A copy of what is on the disk."""
        copy = SimulatedEngine(self._machine)
        for table in TABLES:
            MemoryEngine.commit(copy, [(table, *row) for row in self.scan(table, b"", None)])
        copy._doubtful = dict(self._doubtful)
        return copy

    def begin_life(self) -> None:
        """A process opens the engine."""
        doubtful, self._doubtful = self._doubtful, {}
        if doubtful and self._machine.random.random() < 0.5:
            super().commit([(table, key, value) for (table, key), value in doubtful.items()])
