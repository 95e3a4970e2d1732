"""What a cluster holds in the end, node by node, against what its clients were told: nothing lost, nothing made up.

``audit`` compares each node's own copy with the history. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from raftkv.instruments.lab.history import CompareAndSet, GetAction, History, ObservedOperation, Outcome, PutAction

Copy = Mapping[bytes, bytes]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, as (node, key); all empty when all is well.

    ``lost``: the key's last write was acknowledged and every other was over before it began, and the node has not got
    its value, or has one although it was a deletion. ``invented``: the node holds a value that nobody wrote, or whose
    writer was told that it was refused. ``different``: the node holds something else than the first node.
    """

    lost: tuple[tuple[str, bytes], ...]
    invented: tuple[tuple[str, bytes], ...]
    different: tuple[tuple[str, bytes], ...]
    acknowledged_count: int

    def __bool__(self) -> bool:
        """Is anything wrong?"""
        return bool(self.lost or self.invented or self.different)


def audit(history: History, copies: Mapping[str, Copy]) -> Audit:
    """Compare ``copies``, everything that each node holds, with ``history``."""
    acknowledged: dict[bytes, bytes | None] = {}
    possible: set[tuple[bytes, bytes | None]] = set()
    for key, operations in history.by_key().items():
        writes = [operation for operation in operations if _may_write(operation)]
        possible |= {(key, _written(write)) for write in writes}
        last = _last_word(writes)
        if last is not None:
            acknowledged[key] = _written(last)
    first = next(iter(copies.values()), {})
    lost, invented, different = [], [], []
    for node, copy in copies.items():
        lost += [(node, key) for key, value in acknowledged.items() if copy.get(key) != value]
        invented += [(node, key) for key, value in copy.items() if (key, value) not in possible]
        different += [(node, key) for key in sorted(first.keys() | copy.keys()) if first.get(key) != copy.get(key)]
    return Audit(
        lost=tuple(lost),
        invented=tuple(invented),
        different=tuple(different),
        acknowledged_count=len(acknowledged),
    )


def _may_write(operation: ObservedOperation) -> bool:
    if isinstance(operation.action, GetAction) or operation.outcome is Outcome.FAILED:
        return False
    return not isinstance(operation.action, CompareAndSet) or operation.result is not False


def _last_word(writes: Sequence[ObservedOperation]) -> ObservedOperation | None:
    """The acknowledged write that began when every other was over, if there is one."""
    last = max(writes, key=lambda write: write.invoked_ns, default=None)
    if last is None or last.outcome is not Outcome.OK:
        return None
    others = [write.returned_ns for write in writes if write is not last]
    return last if all(ended_ns is not None and ended_ns < last.invoked_ns for ended_ns in others) else None


def _written(write: ObservedOperation) -> bytes | None:
    return write.action.value if isinstance(write.action, PutAction | CompareAndSet) else None
