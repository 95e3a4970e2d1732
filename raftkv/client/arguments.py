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
from raftkv.api.values import value_from_json, value_to_json
from raftkv.core.errors import UsageError

Key = str | bytes
"""Text, or its UTF-8."""

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
        return paths.filled(path, key)
    except UnicodeEncodeError:
        raise UsageError("a key must be text that UTF-8 can hold: it has half of a surrogate pair") from None


def text_of(key: Key) -> str:
    """The key as JSON has it."""
    path_of(key)
    return key if isinstance(key, str) else key.decode()


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
    return urlencode(given) if given else ""  # most calls choose nothing, and are not to pay for it


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
    return {**one, "value": value_to_json(bytes_of(cast("Value", one["value"])))} if "value" in one else dict(one)


def result_of(one: dict[str, Any]) -> dict[str, Any]:
    """The result of an operation, what it read as bytes; what it counted to is a number."""
    if "value" not in one or isinstance(one["value"], int):
        return one
    return {**one, "value": value_from_json(msgspec.convert(one["value"], JsonValue))}
