"""How far a log reached, kept beside its directory: a log that lost its last segments, or all, is found out.

``<directory>.extent`` holds the number of the newest segment, in decimal. It is written, whole and durably, after a
segment has its name and before anything is written into the segment. So it never speaks of a segment that was not
there, and every segment with a vote or an entry in it is spoken for. Pure logic over ``Disk``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from raftkv.formats.segments import CorruptLog
from raftkv.storage.disk import Disk, write_whole

DIGITS_MAX: Final = 16
REMEDY: Final = "votes and entries are lost with it: put it back, or move the whole data directory away"


def path_of(directory: Path) -> Path:
    """Where the extent of the log in ``directory`` is kept."""
    return directory.with_name(directory.name + ".extent")


def note(disk: Disk, directory: Path, sequence: int) -> None:
    """Remember durably that segment ``sequence`` is there."""
    write_whole(disk, path_of(directory), b"%d\n" % sequence)


def check(disk: Disk, directory: Path, newest: int) -> bool:
    """Has the log in ``directory``, whose newest segment is ``newest`` (0: none), all that it ever had at its end?

    False when the extent must be noted anew: there is none, as in directories of earlier versions, or it lags behind.
    Raises ``CorruptLog`` when segments are missing, or when the extent is damaged.
    """
    path = path_of(directory)
    if path.name not in disk.list(path.parent):
        return False
    text = disk.read(path)
    digits = text.strip()
    if not digits.isdigit() or len(digits) > DIGITS_MAX:
        raise CorruptLog(f"{path}: damaged: it holds no number")
    noted = int(digits)
    if newest < noted:
        missing = directory / f"{noted:016d}.log"
        raise CorruptLog(f"{missing}: the last segment of the log is missing; {REMEDY}")
    return newest == noted
