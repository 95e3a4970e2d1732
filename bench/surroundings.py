"""What a measurement depends on besides the systems: the machine, its disk, the versions; and a place for data."""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import click
import msgspec
import uvloop

from bench.clusters import etcd_program
from raftkv.instruments.load.plan import LoadError
from raftkv.instruments.local.nodes import ClusterError

RESULTS = Path(__file__).parent / "results"
FLUSHES = 200

Result = TypeVar("Result")

seconds_option = click.option("--seconds", default=5.0, show_default=True, help="Of one measurement, after 1 s more.")
connections_option = click.option(
    "--connections", default=32, show_default=True, help="Spread evenly over the three nodes."
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Where data goes."
)
json_option = click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Default: bench/results/."
)


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


def in_new_folder(parent: Path | None, work: Callable[[Path], Result]) -> Result:
    """Do ``work`` in a temporary directory for data, which is removed at the end; failures are told as commands do."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="raftkv-bench-", dir=parent, ignore_cleanup_errors=True) as home:
            return work(Path(home))
    except (ClusterError, LoadError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("broken off") from None


def run_at(parent: Path | None, work: Callable[[Path], Coroutine[None, None, Result]]) -> Result:
    """The same for what runs on a loop."""
    return in_new_folder(parent, lambda home: uvloop.run(work(home)))


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
