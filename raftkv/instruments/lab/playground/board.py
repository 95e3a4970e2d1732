"""What pages are shown: the newest frames of a playground, from the loop that makes them to the threads that send.

Bounded: so many frames are held, and who is slower than that misses some; a new page is told what was before at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from raftkv.core.sights import View
from raftkv.instruments.lab.playground.traffic import Mark

FRAMES_MAX: Final = 40
"""Ten seconds."""

PAST_MAX: Final = 3000
"""Marks of operations that a new page is told of."""

WAIT_S: Final = 1.0


class Board:
    """``setup`` is what never changes."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._setup = setup
        self._changed = threading.Condition()
        self._frames: deque[tuple[int, bytes]] = deque(maxlen=FRAMES_MAX)
        self._past: deque[Mark] = deque(maxlen=PAST_MAX)
        self._past_faults: list[dict[str, Any]] = []
        self._number = 0
        self._is_over = False

    def publish(self, view: View, marks: list[Mark], play: dict[str, Any], past: list[dict[str, Any]]) -> None:
        """The next frame; ``past`` are the faults that are over, which only a new page has to be told of."""
        line = msgspec.json.encode({"view": view, "marks": marks, "play": play}) + b"\n"
        with self._changed:
            self._number += 1
            self._past.extend(marks)
            self._past_faults = past
            self._frames.append((self._number, line))
            self._changed.notify_all()

    def end(self) -> None:
        """There will be no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def lines(self) -> Iterator[bytes]:
        """One JSON a line, from now on; waits for frames, and ends with the playground."""
        with self._changed:
            seen = self._number
            told = {"setup": self._setup, "marks": list(self._past), "past_faults": self._past_faults}
            first = msgspec.json.encode(told) + b"\n"
        yield first
        while True:
            with self._changed:
                if not self._is_over and self._number == seen:
                    self._changed.wait(WAIT_S)
                if self._is_over:
                    return
                new = [line for number, line in self._frames if number > seen]
                seen = self._number
            yield from new
