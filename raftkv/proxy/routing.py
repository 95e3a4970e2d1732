"""Which key a request is about, and whether it only reads. Pure.

What cannot be understood has no key: some node will say what is wrong with it. Must not refuse anything.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from raftkv.api import paths
from raftkv.api.bodies import Wait
from raftkv.api.paths import READ_METHODS
from raftkv.http.events import form_of
from raftkv.http.handlers.cluster import REPAIR_S
from raftkv.http.messages import HttpRequest

_IN_QUERY: Final = paths.raw(paths.GET, paths.LOCAL_READ, paths.DELETE)
_IN_BODY: Final = paths.raw(paths.PUT, paths.SET)
_BATCH, _REPAIR, _WATCH = paths.BATCH.encode(), paths.REPAIR.encode(), paths.WATCH.encode()
_BACKUP = paths.BACKUP.encode()
_LOCK, _ELECTION = paths.stem(paths.LOCK), paths.stem(paths.ELECTION)
_CAMPAIGN, _OBSERVE = (path.partition("}")[2].encode() for path in (paths.CAMPAIGN, paths.OBSERVE))
_KEY, _GET_KEY, _SET_KEY = (paths.stem(path) for path in (paths.KEY, paths.GET_KEY, paths.SET_KEY))


class _Keyed(msgspec.Struct, frozen=True):
    key: str


class _Operation(msgspec.Struct, frozen=True):
    op: str


class _Batch(msgspec.Struct, frozen=True):
    operations: tuple[_Operation, ...]


class _Waiting(msgspec.Struct, frozen=True):
    wait: Wait = 0


_decode_waiting = msgspec.json.Decoder(_Waiting).decode
_decode_keyed = msgspec.json.Decoder(_Keyed).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode


def is_read(request: HttpRequest) -> bool:
    """Can nothing come of it but an answer?"""
    if request.method == "POST" and request.path == _BATCH:
        return _only_gets(request.body)
    return request.method in READ_METHODS or is_backup(request)


def is_stream(request: HttpRequest) -> bool:
    """May what comes of it have no end, or be larger than is held here?"""
    path = request.path
    is_endless = path == _WATCH or (path.startswith(_ELECTION) and path.endswith(_OBSERVE))
    return is_backup(request) or (request.method == "GET" and (is_endless or form_of(request) is not None))


def is_backup(request: HttpRequest) -> bool:
    """Is all that a node holds asked for?"""
    return request.path == _BACKUP and request.method in ("GET", "POST")


def usual_s(request: HttpRequest) -> float | None:
    """How long a node takes at most for such a request that does not say; ``None`` where nodes have no rule of it."""
    return REPAIR_S if request.path == _REPAIR else None


def waits_s(request: HttpRequest) -> float:
    """How long such a request waits for others, beside what it takes: as its body says."""
    path = request.path
    may_wait = path.startswith(_LOCK) or (path.startswith(_ELECTION) and path.endswith(_CAMPAIGN))
    if request.method != "POST" or not may_wait:
        return 0.0
    try:
        return _decode_waiting(request.body).wait
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return 0.0


def _only_gets(body: bytes) -> bool:
    try:
        operations = _decode_batch(body).operations
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return bool(operations) and all(operation.op == "get" for operation in operations)


def key_of(request: HttpRequest) -> bytes | None:
    """The key that ``request`` is about, ``None`` when it is about none, or several, or none can be seen."""
    path = request.path
    if path.startswith(_KEY):
        return unquote_to_bytes(path.removeprefix(_KEY))
    if path.startswith(_GET_KEY):
        return unquote_to_bytes(path.removeprefix(_GET_KEY).removeprefix(b"key="))
    if path.startswith(_SET_KEY):
        return unquote_to_bytes(path.removeprefix(_SET_KEY).partition(b"/")[0])
    if path in _IN_QUERY:
        return _key_in_query(request.query)
    if path in _IN_BODY:
        return _key_in_body(request.body)
    return None


def _key_in_query(query: bytes) -> bytes | None:
    for field in query.split(b"&"):
        name, _, value = field.partition(b"=")
        if name == b"key":
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None


def _key_in_body(body: bytes) -> bytes | None:
    try:
        return _decode_keyed(body).key.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
