"""The journal that PySyncObj sees: its interface in the library's words, answered by ``raftkv.storage.log.log.Log``.

Nothing is decided here and nothing is flushed here: the replica flushes the log before anything leaves the node. What
comes and goes of configurations is told at once, since they are in force as long as they stand in the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.formats.entries import MEMBERS
from raftkv.formats.raft_messages import Entry
from raftkv.raft.membership.configurations import Configurations
from raftkv.storage.log.log import Log


class LogJournal:
    """Adapts ``Log`` to PySyncObj's ``Journal``; positions count from the first entry held."""

    def __init__(self, log: Log, configurations: Configurations) -> None:
        self._log = log
        self._configurations = configurations

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append one entry."""
        self._log.append(command, idx, term)
        if command[:1] == MEMBERS:
            self._configurations.appended(idx, command)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop the entries from position ``entryFrom`` on."""
        index = self._log.first_index + entryFrom
        self._log.truncate_from(index)
        self._configurations.truncated(index)

    def __getitem__(self, item: int | slice) -> Entry | Sequence[Entry]:
        return self._log.entries[item]

    def __len__(self) -> int:
        return len(self._log)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Remember the commit index; it goes to disk with the next flush."""
        self._log.set_commit(raftCommitIndex)

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """The commit index, never beyond the log and at least that of the entry every log begins with."""
        return max(1, self._log.commit_index)

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Record term and vote."""
        self._log.set_vote(term, votedForNodeId)

    def getCurrentTerm(self) -> int:  # noqa: N802
        """The term on record."""
        return self._log.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Whom this node voted for in that term."""
        return self._log.voted_for

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """The library's chance for periodic writes; we need none."""

    def _destroy(self) -> None:
        """The log belongs to the replica, which closes it."""
