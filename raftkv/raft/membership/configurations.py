"""The configuration in force, which is the newest one in the log, committed or not.

It is in force as soon as it is appended (Raft thesis, section 4.1): a majority of it is what commits it, so whoever
waited for the commit would count by another one than the leader. It is undone when its entry is replaced, since an
uncommitted entry may be. A snapshot carries the one that was in force at its index, not the newest. A node that starts
reads the manifest and then the log before it takes part in anything, in elections least of all.

Until the first change there is none in the log: the list in the nodes' files is in force, and its index is 0.

Pure: told of the log, tells of changes. It imports ``formats`` and ``core``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from raftkv.core.voters import Voters
from raftkv.formats.configurations import Configuration, decode_configuration
from raftkv.formats.entries import MEMBERS
from raftkv.formats.raft_messages import Entry
from raftkv.formats.snapshots import Manifest
from raftkv.process.loggers import get_logger

log_line = get_logger("raftkv.raft")


class Configurations:
    """Those that the log holds, and the one before it; ``newest`` of them is in force.

    ``changed`` is called whenever another one is, from within the engine's own work on its log.
    """

    def __init__(self, founding: Configuration, manifest: Manifest | None, entries: Iterable[Entry]) -> None:
        """``founding`` is what the file says, ``manifest`` is the newest snapshot's, ``entries`` are the log's."""
        self.changed: Callable[[], None] = lambda: None
        self.founding = founding
        self._indexes: list[int] = []
        self._held: list[Configuration] = []
        self._begin(manifest)
        for command, index, _ in entries:
            if command[:1] == MEMBERS and index > self._indexes[-1]:
                self._add(index, command)

    @property
    def newest(self) -> Configuration:
        """The one in force."""
        return self._held[-1]

    @property
    def newest_index(self) -> int:
        """Where it stands in the log; 0 while it is the one that the cluster was founded with."""
        return self._indexes[-1]

    @property
    def last_two(self) -> tuple[Voters, ...]:
        """By whom is counted, and was before, if that is known."""
        return tuple([one.voters for one in self._held[-2:]])

    def at(self, index: int) -> tuple[int, Configuration]:
        """The one that was in force at ``index``, and where it stands."""
        place = max(0, bisect_right(self._indexes, index) - 1)
        return self._indexes[place], self._held[place]

    def appended(self, index: int, command: bytes) -> None:
        """An entry with a configuration was appended."""
        self._add(index, command)
        self.changed()

    def truncated(self, index: int) -> None:
        """The entries from ``index`` on are gone from the log."""
        if self._indexes[-1] < index:
            return
        while self._indexes[-1] >= index and len(self._indexes) > 1:
            del self._indexes[-1], self._held[-1]
        log_line.warning("a change of members was not committed and is undone", index=index)
        self.changed()

    def installed(self, manifest: Manifest) -> None:
        """A snapshot took the place of the log."""
        self._begin(manifest)
        self.changed()

    def _begin(self, manifest: Manifest | None) -> None:
        self._indexes, self._held = [0], [self.founding]
        if manifest is not None and manifest.configuration and manifest.configuration_index:
            self._indexes, self._held = [manifest.configuration_index], [manifest.configuration]

    def _add(self, index: int, command: bytes) -> None:
        self._indexes.append(index)
        self._held.append(decode_configuration(memoryview(command)[1:]))
