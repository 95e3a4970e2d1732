"""What a client notes of each thing that it asked for, one note a key, for those who judge it at the end. Pure."""

from __future__ import annotations

import abc

import msgspec

from raftkv.core.requests import Compact, KeepAlive, Read, Write
from raftkv.core.results import Answer, Compacted, HistoryAhead, HistoryGone, KeptAlive, Written
from raftkv.core.rights import Caller

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


class Note(msgspec.Struct, kw_only=True):
    """One operation on one key as its client saw it; times in seconds of the simulation.

    ``value`` is what it wrote, ``outcome`` is ok, failed or unknown, ``node`` who was asked last.
    """

    client: int
    key: bytes
    kind: str
    value: bytes | None = None
    invoked_s: float
    returned_s: float | None = None
    outcome: str = UNKNOWN
    node: str = ""
    note: str = ""

    @abc.abstractmethod
    def story(self) -> str:
        """One line for people."""


class Seen(Note, kw_only=True):
    """In raft mode: the ``request``, may it happen twice, and the ``answer``; the rest is for a search.

    What is searched has the ``kind`` get, put, delete or compare; a compare expects the value ``expected``, ``None``
    for no such key and ``True`` for any, and sets ``value``, ``None`` to delete. ``result`` is what a get found, or
    whether a delete or compare changed anything; ``note`` says what was asked for, and why it failed.
    """

    request: Read | Write | KeepAlive | Compact | None = None
    is_repeatable: bool = False
    answer: Answer | Written | KeptAlive | Compacted | HistoryGone | HistoryAhead | None = None
    expected: bytes | bool | None = None
    result: bytes | bool | None = None

    def story(self) -> str:
        """See ``Note``."""
        parts = [f"{self.note} {self.key!r} at {self.node} since {self.invoked_s:.4f}: {self.outcome}"]
        if self.value is not None:
            parts.append(f"sets {self.value[:16]!r}")
        if self.outcome == OK and self.kind != "put":
            parts.append(f"result {self.result[:16] if isinstance(self.result, bytes) else self.result!r}")
        return ", ".join(parts)


class Asked(Note, kw_only=True):
    """In the leaderless mode, for ``promises``.

    ``context`` is what a write was given, or a read gave; ``found`` are the values that a read showed; ``caller`` is as
    whom the client asked.
    """

    n: int
    r: int
    w: int
    is_strict: bool = False
    caller: Caller | None = None
    context: bytes = b""
    stamp: tuple[int, str] = (0, "")
    found: tuple[bytes, ...] = ()
    replicas: tuple[str, ...] = ()

    @property
    def is_write(self) -> bool:
        """Does it change anything?"""
        return self.kind not in ("get", "list")

    def story(self) -> str:
        """See ``Note``."""
        sizes = f"n={self.n} r={self.r} w={self.w}{' strict' if self.is_strict else ''}"
        value = "" if self.value is None else f" {self.value[:12]!r}"
        told = f"{self.outcome} {self.stamp[0]}@{self.stamp[1]} {[found[:12] for found in self.found]}"
        return (
            f"{self.kind} {self.key.decode()}{value} {sizes} at {self.node} since {self.invoked_s:.4f}: "
            f"{told} by {','.join(self.replicas)} {self.note if self.outcome != OK else ''}"
        )
