"""Ends a command in time, whatever becomes of the process that watches over it.

Whoever runs a command that may go on only while something holds (a lock) starts a guard beside it: a process of its
own, which acts also when the other one is killed, stopped or stuck. The guard is told, again and again, until when the
command may run; at that moment, or when whoever tells it is gone, it ends the command's whole process group: SIGTERM,
and SIGKILL ``grace_s`` later. Moments are on a clock that all processes of a machine share, and that goes on while it
sleeps.

POSIX only. Imports the standard library and its neighbours only.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from typing import Final, Self

from raftkv.process.clocks import lease_now_s
from raftkv.process.command import module

LOOK_S: Final = 1.0
"""Sleep of the machine is no part of any wait, so that the clock is looked at now and then."""

POLL_S: Final = 0.02
"""How often a group that was told to end is looked at."""


class Guard:
    """Watches over one process group; ``end`` it once the command is over."""

    def __init__(self, grace_s: float) -> None:
        """Start it before the command, as it takes a moment to come up."""
        command = module("raftkv.process.guard", str(grace_s))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True, bufsize=0)  # noqa: S603  our own

    def watch(self, group: int, until_s: float) -> None:
        """``group`` may run until ``until_s``; raises ``OSError`` when the guard is gone."""
        self._tell(f"{group} {until_s}\n")

    def may_run(self, until_s: float) -> None:
        """The same of the group that is watched, whatever was said before."""
        self._tell(f"{until_s}\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())

    def end(self) -> bool:
        """The command is over: was it the guard who ended it? Then what is left of its group has ended now, too."""
        assert self._process.stdout is not None
        has_acted = bool(select.select([self._process.stdout], [], [], 0)[0])
        if not has_acted:
            self._process.kill()
        self._process.communicate()
        return has_acted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.end()


def _run(grace_s: float) -> None:
    """Be a guard, of which standard input is told."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the input is the end of the watch
    group, until_s, part = 0, math.inf, b""
    while True:
        left_s = until_s - lease_now_s()
        if group and left_s <= 0:
            break
        if not select.select([0], [], [], max(0.0, min(left_s, LOOK_S)))[0]:
            continue
        heard = os.read(0, 1 << 16)
        if not heard:
            break
        *lines, part = (part + heard).split(b"\n")
        for line in lines:
            *first, moment = line.split()
            group, until_s = int(first[0]) if first else group, float(moment)
    if group:
        _end(group, grace_s)


def _end(group: int, grace_s: float) -> None:
    until_s = time.monotonic() + grace_s
    with contextlib.suppress(OSError):
        os.write(1, b"ended\n")
    # One that is stopped would not hear of the first before the second.
    for number in (signal.SIGTERM, signal.SIGCONT):
        if not _signal(group, number):
            return
    while time.monotonic() < until_s:
        if not _signal(group, 0):
            return
        time.sleep(POLL_S)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send it; is there anybody in ``group``?"""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that nobody has waited for yet
        return False
    return True


if __name__ == "__main__":
    _run(float(sys.argv[1]))
