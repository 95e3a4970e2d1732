"""A cluster of one out of a survivor, when the quorum of a raft cluster is lost for good.

Rules: the survivor's directory is read and never changed, so that whatever comes of it can be tried again; no node runs
on it meanwhile. What it holds is its newest snapshot and *every* entry of its log behind that. Nobody is left who could
say which of the last ones are committed, and any of them may have been acknowledged. What is made of it is a backup,
and of that a new cluster by the same code as of any other backup (``raftkv.backup.restoring``): under another name, so
that no node of the lost one takes part in it.

The survivor to choose is the one whose last entry has the highest term and, of those, the highest index. Whatever one
of several logs holds that was committed, this one holds too (Raft, sections 5.4.1 and 5.4.3).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from raftkv.backup.fetching import workspace
from raftkv.backup.restoring import LOCK
from raftkv.core.config import ClusterConfig, RaftSection
from raftkv.core.errors import StartupError
from raftkv.core.rules import ALWAYS, NAMED, Rule
from raftkv.formats import entries, layout
from raftkv.formats.backups import BackupManifest
from raftkv.formats.identity import Identity, Standing, decode_identity
from raftkv.formats.segments import Entry
from raftkv.formats.snapshots import Manifest
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.raft.snapshots.recovery import behind, check_end
from raftkv.storage.backups.reading import verify
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.disk import RealDisk, translated
from raftkv.storage.engines.lmdb import DATA, LmdbReader
from raftkv.storage.engines.port import DamagedState
from raftkv.storage.identity import NAME
from raftkv.storage.log import extent
from raftkv.storage.log.recovery import recover
from raftkv.storage.snapshots.bodies import BodySummary
from raftkv.storage.snapshots.files import load_all, newest_in, path_of
from raftkv.storage.state.sealed import SealedRows
from raftkv.storage.state.sums import stored_sum
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import is_trustworthy, open_state

BATCH_BYTES: Final = 16 << 20
"""So much of the log is applied between two commits."""

DOUBTS: Final = {
    Standing.JOINING: "it had not been sent all yet when it stopped",
    Standing.RECOVERING: "its disk was lost before, and it had not been given back all of it when it stopped",
    Standing.DISPUTED: "its state differed from another node's",
    Standing.DIVERGED: "its state differed from that of most nodes",
    Standing.DISCARDING: "it was told to throw its data away",
}
"""Why what a node holds may be less, or other, than it has acknowledged."""


class SurvivorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the data directory of a node that does not run holds; all that choosing a survivor needs to know.

    ``commit_index``: so many entries are known there to be committed, of those up to ``last_index``. ``revision`` is
    that of the store as far as it was applied, if that can be told. ``stamped_ms`` is when the last write was taken, by
    the clock of the leader, in milliseconds since the epoch. ``doubt`` says why it may lack what it once had.
    """

    directory: str
    cluster: str
    node: str
    last_index: int
    last_term: int
    commit_index: int
    snapshot_index: int
    revision: int | None
    stamped_ms: int | None
    doubt: str = ""


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A node's data, read. ``entries`` are those behind the snapshot ``manifest``, whose body is at ``body``."""

    summary: SurvivorSummary
    rules: Mapping[str, Rule]
    entries: Sequence[Entry]
    manifest: Manifest | None
    body: Path


@contextmanager
def survivor(home: Path) -> Iterator[Survivor]:
    """What is in ``home``; no node starts on it meanwhile. Raises ``StartupError`` with what is wrong with it."""
    identity = _identity(home)
    with _kept_from_running(home):
        yield _read(home, identity)


def longest(summaries: Sequence[SurvivorSummary]) -> SurvivorSummary:
    """The one that has every committed entry which any of them has."""
    return max(summaries, key=lambda one: (one.last_term, one.last_index))


def check_target(found: Survivor, config: ClusterConfig) -> None:
    """Raise ``StartupError`` if ``config`` is not of a new cluster of one node."""
    if config.cluster.mode != "raft":
        raise StartupError(f'{found.summary.directory} is of mode "raft", and cluster.mode is "{config.cluster.mode}"')
    if len(config.node) != 1:
        raise StartupError(
            f"a survivor becomes a cluster of one, and the configuration lists {len(config.node)} nodes: leave one"
            " [[node]] there; others join it later, with --join"
        )
    if config.cluster.name == found.summary.cluster:
        raise StartupError(
            f'cluster.name is "{config.cluster.name}", as that of the cluster that is lost: give the new one another,'
            " so that nodes of the lost one which come back after all are refused"
        )


@contextmanager
def rebuilt(found: Survivor, directory: Path, version: str) -> Iterator[tuple[Path, BackupManifest]]:
    """A backup of all that ``found`` holds, as a file that lasts as long as the statement, in ``directory``.

    It says that ``version`` of raftkv made it. Raises ``StartupError`` with what is wrong, and then leaves nothing.
    """
    RealDisk().make_directory(directory)
    with translated(directory), workspace(directory, "recovering") as scratch:
        path = scratch / "backup"
        _write(found, scratch, path, version)
        yield path, verify(path)


# -- reading ----------------------------------------------------------------------------------------------------------


@contextmanager
def _kept_from_running(home: Path) -> Iterator[None]:
    """A running node holds the lock exclusively. It is opened to be read, for disks that must not be written."""
    with translated(home):
        is_there = (home / LOCK).exists()
        lock = os.open(home / LOCK, os.O_RDONLY | os.O_CLOEXEC) if is_there else None  # none: no node ever ran here
    try:
        try:
            if lock is not None:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(f"{home}: in use by a running node; stop it first") from None
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _identity(home: Path) -> Identity:
    path = home / NAME
    with translated(home):
        content = path.read_bytes() if NAME in os.listdir(home) else None  # noqa: PTH208  names are wanted, not paths
    if content is None:
        raise StartupError(f"{path}: missing, so this is no node's data directory: that is the one named after a node")
    try:
        identity = decode_identity(content)
    except ValueError as error:
        raise StartupError(f"{path}: damaged: {error}; nothing else says whose data this is") from None
    if identity.rules.get(NAMED[1]) == "quorum":
        raise StartupError(
            f"{home}: of a leaderless cluster, which has no quorum to lose: start what is left, where each replica"
            " serves what it holds, and take out what is gone with `raftkv members remove NODE`"
        )
    return identity


def _read(home: Path, identity: Identity) -> Survivor:
    disk = RealDisk()
    log = recover(disk, home / "log")
    extent.check(disk, home / "log", log.segments[-1].sequence if log.segments else 0)
    newest = newest_in(home / "snapshots") if (home / "snapshots").is_dir() else None
    sequence, manifest = newest or (0, None)
    tail = behind(log, manifest)
    _, last_index, last_term = tail[-1] if tail else (b"", *((manifest.index, manifest.term) if manifest else (0, 0)))
    summary = SurvivorSummary(
        directory=str(home),
        cluster=str(identity.rules.get(NAMED[0], "")),
        node=identity.node,
        last_index=last_index,
        last_term=last_term,
        commit_index=max(min(log.commit_index, last_index), manifest.index if manifest else 0),
        snapshot_index=manifest.index if manifest else 0,
        revision=_applied_revision(home / "state", last_index),
        stamped_ms=_stamped_ms([*([manifest.last_command] if manifest else []), *[entry[0] for entry in tail]]),
        doubt=identity.difference or DOUBTS.get(identity.standing, ""),
    )
    body = path_of(home / "snapshots", sequence, "body")
    return Survivor(summary=summary, rules=identity.rules, entries=tail, manifest=manifest, body=body)


def _stamped_ms(commands: Sequence[bytes]) -> int | None:
    """When the last of them was stamped that was."""
    for command in reversed(commands):
        if command[:1] == entries.REGULAR:
            try:
                decoded = entries.decode(memoryview(command)[1:])
            except entries.UnsupportedCommandError as error:
                raise _of_later_version(error) from None
            if decoded is not None:
                return decoded[0]
    return None


def _applied_revision(states: Path, last_index: int) -> int | None:
    """The revision in the applied state, if that is to be trusted. Raises ``StartupError`` if the log ends before it.

    LMDB writes to a file beside what it reads; so that is somewhere else.
    """
    for state in sorted(states.glob("[0-9]*"), reverse=True):
        if not is_trustworthy(state):
            continue
        with tempfile.TemporaryDirectory(prefix="raftkv.") as scratch:
            Path(scratch, DATA).symlink_to((state / DATA).resolve())
            try:
                reader = LmdbReader(Path(scratch))
            except DamagedState:
                continue  # only a cache
            try:
                with reader:
                    rows = SealedRows(reader, state)
                    check_end(rows, last_index)
                    return layout.unpack_number(rows.get(layout.META, layout.REVISION))
            except DamagedState:
                continue
            finally:
                reader.close()
    return None


# -- rebuilding -------------------------------------------------------------------------------------------------------


def _write(found: Survivor, scratch: Path, path: Path, version: str) -> None:
    summary = found.summary
    engine = open_state(scratch / "state", layout.TABLES)
    try:
        if found.manifest is not None:
            load_all(found.body, found.manifest, engine)
        tables = StateTables(engine, layout.TABLES, scratch / "state")
        machine = Machine(tables, _limits(found.rules))
        apply_all(machine, tables, found.entries)

        def head() -> BackupManifest:
            return blank_manifest(
                cluster=summary.cluster,
                mode="raft",
                nodes=(summary.node,),
                revision=machine.revision,
                made_ms=time.time_ns() // 1_000_000,
                version=version,
            )

        def check(body: BodySummary) -> None:
            if stored_sum(tables) not in (None, body.sum):
                raise StartupError(f"{summary.directory}: the rows of what it holds do not add up to their sum")

        with path.open("xb") as file:
            write_backup(tables, layout.TABLES, head, file.write, check)
            file.flush()
            os.fsync(file.fileno())
    finally:
        engine.close()


def apply_all(machine: Machine, tables: StateTables, tail: Sequence[Entry]) -> None:
    """Apply every entry of ``tail``, which goes on where ``machine`` stands, and commit. Raises ``StartupError``."""
    waiting_bytes = 0
    for command, index, term in tail:
        if command[:1] != entries.REGULAR:  # of the engine, or of the members, who are others from here on
            machine.skip(index, term)
            continue
        try:
            machine.apply(index, term, memoryview(command)[1:], room_bytes=0)
        except entries.UnsupportedCommandError as error:
            raise _of_later_version(error) from None
        waiting_bytes += len(command)
        if waiting_bytes > BATCH_BYTES:
            tables.commit()
            waiting_bytes = 0
    tables.commit()


def _limits(rules: Mapping[str, Rule]) -> RepeatLimits:
    """Those under which the log was written; it means the same under no others."""
    known = RaftSection()
    window_s, keys = (rules.get(name, getattr(known, name.partition(".")[2])) for name in ALWAYS["raft"])
    return RepeatLimits.by(float(window_s), int(keys))


def _of_later_version(error: Exception) -> StartupError:
    return StartupError(f"the log was written by a later version of raftkv ({error}): recover with that one")
