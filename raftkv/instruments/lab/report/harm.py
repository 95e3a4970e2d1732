"""What was done to clients: the reads that were stale, the acknowledged writes that are gone in the end. Pure.

Reads of the last look, when all was healed, tell what is gone; they are no reads of clients. Imports its neighbour
``reading``, and ``additions`` and ``history`` of the laboratory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from raftkv.instruments.lab.additions import LIST_PREFIX, added, merged
from raftkv.instruments.lab.history import (
    LAST_LOOK,
    CompareAndSet,
    DeleteAction,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
)
from raftkv.instruments.lab.report.reading import KeyHistory, shown


class StaleRead(NamedTuple):
    """A read, and the writes that had been acknowledged before it began and that it was too old for."""

    read: ObservedOperation
    missed: list[ObservedOperation]

    @property
    def age_s(self) -> float:
        """For how long what it showed had been overwritten."""
        return (self.read.invoked_ns - min(write.returned_ns or 0 for write in self.missed)) / 1e9


class Harm(NamedTuple):
    """Everything of one history.

    ``lost`` are writes and deletions newer than what is left, ``dropped`` additions whose element is in no value that
    is left; all of them were acknowledged.
    """

    stale: list[StaleRead]
    lost: list[ObservedOperation]
    dropped: list[ObservedOperation]


def harmed(history: History) -> Harm:
    """What was done to the clients of ``history``."""
    keys = {key: KeyHistory(part) for key, part in history.by_key().items()}
    looks = [operation for operation in history if operation.note == LAST_LOOK]
    reads = [each for each in answered(without_last_look(history)) if isinstance(each.action, GetAction)]
    present = _present(looks)
    return Harm(
        stale=[StaleRead(read, missed) for read in reads if (missed := keys[read.key].missed(read))],
        lost=[write for look in looks if not is_list(look) for write in keys[look.key].missed(look)],
        dropped=[each for each in additions(history) if (each.key, added(each)) not in present],
    )


def without_last_look(history: History) -> list[ObservedOperation]:
    """What the clients of the workload did."""
    return [operation for operation in history if operation.note != LAST_LOOK]


def answered(operations: Iterable[ObservedOperation]) -> list[ObservedOperation]:
    """Those that had their result."""
    return [operation for operation in operations if operation.outcome is Outcome.OK]


def additions(operations: Iterable[ObservedOperation]) -> list[ObservedOperation]:
    """The writes whose clients were told that their element is in the list now."""
    return [each for each in answered(operations) if added(each) is not None and each.result is not False]


def is_list(operation: ObservedOperation) -> bool:
    """Does its key hold a list?"""
    return operation.key.startswith(LIST_PREFIX)


def is_delete(write: ObservedOperation) -> bool:
    """Does it remove its key?"""
    return isinstance(write.action, DeleteAction) or (
        isinstance(write.action, CompareAndSet) and write.action.value is None
    )


def _present(looks: Iterable[ObservedOperation]) -> set[tuple[bytes, bytes | None]]:
    """Lists and the elements that are in any of their values."""
    return {
        (look.key, element)
        for look in looks
        if is_list(look)
        for element in merged(value for value in shown(look) if value is not None)
    }
