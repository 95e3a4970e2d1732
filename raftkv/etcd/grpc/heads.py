"""What the header fields of a request mean to gRPC: is it a call, how long may it take, what comes with it. Pure."""

from __future__ import annotations

import binascii
import re
from typing import Final

from raftkv.etcd.grpc.fields import Fields, RequestHead, packed
from raftkv.etcd.grpc.status import ACCEPTED, GrpcStatus, trailers_only

TIMEOUT_FIELD: Final = b"grpc-timeout"
"""Differs from call to call: nothing else of a head does."""

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CONTENT_TYPE: Final = re.compile(rb"application/grpc(?:\+proto)?(?:[ \t]*;.*)?", re.IGNORECASE)
_ENCODINGS: Final = {b"identity": False, b"gzip": True}
_OF_GRPC: Final = frozenset(
    {
        b"content-type",
        b"te",
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-accept-encoding",
        b"user-agent",
        b"content-length",
    }
)


_FIELD_BYTES: Final = 128
"""What keeping a field takes beside its bytes."""


class CallHead:
    """One call's head. ``answer``: the header block that ends it at once."""

    __slots__ = ("_metadata", "answer", "held_bytes", "is_gzip", "path")

    def __init__(self, path: str, answer: bytes | None = None) -> None:
        self.path = path
        self.answer = answer
        self.is_gzip = False
        self.held_bytes = 0
        """What keeping it takes."""
        self._metadata: dict[bytes, bytes] = {}

    def metadata(self, name: str) -> bytes | None:
        """The first value of ``name`` (lower case); of one whose name ends in ``-bin`` the bytes that it stands for."""
        value = self._metadata.get(name.encode())
        return _meant(value)[0] if value is not None and name.endswith("-bin") else value

    def keep(self, name: bytes, value: bytes) -> None:
        """Some metadata; raises ``ValueError``."""
        if name.endswith(b"-bin"):
            _meant(value)
        if name not in self._metadata:
            self._metadata[name] = value
            self.held_bytes += len(name) + len(value) + _FIELD_BYTES


def _meant(value: bytes) -> list[bytes]:
    """What binary metadata stands for."""
    return [binascii.a2b_base64(one + b"=" * (-len(one) % 4), strict_mode=True) for one in value.split(b",")]


def read_head(head: RequestHead) -> CallHead:
    """The head of a call out of that of a request."""
    path = head.path.decode("latin-1")
    found = dict(head.fields)
    refusal = _refusal(head.method, found)
    if refusal is not None:
        return CallHead(path, refusal)
    call = CallHead(path)
    encoding = found.get(b"grpc-encoding", b"identity")
    if encoding not in _ENCODINGS:
        text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding.decode("latin-1")}"'
        call.answer = trailers_only(GrpcStatus.UNIMPLEMENTED, text, (ACCEPTED,))
        return call
    call.is_gzip = _ENCODINGS[encoding]
    try:
        _fill(call, head.fields)
    except ValueError as error:
        call.answer = trailers_only(GrpcStatus.INTERNAL, str(error))
    return call


def _refusal(method: bytes, found: dict[bytes, bytes]) -> bytes | None:
    """The whole answer to what is no call of gRPC, in the codes of HTTP."""
    if method != b"POST":
        return packed(((b":status", b"405"), (b"allow", b"POST")))
    if _CONTENT_TYPE.fullmatch(found.get(b"content-type", b"")) is None:
        return packed(((b":status", b"415"), (b"accept", b"application/grpc")))
    return None


def _fill(call: CallHead, fields: Fields) -> None:
    for name, value in fields:
        if name not in _OF_GRPC:
            try:
                call.keep(name, value)
            except ValueError:
                raise ValueError(f"malformed binary metadata in {name.decode('ascii')}") from None


def timeout_s(value: bytes) -> float:
    """How long a call may take from its arrival; raises ``ValueError``."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise ValueError("malformed grpc-timeout")
    return int(found[1]) * _SECONDS[found[2]]
