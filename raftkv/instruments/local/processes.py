"""The operating system's view of a node: which processes are its own, and which of them are alive; reads /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Literal

Part = Literal["node", "replica", "frontend"]
"""A whole node, or one of its halves: the first process is the replica, everything below it the front-end."""

_THREADS = 17
"""How many threads there are, counted from the state on."""


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; ``None`` when it has ended.

    A zombie with threads has not (proc(5)): its first thread went first, and the others hold its sockets still.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    has_threads = int(fields[_THREADS]) > 1
    return None if fields[0] == "X" or (fields[0] == "Z" and not has_threads) else fields


def parents() -> dict[int, int]:
    """Every process that is alive, and its parent."""
    found = {int(entry.name): stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid: int(fields[1]) for pid, fields in found.items() if fields is not None}


def descendants(pid: int) -> set[int]:
    """``pid`` and everything below it that is alive."""
    parent_of = parents()
    found = {pid} & parent_of.keys()
    while more := {child for child, parent in parent_of.items() if parent in found} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of ``pids`` that have not ended."""
    return {pid for pid in pids if stat(pid) is not None}


def members(pid: int, part: Part) -> set[int]:
    """The processes that make up ``part`` of the node whose first process is ``pid``."""
    family = descendants(pid)
    return {"node": family, "replica": family & {pid}, "frontend": family - {pid}}[part]


def send(number: signal.Signals, pids: set[int]) -> None:
    """Send a signal to each of ``pids`` that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Paused:
    """Stopped processes, until ``resume``; a guard of their own wakes them if this process is killed before."""

    def __init__(self, pids: set[int]) -> None:
        """Stop ``pids``."""
        self._pids = pids
        # It reads end-of-file instead of a line when we are gone.
        guard = ["/bin/sh", "-c", 'read line || kill -CONT "$@"', "guard", *map(str, pids)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
        send(signal.SIGSTOP, pids)

    def resume(self) -> None:
        """Let those that are still there go on."""
        send(signal.SIGCONT, self._pids)
        self._guard.communicate(b"\n")
