"""Large files go without holding up who removes them.

A name is gone at once, but the kernel frees a file's blocks on behalf of whoever lets go of it last, and takes about a
second for each eight gigabytes. So a process of its own lets go last. What is small is not worth one.

This module imports nothing but the standard library and its neighbours in ``storage``.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from raftkv.storage.disk import DiskError, remove_file, translated

LARGE_BYTES: Final = 256 << 20
"""Freed within 50 ms or so."""

_PROGRAM: Final = "cat"
"""It ends when its standard input does."""

_releasing: list[subprocess.Popen[bytes]] = []


def remove_aside(path: Path) -> None:
    """Remove ``path`` durably, if it is there; its blocks may be freed later. Raises ``DiskError``."""
    with translated(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
    try:
        remove_file(path)
    finally:
        close_aside(descriptor)


def remove_directory_aside(directory: Path) -> None:
    """Remove a directory of files, as far as that can be done."""
    with suppress(OSError, DiskError):
        for path in directory.iterdir():
            remove_aside(path)
        directory.rmdir()


def close_aside(descriptor: int) -> None:
    """Close what may be the last descriptor of a file that has no name any more."""
    status = os.fstat(descriptor)
    helper = _helper(descriptor) if status.st_nlink == 0 and status.st_blocks * 512 >= LARGE_BYTES else None
    os.close(descriptor)
    if helper is not None:
        assert helper.stdin is not None
        helper.stdin.close()  # only now does it let go
        _releasing.append(helper)


def _helper(descriptor: int) -> subprocess.Popen[bytes] | None:
    """A process that holds the file until its standard input ends; ``None`` where it cannot be started."""
    _releasing[:] = [one for one in _releasing if one.poll() is None]
    try:
        return subprocess.Popen([_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[descriptor])  # noqa: S603
    except OSError:
        return None
