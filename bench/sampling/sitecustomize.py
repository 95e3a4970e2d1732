"""A sampler inside a Python process, which runs this by itself when PYTHONPATH names this folder.

On SIGNAL it begins, on the next it ends and writes what it saw to ``$BENCH_SAMPLES/<pid>.collapsed``. The kernel's
timer of consumed CPU time tells when to look (ITIMER_PROF): what waits, for a disk or a socket, is never seen, and what
runs is seen as often as it runs. A sample costs about 10 us, one is taken each kernel tick of CPU time (4 or 10 ms).
C code is seen as part of the Python function that called it. Python handles a signal between instructions; one that is
handled before a function's first came while its caller had the processor.

It stands alone: what it is loaded into must be as if it were not there.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from opcode import opmap
from types import CodeType, FrameType

SIGNAL = signal.SIGRTMIN + 7
INTERVAL_S = 0.001
_RESUME = opmap["RESUME"]

_seen: Counter[tuple[CodeType, ...]] = Counter()
_is_sampling = False


def _look(_number: int, frame: FrameType | None) -> None:
    stack: list[CodeType] = []
    if frame is not None and frame.f_code.co_code[frame.f_lasti] == _RESUME:
        frame = frame.f_back
    while frame is not None:
        stack.append(frame.f_code)
        frame = frame.f_back
    _seen[tuple(stack)] += 1


def _toggle(_number: int, _frame: FrameType | None) -> None:
    global _is_sampling  # noqa: PLW0603  the state of this process
    _is_sampling = not _is_sampling
    signal.setitimer(signal.ITIMER_PROF, *(INTERVAL_S, INTERVAL_S) if _is_sampling else (0, 0))
    if not _is_sampling:
        _write()
        _seen.clear()


def _write() -> None:
    raftkv = getattr(sys.modules.get("raftkv"), "__file__", None)
    roots = [*sys.path, *([os.path.dirname(os.path.dirname(raftkv))] if raftkv else [])]  # noqa: PTH120  no imports
    prefixes = sorted({f"{root}/" for root in roots if root}, key=len, reverse=True)
    path = f"{os.environ['BENCH_SAMPLES']}/{os.getpid()}.collapsed"
    with open(f"{path}.part", "w", encoding="utf-8") as file:  # noqa: PTH123  no imports
        for stack, count in _seen.items():
            frames = [_named(code, prefixes) for code in reversed(stack)]
            file.write(f"{';'.join(frames)} {count}\n")
    os.rename(f"{path}.part", path)  # noqa: PTH104  no imports


def _named(code: CodeType, prefixes: list[str]) -> str:
    path = code.co_filename
    for prefix in prefixes:
        if path.startswith(prefix):
            path = path[len(prefix) :]
            break
    return f"{code.co_qualname} ({path}:{code.co_firstlineno})"


if "BENCH_SAMPLES" in os.environ:
    signal.signal(signal.SIGPROF, _look)
    signal.signal(SIGNAL, _toggle)
    signal.siginterrupt(signal.SIGPROF, False)  # noqa: FBT003  C code need not know of it
