"""What the clients of a playground asked and were told, as far back as it is kept: by key, in windows between looks.

Of more operations than ``OPERATIONS_MAX`` the oldest windows go. What is left begins with a look then, and with the
write that the look found, so that a history made of it can be judged as if nothing had been before. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from raftkv.instruments.lab.history import GetAction, ObservedOperation, Outcome, PutAction

OPERATIONS_MAX: Final = 30_000
"""Of all keys together: some 20 MB."""


ONCE_MAX: Final = 4_000
"""Of keys that are written once, and looked for once."""


class _Window(msgspec.Struct):
    operations: list[ObservedOperation]
    found: bytes | None = None
    """The value that the key had when the window began."""


class Retained:
    """The operations on ``keys``, and on others that are written once."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._windows = {key: deque([_Window([])]) for key in keys}
        self._once: deque[ObservedOperation] = deque(maxlen=ONCE_MAX)
        self._count = 0
        self.has_forgotten = False

    def add(self, operation: ObservedOperation) -> None:
        """``operation`` has ended."""
        if operation.key not in self._windows:
            self._once.append(operation)
            return
        self._windows[operation.key][-1].operations.append(operation)
        self._count += 1

    def close(self, key: bytes, look: ObservedOperation) -> None:
        """Nothing is under way on ``key``, and ``look`` found what it has now: it begins a new window."""
        assert not isinstance(look.result, bool)
        self._windows[key].append(_Window([look], look.result))
        self._count += 1
        while self._count > OPERATIONS_MAX:
            if not self._forget():
                return

    def _forget(self) -> bool:
        """Let go of the oldest window there is, unless each key has only one."""
        several = [windows for windows in self._windows.values() if len(windows) > 1]
        if not several:
            return False
        oldest = min(several, key=lambda windows: windows[0].operations[0].invoked_ns if windows[0].operations else 0)
        gone = oldest.popleft()
        first = oldest[0]
        base = next((write for write in gone.operations if _writes(write, first.found)), None)
        if base is not None:
            first.operations.insert(0, msgspec.structs.replace(base, outcome=Outcome.OK, returned_ns=_end(base, first)))
        self._count -= len(gone.operations) - (base is not None)
        self.has_forgotten = True
        return True

    def operations(self) -> list[ObservedOperation]:
        """All that is kept; reads of what was written before it are left out."""
        found = [each for windows in self._windows.values() for window in windows for each in window.operations]
        written = {each.key for each in self._once if isinstance(each.action, PutAction)}
        once = [each for each in self._once if each.key in written]
        if not self.has_forgotten:
            return [*found, *once]
        known = {(each.key, each.action.value) for each in found if isinstance(each.action, PutAction)}
        return [*[each for each in found if _is_known(each, known)], *once]


def _writes(operation: ObservedOperation, value: bytes | None) -> bool:
    return isinstance(operation.action, PutAction) and operation.action.value == value


def _end(base: ObservedOperation, first: _Window) -> int:
    """When ``base`` was over at the latest: when the look had found what it wrote."""
    if base.outcome is Outcome.OK and base.returned_ns is not None:
        return base.returned_ns
    look = first.operations[0]
    assert look.returned_ns is not None
    return look.returned_ns


def _is_known(operation: ObservedOperation, known: set[tuple[bytes, bytes]]) -> bool:
    if not isinstance(operation.action, GetAction) or operation.outcome is not Outcome.OK:
        return True
    values = (operation.result, *operation.siblings)
    return all(isinstance(value, bytes) and (operation.key, value) in known for value in values)
