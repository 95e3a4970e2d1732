"""Ends a command in time, whatever becomes of the process that watches over it.

Whoever runs a command that may go on only while something holds (a lock) starts a guard beside it: a process of its
own, which acts also when the other one is killed, stopped or stuck. The guard is told, again and again, until when the
command may run; at that moment, or when whoever tells it is gone, it ends the command's whole process group: SIGTERM,
and SIGKILL ``grace_s`` later. Moments are on a clock that all processes of a machine share, and that goes on while it
sleeps. The group is there before the command is, held by a process that does nothing: so there is no moment at which a
command runs that no guard knows of.

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

from raftkv.core.clocks import lease_now_s
from raftkv.process.command import module, python

LOOK_S: Final = 1.0
"""Sleep of the machine is no part of any wait, so that the clock is looked at now and then."""

POLL_S: Final = 0.02
"""How often a group that was told to end is looked at."""


HOLD: Final = "import sys; sys.stdin.read()"
"""The program that holds the group: it ends with whoever started it."""


class Guard:
    """Watches over one process group; ``end`` it once the command is over.

    Attributes:
        group: The process group that the command is to be started in.

    """

    def __init__(self, grace_s: float) -> None:
        """Start it before the command, as it takes a moment to come up."""
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        holding = python("-I", "-S", "-c", HOLD)
        self._holder = subprocess.Popen(holding, stdin=pipe, stdout=null, stderr=null, process_group=0)  # noqa: S603  our own
        self.group: Final = self._holder.pid  # nobody else's, until we have waited for it
        guarding = module("raftkv.process.guard", str(self.group), str(grace_s))
        self._process = subprocess.Popen(guarding, stdin=pipe, stdout=pipe, start_new_session=True, bufsize=0)  # noqa: S603  our own

    def may_run(self, until_s: float) -> None:
        """The command may run until then, whatever was said before; raises ``OSError`` when the guard is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{until_s}\n".encode())

    def end(self) -> bool:
        """The command is over: was it the guard who ended it? Then what is left of its group has ended now, too."""
        assert self._process.stdout is not None
        has_acted = bool(select.select([self._process.stdout], [], [], 0)[0])
        if not has_acted:
            self._process.kill()
        self._holder.kill()
        self._holder.communicate()
        self._process.communicate()
        return has_acted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder.returncode is None:
            self.end()


def _run(group: int, grace_s: float) -> None:
    """Be a guard, of which standard input is told."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the input is the end of the watch
    until_s, part = math.inf, b""
    while (left_s := until_s - lease_now_s()) > 0:
        if not select.select([0], [], [], min(left_s, LOOK_S))[0]:
            continue
        heard = os.read(0, 1 << 16)
        if not heard:
            break
        *lines, part = (part + heard).split(b"\n")
        if lines:
            until_s = float(lines[-1])
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
    _run(int(sys.argv[1]), float(sys.argv[2]))
