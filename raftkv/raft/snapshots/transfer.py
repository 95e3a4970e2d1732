"""Snapshots on the move: taken in the background, sent to a peer that is too far behind, received and installed.

PySyncObj's own way (chunks that carry a commit index, a dump written by a fork of the process) is not used (9, 11, 12,
18, 23). A body travels in chunks of our own, a few at a time, each acknowledged; it is verified and durable before it
counts; another process loads it into a fresh state while this node goes on answering its leader.

Rules: one snapshot is written at a time and one received at a time; nothing here blocks; the log is cut only behind a
published snapshot, and no further than followers need (``raftkv.raft.snapshots.retention``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from raftkv.formats.entries import NO_OP
from raftkv.formats.raft_messages import Entry, Message, SnapshotChunk, SnapshotOffer, SnapshotProgress
from raftkv.formats.snapshots import Manifest
from raftkv.process.loggers import get_logger
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.membership.configurations import Configurations
from raftkv.raft.ports import Receiving, Snapshots
from raftkv.raft.snapshots.retention import Retention
from raftkv.storage.disk import DiskError
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import SnapshotFailedError

CHUNK_BYTES: Final = 256 << 10
WINDOW_CHUNKS: Final = 8
"""Chunks sent ahead of the receiver's acknowledgement: 2 MiB, enough to keep a local network busy."""

OFFER_AGAIN_S: Final = 5.0
"""A transfer without progress for this long is offered anew."""

RETRY_WRITE_S: Final = 30.0
"""After a snapshot could not be written, wait this long before the next try."""

ABSENT_S: Final = 30.0
"""A transfer whose connection broke may go on within this time: so long the log is kept for it."""

CUT_AGAIN_S: Final = 1.0
"""How often to see whether entries that were kept for a follower may go."""

log_line = get_logger("raftkv.raft")


class _Sending(msgspec.Struct, kw_only=True):
    manifest: Manifest
    moved_at_s: float
    sent: int = 0
    down_since_s: float = 0.0


class _Incoming(msgspec.Struct, kw_only=True):
    manifest: Manifest
    offset: int
    receiving: Receiving


def base_entries(manifest: Manifest) -> tuple[Entry, Entry]:
    """The two entries a log begins with behind this snapshot; the first is never sent, only its term counts."""
    previous = (NO_OP, manifest.index - 1, manifest.previous_term)
    return previous, (manifest.last_command, manifest.index, manifest.term)


def holds(log: Log, index: int, term: int) -> bool:
    """Does ``log`` hold the entry at ``index`` of ``term``? Then it is the same up to there (Raft, section 5.3)."""
    if len(log) == 0 or not log.first_index <= index <= log.last_index:
        return False
    return log.entry(index)[2] == term


class Transfers:
    """Everything that happens to snapshots on one node while it runs."""

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        log: Log,
        configurations: Configurations,
        entries_between: int,
        log_bytes: int,
        trailing_entries: int,
        match_indexes: Callable[[], Mapping[str, int]],
        post: Callable[[str, Message], None],
        state_directory: Callable[[], Path],
        fresh_directory: Callable[[], Path],
        has_room: Callable[[], bool],
        measures: RaftMeasures,
    ) -> None:
        """``has_room`` says whether the disk bears the segment with which a snapshot begins."""
        self._snapshots = snapshots
        self._log = log
        self._configurations = configurations
        self._entries_between = entries_between
        self._log_bytes = log_bytes
        self._retention = Retention(log, trailing_entries=trailing_entries, snapshot_log_bytes=log_bytes)
        self._match_indexes = match_indexes
        self._post = post
        self._state_directory = state_directory
        self._fresh_directory = fresh_directory
        self._has_room = has_room
        self._measures = measures
        self._writing = False
        self._has_rotated = False
        self._writing_since_s = 0.0
        self._receiving_since_s: float | None = None
        self._write_not_before_s = 0.0
        self._sending: dict[str, _Sending] = {}
        self._kept_for_followers = False
        self._cut_at_s = float("-inf")
        self._incoming: _Incoming | None = None
        self._loading: tuple[Manifest, Path] | None = None
        self.recount()

    @property
    def newest_index(self) -> int:
        """The index of the newest snapshot, 0 while there is none."""
        newest = self._snapshots.newest
        return 0 if newest is None else newest.index

    # --- taking snapshots

    def step(self, applied_index: int, now_s: float) -> tuple[Manifest, Path] | None:
        """Start and finish what is due; returns a snapshot that was loaded and may now be installed."""
        if self._writing:
            self._finish_write(now_s)
        elif self._due(applied_index) and now_s >= self._write_not_before_s and self._loading is None:
            self._start_write(now_s)
        if self._kept_for_followers and now_s >= self._cut_at_s + CUT_AGAIN_S:
            self._cut(now_s)
        return self._finish_load(now_s)

    def _start_write(self, now_s: float) -> None:
        """Begin, at a new segment where the disk bears one, so that all before it can go.

        Once for all that are tried: those that fail may be many, and a log that cannot be written stops the node.
        """
        if not self._has_rotated and self._has_room():
            self._log.rotate()
            self._has_rotated = True
        try:
            self._snapshots.start_write(self._state_directory())
        except (OSError, DiskError) as error:
            self._write_failed(error, now_s)
        else:
            self._writing = True
            self._writing_since_s = now_s

    def _finish_load(self, now_s: float) -> tuple[Manifest, Path] | None:
        if self._loading is None and self._incoming is None:
            self._receiving_since_s = None
        elif self._receiving_since_s is None:
            self._receiving_since_s = now_s
        if self._loading is None:
            return None
        try:
            if not self._snapshots.poll_load():
                return None
        except SnapshotFailedError as error:
            # The snapshot stays published and the node a follower that is behind; the leader will offer one again.
            log_line.warning("snapshot not loaded", reason=str(error))
            self._loading = None
            return None
        loaded, self._loading = self._loading, None
        if self._receiving_since_s is not None:
            self._measures.snapshot_install.observe(now_s - self._receiving_since_s)
        return loaded

    def _due(self, applied_index: int) -> bool:
        newest = self._snapshots.newest
        covered = newest.index if newest is not None else 1
        if applied_index <= covered:
            return False
        fresh_bytes = self._log.size_bytes - self._covered_bytes
        return applied_index - covered >= self._entries_between or fresh_bytes > self._log_bytes

    def _finish_write(self, now_s: float) -> None:
        try:
            written = self._snapshots.poll_write()
        except SnapshotFailedError as error:
            self._writing = False
            self._write_failed(error, now_s)
            return
        if written is None:
            return
        self._writing = self._has_rotated = False
        newest = self._snapshots.newest
        if newest is not None and written.index <= newest.index:
            return  # a received snapshot overtook this one
        if written.index <= self._log.first_index:
            return
        previous_term = self._log.entry(written.index - 1)[2]
        command, _, term = self._log.entry(written.index)
        assert term == written.term, "the state and the log disagree about a term"
        place, configuration = self._configurations.at(written.index)
        self._snapshots.publish(
            written,
            previous_term=previous_term,
            last_command=command,
            members=configuration.voters.names,
            configured=(place, configuration) if place else None,
        )
        self._measures.snapshot_make.observe(now_s - self._writing_since_s)
        self._cut(now_s)

    def _write_failed(self, error: Exception, now_s: float) -> None:
        self._write_not_before_s = now_s + RETRY_WRITE_S
        log_line.warning("snapshot failed", reason=str(error))

    def _cut(self, now_s: float) -> None:
        """Drop what the newest snapshot covers, except what is kept for followers."""
        self._cut_at_s = now_s
        newest = self._snapshots.newest
        assert newest is not None
        needed = self._needed(now_s)
        self._kept_for_followers = any(index < newest.index for index in needed)
        self._log.drop_before(self._retention.keep_from(newest.index, needed))
        self.recount()

    def _needed(self, now_s: float) -> list[int]:
        """The index each follower has reached, or will have with its snapshot; only the leader knows any.

        Followers without a connection do not count, unless they may come back to a transfer that goes on.
        """
        newest = self._snapshots.newest
        assert newest is not None
        reached = dict(self._match_indexes())
        for peer, sending in list(self._sending.items()):
            connected = peer in reached
            if reached.get(peer, 0) >= newest.index or not (connected or now_s - sending.down_since_s <= ABSENT_S):
                del self._sending[peer]
            else:
                reached[peer] = max(reached.get(peer, 0), sending.manifest.index)
        self._snapshots.keep_open([sending.manifest for sending in self._sending.values()])
        return [index for index in reached.values() if index]

    def recount(self) -> None:
        """There is a new snapshot, or the log was begun anew behind one: see how much of it the snapshot covers."""
        newest = self._snapshots.newest
        fresh = 0 if newest is None else max(0, newest.index + 1 - self._log.first_index)
        fresh_bytes = sum([len(entry[0]) for entry in self._log.slice(fresh, len(self._log))])
        self._covered_bytes = self._log.size_bytes - fresh_bytes

    # --- sending

    def offer(self, peer: str, term: int, now_s: float) -> None:
        """``peer`` needs entries that the log no longer holds; offer it a snapshot, unless one is moving.

        A transfer that was broken off goes on with the same snapshot as long as the log continues it.
        """
        sending = self._sending.get(peer)
        if sending is not None and now_s - sending.moved_at_s < OFFER_AGAIN_S:
            return
        manifest = self._snapshots.newest
        assert manifest is not None, "the log was cut without a snapshot"
        if sending is not None and sending.manifest.index >= self._log.first_index:
            manifest = sending.manifest
        self._sending[peer] = _Sending(manifest=manifest, moved_at_s=now_s)
        self._post(peer, SnapshotOffer(term=term, manifest=manifest))

    def progressed(self, peer: str, progress: SnapshotProgress, now_s: float) -> None:
        """``peer`` has the body up to an offset: send on."""
        sending = self._sending.get(peer)
        if sending is None or sending.manifest.index != progress.index:
            return
        manifest, sending.moved_at_s = sending.manifest, now_s
        sending.sent = max(sending.sent, progress.offset)
        ahead = min(manifest.body_bytes, progress.offset + WINDOW_CHUNKS * CHUNK_BYTES)
        while sending.sent < ahead:
            try:
                data = self._snapshots.read_body(manifest, sending.sent, CHUNK_BYTES)
            except SnapshotFailedError:
                del self._sending[peer]  # a newer one took its place before it was opened; that is offered next
                return
            chunk = SnapshotChunk(term=progress.term, index=manifest.index, offset=sending.sent, data=data)
            self._post(peer, chunk)
            sending.sent += len(data)

    def link_down(self, peer: str, now_s: float) -> None:
        """The connection to ``peer`` is gone, and with it what was on its way; it is offered again."""
        sending = self._sending.get(peer)
        if sending is not None:
            sending.moved_at_s, sending.down_since_s = float("-inf"), now_s

    def stop_sending(self) -> None:
        """Forget every transfer: another node leads."""
        self._sending.clear()
        self._snapshots.keep_open(())

    # --- receiving

    def offered(self, peer: str, offer: SnapshotOffer) -> None:
        """A leader offers a snapshot that this node needs: begin, or go on where it stands."""
        manifest = offer.manifest
        if self._loading is not None:
            offset = manifest.body_bytes if self._loading[0] == manifest else 0
            self._post(peer, SnapshotProgress(term=offer.term, index=manifest.index, offset=offset))
            return
        if self._incoming is None or self._incoming.manifest != manifest:
            self.abort_incoming()
            try:
                receiving = self._snapshots.begin_receive(manifest)
            except DiskError as error:
                log_line.warning("snapshot not received", reason=str(error), peer=peer)
                return
            self._incoming = _Incoming(manifest=manifest, offset=0, receiving=receiving)
        self._progress(peer, offer.term)

    def received(self, peer: str, chunk: SnapshotChunk) -> None:
        """A piece of the body; anything but the next one is ignored, the sender learns where we stand."""
        incoming = self._incoming
        if incoming is None or incoming.manifest.index != chunk.index or incoming.offset != chunk.offset:
            return
        try:
            incoming.receiving.write(chunk.offset, chunk.data)
        except (SnapshotFailedError, DiskError) as error:
            self._refuse_incoming(peer, error)
            return
        incoming.offset += len(chunk.data)
        self._progress(peer, chunk.term)

    def _progress(self, peer: str, term: int) -> None:
        incoming = self._incoming
        assert incoming is not None
        manifest = incoming.manifest
        self._post(peer, SnapshotProgress(term=term, index=manifest.index, offset=incoming.offset))
        if incoming.offset < manifest.body_bytes:
            return
        try:
            incoming.receiving.finish()
        except (SnapshotFailedError, DiskError) as error:
            self._refuse_incoming(peer, error)
            return
        self._incoming = None
        directory = self._fresh_directory()
        try:
            self._snapshots.start_load(manifest, directory)
        except (OSError, DiskError) as error:
            log_line.warning("snapshot not loaded", reason=str(error))
            return
        self._loading = (manifest, directory)

    def _refuse_incoming(self, peer: str, error: Exception) -> None:
        """A body that is damaged, or finds no room, costs nothing but itself; the leader will offer it again."""
        log_line.warning("received snapshot refused", reason=str(error), peer=peer)
        self.abort_incoming()

    def abort_incoming(self) -> None:
        """Give up a half-received snapshot."""
        if self._incoming is not None:
            self._incoming.receiving.abort()
            self._incoming = None

    def close(self) -> None:
        """End helpers and drop what is half done."""
        self.abort_incoming()
        self._snapshots.close()
