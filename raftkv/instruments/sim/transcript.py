"""What happened in a run, line by line, for people, and as a digest that tells whether two runs were the same.

The digest covers every line and every message sent, whether lines are kept or not. Imports the standard library only.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Final

LINES_MAX: Final = 20_000
"""The last lines are kept: what led to a failure is at the end."""


class Transcript:
    """Lines with the virtual time; ``keep`` them, or only their digest. ``now_s`` is when the last thing happened."""

    def __init__(self, *, keep: bool = False) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self._keep = keep
        self.now_s = 0.0
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def is_kept(self) -> bool:
        """Is it worth the while to describe things for people?"""
        return self._keep

    def note(self, now_s: float, who: str, what: str) -> None:
        """One thing that happened."""
        self.now_s = now_s
        line = f"{now_s:10.4f}  {who:<5} {what}"
        self._hash.update(line.encode())
        if self._keep:
            self.lines.append(line)

    def describe(self, now_s: float, who: str, what: str) -> None:
        """Something for people only."""
        if self._keep:
            self.lines.append(f"{now_s:10.4f}  {who:<5} {what}")

    def sent(self, now_s: float, source: str, target: str, payload: bytes) -> None:
        """A message left."""
        self.now_s = now_s
        self._hash.update(f"{now_s!r}{source}{target}".encode())
        self._hash.update(payload)

    def digest(self) -> str:
        """Equal for equal runs."""
        return self._hash.hexdigest()
