"""Where lines for people go: a descriptor whose reader may be slow, gone or full, at the cost of lines and no more.

Rules. ``write`` never blocks and never raises: a line waits in a queue that is bounded in bytes, and a thread of the
sink's own writes it. A line that finds no room, or that the operating system refuses (nobody reads, the disk is full),
is dropped and counted; nothing is tried again. What remains keeps its order, and the first line that gets through after
others were dropped is preceded by one that says how many. The descriptor may be shared with other processes, so it is
never made non-blocking, nor closed. After a fork the child begins with an empty queue and a count of nothing: what
waits is the parent's to write. Imports the standard library only.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, NamedTuple

QUEUE_BYTES: Final = 1 << 18
"""Some thousand lines: a reader that pauses for seconds loses nothing, and one that never returns costs no more."""

ENTRY_BYTES: Final = 128
"""What a waiting line costs besides its text."""

DRAIN_S: Final = 1.0
"""How long the end of a process waits for its last lines to be taken."""


class _Line(NamedTuple):
    data: bytes
    missing: int
    """How many lines before it found no room."""


def told_plainly(count: int) -> bytes:
    """The line that says that ``count`` are missing, unless a log has another shape."""
    return f"raftkv: {count} line{' was' if count == 1 else 's were'} dropped here\n".encode()


class Sink:
    """Lines on their way to ``descriptor``; any thread may write."""

    def __init__(self, descriptor: int, *, queue_bytes: int = QUEUE_BYTES, tells: bool = True) -> None:
        """``tells``: after a gap, one line says how many are missing."""
        self.descriptor = descriptor
        self._queue_bytes = queue_bytes
        self._tells = tells
        self.missing: Callable[[int], bytes] = told_plainly
        """The line that says how many are missing."""

        self.begin()
        _sinks.add(self)

    def begin(self) -> None:
        """Have nothing to write and no thread: when it is made, and in a child after a fork."""
        self._lock = threading.RLock()  # a signal's handler may write while the same thread does
        self._queue: SimpleQueue[_Line | threading.Event] = SimpleQueue()
        self._waiting_bytes = 0
        self._missing = 0
        self._dropped = 0
        self._has_writer = False
        # The writer's own: how many dropped lines nobody was told of, and whether the last line broke off.
        self._untold = 0
        self._broke_off = False

    @property
    def dropped(self) -> int:
        """Lines that were dropped since this process began."""
        return self._dropped

    def write(self, data: bytes, *, at_any_rate: bool = False) -> None:
        """Take one line, its end included; ``at_any_rate`` even if the queue is full, for what ends the process."""
        cost = len(data) + ENTRY_BYTES
        with self._lock:
            if not at_any_rate and self._waiting_bytes + cost > self._queue_bytes:
                self._missing += 1
                self._dropped += 1
                return
            if not self._start():
                self._dropped += 1
                return
            self._waiting_bytes += cost
            missing, self._missing = self._missing, 0
            self._queue.put(_Line(data, missing))

    def drain(self, limit_s: float = DRAIN_S) -> bool:
        """Wait until all that was written is out or dropped; false if that took longer than ``limit_s``."""
        reached = threading.Event()
        with self._lock:
            if not self._has_writer:
                return True
            self._queue.put(reached)
        return reached.wait(limit_s)

    def _start(self) -> bool:
        if not self._has_writer:
            try:
                threading.Thread(target=self._run, args=(self._queue,), name="lines", daemon=True).start()
            except RuntimeError:  # out of threads, or Python is ending
                return False
            self._has_writer = True
        return True

    # --- the thread of the sink

    def _run(self, queue: SimpleQueue[_Line | threading.Event]) -> None:
        while True:
            entry = queue.get()
            if isinstance(entry, threading.Event):
                self._catch_up()
                entry.set()
                continue
            self._untold += entry.missing
            is_out = self._tell() and self._put(entry.data)
            with self._lock:
                self._waiting_bytes -= len(entry.data) + ENTRY_BYTES
                if not is_out:
                    self._dropped += 1
            if is_out:
                self._catch_up()
            else:
                self._untold += 1

    def _catch_up(self) -> None:
        """Whoever reads again hears of what it missed now, not when there is something to say."""
        with self._lock:
            if self._queue.empty():
                self._untold, self._missing = self._untold + self._missing, 0
        self._tell()

    def _tell(self) -> bool:
        """Say how many lines are missing here, if any are."""
        if self._untold == 0 or not self._tells:
            return True
        count = self._untold
        if not self._put(self.missing(count)):
            return False
        self._untold = 0
        return True

    def _put(self, data: bytes) -> bool:
        """Write all of ``data``, however long the reader takes; false when the operating system refuses."""
        rest = memoryview(b"\n" + data if self._broke_off else data)
        whole = len(rest)
        while rest:
            try:
                written = os.write(self.descriptor, rest)
            except BlockingIOError:  # someone else made it non-blocking
                self._wait_for_room()
            except OSError:
                self._broke_off = self._broke_off or len(rest) < whole
                return False
            else:
                rest = rest[written:]
        self._broke_off = False
        return True

    def _wait_for_room(self) -> None:
        room = select.poll()
        room.register(self.descriptor, select.POLLOUT)
        room.poll()


_sinks: weakref.WeakSet[Sink] = weakref.WeakSet()


def _begin_anew() -> None:
    for sink in _sinks:
        sink.begin()


os.register_at_fork(after_in_child=_begin_anew)
