"""Lets go of the pages of a mapped file that this process has read, so that it does not look as large as the file.

They are the file's, clean or dirty, and in the kernel's cache all the same; read again, they come back (madvise(2),
``MADV_DONTNEED`` on a shared mapping). Elsewhere than on Linux nothing is done. Imports the standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path


def forget_pages(path: Path) -> None:
    """Let go of all pages of ``path`` that are mapped here."""
    advice, name = getattr(mmap, "MADV_DONTNEED", None), os.fsencode(path.resolve())
    try:
        lines = Path("/proc/self/maps").read_bytes().splitlines()
    except OSError:
        return
    if advice is None:
        return
    madvise = ctypes.CDLL(None).madvise
    for line in lines:
        fields = line.split(maxsplit=5)  # addresses, rights, offset, device, inode, path
        if len(fields) == 6 and fields[5] == name and fields[1].endswith(b"s"):
            start, end = [int(address, 16) for address in fields[0].split(b"-")]
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(advice))
