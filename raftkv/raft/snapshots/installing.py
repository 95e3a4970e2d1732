"""Snapshots as messages, and putting one in the place of log and state.

How they are made and how they move is ``Transfers``; here it is judged whether one that is offered is needed at all,
and what else changes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.raft_messages import AppendAnswer, SnapshotChunk, SnapshotOffer, SnapshotProgress
from raftkv.formats.snapshots import Manifest
from raftkv.process.loggers import get_logger
from raftkv.raft.applied import AppliedMachine
from raftkv.raft.membership.configurations import Configurations
from raftkv.raft.ports import Handlers, Leading, Outgoing
from raftkv.raft.snapshots.transfer import Transfers, base_entries, holds
from raftkv.raft.writing.proposals import Proposals
from raftkv.storage.log.log import Log

log_line = get_logger("raftkv.raft")


class ReplaceableLog(Leading, Protocol):
    """Where the engine stands in the log, and may be set to stand."""

    leader_id: str | None
    commit_index: int
    applied_index: int

    def jump(self, index: int) -> None:
        """The log begins at ``index`` now, and everything up to it is applied."""


@dataclass(kw_only=True, eq=False, repr=False)
class Installing:
    """One node's part in moving snapshots."""

    configurations: Configurations
    core: ReplaceableLog
    outgoing: Outgoing
    log: Log
    transfers: Transfers
    applied: AppliedMachine
    proposals: Proposals

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {SnapshotOffer: self._on_offer, SnapshotChunk: self._on_chunk, SnapshotProgress: self._on_progress}

    def work(self, now_s: float) -> None:
        """Take and move snapshots; install one that was loaded, if it is still needed."""
        core = self.core
        loaded = self.transfers.step(core.applied_index, now_s)
        if loaded is None:
            return
        manifest, directory = loaded
        if manifest.index <= self.common_with(manifest):
            self.applied.state.discard(directory)
            return
        previous, last = base_entries(manifest)
        self.log.reset(previous, last)
        self.configurations.installed(manifest)
        self.transfers.recount()
        core.jump(manifest.index)
        self.applied.take_over(directory, manifest.index)
        self.proposals.overtaken()
        log_line.info("snapshot installed", index=manifest.index, rows=manifest.rows)
        if core.leader_id is not None and not core.is_leader:
            self._acknowledge(core.leader_id, manifest.index)

    def common_with(self, manifest: Manifest) -> int:
        """Up to which index our log is known to equal that of whoever made the snapshot (Raft, sections 5.3, 5.4)."""
        if holds(self.log, manifest.index, manifest.term):
            return max(self.core.commit_index, manifest.index)
        return self.core.commit_index

    def _acknowledge(self, leader: str, index: int) -> None:
        answer = AppendAnswer(term=self.core.term, sequence=0, next_index=index + 1, success=True, reset=False)
        self.outgoing.post(leader, answer)

    def _on_offer(self, peer: str, offer: SnapshotOffer, _now_s: float) -> None:
        if offer.term != self.core.term or self.core.leader_id != peer:
            return
        manifest = offer.manifest
        founding = self.configurations.founding.voters.names
        if not manifest.configuration and founding and manifest.members != founding:
            raise MalformedMessageError("a snapshot of another membership")
        common = self.common_with(manifest)
        if manifest.index <= common:
            self._acknowledge(peer, common)
        else:
            self.transfers.offered(peer, offer)

    def _on_chunk(self, peer: str, chunk: SnapshotChunk, _now_s: float) -> None:
        if chunk.term == self.core.term:
            self.transfers.received(peer, chunk)

    def _on_progress(self, peer: str, progress: SnapshotProgress, now_s: float) -> None:
        if self.core.is_leader and progress.term == self.core.term:
            self.transfers.progressed(peer, progress, now_s)
