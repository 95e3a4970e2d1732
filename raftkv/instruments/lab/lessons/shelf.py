"""All lessons, by the names that ``raftkv lab lesson`` knows them by."""

from __future__ import annotations

from typing import Final

from raftkv.instruments.lab.lessons import clocks, fencing, watcher
from raftkv.instruments.lab.lessons.lesson import Lesson

LESSONS: Final[dict[str, Lesson]] = {"fencing": fencing.LESSON, "clocks": clocks.LESSON, "watcher": watcher.LESSON}
