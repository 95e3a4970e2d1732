"""The node's side of its scheduled backups: starts the process that makes them, and knows what it has told.

Rules: nothing here waits; a process that ends by itself is a failure that is counted, and started again later; the
node goes on without it. It ends with the node, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from typing import Final

import msgspec

from raftkv.backup.schedule import BackupReport
from raftkv.client.credentials import PASSWORD_ENVIRONMENT, TOKEN_ENVIRONMENT, USER_ENVIRONMENT
from raftkv.core.config import ClusterConfig
from raftkv.process.command import module
from raftkv.process.loggers import get_logger

RESTART_S: Final = 60.0
ENDING_S: Final = 8.0
_REPORT_BYTES_MAX: Final = 1 << 16

log_line = get_logger("raftkv.backup")


class ScheduledBackups:
    """The backups that the node ``node_id`` makes on the schedule that the configuration has."""

    def __init__(self, config: ClusterConfig, node_id: str, loop: asyncio.AbstractEventLoop) -> None:
        own = config.member(node_id)
        self._config = msgspec.structs.replace(config, node=(own,))
        self._loop = loop
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = b""
        self._report = BackupReport()
        self._failures_before = 0

    @property
    def numbers(self) -> dict[str, float]:
        """What ``/metrics`` tells of it, without ``raftkv_``."""
        told = {
            "backup_interval_seconds": self._config.backup.interval_s,
            "backup_failures_total": self._failures_before + self._report.failures,
        }
        if self._report.made_s:
            told["backup_last_success_timestamp_seconds"] = self._report.made_s
            told["backup_last_size_bytes"] = self._report.size_bytes
        if self._report.taken_s:
            told["backup_last_duration_seconds"] = self._report.taken_s
        return told

    def start(self) -> None:
        """Start the process."""
        self._timer = None
        # It shows the cluster's secret, and nothing else that the node's environment has for other commands.
        credentials = {USER_ENVIRONMENT, PASSWORD_ENVIRONMENT, TOKEN_ENVIRONMENT}
        environment = {name: value for name, value in os.environ.items() if name not in credentials}
        try:
            process = subprocess.Popen(  # noqa: S603  our own module
                module("raftkv.backup.scheduled"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._lost(f"it cannot be started: {error.strerror}")
            return
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then standard output has an end as well
            os.write(process.stdin.fileno(), msgspec.json.encode(self._config) + b"\n")  # less than a pipe holds
        self._loop.add_reader(process.stdout.fileno(), self._hear)

    def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        piece = os.read(self._process.stdout.fileno(), _REPORT_BYTES_MAX)
        *lines, self._heard = (self._heard + piece).split(b"\n")
        if lines:
            self._report = msgspec.json.decode(lines[-1], type=BackupReport)
        if not piece:
            process = self._let_go()
            if process.poll() is None:  # it ends at once now: it must not be waited for, nor left alone
                process.kill()
                process.wait()
            self._lost(f"its process ended with status {process.returncode}")

    def _let_go(self) -> subprocess.Popen[bytes]:
        """Hear no more of the process; its standard input ends, and so does it."""
        process, self._process = self._process, None
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            if pipe is process.stdout:
                self._loop.remove_reader(pipe.fileno())
            with contextlib.suppress(OSError):
                pipe.close()
        self._heard = b""
        return process

    def _lost(self, reason: str) -> None:
        self._failures_before += self._report.failures + 1
        self._report = msgspec.structs.replace(self._report, failures=0)
        again_s = min(RESTART_S, self._config.backup.interval_s)
        log_line.error("scheduled backups interrupted", reason=reason, again_in_s=again_s)
        self._timer = self._loop.call_later(again_s, self.start)

    async def end(self) -> None:
        """End the process; what it has begun it removes."""
        if self._timer is not None:
            self._timer.cancel()
        if self._process is None:
            return
        process = self._let_go()
        try:
            await asyncio.to_thread(process.wait, ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
