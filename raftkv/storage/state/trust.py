"""Which directory of applied state may be used as it is, and which must be rebuilt.

The state is a cache of snapshot and log: commits are atomic but not synced. It is trusted again when the same boot of
the machine wrote it (then the page cache still had every commit) or when it was closed cleanly; otherwise it is thrown
away and rebuilt. ``FORMAT``, ``BOOT`` and ``CLEAN`` beside the data say which it is.

This module imports nothing but the standard library, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from raftkv.formats.seals import FORMAT
from raftkv.storage.disk import RealDisk, remove_file, replace_file, translated
from raftkv.storage.engines.lmdb import DATA, LmdbEngine

_FORMAT: Final = "FORMAT"
_CLEAN: Final = "CLEAN"
_BOOT: Final = "BOOT"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The identity of this boot of the machine, empty on systems that do not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def is_trustworthy(directory: Path) -> bool:
    """Can the state in ``directory`` be used as it is, or must it be rebuilt?"""
    try:
        if not (directory / DATA).is_file() or (directory / _FORMAT).read_bytes() != FORMAT:
            return False
    except OSError:
        return False
    if (directory / _CLEAN).is_file():
        return True
    boot = boot_id()
    try:
        return boot != "" and (directory / _BOOT).read_text() == boot
    except (OSError, UnicodeDecodeError):
        return False


def open_state(
    directory: Path, tables: Iterable[bytes], *, trusted_boot: str | None = None, map_bytes: int = 1 << 30
) -> LmdbEngine:
    """Open the state in ``directory``, made if missing; whether to trust what is there is the caller's question.

    ``trusted_boot`` is the boot under which the state may be trusted again, this machine's own by default. Raises
    ``DiskError``.
    """
    RealDisk().make_directory(directory)
    # The order matters: from here on, only the boot vouches for the state.
    if (directory / _CLEAN).exists():
        remove_file(directory / _CLEAN)
    if not (directory / DATA).exists():
        replace_file(directory / _FORMAT, FORMAT)
    opened = LmdbEngine(directory, tables, map_bytes=map_bytes)
    boot = (boot_id() if trusted_boot is None else trusted_boot).encode()
    try:
        # Within one boot nothing needs to be written, so that a node starts on a full disk.
        if not (directory / _BOOT).is_file() or RealDisk().read(directory / _BOOT) != boot:
            replace_file(directory / _BOOT, boot)
    except BaseException:
        opened.close()
        raise
    return opened


def close_cleanly(opened: LmdbEngine) -> None:
    """Close the state, durable and marked so that it is trusted whatever happens to the machine; or raise."""
    try:
        opened.sync()
        replace_file(opened.directory / _CLEAN, b"closed cleanly\n")
    finally:
        opened.close()


def distrust(directory: Path) -> None:
    """Let nobody take up the state in ``directory`` again: it is damaged."""
    for mark in (_CLEAN, _BOOT):
        remove_file(directory / mark)


def discard(directory: Path) -> None:
    """Remove the state in ``directory``, if there is any; what vouches for it goes first."""
    if not directory.exists():
        return
    distrust(directory)
    with translated(directory):
        shutil.rmtree(directory)
    RealDisk().sync_directory(directory.parent)
