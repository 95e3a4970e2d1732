"""What processes cost, as /proc shows it (Linux): CPU time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from raftkv.instruments.local.processes import stat

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of a cluster: ``node`` it belongs to, and the ``part`` it plays there."""

    pid: int
    node: str
    part: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """In KiB. ``anonymous`` is the process's own, ``file`` is pages of mapped files, which the kernel may take back."""

    rss_kib: int
    pss_kib: int
    anonymous_kib: int
    file_kib: int
    peak_kib: int


def cpu_s(processes: Iterable[Process]) -> float:
    """CPU seconds spent so far by those that still run."""
    found = [stat(process.pid) for process in processes]
    return sum(int(fields[11]) + int(fields[12]) for fields in found if fields is not None) / _TICKS_PER_S


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


def own_and_peak_kib(pid: int) -> tuple[int, int]:
    """Its anonymous memory now, and the most that was ever resident; quick, and raises ``OSError`` when it is gone."""
    status = _fields(Path(f"/proc/{pid}/status"))
    return status.get("RssAnon", 0), status.get("VmHWM", 0)


def _fields(path: Path) -> dict[str, int]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}
