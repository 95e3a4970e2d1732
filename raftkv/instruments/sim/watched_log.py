"""The real log, which also remembers what of it was changed, so that invariants need not look at all of it."""

from __future__ import annotations

from typing import Final

from raftkv.formats.segments import Entry
from raftkv.storage.log.log import Log

UNTOUCHED: Final = 1 << 62
"""Above every index."""


class WatchedLog(Log):
    """The log, and the lowest indexes that were written, and cut off, since somebody looked."""

    touched_index = 1
    cut_index = UNTOUCHED

    def truncate_from(self, index: int) -> None:
        """See ``Log``."""
        if index <= self.last_index:
            self.cut_index = min(self.cut_index, index)
        super().truncate_from(index)

    def append(self, command: bytes, index: int, term: int) -> None:
        """See ``Log``."""
        super().append(command, index, term)
        self.touched_index = min(self.touched_index, index)

    def reset(self, previous: Entry, last: Entry) -> None:
        """See ``Log``."""
        super().reset(previous, last)
        self.touched_index = last[1]
