"""Standard output and standard error of a process that must go on whatever becomes of their readers.

``lossy`` puts a ``LineStream`` in place of the two, so that all that is said on them (a log, a traceback, a warning of
Python or of a library) goes through one sink each. Commands that end at once and whose output is the point of them keep
Python's own streams, and fail when these do. Imports the standard library and its neighbours only.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Literal

from raftkv.process.sink import DRAIN_S, Sink

PARTIAL_CHARACTERS_MAX: Final = 1 << 14
"""A line that goes on for longer is handed over in pieces."""

_DESCRIPTORS: Final = {"stdout": 1, "stderr": 2}


class LineStream(io.TextIOBase):
    """A text stream that hands whole lines to a sink; it never blocks and never raises."""

    def __init__(self, sink: Sink, *, encoding: str = "utf-8") -> None:
        self.sink = sink
        self._encoding = encoding
        self._is_terminal = os.isatty(sink.descriptor)
        self.begin()

    def begin(self) -> None:
        """Have nothing to say yet: when it is made, and in a child after a fork."""
        self._partial = ""
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What the bytes are; a character that it cannot say is escaped."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """See ``io``."""
        return "backslashreplace"

    def fileno(self) -> int:
        """See ``io``."""
        return self.sink.descriptor

    def isatty(self) -> bool:
        """See ``io``."""
        return self._is_terminal

    def writable(self) -> bool:
        """See ``io``."""
        return True

    def write(self, text: str) -> int:
        """See ``io``; what follows the last line end waits for the next, or for ``flush``."""
        with self._lock:
            whole, end, partial = (self._partial + text).rpartition("\n")
            self._partial = partial
            if whole or end:
                self._hand_over(whole + end)
            if len(self._partial) > PARTIAL_CHARACTERS_MAX:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Hand over what there is. Does not wait for it to be written: ``drain`` of the sink does."""
        with self._lock:
            partial, self._partial = self._partial, ""
            if partial:
                self._hand_over(partial)

    def _hand_over(self, text: str) -> None:
        # A frame of a terminal's table makes no sense in pieces; lines of a log are counted one by one.
        for piece in [text] if self._is_terminal else text.splitlines(keepends=True):
            self.sink.write(piece.encode(self._encoding, "backslashreplace"))


_installed: list[LineStream] = []


def _begin_anew() -> None:
    for stream in _installed:
        stream.begin()


os.register_at_fork(after_in_child=_begin_anew)


def lossy(*names: Literal["stdout", "stderr"]) -> None:
    """Let the streams ``names`` of this process, or both, lose lines rather than hold it up or end it.

    A stream that somebody has put in place of Python's own, as those who test commands do, is left alone.
    """
    for name in names or ("stdout", "stderr"):
        descriptor, given = _DESCRIPTORS[name], getattr(sys, name)
        if given is not getattr(sys, f"__{name}__"):
            continue
        sink = Sink(descriptor, tells=not os.isatty(descriptor))
        stream = LineStream(sink, encoding=getattr(given, "encoding", None) or "utf-8")
        _installed.append(stream)
        setattr(sys, name, stream)


def say_missing(line: Callable[[int], bytes]) -> None:
    """Let ``line`` say how many lines are missing, where that is said at all; any thread may call it."""
    for stream in _installed:
        stream.sink.missing = line


def lines_dropped() -> int:
    """How many lines this process has dropped."""
    return sum(stream.sink.dropped for stream in _installed)


def last_words(text: str) -> None:
    """Say ``text`` on standard error even if much waits there, and give the reader a moment to take it."""
    stream = sys.stderr
    if isinstance(stream, LineStream):
        stream.flush()
        stream.sink.write(text.encode(stream.encoding, stream.errors), at_any_rate=True)
        drain()
    else:
        stream.write(text)


def drain(limit_s: float = DRAIN_S) -> None:
    """Wait until all that was said is out or dropped, at most ``limit_s``."""
    end_s = time.monotonic() + limit_s
    for stream in _installed:
        stream.flush()
        stream.sink.drain(max(0.0, end_s - time.monotonic()))


atexit.register(drain)
