"""The three standard descriptors: open in every process, whatever it was started with.

Where one is closed, the next file or socket takes its number, and a line meant for standard error goes into that: the
loop ends by SIGABRT, a data file is damaged. Must run before anything else is opened.
"""

from __future__ import annotations

import os
import sys
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")
_opened_here: set[int] = set()


def open_missing() -> None:
    """Open /dev/null in place of every standard descriptor that is closed."""
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            _opened_here.add(number)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # noqa: FBT003  the function's own signature
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def was_closed(number: int) -> bool:
    """Was the standard descriptor closed when the process began? Who reads or writes there in earnest has to know."""
    return number in _opened_here
