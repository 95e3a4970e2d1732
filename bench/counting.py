"""What work costs, counted instead of timed: the interpreter's own instructions, by layer of the code, and encodings.

A count is the same on every machine and under every load, and a slow change of Python code shows in it at once. How
long C code takes is not in it; so calls that turn values into bytes or back, and hashes, are counted besides.

Another Python compiles the same source to other instructions. So counts are told as multiples of what a plain piece of
code takes (``plain``) under the same Python; what is left of the difference stays well below the margin of the limits.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import msgspec

from bench.layers import OTHER, layer_of
from raftkv import __file__ as raftkv_path

ROOT: Final = f"{Path(raftkv_path).parents[1]}/"
ENCODINGS: Final = "encodings"
HASHES: Final = "hashes"
_ENCODERS: Final = ("msgspec", "json", "_json", "base64", "binascii")
_HASHERS: Final = ("xxhash", "zlib", "_blake2", "_hashlib", "hmac", "_hmac", "_sha2", "_sha256")


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """``layers`` in multiples of ``plain``, ``calls`` as they are: encodings, which decodings are too, and hashes."""

    layers: dict[str, float]
    calls: dict[str, float]


class Counting:
    """Counts while it is ``on``; one at a time, since the interpreter has one place for it."""

    def __init__(self) -> None:
        self.instructions: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count what happens in this thread meanwhile."""
        before = sys.getprofile()
        sys.setprofile(self._called)
        try:
            with _each_instruction(self._ran):
                yield
        finally:
            sys.setprofile(before)

    def per(self, operations: int) -> Counted:
        """What was counted, for one of so many operations."""
        unit = plain_instructions() * operations
        return Counted(
            layers={name: count / unit for name, count in self.instructions.items()},
            calls={name: self.calls[name] / operations for name in (ENCODINGS, HASHES)},
        )

    def _ran(self, frame: FrameType) -> None:
        layer = _layer_in(frame)
        if layer is not None:
            self.instructions[layer] += 1

    def _called(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and _layer_in(frame) is not None:
            kind = _kind(called)
            if kind is not None:
                self.calls[kind] += 1


@contextmanager
def _each_instruction(ran: Callable[[FrameType], None]) -> Iterator[None]:
    """Call ``ran`` for each instruction with the frame in which it runs."""
    if sys.version_info >= (3, 12):
        monitoring = sys.monitoring
        tool, events = monitoring.PROFILER_ID + 1, monitoring.events
        monitoring.use_tool_id(tool, "raftkv.bench")
        monitoring.register_callback(tool, events.INSTRUCTION, lambda _code, _offset: ran(sys._getframe(1)))  # noqa: SLF001
        monitoring.set_events(tool, events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_events(tool, events.NO_EVENTS)
            monitoring.free_tool_id(tool)
        return

    def trace(frame: FrameType, event: str, _arg: object) -> Callable[..., Any]:
        if event == "opcode":
            ran(frame)
        else:
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _layer_in(frame: FrameType | None) -> str | None:
    """The layer for which ``frame`` runs: that of the innermost of raftkv's; what the instruments do is none's."""
    while frame is not None:
        layer = _layer(frame.f_code)
        if layer is not None:
            return None if layer == OTHER else layer
        frame = frame.f_back
    return None


@lru_cache(None)
def _layer(code: CodeType) -> str | None:
    return layer_of(code.co_filename.removeprefix(ROOT)) if code.co_filename.startswith(ROOT) else None


def _kind(called: Any) -> str | None:
    """What a function in C is for, if it is for one of these."""
    owner = getattr(called, "__self__", None)
    module = getattr(called, "__module__", None) or type(owner).__module__
    first = str(module).partition(".")[0]
    name = called.__name__
    if first in _ENCODERS and ("code" in name or "convert" in name or name.startswith(("b2a", "a2b"))):
        return ENCODINGS
    if first in _HASHERS or name in ("crc32", "digest"):
        return HASHES
    return None


def plain() -> int:
    """A piece of code such as there is everywhere: calls, attributes, comparisons, a loop over pairs."""

    class Place:
        def __init__(self, number: int) -> None:
            self.number = number
            self.seen: dict[int, str] = {}

        def take(self, key: int, word: str) -> bool:
            if key in self.seen and self.number > key:
                return False
            self.seen[key] = word
            self.number += 1
            return True

        @property
        def is_open(self) -> bool:
            return self.number is not None and not self.seen.get(-1) and len(self.seen) < 99

    place, taken = Place(3), 0
    for key, word in ((number, str(number)) for number in range(20)):
        if (key % 2 or place.is_open) and place.take(key % 15, word) and len(word) < 9:
            taken += 1
    found = [value for value in place.seen.values() if value != "3"]
    return taken + len(found)


@lru_cache(1)
def plain_instructions() -> int:
    """How many instructions ``plain`` takes under this Python."""
    count = 0

    def ran(frame: FrameType) -> None:
        nonlocal count
        count += frame.f_code.co_filename == __file__

    plain()  # what is made at the first call only is none of its
    with _each_instruction(ran):
        plain()
    return count
