"""What a caller gave, checked and put into the form that a request has. Pure: no socket, no clock.

A mistake raises ``TypeError`` or ``UsageError`` with a sentence, before anything is sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol, cast
from urllib.parse import urlencode

import msgspec

from raftkv.api import paths
from raftkv.api.values import Value as JsonValue
from raftkv.api.values import text_from_json, text_to_json, value_from_json, value_to_json
from raftkv.core.errors import UsageError

Key = str | bytes
"""Text, or bytes; what is no UTF-8 stands in text as Python has it in file names (``surrogateescape``, PEP 383)."""

Value = bytes | bytearray | memoryview | str
"""What can be stored; text is stored as UTF-8."""


class HasId(Protocol):
    """What has the number of a lease."""

    @property
    def id(self) -> int: ...


AnyLease = int | HasId
"""A lease, or its number."""

Consistency = Literal["linearizable", "lease", "eventual", "local"]
"""What a read promises; see ``docs/http.rst``."""

BackupLevel = Literal["linearizable", "local"]
"""Whether a backup has all that was acknowledged before, or what one node has applied."""

Acks = Literal["leader", "majority", "all"] | int
"""How many replicas must hold a write before its answer."""

TIMEOUT_MIN_S: Final = 0.001
TIMEOUT_MAX_S: Final = 86_400.0

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS: Final = ("leader", "majority", "all")


def path_of(key: Key, path: str = paths.KEY) -> str:
    """Where the key is, or at ``path`` what can be done to it, percent-encoded."""
    if not isinstance(key, str | bytes):
        raise TypeError(f"a key must be str or bytes, not {type(key).__name__}")
    if not key:
        raise UsageError("a key must not be empty")
    try:
        return paths.filled(path, key if isinstance(key, bytes) else key.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        raise UsageError("a key must be text that UTF-8 can hold: it has half of a surrogate pair") from None


def json_of(key: Key) -> JsonValue:
    """The key as JSON has it."""
    path_of(key)
    return text_to_json(key) if isinstance(key, str) else value_to_json(key)


def text_of(key: Key) -> str:
    """The key as text."""
    path_of(key)
    return key if isinstance(key, str) else key.decode(errors="surrogateescape")


def bytes_of(value: Value) -> bytes:
    """What is stored."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a value must be bytes or str, not {type(value).__name__}")


def query_of(arguments: Mapping[str, Any]) -> str:
    """The query string, without what is ``None``; a choice between yes and no is 1 or 0."""
    given = [
        (name, int(value) if isinstance(value, bool) else value)
        for name, value in arguments.items()
        if value is not None
    ]
    if not given:
        return ""  # most calls choose nothing, and are not to pay for it
    return urlencode(given, errors="surrogateescape")


def checked_acks(acks: Acks | None) -> Acks | None:
    """``acks`` itself; that there are so many replicas only the cluster can tell."""
    if acks is None or acks in _WORDS or (isinstance(acks, int) and not isinstance(acks, bool) and acks > 0):
        return acks
    raise UsageError(f"acks: {acks!r} is none of {', '.join(_WORDS)} or a number above 0")


def checked_ttl(ttl: float | None) -> float | None:
    """``ttl`` itself, in seconds."""
    if ttl is None or (isinstance(ttl, int | float) and not isinstance(ttl, bool) and 0 < ttl < math.inf):
        return ttl
    raise UsageError(f"ttl: {ttl!r} is not a number of seconds above 0")


def lease_of(lease: AnyLease | None) -> int | None:
    """The number of the lease."""
    return lease if lease is None or isinstance(lease, int) else lease.id


def milliseconds_of(at: datetime | None) -> int | None:
    """The time in milliseconds since 1970."""
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise TypeError(f"at must be a datetime, not {type(at).__name__}")
    if at.utcoffset() is None:
        raise UsageError(f"at: {at} does not say in which zone")
    return (at - _EPOCH) // timedelta(milliseconds=1)


def read_of(
    *,
    revision: int | None,
    at: datetime | None,
    consistency: Consistency | None,
    r: int | None,
    n: int | None,
    sloppy: bool | None,
) -> dict[str, object]:
    """What a read of one key chooses, for ``query_of``."""
    return {
        "revision": revision,
        "at_ms": milliseconds_of(at),
        "consistency": consistency,
        "r": r,
        "n": n,
        "sloppy": sloppy,
    }


def time_of(milliseconds: int) -> datetime:
    """The time that is so many milliseconds after 1970 began."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def checked_timeout_s(timeout_s: float) -> float:
    """``timeout_s`` itself."""
    if isinstance(timeout_s, int | float) and TIMEOUT_MIN_S <= timeout_s <= TIMEOUT_MAX_S:
        return timeout_s
    bounds = f"from {TIMEOUT_MIN_S:g} to {TIMEOUT_MAX_S:.0f}"
    raise UsageError(f"timeout_s: {timeout_s!r} is not a number of seconds {bounds}")


def operation_of(one: Mapping[str, object]) -> dict[str, object]:
    """An operation of a batch in JSON."""
    shown = dict(one)
    if "value" in one:
        shown["value"] = value_to_json(bytes_of(cast("Value", one["value"])))
    if isinstance(one.get("key"), str | bytes):
        shown["key"] = json_of(cast("Key", one["key"]))
    return shown


def result_of(one: dict[str, Any]) -> dict[str, Any]:
    """The result of an operation, what it read as bytes; what it counted to is a number."""
    shown = dict(one)
    if "key" in one:
        shown["key"] = text_from_json(msgspec.convert(one["key"], JsonValue))
    if "value" in one and not isinstance(one["value"], int):
        shown["value"] = value_from_json(msgspec.convert(one["value"], JsonValue))
    return shown
