"""The process beside a node that makes backups on a schedule, and tells the node how it stands.

Rules: neither the replica nor a worker waits for it; it runs at a lower priority, holds one piece of a backup at a
time, and a turn that takes too long is ended by a signal, whatever it waits for. Its standard input is a pipe: the
configuration in one line, and then nothing; with that it ends. Each line on standard output is a ``BackupReport``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from raftkv.api.cluster_answers import NodeStatus
from raftkv.backup.directory import BackupDirectory
from raftkv.backup.schedule import BackupPlace, BackupReport, BackupSchedule, Overdue
from raftkv.backup.taking import Passing, take
from raftkv.client import Client
from raftkv.client.records import typed
from raftkv.core.config import ClusterConfig
from raftkv.core.errors import StartupError
from raftkv.formats.backups import BackupManifest
from raftkv.process import logs, streams
from raftkv.storage.snapshots.helper import LOWER_PRIORITY

ANSWER_S: Final = 10.0
"""How long the own node may take to say how it stands, or to begin a backup."""

CLEANING_S: Final = 30
"""How long may be cleaned up after a turn that took too long; then the process ends, and the node starts another."""

ENDING_S: Final = 5.0


def run(config: ClusterConfig) -> None:
    """Make the backups of the one node of ``config``, for ever. Raises ``StartupError``."""
    (node,) = config.node
    scheme = "https" if config.http.tls_cert else "http"

    def client_of(servers: tuple[str, ...] | None = None, *, proves: bool = False, retry: bool = True) -> Client:
        return Client(
            servers or (f"{scheme}://{node.http}",),
            timeout_s=ANSWER_S,
            retry=retry,
            tls_ca=config.http.tls_ca or None,
            secret_file=config.cluster.secret_path if proves else None,
            cluster=config.cluster.name,
        )

    def status() -> NodeStatus:
        with client_of(proves=True, retry=False) as client:
            return typed(client.status(), NodeStatus)

    def taken(draft: Path, passing: Passing) -> BackupManifest:
        return take(client_of, draft, scheme=scheme, passing=passing)

    schedule = BackupSchedule(
        config.backup,
        config.cluster.name,
        node.id,
        place=_place(config, node.id),
        status=status,
        take=taken,
        report=_report,
        deadline=_deadline,
        wall_s=time.time,
        monotonic_s=time.monotonic,
        sleep=time.sleep,
    )
    while True:
        time.sleep(schedule.turn())


def _place(config: ClusterConfig, node: str) -> BackupPlace:
    if not config.backup.s3_bucket:
        return BackupDirectory(Path(config.backup.directory), config.cluster.name)
    from raftkv.backup.bucket import BackupBucket  # noqa: PLC0415  an extra, and slow to load

    return BackupBucket(config.backup, config.cluster.name, node)


def _report(report: BackupReport) -> None:
    os.write(1, msgspec.json.encode(report) + b"\n")


@contextlib.contextmanager
def _deadline(limit_s: float) -> Iterator[None]:
    """Raise ``Overdue`` in this thread, also out of a system call, after ``limit_s``."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CLEANING_S)
        raise Overdue

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _end_with_node() -> None:
    """Wait for the end of standard input; what was begun is cleaned up, if that does not take long."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDING_S)
    os._exit(1)


def main() -> int:
    """See the module."""
    streams.lossy("stderr")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the node, which then ends this
    signal.signal(signal.SIGTERM, _leave)
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return 1
        line += piece
    config = msgspec.json.decode(line, type=ClusterConfig)
    logs.configure(config.log, node=config.node[0].id, process="backup")
    threading.Thread(target=_end_with_node, daemon=True).start()
    os.nice(LOWER_PRIORITY)
    try:
        run(config)
    except StartupError as error:
        streams.last_words(f"raftkv: {config.node[0].id}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
