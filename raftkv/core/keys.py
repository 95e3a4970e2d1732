"""Keys as bytes: which are the cluster's own, which are text, and where those of a prefix end.

This module imports nothing but the standard library, msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from raftkv.core.config import KEY_BYTES_MAX

Key = Annotated[bytes, Meta(min_length=1, max_length=KEY_BYTES_MAX)]

SYSTEM: Final = b"\xff\xff"
"""Keys from here on are the cluster's own (``raftkv.coordination``), and no client names one.

What clients list, delete, compare or watch ends here; what is to name a key of theirs, and begins so, is refused.
"""

LOCK_KEYS: Final = SYSTEM + b"lock\xff"
ELECTION_KEYS: Final = SYSTEM + b"election\xff"
"""Before the names of locks and elections in the keys of their contenders (``raftkv.coordination.names``)."""

END_OF_NAME: Final = b"\x00"
"""Behind the name in such a key; no name has one."""


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key with ``prefix``, or ``None`` when there is none (``b""``, ``ff ff``)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])


def is_text(key: bytes) -> bool:
    """Is ``key`` UTF-8?"""
    try:
        return key.isascii() or bool(key.decode())
    except UnicodeDecodeError:
        return False


def quoted(key: bytes) -> str:
    """A key as a sentence shows it, in one line: what is no text is escaped."""
    return repr(key.decode()) if is_text(key) else repr(key)[1:]


def clients_span(prefix: bytes, start: bytes = b"", end: bytes | None = None) -> tuple[bytes, bytes]:
    """Where a client's keys begin and end that have ``prefix`` and lie from ``start`` up to ``end``."""
    ends = [one for one in (prefix_end(prefix), end, SYSTEM) if one is not None]
    return min(max(start, prefix), SYSTEM), min(ends)
