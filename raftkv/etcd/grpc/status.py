"""How a call ends: gRPC's codes, and the header blocks that say so."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final

from raftkv.etcd.grpc.fields import packed

CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
ACCEPTED: Final = (b"grpc-accept-encoding", b"identity,gzip")

_UNSAFE: Final = re.compile(rb"[^ -$&-~]")
_MESSAGE_BYTES_MAX: Final = 2 << 10


class GrpcStatus(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


Pairs = tuple[tuple[bytes, bytes], ...]


def percent_encoded(text: str) -> bytes:
    """``text`` as grpc-message carries it: UTF-8, of which what is no printable ASCII, and "%", is escaped."""
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text.encode("utf-8", "replace")[:_MESSAGE_BYTES_MAX])


@lru_cache(512)
def trailers(status: int, text: str, more: Pairs = ()) -> bytes:
    """The block behind the messages."""
    fields = [(b"grpc-status", b"%d" % status)]
    if text:
        fields.append((b"grpc-message", percent_encoded(text)))
    return packed((*fields, *more))


@lru_cache(512)
def trailers_only(status: int, text: str, more: Pairs = ()) -> bytes:
    """The one block of a call that is answered by nothing but its status: head and trailers at once."""
    fields = [(b":status", b"200"), CONTENT_TYPE, (b"grpc-status", b"%d" % status)]
    if text:
        fields.append((b"grpc-message", percent_encoded(text)))
    return packed((*fields, *more))


HEAD: Final = packed(((b":status", b"200"), CONTENT_TYPE))
DONE: Final = trailers(GrpcStatus.OK, "")
