"""A cluster's backups on a schedule, as one node sees them: is it the one to make them, is one due, what is kept.

Rules: one node at a time makes them, as far as nodes agree on who leads or is up; one that is no longer the one gives
up what it has begun. When the next is due is found in the place where they are kept. Nothing is removed before a newer
one was proved. What fails is told in one line, counted, and tried again.

Clocks and waiting are handed in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from raftkv.api.cluster_answers import NodeStatus
from raftkv.backup.fetching import workspace
from raftkv.backup.keeping import KeptBackup, due_s, name_of, newest_of, retry_after_s, stem_of, superseded
from raftkv.backup.taking import Passing
from raftkv.core.backups import BackupSection
from raftkv.core.errors import RaftkvError, StartupError
from raftkv.core.status import MemberState
from raftkv.formats.backups import BackupManifest
from raftkv.process.loggers import get_logger
from raftkv.storage.disk import RealDisk

LOOK_S: Final = 5.0
"""How often a node looks whether it is the one that makes backups, also while it makes one."""

SILENT_S: Final = 60.0
"""How long a node may not say how it stands before that is a failure."""

log_line = get_logger("raftkv.backup")


class BackupPlace(Protocol):
    """Where backups are kept. Everything may raise ``StartupError``."""

    def held(self) -> list[KeptBackup]:
        """Those of the cluster that a schedule has put there."""

    def put(self, draft: Path, name: str) -> None:
        """Keep the file ``draft``, durably, wholly or not at all."""

    def remove(self, name: str) -> None:
        """Remove one of those that are held."""


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the schedule of a node stands: the newest backup where it keeps them, and how often one has failed.

    ``made_s`` is in seconds since 1970, 0 where there is none; ``taken_s`` is how long it took, 0 if an earlier process
    made it.
    """

    made_s: int = 0
    size_bytes: int = 0
    taken_s: float = 0.0
    failures: int = 0


class Overdue(BaseException):
    """The time for one turn is over: no library on the way may take it for a failure of its own, and try again."""


class OffDutyError(Exception):
    """Another node makes the backups now."""


def is_on_duty(status: NodeStatus, named: str) -> bool:
    """Is it the node with this ``status`` that makes the backups, unless another is ``named``?"""
    if not status.ready:
        return False
    if named:
        return status.node == named
    if status.mode == "raft":
        return status.leader == status.node
    members = status.members or []
    return status.node == min([one.id for one in members if one.state == MemberState.UP], default=status.node)


class BackupSchedule:
    """The backups of one cluster, as ``node`` makes them when it is its turn."""

    def __init__(
        self,
        section: BackupSection,
        cluster: str,
        node: str,
        *,
        place: BackupPlace,
        status: Callable[[], NodeStatus],
        take: Callable[[Path, Passing], BackupManifest],
        report: Callable[[BackupReport], None],
        deadline: Callable[[float], contextlib.AbstractContextManager[None]],
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """``deadline`` raises ``Overdue`` in what it encloses once so many seconds have passed."""
        self._section = section
        self._cluster = cluster
        self._node = node
        self._place = place
        self._status = status
        self._take = take
        self._report = report
        self._deadline = deadline
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._look_s = min(LOOK_S, section.interval_s / 2)
        self._due_s: float | None = None
        self._fails = 0
        self._silent_since_s: float | None = None
        self._told = BackupReport()

    def turn(self) -> float:
        """Do what is due; returns how many seconds to wait for the next turn."""
        try:
            with self._deadline(self._section.timeout_s):
                return self._turn()
        except OffDutyError:
            log_line.info("backup given up", reason="another node makes the backups now")
            return self._look_s
        except Overdue:
            return self._failed(f"it was not done after {self._section.timeout_s:g} s (backup.timeout_s)")
        except (RaftkvError, StartupError, OSError) as error:
            return self._failed(" ".join(str(error).split()) or type(error).__name__)

    def _turn(self) -> float:
        if self._due_s is None:
            self._look()
        if not self._is_on_duty():
            return self._look_s
        if self._due_s is None or self._wall_s() >= self._due_s:
            self._look()  # another node may have made one since
        now_s = self._wall_s()
        if self._due_s is not None and now_s < self._due_s:
            return min(self._due_s - now_s, self._look_s)
        self._make()
        return self._look_s

    def _is_on_duty(self) -> bool:
        """A node that has just started says nothing for a while; one that goes on to is told of as a failure."""
        try:
            status = self._status()
        except RaftkvError:
            now_s = self._monotonic_s()
            self._silent_since_s = now_s if self._silent_since_s is None else self._silent_since_s
            if now_s - self._silent_since_s < SILENT_S:
                return False
            self._silent_since_s = None
            raise
        self._silent_since_s = None
        return is_on_duty(status, self._section.node)

    def _look(self) -> None:
        """See what is there, and when the next is due by that."""
        now_s = self._wall_s()
        newest = newest_of(self._place.held(), now_s)
        self._due_s = due_s(newest, self._section.interval_s, now_s)
        if newest is not None and newest.made_s != self._told.made_s:
            self._tell(made_s=newest.made_s, size_bytes=newest.size_bytes, taken_s=0.0)
        elif newest is None:
            self._tell()

    def _make(self) -> None:
        begun_s, directory = self._monotonic_s(), Path(self._section.directory)
        RealDisk().make_directory(directory)
        with workspace(directory, f"{stem_of(self._cluster)}-{self._node}") as work:
            draft = work / "draft"
            manifest = self._take(draft, self._passing)
            made_s = manifest.made_ms // 1000
            made = KeptBackup(name_of(self._cluster, self._node, made_s), made_s, draft.stat().st_size)
            self._place.put(draft, made.name)
        taken_s = self._monotonic_s() - begun_s
        self._fails, self._due_s = 0, made_s + self._section.interval_s
        self._tell(made_s=made_s, size_bytes=made.size_bytes, taken_s=round(taken_s, 3))
        log_line.info(
            "backup made",
            name=made.name,
            revision=manifest.revision,
            bytes=made.size_bytes,
            seconds=round(taken_s, 1),
            removed=self._remove_superseded(made),
        )

    def _remove_superseded(self, made: KeptBackup) -> int:
        """How many were removed."""
        section, count = self._section, 0
        try:
            held = self._place.held()
            for one in superseded(held, made, keep=section.keep, keep_s=section.keep_s, now_s=self._wall_s()):
                self._place.remove(one.name)
                count += 1
        except StartupError as error:
            log_line.warning("old backups not removed", reason=str(error))
        return count

    def _passing(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """``pieces``, no faster than they may be, and for as long as it is this node's turn."""
        begun_s = looked_s = self._monotonic_s()
        passed_bytes = 0
        for piece in pieces:
            yield piece
            passed_bytes += len(piece)
            now_s = self._monotonic_s()
            if self._section.bytes_per_s:
                ahead_s = passed_bytes / self._section.bytes_per_s - (now_s - begun_s)
                if ahead_s > 0:
                    self._sleep(ahead_s)
            if now_s - looked_s >= self._look_s:
                looked_s = now_s
                self._check_on_duty()

    def _check_on_duty(self) -> None:
        """A node that does not say how it stands is not known to have lost its turn."""
        with contextlib.suppress(RaftkvError):
            status = self._status()
            if status.ready and not is_on_duty(status, self._section.node):
                raise OffDutyError

    def _failed(self, reason: str) -> float:
        self._fails += 1
        self._tell(failures=self._told.failures + 1)
        again_s = retry_after_s(self._fails, self._section.interval_s)
        log_line.error("backup failed", reason=reason, again_in_s=round(again_s, 1))
        return again_s

    def _tell(self, **known: float) -> None:
        self._told = msgspec.structs.replace(self._told, **known)
        self._report(self._told)
