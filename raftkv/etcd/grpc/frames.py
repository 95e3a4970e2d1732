"""The layout of HTTP/2's frames (RFC 9113, sections 4 and 6): cut from bytes, taken apart and written. Pure.

A frame that is too long is refused by its head, before any of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""

HEAD_BYTES: Final = 9
FRAME_BYTES_MAX: Final = 1 << 14
"""The longest payload that everybody takes, and the longest that is taken here."""

WINDOW_MAX: Final = (1 << 31) - 1
DEFAULT_WINDOW_BYTES: Final = (1 << 16) - 1
STREAM_ID_MAX: Final = (1 << 31) - 1

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

_HEAD: Final = struct.Struct(">HBBBL")
_SETTING: Final = struct.Struct(">HL")
_NUMBER: Final = struct.Struct(">L")
_TWO_NUMBERS: Final = struct.Struct(">LL")


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Http2Fault(Exception):  # noqa: N818  the RFC's errors of a connection or of a stream
    """The peer broke the protocol, and the connection ends by it."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        super().__init__(why)
        self.code = code


class StreamFault(Http2Fault):
    """The same, of which only one stream ends."""


class FrameCutter:
    """Cuts what arrives, in whatever pieces, into frames; it keeps less than one."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def held_bytes(self) -> int:
        """How much of a frame that is not whole is here."""
        return len(self._rest)

    def cut(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of each frame that is whole now.

        Has to be gone through to its end; raises ``Http2Fault`` at a frame that is too long.
        """
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= HEAD_BYTES:
            high, low, kind, flags, stream_id = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > FRAME_BYTES_MAX:
                raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than SETTINGS_MAX_FRAME_SIZE")
            after = at + HEAD_BYTES + length
            if after > end:
                break
            yield kind, flags, stream_id & STREAM_ID_MAX, data[at + HEAD_BYTES : after]
            at = after
        self._rest = data[at:]


def unpadded(payload: bytes) -> bytes:
    """What is between the length of the padding and the padding (section 6.1)."""
    if not payload or payload[0] >= len(payload):
        raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "the padding is as long as the frame")
    return payload[1 : len(payload) - payload[0]]


def number(payload: bytes) -> int:
    """The one number of RST_STREAM."""
    if len(payload) != _NUMBER.size:
        raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "the frame should have four bytes")
    found: int = _NUMBER.unpack(payload)[0]
    return found


def increment(payload: bytes) -> int:
    """The number of WINDOW_UPDATE, whose first bit does not count."""
    return number(payload) & WINDOW_MAX


def settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values, in order, those that no RFC knows included; values that are not allowed are refused."""
    if len(payload) % _SETTING.size:
        raise Http2Fault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has a part of a setting")
    found = list(_SETTING.iter_unpack(payload))
    for name, value in found:
        if name == ENABLE_PUSH and value > 1:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        if name == INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
            raise Http2Fault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        if name == MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 1 << 24:
            raise Http2Fault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of its bounds")
    return found


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def reset_frame(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def window_frame(stream_id: int, size_bytes: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(size_bytes))


def goaway_frame(last_id: int, code: ErrorCode, why: str = "") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_id, code) + why.encode())


def header_frames(stream_id: int, block: bytes, *, is_last: bool) -> bytes:
    """HEADERS, with CONTINUATION behind it where the block is longer than a frame."""
    flags = END_STREAM if is_last else 0
    if len(block) <= FRAME_BYTES_MAX:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    pieces = [block[at : at + FRAME_BYTES_MAX] for at in range(0, len(block), FRAME_BYTES_MAX)]
    found = [frame(HEADERS, flags, stream_id, pieces[0])]
    found += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    found.append(frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1]))
    return b"".join(found)
