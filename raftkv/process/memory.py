"""Gives back memory that this process holds and does not need, so that it looks no larger than what it uses.

Pages of mapped files are the file's, clean or dirty, and in the kernel's cache all the same; read again, they come back
(madvise(2), ``MADV_DONTNEED`` on a shared mapping). Of the heap glibc returns only what is free at its end: what lies
between, where a log or large bodies were, it keeps unless it is told (malloc_trim(3)). Where a system has neither,
nothing is done. Imports the standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

GIVE_BACK_S: Final = 30.0
"""How often a long-lived process gives back: a page that is read all the time comes back in a microsecond, and this
is rare enough not to be felt. The giving takes a millisecond for 50 MiB of pages, or for 5 MiB of heap."""


def give_back(directory: str) -> None:
    """Give back what is free in the heap, and let go of all pages of files below ``directory``; empty: of none."""
    trim = getattr(_library(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
    if directory:
        below = os.fsencode(Path(directory).resolve()) + b"/"
        _forget(lambda path: path.startswith(below))


def forget_pages(path: Path) -> None:
    """Let go of all pages of ``path`` that are mapped here."""
    name = os.fsencode(path.resolve())
    _forget(lambda path: path == name)


def _forget(is_meant: Callable[[bytes], bool]) -> None:
    """Let go of the pages of all files whose paths are meant.

    The thread that maps and unmaps them calls this: nothing may take their place in memory meanwhile.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    try:
        lines = Path("/proc/self/maps").read_bytes().splitlines()
    except OSError:
        return
    if advice is None:
        return
    madvise = _library().madvise
    for line in lines:
        fields = line.split(maxsplit=5)  # addresses, rights, offset, device, inode, path
        if len(fields) == 6 and fields[1].endswith(b"s") and is_meant(fields[5]):
            start, end = [int(address, 16) for address in fields[0].split(b"-")]
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(advice))


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
