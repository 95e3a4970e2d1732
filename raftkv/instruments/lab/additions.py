"""Clients that add to shared lists, each addition a read and a write of what was read with one element more.

The shopping cart of every lesson: two clients who read the same list and both write it back leave one addition out,
unless the write is conditional (compare-and-set) or says what it replaces (a causal context). Each element is written
by one addition only, and stands last in what it writes, so a history tells which additions were acknowledged and which
are there in the end. Pure. Imports ``raftkv.instruments.lab.history`` and ``raftkv.instruments.lab.dialect`` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from raftkv.instruments.lab.dialect import ClientStep, Meaning
from raftkv.instruments.lab.history import Action, CompareAndSet, GetAction, ObservedOperation, Outcome, PutAction

Update = Literal["put", "compare_and_set", "context"]
"""How a list is written back: over whatever is there, only if nothing changed, or over exactly what was read."""

LIST_PREFIX: Final = b"list/"
"""Keys that hold lists, and nothing else, begin so."""

ATTEMPTS_MAX: Final = 20
"""How often an addition is begun anew because the list had changed in between; then it is given up."""

_SEPARATOR: Final = b","


class Additions:
    """The additions of one client, one at a time: ``begin``, then a step and what came of it, until it is over."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self._key = self._element = b""
        self._read: Meaning | None = None
        self._attempt_count = 0

    @property
    def is_under_way(self) -> bool:
        """Is there an addition that wants another step?"""
        return self._key != b""

    def begin(self, key: bytes, element: bytes) -> None:
        """Begin to add ``element``, which must be unique, to the list at ``key``."""
        assert not self.is_under_way
        assert key.startswith(LIST_PREFIX)
        assert _SEPARATOR not in element
        self._key, self._element, self._read, self._attempt_count = key, element, None, 1

    def next_step(self) -> ClientStep:
        """What has to be done next."""
        if self._read is None:
            return ClientStep(key=self._key, action=GetAction())
        found = self._read
        values = [value for value in (*found.siblings, found.result) if isinstance(value, bytes)]
        value = _SEPARATOR.join([*merged(values), self._element])
        if self._update == "compare_and_set":
            expected = found.result if isinstance(found.result, bytes) else None
            action: Action = CompareAndSet(expected=expected, value=value)
            return ClientStep(key=self._key, action=action, revision=found.revision or 0)
        context = found.context if self._update == "context" else ""
        return ClientStep(key=self._key, action=PutAction(value), context=context)

    def learn(self, finding: Meaning) -> None:
        """What came of the last step: on to the next one, again from the beginning, or over."""
        if self._read is None and finding.outcome is Outcome.OK:
            self._read = finding
        elif finding.outcome is Outcome.OK and finding.result is False and self._attempt_count < ATTEMPTS_MAX:
            self._read = None
            self._attempt_count += 1
        else:
            self._key = b""


def elements(value: bytes) -> list[bytes]:
    """What is in a list."""
    return value.split(_SEPARATOR) if value else []


def merged(values: Iterable[bytes]) -> list[bytes]:
    """All that is in any of several lists, in the order in which it is met."""
    return list(dict.fromkeys(element for value in values for element in elements(value)))


def added(write: ObservedOperation) -> bytes | None:
    """The element that ``write`` adds to its list; ``None`` when it adds nothing."""
    if not write.key.startswith(LIST_PREFIX) or not isinstance(write.action, PutAction | CompareAndSet):
        return None
    return elements(write.action.value)[-1] if write.action.value else None
