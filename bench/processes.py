"""Processes as /proc shows them (Linux): who descends from whom, CPU time, memory; and how to end what was started.

Processes are ended by id and start time, so that a reused id is never hit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of a cluster: ``node`` it belongs to ("" for a supervisor), and the ``part`` it plays there."""

    pid: int
    started_ticks: int
    node: str
    part: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """In KiB. ``anonymous`` is the process's own, ``file`` is pages of mapped files, which the kernel may take back."""

    rss_kib: int
    pss_kib: int
    anonymous_kib: int
    file_kib: int
    peak_kib: int


def started_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; ``None`` when there is none, or only its remains."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def children(pid: int) -> list[int]:
    """Direct children, oldest first."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    except OSError:
        return sorted(found)
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> list[str]:
    """The arguments it was started with; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def cpu_s(processes: Iterable[Process]) -> float:
    """CPU seconds spent so far by those that still run."""
    total = 0
    for process in processes:
        fields = _stat(process.pid)
        if fields is not None:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def memory(pid: int) -> Memory:
    """What the process holds now; needs the same user or root. Raises ``OSError`` when it is gone."""
    status = _fields(Path(f"/proc/{pid}/status"))
    rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return Memory(
        rss_kib=status["VmRSS"],
        pss_kib=rollup["Pss"],
        anonymous_kib=status["RssAnon"],
        file_kib=status["RssFile"],
        peak_kib=status["VmHWM"],
    )


def _fields(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0])
    return found


def end(started: subprocess.Popen[bytes], grace_s: float) -> list[str]:
    """SIGTERM, then SIGKILL to it and all its descendants after ``grace_s``; describes those that had to be killed."""
    family = [(pid, started_ticks(pid)) for pid in descendants(started.pid)]
    if started.poll() is None:
        started.send_signal(signal.SIGTERM)
    killed: list[str] = []
    try:
        started.wait(grace_s)
    except subprocess.TimeoutExpired:
        killed.append(_described(started.pid))
        started.kill()
        started.wait()
    deadline_s = time.monotonic() + 2.0
    while time.monotonic() < deadline_s and any(_is_alive(pid, ticks) for pid, ticks in family):
        time.sleep(0.05)
    for pid, ticks in family:
        if _is_alive(pid, ticks):
            killed.append(_described(pid))
            os.kill(pid, signal.SIGKILL)
    return killed


def _described(pid: int) -> str:
    return f"{pid} ({' '.join(command_line(pid))[:120]})"


def _is_alive(pid: int, ticks: int | None) -> bool:
    return ticks is not None and started_ticks(pid) == ticks
