"""What clients asked of a store and what they were told: the vocabulary that workloads write and the checker reads.

A history knows nothing but what clients saw, by one clock. Two operations are ordered when one returned before
(strictly) the other was invoked; otherwise they are concurrent. An operation that *failed* has certainly had no effect
and never will; one whose outcome is *unknown* may take effect at any time after its invocation, or never.

Imports nothing but the standard library and msgspec.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import msgspec


class Outcome(enum.StrEnum):
    """What became of an operation, as far as its client was told."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Existing(enum.IntEnum):
    """The type of ``ANY``."""

    ANY = -1


LAST_LOOK: Final = "last look"
"""The note on reads that tell what was there in the end, when all was healed."""

ANY: Final = Existing.ANY
"""``CompareAndSet.expected`` value: the key must exist, whatever its value is."""


class GetAction(msgspec.Struct, frozen=True, tag="get", forbid_unknown_fields=True):
    """Read the key. The result is its value, ``None`` when there was none."""


class PutAction(msgspec.Struct, frozen=True, tag="put", forbid_unknown_fields=True):
    """Store ``value``, whatever was there. There is no result."""

    value: bytes


class DeleteAction(msgspec.Struct, frozen=True, tag="delete", forbid_unknown_fields=True):
    """Remove the key. The result: was there anything to remove? ``None`` when the client was not told."""


class CompareAndSet(msgspec.Struct, frozen=True, tag="compare_and_set", forbid_unknown_fields=True):
    """Store ``value`` (``None``: remove the key) if the key's value is ``expected`` (``None``: absent, or ``ANY``).

    The result is ``True`` when it was done, ``False`` when the state was not as expected and nothing was changed.
    """

    expected: bytes | Existing | None
    value: bytes | None


Action = GetAction | PutAction | DeleteAction | CompareAndSet

Result = bytes | bool | None


class ObservedOperation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action by one client on one key, and what came of it.

    ``invoked_ns`` and ``returned_ns`` are nanoseconds of the history's one clock; ``returned_ns`` is ``None`` when the
    client never heard of it. ``siblings`` are further values that a read was given beside its result, which no single
    copy would do: whoever judges a history must look at them apart. ``node`` (which server was asked) and ``note`` are
    for people only. Raises ``ValueError`` when the parts contradict each other.
    """

    client: int
    key: bytes
    action: Action
    invoked_ns: int
    returned_ns: int | None
    outcome: Outcome
    result: Result = None
    siblings: tuple[bytes, ...] = ()
    node: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.returned_ns is None and self.outcome is not Outcome.UNKNOWN:
            raise ValueError(f"an operation that never returned cannot be known to be {self.outcome}: {self}")
        if self.returned_ns is not None and self.returned_ns < self.invoked_ns:
            raise ValueError(f"an operation cannot return before it is invoked: {self}")
        if not self._has_fitting_result() or (self.siblings and not isinstance(self.result, bytes)):
            raise ValueError(f"this result does not fit the action and its outcome: {self}")

    def _has_fitting_result(self) -> bool:
        if self.outcome is not Outcome.OK or isinstance(self.action, PutAction):
            return self.result is None
        if isinstance(self.action, GetAction):
            return not isinstance(self.result, bool)
        if isinstance(self.action, DeleteAction):
            return not isinstance(self.result, bytes)
        return isinstance(self.result, bool)


class History:
    """Operations by all clients, sorted by ``invoked_ns``; immutable."""

    __slots__ = ("operations",)

    operations: tuple[ObservedOperation, ...]

    def __init__(self, operations: Iterable[ObservedOperation]) -> None:
        """``operations`` may come in any order."""
        self.operations = tuple(sorted(operations, key=_invoked_ns))

    def __len__(self) -> int:
        return len(self.operations)

    def __iter__(self) -> Iterator[ObservedOperation]:
        return iter(self.operations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.operations == other.operations

    def __hash__(self) -> int:
        return hash(self.operations)

    def __repr__(self) -> str:
        return f"History({self.operations!r})"

    def by_key(self) -> dict[bytes, History]:
        """The part of each key, in the order in which the keys first occur."""
        parts: dict[bytes, list[ObservedOperation]] = {}
        for operation in self.operations:
            parts.setdefault(operation.key, []).append(operation)
        return {key: History(part) for key, part in parts.items()}

    def to_lines(self) -> Iterator[bytes]:
        """One JSON object per operation, each with its newline."""
        for operation in self.operations:
            yield _line(operation) + b"\n"

    @classmethod
    def from_lines(cls, lines: Iterable[bytes]) -> Self:
        """The opposite of ``to_lines``; raises ``ValueError`` when a line is no operation."""
        return cls(_operation(line) for line in lines if line.strip())

    def write(self, path: Path) -> None:
        """Write JSON lines."""
        with path.open("wb") as file:
            file.writelines(self.to_lines())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read JSON lines; raises ``OSError``, and ``ValueError`` when a line is no operation."""
        with path.open("rb") as file:
            return cls.from_lines(file)


def _invoked_ns(operation: ObservedOperation) -> int:
    return operation.invoked_ns


_LINE: Final[dict[str, object]] = {
    **dict.fromkeys(("client", "key", "action"), ...),
    **dict.fromkeys(("expected", "value"), None),
    **dict.fromkeys(("invoked_ns", "returned_ns", "outcome"), ...),
    "result": None,
    "siblings": [],
    "node": "",
    "note": "",
}
"""What a line says, in this order, and what goes without saying; with ``...`` it is always said."""


def _line(operation: ObservedOperation) -> bytes:
    """An operation as people can read and write it: bytes are text where they are UTF-8; ``expected: true`` is ANY."""
    known = msgspec.to_builtins(operation, builtin_types=(bytes,))
    action = known.pop("action")
    known |= action | {"action": action["type"]}
    if known.get("expected") == ANY:
        known["expected"] = True
    said = {name: _text(known.get(name)) for name in _LINE}
    return msgspec.json.encode({name: text for name, text in said.items() if text != _LINE[name]})


def _operation(line: bytes) -> ObservedOperation:
    """The opposite; raises ``ValueError`` when it is none."""
    said = msgspec.json.decode(line, type=dict[str, Any])
    said |= {name: _raw(said[name]) for name in ("key", "expected", "value", "result", "siblings") if name in said}
    kind = said.pop("action", None)
    action: dict[str, Any] = {"expected": None, "value": None} if kind == "compare_and_set" else {}
    action |= {name: said.pop(name) for name in ("expected", "value") if name in said}
    if action.get("expected") is True:
        action["expected"] = int(ANY)
    return msgspec.convert(said | {"action": action | {"type": kind}}, ObservedOperation, builtin_types=(bytes,))


def _text(known: Any) -> Any:
    """Bytes as text, or as base64 where they are not UTF-8; anything else as it is."""
    if isinstance(known, bytes):
        try:
            return known.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(known).decode()}
    return [_text(each) for each in known] if isinstance(known, list | tuple) else known


def _raw(said: Any) -> Any:
    """The opposite of ``_text``; what is no text stays, for the types to refuse."""
    match said:
        case str():
            return said.encode()
        case {"base64": str(encoded), **rest} if not rest:
            return base64.b64decode(encoded, validate=True)
        case list():
            return [_raw(each) for each in said]
        case _:
            return said
