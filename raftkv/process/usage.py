"""What processes of this machine use, as Linux tells it in ``/proc``: processor, memory, descriptors, since when.

A process that is gone, or another user's, is left out. Imports the standard library only.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Of one process, or of several together: then ``started_at_s`` (since 1970) is the oldest one's."""

    cpu_s: float
    resident_bytes: int
    open_fds: int
    max_fds: float
    started_at_s: float


def parent_of(pid: int) -> int:
    """The process that started ``pid``; 0 when nobody can tell."""
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def usage(pids: Iterable[int]) -> Usage | None:
    """What ``pids`` use together; ``None`` when none of them is there."""
    found = [one for one in map(_usage, pids) if one is not None]
    if not found:
        return None
    return Usage(
        sum(one.cpu_s for one in found),
        sum(one.resident_bytes for one in found),
        sum(one.open_fds for one in found),
        min(one.max_fds for one in found),
        min(one.started_at_s for one in found),
    )


def _fields(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, which may hold anything; see proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _usage(pid: int) -> Usage | None:
    fields = _fields(pid)
    if not fields:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        open_fds = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        max_fds = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except OSError:
        return None
    return Usage(
        cpu_s=(int(fields[11]) + int(fields[12])) / ticks,
        resident_bytes=int(fields[21]) * resource.getpagesize(),
        open_fds=open_fds,
        max_fds=float("inf") if max_fds == resource.RLIM_INFINITY else max_fds,
        started_at_s=_booted_at_s() + int(fields[19]) / ticks,
    )


@cache
def _booted_at_s() -> float:
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))
