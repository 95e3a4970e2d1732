"""What clients asked of a store and what they were told: the vocabulary that workloads write and the checker reads.

A history knows nothing but what clients saw, by one clock. Two operations are ordered when one returned before
(strictly) the other was invoked; otherwise they are concurrent. An operation that *failed* has certainly had no effect
and never will; one whose outcome is *unknown* may take effect at any time after its invocation, or never.

Imports nothing but the standard library and msgspec.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, Self

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


class GetAction(msgspec.Struct, frozen=True, tag="get"):
    """Read the key. The result is its value, ``None`` when there was none."""


class PutAction(msgspec.Struct, frozen=True, tag="put"):
    """Store ``value``, whatever was there. There is no result."""

    value: bytes


class DeleteAction(msgspec.Struct, frozen=True, tag="delete"):
    """Remove the key. The result: was there anything to remove? ``None`` when the client was not told."""


class CompareAndSet(msgspec.Struct, frozen=True, tag="compare_and_set"):
    """Store ``value`` (``None``: remove the key) if the key's value is ``expected`` (``None``: absent, or ``ANY``).

    The result is ``True`` when it was done, ``False`` when the state was not as expected and nothing was changed.
    """

    expected: bytes | Existing | None
    value: bytes | None


Action = GetAction | PutAction | DeleteAction | CompareAndSet

Result = bytes | bool | None


class ObservedOperation(msgspec.Struct, frozen=True, kw_only=True):
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
            yield msgspec.json.encode(_Line.of(operation)) + b"\n"

    @classmethod
    def from_lines(cls, lines: Iterable[bytes]) -> Self:
        """The opposite of ``to_lines``; raises ``ValueError`` when a line is no operation."""
        decoder = msgspec.json.Decoder(_Line)
        return cls(decoder.decode(line).operation() for line in lines if line.strip())

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


class _Binary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that are not UTF-8."""

    base64: str


_Text = str | _Binary


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An operation as people can read and write it: bytes are text where they are UTF-8; ``expected: true`` is ANY."""

    client: int
    key: _Text
    action: Literal["get", "put", "delete", "compare_and_set"]
    expected: _Text | bool | None = None
    value: _Text | None = None
    invoked_ns: int
    returned_ns: int | None
    outcome: Outcome
    result: _Text | bool | None = None
    siblings: tuple[_Text, ...] = ()
    node: str = ""
    note: str = ""

    @classmethod
    def of(cls, operation: ObservedOperation) -> Self:
        action = operation.action
        expected = action.expected if isinstance(action, CompareAndSet) else None
        value = action.value if isinstance(action, PutAction | CompareAndSet) else None
        return cls(
            client=operation.client,
            key=_text(operation.key),
            action=_word(action),
            expected=True if isinstance(expected, Existing) else _optional_text(expected),
            value=_optional_text(value),
            invoked_ns=operation.invoked_ns,
            returned_ns=operation.returned_ns,
            outcome=operation.outcome,
            result=operation.result if isinstance(operation.result, bool) else _optional_text(operation.result),
            siblings=tuple(_text(value) for value in operation.siblings),
            node=operation.node,
            note=operation.note,
        )

    def operation(self) -> ObservedOperation:
        return ObservedOperation(
            client=self.client,
            key=_bytes(self.key),
            action=self._action(),
            invoked_ns=self.invoked_ns,
            returned_ns=self.returned_ns,
            outcome=self.outcome,
            result=self.result if isinstance(self.result, bool) else _optional_bytes(self.result),
            siblings=tuple(_bytes(value) for value in self.siblings),
            node=self.node,
            note=self.note,
        )

    def _action(self) -> Action:
        value = _optional_bytes(self.value)
        if self.action == "compare_and_set":
            if self.expected is False:
                raise ValueError("expected is a value, null or true")
            return CompareAndSet(ANY if isinstance(self.expected, bool) else _optional_bytes(self.expected), value)
        if self.action == "put":
            if value is None:
                raise ValueError("a put needs a value")
            return PutAction(value)
        return GetAction() if self.action == "get" else DeleteAction()


def _word(action: Action) -> Literal["get", "put", "delete", "compare_and_set"]:
    match action:
        case GetAction():
            return "get"
        case PutAction():
            return "put"
        case DeleteAction():
            return "delete"
        case CompareAndSet():
            return "compare_and_set"


def _text(raw: bytes) -> _Text:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _Binary(base64=base64.b64encode(raw).decode())


def _bytes(text: _Text) -> bytes:
    if isinstance(text, str):
        return text.encode()
    try:
        return base64.b64decode(text.base64, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {text.base64!r}") from error


def _optional_text(raw: bytes | None) -> _Text | None:
    return None if raw is None else _text(raw)


def _optional_bytes(text: _Text | None) -> bytes | None:
    return None if text is None else _bytes(text)
