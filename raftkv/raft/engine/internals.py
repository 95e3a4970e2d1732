"""PySyncObj as the rest of the package sees it. Every private name of the library is touched here, and named here.

The library is pinned to one version, checked at start-up, because these names are no interface. What is replaced, and
why (numbers are those of ``docs/pysyncobj.rst``):

- ``createJournal`` hands through our journal (1 to 5); ``PipeNotifier`` and the poller are left out, because the
  replica's own loop waits for events; the serializer never writes, forks or sends, snapshots are ours (9, 11, 12, 16,
  18, 23).
- ``__doApplyCommand`` applies opaque bytes. Nothing is ever unpickled, neither from a peer nor from the disk (19).
- ``monotonicTime`` and ``random`` are those handed in, so that a simulator can drive the library.

Rules: no protocol decisions in this module; each accessor does one thing.
"""

from __future__ import annotations

import random as random_module
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pysyncobj
from pysyncobj import SyncObj, SyncObjConf, syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from raftkv.core.errors import StartupError
from raftkv.formats.entries import MEMBERS, REGULAR

PINNED_VERSION = "0.3.17"
FOREVER = 10**12

FOLLOWER, CANDIDATE, LEADER = "follower", "candidate", "leader"
_ROLES = (FOLLOWER, CANDIDATE, LEADER)

PRIVATE_NAMES = (
    "_SyncObj__raftState",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__raftLeader",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftLog",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftNextIndex",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__serializer",
    "_SyncObj__noopIDx",
    "_SyncObj__otherNodes",
    "_SyncObj__readonlyNodes",
    "_SyncObj__lastResponseTime",
    "_SyncObj__sendAppendEntries",
)


class Journal(Protocol):
    """What PySyncObj asks of a journal; ``raftkv.raft.engine.journal`` answers it from our log."""

    def add(self, command: bytes, idx: int, term: int) -> None: ...
    def deleteEntriesFrom(self, entryFrom: int) -> None: ...  # noqa: N802, N803  the library's name
    def __getitem__(self, item: int | slice) -> Any: ...
    def __len__(self) -> int: ...


class StableNode(Node):  # type: ignore[misc]
    """A node whose hash does not depend on the process: the library iterates over sets of nodes."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self._hash = zlib.crc32(peer.encode())

    def __hash__(self) -> int:
        return self._hash


class Nodes(dict[str, StableNode]):
    """The library's objects for nodes, by id; made when one is first heard of."""

    def __missing__(self, peer: str) -> StableNode:
        node = self[peer] = StableNode(peer)
        return node


class _IdlePoller:
    """The replica's loop waits for events itself."""

    def poll(self, timeout: float) -> None:
        """Return at once."""


class _IdleSerializer:
    """Snapshots are written, sent and installed by us; the library only learns of their effect."""

    def checkSerializing(self) -> tuple[int, None]:  # noqa: N802
        return 0, None

    def getTransmissionData(self, _transmission: object) -> None:  # noqa: N802
        return None

    def cancelTransmisstion(self, _transmission: object) -> None:  # noqa: N802
        return None


def use_sources(clock: Callable[[], float], random: random_module.Random) -> None:
    """Let every PySyncObj object of this process tell time by ``clock`` (seconds) and draw from ``random``."""
    syncobj.monotonicTime = clock
    syncobj.random = random
    syncobj.PIPE_NOTIFIER_ENABLED = False
    syncobj.createJournal = lambda journal: journal


def check_version() -> None:
    """Refuse to run on a PySyncObj whose private names were not verified."""
    if VERSION != PINNED_VERSION:
        raise StartupError(f"raftkv needs pysyncobj {PINNED_VERSION}, found {VERSION} at {pysyncobj.__file__}")


class Core(SyncObj):  # type: ignore[misc]
    """One PySyncObj object: elections and log replication, without I/O, threads, pickles or snapshots of its own."""

    def __init__(
        self,
        *,
        node_id: str,
        nodes: Nodes,
        voters: Iterable[str],
        learners: Iterable[str],
        journal: Journal,
        transport: Transport,
        election_timeout_s: float,
        heartbeat_s: float,
        largest_command_bytes: int,
        apply: Callable[[int, int, bytes], None],
        is_up: Callable[[str], bool],
    ) -> None:
        check_version()
        self.apply_entry = apply
        self._peers = nodes
        self._is_up = is_up
        conf = SyncObjConf(
            autoTick=False,
            journalFile=journal,
            raftMinTimeout=election_timeout_s,
            raftMaxTimeout=2 * election_timeout_s,
            appendEntriesPeriod=heartbeat_s,
            connectionTimeout=4 * election_timeout_s,
            leaderFallbackTimeout=election_timeout_s,
            appendEntriesUseBatch=True,
            appendEntriesBatchSizeBytes=largest_command_bytes + 1,
            commandsWaitLeader=False,
            logCompactionMinEntries=FOREVER,
            logCompactionMinTime=FOREVER,
            useFork=False,
        )
        super().__init__(StableNode(node_id), [nodes[peer] for peer in voters], conf, transport=transport)
        missing = [name for name in PRIVATE_NAMES if not hasattr(self, name)]
        if missing:
            raise StartupError(f"pysyncobj {VERSION} lacks {', '.join(missing)}")
        self._poller = _IdlePoller()
        self._SyncObj__serializer = _IdleSerializer()
        self.set_peers(voters, learners)

    def set_peers(self, voters: Iterable[str], learners: Iterable[str]) -> None:
        """From now on ``voters``, with this node, decide; both they and ``learners`` are sent what they lack.

        A learner is what the library calls a readonly node: it is sent everything and counts nowhere.
        """
        before: set[StableNode] = self.otherNodes | self.readonlyNodes
        self._SyncObj__otherNodes = {self._peers[peer] for peer in voters}
        self._SyncObj__readonlyNodes = {self._peers[peer] for peer in learners}
        for node in (self.otherNodes | self.readonlyNodes) - before:
            self._SyncObj__raftNextIndex[node] = self.last_index + 1
            self._SyncObj__raftMatchIndex[node] = 0
            self._SyncObj__lastResponseTime[node] = syncobj.monotonicTime()

    def answered_at_s(self, peer: str) -> float:
        """On the leader: when ``peer`` last acknowledged anything, by the clock that the engine was given."""
        return float(self._SyncObj__lastResponseTime.get(self._peers[peer], float("-inf")))

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802  replaces the library's method of that name
        index = self._SyncObj__raftLastApplied + 1
        self.apply_entry(index, self.term_at(index), command)

    @property
    def role(self) -> str:
        """``follower``, ``candidate`` or ``leader``, as this node believes."""
        return _ROLES[self._SyncObj__raftState]

    @property
    def is_leader(self) -> bool:
        """Does this node believe that it leads? Proves nothing about the others."""
        return bool(self._isLeader())

    @property
    def leader_id(self) -> str | None:
        """The leader this node follows or is."""
        leader = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        """The highest log index known to be committed."""
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        """The highest log index applied."""
        return int(self._SyncObj__raftLastApplied)

    @property
    def first_index(self) -> int:
        """The first index still in the log."""
        return int(self._SyncObj__raftLog[0][1])

    @property
    def last_index(self) -> int:
        """The last index in the log."""
        return int(self._SyncObj__raftLog[-1][1])

    @property
    def last_term(self) -> int:
        """The term of the last entry in the log."""
        return int(self._SyncObj__raftLog[-1][2])

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index``, which must be in the log."""
        return int(self._SyncObj__raftLog[index - self.first_index][2])

    @property
    def leads_committed_term(self) -> bool:
        """Has this leader committed an entry of its own term? Only then is its commit index the cluster's."""
        return self.is_leader and self.commit_index >= self._SyncObj__noopIDx

    def match_index(self, peer: str) -> int:
        """On the leader: up to which index ``peer`` is known to hold the same log."""
        return int(self._SyncObj__raftMatchIndex.get(self._peers[peer], 0))

    def match_indexes(self) -> dict[str, int]:
        """The same of every follower that is connected; empty if this node does not lead."""
        if not self.is_leader:
            return {}
        members = sorted(node.id for node in self.otherNodes | self.readonlyNodes)
        return {peer: self.match_index(peer) for peer in members if self._is_up(peer)}

    def forget_match(self, peer: str) -> None:
        """On the leader: nothing is known to be on the disk of ``peer`` any more."""
        self._SyncObj__raftMatchIndex[self._peers[peer]] = 0

    def next_index(self, peer: str) -> int:
        """On the leader: what goes to ``peer`` next."""
        return int(self._SyncObj__raftNextIndex.get(self._peers[peer], 0))

    def set_next_index(self, peer: str, index: int) -> None:
        """On the leader: go on with ``peer`` from ``index``."""
        self._SyncObj__raftNextIndex[self._peers[peer]] = index

    @property
    def election_deadline_s(self) -> float:
        """When this node stands for election unless it hears from a leader."""
        return float(self._SyncObj__raftElectionDeadline)

    @election_deadline_s.setter
    def election_deadline_s(self, deadline_s: float) -> None:
        self._SyncObj__raftElectionDeadline = deadline_s

    def tick(self) -> None:
        """Count acknowledgements, commit, apply, stand for election, send heartbeats: whatever is due."""
        self.doTick(0)

    def send_appends(self) -> None:
        """As leader, send every peer what it lacks, or a heartbeat."""
        self._SyncObj__sendAppendEntries()

    def _checkCommandsToApply(self) -> None:  # noqa: N802  replaces the library's method of that name
        """Nothing waits in the library's queue: commands go straight into the log."""

    def append(self, *command: bytes) -> tuple[int, int]:
        """As leader, put the parts of a command into the log; returns its (index, term)."""
        return self._append(b"".join((REGULAR, *command)))

    def append_configuration(self, body: bytes) -> int:
        """As leader, put a configuration into the log, where it is in force at once; returns its index."""
        return self._append(MEMBERS + body)[0]

    def _append(self, entry: bytes) -> tuple[int, int]:
        assert self.is_leader
        index, term = self.last_index + 1, self.term
        self._SyncObj__raftLog.add(entry, index, term)
        return index, term

    def resume(self, applied_index: int) -> None:
        """Take up the work at start: the state already holds everything up to ``applied_index``."""
        self._SyncObj__raftLastApplied = max(1, applied_index)
        self._SyncObj__raftCommitIndex = max(self.commit_index, self.applied_index)
        assert self.commit_index <= self.last_index

    def jump(self, index: int) -> None:
        """A snapshot at ``index`` was installed: the log begins there, everything up to it is applied."""
        assert self.last_index == index
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = index

    def adopt_term(self, peer: str, term: int) -> None:
        """Learn of a newer ``term`` and follow, without granting a vote: a vote request that nobody could grant."""
        request = {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1}
        self._SyncObj__onMessageReceived(self._peers[peer], request)
