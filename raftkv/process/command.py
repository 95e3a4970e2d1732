"""The command that starts another Python process of raftkv.

Rule: nothing of the current directory is ever executed. ``python -m`` and ``python -c`` put that directory first where
modules are looked for, so that a ``random.py`` that lies there would be run; ``-P`` leaves it out. ``-X utf8`` makes
text mean the same in every locale. A test finds whoever starts Python in another way.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

SAFELY: Final = ("-P", "-X", "utf8")


def python(*arguments: str) -> list[str]:
    """What runs this interpreter with ``arguments``, such as ``-c`` and a program."""
    return [sys.executable, *SAFELY, *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """What runs the module ``name`` of raftkv with ``arguments``."""
    return python("-m", name, *arguments)


def speak_utf8() -> None:
    """Begin anew where the locale knows only some characters: what a configuration names must have a name on the disk.

    Python does so by itself in the usual C locale. Returns where nothing is to be done.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8":
        return
    os.execv(sys.executable, [*python(), *sys.orig_argv[1:]])  # noqa: S606  this very command again


def forget_current_directory() -> None:
    """Look for no further module where this process was started, or beside its script.

    Python began with that place if it was told to (``python -m raftkv`` without ``-P``). Entries that a person gave by
    PYTHONPATH come later and stay.
    """
    if sys.flags.safe_path or not sys.path:
        return
    first, here = sys.path[0], Path.cwd()
    if first == "" or Path(first) in (here, here.resolve(), Path(sys.argv[0]).resolve().parent):
        del sys.path[0]
