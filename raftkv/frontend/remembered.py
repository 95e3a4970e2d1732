"""Answers to local reads that a front-end remembers, where the replica shares no state that it could read.

Rules: an answer is given again only while the replica has changed nothing in the key's place since before it was asked
(``raftkv.storage.change_counts``), so it is what the replica would say; only what time alone does not change is
remembered: one value that does not expire. What is remembered is bounded in bytes, and the oldest goes first. It is
forgotten with the connection to the replica. Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

import contextlib
from typing import Final

from raftkv.core.requests import DEFAULT, Consistency, Get, Read, Request, is_of_past
from raftkv.core.results import Outcome, StampedAnswer, StampedRecord
from raftkv.storage.change_counts import ChangeCountsReader

REMEMBERED_BYTES: Final = 8 << 20
"""Of all answers together: some ten thousand small ones."""

LARGE_BYTES: Final = 64 << 10
"""A value that is larger is not remembered: what it costs is not the asking."""

ANSWER_OVERHEAD_BYTES: Final = 600
"""What Python takes for an answer beside key and value."""


class RememberedAnswers:
    """What the replica answered lately."""

    def __init__(self) -> None:
        self._counts: ChangeCountsReader | None = None
        self._answers: dict[bytes, tuple[int, StampedAnswer]] = {}
        self._size_bytes = 0

    def open(self, path: str) -> None:
        """Changes are counted at ``path``; empty where they are not, and nothing is remembered."""
        self.close()
        if path:
            with contextlib.suppress(OSError):
                self._counts = ChangeCountsReader(path)

    def close(self) -> None:
        """Forget everything."""
        counts, self._counts = self._counts, None
        self._answers.clear()
        self._size_bytes = 0
        if counts is not None:
            counts.close()

    def find(self, read: Read) -> StampedAnswer | None:
        """What the replica would answer to a local ``read``, whoever asks, if that is known here."""
        if self._counts is None or read.placing is not None or not isinstance(read.query, Get):
            return None
        found = self._answers.get(read.query.key)
        if found is None or read.r != DEFAULT or is_of_past(read.query):
            return None
        count, answer = found
        return answer if count == self._counts.count(read.query.key) else None

    def count(self, request: Request) -> int | None:
        """To be noted before ``request`` is sent to the replica; ``None`` if its answer is not to be remembered."""
        if self._counts is None or not isinstance(request, Read) or not isinstance(request.query, Get):
            return None
        return self._counts.count(request.query.key) if request.consistency is Consistency.LOCAL else None

    def remember(self, count: int, outcome: Outcome) -> None:
        """The replica gave ``outcome``, and ``count`` was noted before it was asked."""
        if self._counts is None or not isinstance(outcome, StampedAnswer) or outcome.context:
            return
        record = outcome.content
        if not isinstance(record, StampedRecord) or record.expires_at_ms or len(record.value) > LARGE_BYTES:
            return
        self._forget(record.key)
        self._answers[record.key] = count, outcome
        self._size_bytes += _size_of(record)
        while self._size_bytes > REMEMBERED_BYTES:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: bytes) -> None:
        found = self._answers.pop(key, None)
        if found is not None:
            record = found[1].content
            assert isinstance(record, StampedRecord)
            self._size_bytes -= _size_of(record)


def _size_of(record: StampedRecord) -> int:
    return ANSWER_OVERHEAD_BYTES + len(record.key) + len(record.value)
