"""What a measurement depends on besides the systems: the machine, its disk, the versions; and a place for data."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.clusters import etcd_program

RESULTS = Path(__file__).parent / "results"
FLUSHES = 200


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Facts to read a result by; ``flush_ms_p50`` is fdatasync after an append of 4 KiB in the data's directory."""

    taken_at: str
    cores: int
    kernel: str
    python: str
    raftkv: str
    etcd: str | None
    file_system: str
    flush_ms_p50: float
    load_average_1m: float


@contextmanager
def workplace(parent: Path | None) -> Iterator[Path]:
    """A temporary directory for data, removed at the end; SIGTERM ends the program in order, like Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="raftkv-bench-", dir=parent))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def observe(home: Path) -> Surroundings:
    """Look around; takes well under a second on a disk."""
    return Surroundings(
        taken_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        raftkv=version("raftkv"),
        etcd=_etcd_version(),
        file_system=_file_system(home),
        flush_ms_p50=_flush_ms(home),
        load_average_1m=os.getloadavg()[0],
    )


def _etcd_version() -> str | None:
    program = etcd_program()
    if program is None:
        return None
    output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return output.splitlines()[0].removeprefix("etcd Version: ")


def _file_system(home: Path) -> str:
    """The type of the file system that holds ``home``: the mount with the longest matching path."""
    best = ("/", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if home.resolve().is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _flush_ms(home: Path) -> float:
    spent_ms = []
    path = home / "flush-probe"
    with path.open("wb", buffering=0) as probe:
        for _ in range(FLUSHES):
            probe.write(b"x" * 4096)
            started_s = time.perf_counter()
            os.fdatasync(probe.fileno())
            spent_ms.append((time.perf_counter() - started_s) * 1000)
    path.unlink()
    return statistics.median(spent_ms)


def store(document: msgspec.Struct, stem: str, chosen: Path | None) -> Path:
    """Write ``document`` as JSON to ``chosen``, or to a new file in the results folder; returns where."""
    path = chosen or RESULTS / f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return path
