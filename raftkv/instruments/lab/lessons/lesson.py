"""What a lesson is made of: what it tells while it goes on, and at the end what was to be seen, and whether it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

Tell = Callable[[str], None]


class ToBeSeen(msgspec.Struct, frozen=True):
    """``sentence`` says what was to be seen: a promise of raftkv's, or (``is_elsewhere``) of nobody.

    That need not be seen every time.
    """

    sentence: str
    was_seen: bool
    is_elsewhere: bool = False


class Lesson(msgspec.Struct, frozen=True):
    """``perform`` plays it with a folder for what is left behind, and tells; raises ``ClusterError``."""

    title: str
    perform: Callable[[Path, Tell], list[ToBeSeen]]
