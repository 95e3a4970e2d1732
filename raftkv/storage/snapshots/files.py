"""Snapshot files: written and loaded by helper processes, published atomically, received from peers, verified always.

A snapshot is a body (``raftkv.storage.snapshots.bodies``) and a manifest beside it, ``<sequence>.body`` and
``<sequence>.manifest``. Rules: a body without a manifest does not count; the manifest gets its name last, after the
body is durable, and only then is the older snapshot deleted; a snapshot that counts and does not check out is refused
with ``StartupError``, because the log may no longer reach behind it. One body is written, one received and one loaded
at a time. Nothing here blocks longer than a small file takes to sync, except ``load_now`` and verifying at start.

This module imports nothing but the standard library, msgspec, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import os
import re
import subprocess
import zlib
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import UNSET

from raftkv.core.errors import StartupError
from raftkv.formats.configurations import Configuration
from raftkv.formats.snapshots import FORMAT, Manifest, decode_manifest, encode_manifest
from raftkv.process.command import module
from raftkv.storage.disk import DiskError, File, RealDisk, check_room, remove_file, replace_file, translated
from raftkv.storage.engines.port import DamagedState, StorageEngine
from raftkv.storage.removal import close_aside, remove_aside
from raftkv.storage.snapshots.bodies import SYNC_BYTES, load_body, verify_body
from raftkv.storage.snapshots.helper import Report

_NAME: Final = re.compile(r"([0-9]{16})\.(manifest|body)")
_KINDS: Final[tuple[Literal["manifest", "body"], ...]] = ("manifest", "body")
# Bodies kept open for peers that still receive them while newer snapshots replace them; a cluster has few laggards.
_OPEN_BODIES: Final = 4


class SnapshotFailedError(Exception):
    """A snapshot could not be written, received or loaded; nothing partial is left, and trying again is safe."""


class WrittenBody(msgspec.Struct, frozen=True, kw_only=True):
    """A body that is durable, but not published yet."""

    index: int
    term: int
    rows: int
    body_bytes: int
    body_crc: int
    path: Path

    def manifest(
        self,
        *,
        previous_term: int,
        last_command: bytes,
        members: tuple[str, ...],
        configured: tuple[int, Configuration] | None,
    ) -> Manifest:
        """That of the snapshot which the body becomes; ``configured`` is who the members are, and where it is said."""
        return Manifest(
            index=self.index,
            term=self.term,
            previous_term=previous_term,
            last_command=last_command,
            members=members,
            body_bytes=self.body_bytes,
            body_crc=self.body_crc,
            rows=self.rows,
            configuration=UNSET if configured is None else configured[1],
            configuration_index=UNSET if configured is None else configured[0],
        )


def path_of(directory: Path, sequence: int, kind: Literal["manifest", "body"]) -> Path:
    """Where a part of a snapshot lies."""
    return directory / f"{sequence:016d}.{kind}"


def newest_in(directory: Path) -> tuple[int, Manifest] | None:
    """The number and the manifest of the newest snapshot in ``directory``, verified; nothing is changed there.

    Raises ``StartupError`` when it does not check out.
    """
    disk = RealDisk()
    found = [match for name in disk.list(directory) if (match := _NAME.fullmatch(name))]
    sequence = max([int(match[1]) for match in found if match[2] == "manifest"], default=0)
    if not sequence:
        return None
    path = path_of(directory, sequence, "manifest")
    content = disk.read(path)
    try:
        manifest = decode_manifest(content)
    except ValueError as error:
        raise StartupError(f"{path}: {error}") from None
    try:
        verify_body(path_of(directory, sequence, "body"), manifest.body_bytes, manifest.body_crc)
    except DiskError as error:
        raise StartupError(f"snapshot of {path}: {error}") from error
    return sequence, manifest


def load_all(body: Path, manifest: Manifest, engine: StorageEngine) -> None:
    """Load the body of ``manifest`` into an empty ``engine``. Raises ``StartupError`` when rows are missing."""
    rows = load_body(body, engine)
    if rows != manifest.rows:
        raise StartupError(f"{body}: has {rows} rows instead of {manifest.rows}")


class SnapshotFiles:
    """The snapshots in one directory, of which the newest counts. One thread owns it."""

    def __init__(self, directory: Path, *, spared_bytes: int = 0) -> None:
        """Find and verify the newest snapshot in ``directory``, made if missing.

        What is written, received, or loaded by a helper, fails before less than ``spared_bytes`` of the disk are free.
        """
        self.directory = directory
        self.spared_bytes = spared_bytes
        self.newest: Manifest | None = None
        self._sequence = 0
        self._writing: subprocess.Popen[bytes] | None = None
        self._loading: subprocess.Popen[bytes] | None = None
        self._receiver: Receiver | None = None
        self._open_bodies: OrderedDict[Manifest, int] = OrderedDict()
        self._body_draft = directory / "write.body.tmp"
        self._load_newest()

    def start_write(self, state_directory: Path) -> None:
        """Let a helper write a body from the live state."""
        assert self._writing is None
        with translated(self._body_draft):
            self._body_draft.unlink(missing_ok=True)
        self._writing = _start_helper("write", str(state_directory), str(self._body_draft), str(self.spared_bytes))

    def poll_write(self) -> WrittenBody | None:
        """The body, once it is written.

        Raises ``SnapshotFailedError`` when it could not be, ``DamagedState`` when the state must be rebuilt first.
        """
        assert self._writing is not None
        if self._writing.poll() is None:
            return None
        process, self._writing = self._writing, None
        try:
            report = _report(process)
        except (SnapshotFailedError, DamagedState):
            self._body_draft.unlink(missing_ok=True)
            raise
        return WrittenBody(
            index=report.index,
            term=report.term,
            rows=report.rows,
            body_bytes=report.bytes,
            body_crc=report.crc,
            path=self._body_draft,
        )

    def publish(
        self,
        written: WrittenBody,
        *,
        previous_term: int,
        last_command: bytes,
        members: tuple[str, ...],
        configured: tuple[int, Configuration] | None = None,
    ) -> Manifest:
        """Make a written body the newest snapshot, durably, and delete the one before."""
        manifest = written.manifest(
            previous_term=previous_term, last_command=last_command, members=members, configured=configured
        )
        self.publish_file(written.path, manifest)
        return manifest

    def publish_file(self, draft: Path, manifest: Manifest) -> None:
        """Make the durable body at ``draft`` the newest snapshot."""
        older, sequence = self._sequence, self._sequence + 1
        disk = RealDisk()
        disk.rename(draft, self._path(sequence, "body"))
        disk.sync_directory(self.directory)
        replace_file(self._path(sequence, "manifest"), encode_manifest(manifest))
        self._sequence, self.newest = sequence, manifest
        if older:
            # Without its manifest the older body is only a leftover, whatever happens in between.
            remove_file(self._path(older, "manifest"))
            remove_aside(self._path(older, "body"))

    def read_body(self, manifest: Manifest, offset: int, size: int) -> bytes:
        """A piece of a body, also of one that was replaced while it was being read.

        Raises ``SnapshotFailedError`` when the body was replaced before, or too many are being read.
        """
        descriptor = self._open_bodies.get(manifest)
        path = self._path(self._sequence, "body")
        if descriptor is None:
            if manifest != self.newest:
                raise SnapshotFailedError(f"the snapshot at index {manifest.index} was replaced by a newer one")
            with translated(path):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open_bodies[manifest] = descriptor
            if len(self._open_bodies) > _OPEN_BODIES:
                close_aside(self._open_bodies.popitem(last=False)[1])
        self._open_bodies.move_to_end(manifest)
        with translated(path):
            return os.pread(descriptor, size, offset)

    def keep_open(self, manifests: Collection[Manifest]) -> None:
        """Let go of every body that is open and not among these; one that was replaced is gone then."""
        for manifest in self._open_bodies.keys() - set(manifests):
            close_aside(self._open_bodies.pop(manifest))

    def begin_receive(self, manifest: Manifest) -> Receiver:
        """Receive the body of ``manifest`` from a peer; a reception that was under way is given up.

        Raises ``DiskError`` when there is no room for it.
        """
        if self._receiver is not None:
            self._receiver.abort()
        self._receiver = Receiver(self, manifest)
        return self._receiver

    def start_load(self, manifest: Manifest, state_directory: Path) -> None:
        """Let a helper load the newest snapshot, which must be ``manifest``, into a new state."""
        assert self._loading is None
        assert manifest == self.newest
        body = self._path(self._sequence, "body")
        self._loading = _start_helper("load", str(body), str(state_directory), str(self.spared_bytes))

    def poll_load(self) -> bool:
        """Is the load done? Raises ``SnapshotFailedError`` when it could not be done; then there is no state."""
        assert self._loading is not None
        if self._loading.poll() is None:
            return False
        process, self._loading = self._loading, None
        _report(process)
        return True

    def load_now(self, manifest: Manifest, engine: StorageEngine) -> None:
        """Load the newest snapshot, which must be ``manifest``, into an empty ``engine``."""
        assert manifest == self.newest
        load_all(self._path(self._sequence, "body"), manifest, engine)

    def close(self) -> None:
        """End helpers, drop what is half done, release files."""
        for process in (self._writing, self._loading):
            if process is not None:
                process.kill()
                process.wait()
                _close_pipes(process)
        self._writing = self._loading = None
        with translated(self._body_draft):
            self._body_draft.unlink(missing_ok=True)
        if self._receiver is not None:
            self._receiver.abort()
        while self._open_bodies:
            os.close(self._open_bodies.popitem()[1])

    def forget_receiver(self, receiver: Receiver) -> None:
        """``receiver`` has ended."""
        if self._receiver is receiver:
            self._receiver = None

    def _path(self, sequence: int, kind: Literal["manifest", "body"]) -> Path:
        return path_of(self.directory, sequence, kind)

    def _load_newest(self) -> None:
        disk = RealDisk()
        disk.make_directory(self.directory)
        names = disk.list(self.directory)
        found = newest_in(self.directory)
        if found is not None:
            self._sequence, self.newest = found
        # The names must be durable before what they replace is deleted.
        disk.sync_directory(self.directory)
        kept = {self._path(self._sequence, kind).name for kind in _KINDS}
        for name in sorted(names, reverse=True):  # a manifest goes before its body
            if name not in kept and (name.endswith(".tmp") or _NAME.fullmatch(name)):
                disk.remove(self.directory / name)


class Receiver:
    """A body on its way in from a peer: in order, verified at the end, never visible before."""

    def __init__(self, store: SnapshotFiles, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._path = store.directory / "receive.body.tmp"
        with translated(self._path):
            self._path.unlink(missing_ok=True)
        disk = RealDisk()
        check_room(disk, self._path, manifest.body_bytes, spared_bytes=store.spared_bytes)
        self._file: File | None = disk.create(self._path, 0)
        self._offset = self._unsynced_bytes = 0
        self._checksum = 0

    def write(self, offset: int, data: bytes) -> None:
        """Add the next piece; raises ``SnapshotFailedError`` for any other piece, without taking it."""
        if self._file is None:
            raise SnapshotFailedError("the reception has ended")
        if offset != self._offset:
            raise SnapshotFailedError(f"offset {offset} arrived where {self._offset} was due")
        if offset + len(data) > self._manifest.body_bytes:
            raise SnapshotFailedError(f"more than the announced {self._manifest.body_bytes} bytes arrived")
        self._file.write_at(offset, data)
        self._offset += len(data)
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._unsynced_bytes = 0
            self._file.sync()
        self._checksum = zlib.crc32(data, self._checksum)

    def finish(self) -> Manifest:
        """Verify and publish what arrived; raises ``SnapshotFailedError``, leaving nothing, when it is not the body."""
        if self._file is None:
            raise SnapshotFailedError("the reception has ended")
        try:
            self._verify()
            self._file.sync()
        except BaseException:
            self.abort()
            raise
        self._end()
        self._store.publish_file(self._path, self._manifest)
        return self._manifest

    def abort(self) -> None:
        """Drop what arrived."""
        if self._file is not None:
            self._end()
            with translated(self._path):
                self._path.unlink(missing_ok=True)

    def _verify(self) -> None:
        manifest, newest = self._manifest, self._store.newest
        if manifest.format != FORMAT:
            raise SnapshotFailedError(f"snapshot format {manifest.format} is not known to this version")
        if newest is not None and manifest.index < newest.index:
            raise SnapshotFailedError(f"the snapshot at index {newest.index} is newer than {manifest.index}")
        if self._offset != manifest.body_bytes:
            raise SnapshotFailedError(f"{self._offset} of {manifest.body_bytes} bytes arrived")
        if self._checksum != manifest.body_crc:
            raise SnapshotFailedError("the body that arrived has a wrong checksum")

    def _end(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        self._store.forget_receiver(self)
        file.close()


def _start_helper(*arguments: str) -> subprocess.Popen[bytes]:
    command = module("raftkv.storage.snapshots.helper", *arguments)
    try:
        # Standard input stays open as long as this process lives: its end ends the helper.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  our own module
    except OSError as error:
        raise SnapshotFailedError(f"the helper process could not be started: {error}") from error


def _report(process: subprocess.Popen[bytes]) -> Report:
    """What a helper that has ended said; raises ``SnapshotFailedError`` or ``DamagedState`` when it failed."""
    assert process.stdout is not None
    line = process.stdout.read()
    _close_pipes(process)
    try:
        report = msgspec.json.decode(line, type=Report)
    except msgspec.MsgspecError:
        raise SnapshotFailedError(f"the helper process ended with status {process.returncode}") from None
    if report.damaged:
        raise DamagedState(Path(report.damaged), "found while a snapshot of it was written")
    if report.error or process.returncode != 0:
        raise SnapshotFailedError(report.error or f"the helper process ended with status {process.returncode}")
    return report


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
