"""The frames on the Unix socket between front-end and replica: bytes in, values out, and back.

A frame is its length (4 bytes, little-endian) and a msgpack body. The first frame of either side is its ``Build``: the
wire has no format to keep, so whoever hears of another build than its own says nothing more and ends the connection (a
package that is upgraded under a running node starts newer workers beside an older replica). Then the front-end sends
lists of ``[id, deadline_s, request]``; ids are its own and never repeat on a connection; deadlines are on the monotonic
clock, which all processes of a machine share. It sends ``true`` to hear from then on what readers of the applied state
are shown, ``false`` to hear it no more. The replica sends ``[0, [[id, outcome], ...]]`` in any order of ids, ``[1,
status]``, the pulse, to who wants to hear it ``[2, revision, applied_index]``, and where no state is shared that says
so ``[3, document]``, who may do what, whenever that changes.

Rules: no input or output here; a frame above ``MAX_FRAME_BYTES`` or one that does not decode is a broken peer, and the
connection ends. This module imports nothing but msgspec, ``core`` and the version of the package.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from raftkv import __version__
from raftkv.core.replicator import Shown
from raftkv.core.requests import Request
from raftkv.core.results import Outcome
from raftkv.core.status import ModeStatus

MAX_FRAME_BYTES: Final = 64 << 20
"""No frame is larger; the largest outcome (a page of 8 MiB and a value more) stays far below."""

MAX_OUTCOME_BYTES: Final = 32 << 20
"""An outcome that encodes to more is not sent (very many large siblings of one key)."""

FILL_BYTES: Final = 1 << 20
"""A frame is closed once it has grown past this, so that no side works long on one frame."""

Body = TypeVar("Body")

_MAX_ITEMS: Final = 4_096
_LENGTH: Final = struct.Struct("<I")


class WireError(Exception):
    """The peer broke the rules of the wire."""


class Build(msgspec.Struct, frozen=True, array_like=True, tag="raftkv", forbid_unknown_fields=True):
    """What one side is: the version of its package, and a digest of all that the wire carries."""

    version: Annotated[str, Meta(max_length=255)]
    types: bytes


class Submission(msgspec.Struct, frozen=True, array_like=True):
    """One request on its way to the replica."""

    id: int
    deadline_s: float
    request: Request


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """One outcome on its way back."""

    id: int
    outcome: Outcome


class Replies(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Outcomes, in any order."""

    replies: tuple[Reply, ...]


class Pulse(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The status of the replica, pushed when it changes and about ten times a second."""

    status: ModeStatus


class RightsHeld(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A document of ``formats.rights``: who may do what, where no state is shared that says so."""

    document: bytes


class Announcement(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What readers of the applied state are shown now (``core.replicator.Shown``)."""

    revision: int
    applied_index: int


ToReplica = tuple[Submission, ...] | bool
"""Requests, or whether to announce what is shown."""

ToFrontend = Replies | Pulse | Announcement | RightsHeld
"""What the replica says."""

_encoder = msgspec.msgpack.Encoder()
_decode_build = msgspec.msgpack.Decoder(Build).decode
_decode_submissions = msgspec.msgpack.Decoder(ToReplica).decode
_decode_message = msgspec.msgpack.Decoder(ToFrontend).decode

encode_item = _encoder.encode
"""Encode one ``Submission`` or ``Reply``, for ``submission_frames`` and ``reply_frames``."""


@functools.cache
def build() -> Build:
    """What this process is made of: the modules that it has loaded, whatever is installed by now."""
    types = [ToReplica, ToFrontend]
    # The one tells the names and the bounds of fields, the other the words of enumerations.
    told = repr((msgspec.inspect.multi_type_info(types), msgspec.json.schema_components(types)))
    return Build(__version__, blake2b(told.encode(), digest_size=16).digest())


def decode_build(body: bytes | memoryview) -> Build | None:
    """Decode the body of the first frame; ``None`` when it is no build (as from versions that did not tell)."""
    try:
        return _decode_build(body)
    except (ValueError, RecursionError):
        return None


def decode_submissions(body: bytes | memoryview) -> ToReplica:
    """Decode the body of a frame to the replica; raises ``WireError``."""
    found: ToReplica = _decoded(_decode_submissions, body)
    return found


def decode_message(body: bytes | memoryview) -> ToFrontend:
    """Decode the body of a frame to the front-end; raises ``WireError``."""
    message: ToFrontend = _decoded(_decode_message, body)
    return message


def _decoded(decode: Callable[[bytes | memoryview], Body], body: bytes | memoryview) -> Body:
    # msgspec's own errors are ValueErrors, as is what it raises for text that is not UTF-8; and it recurses.
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        raise WireError(str(error)) from None


def build_frame() -> bytes:
    """The frame that comes first."""
    return _whole(build())


def pulse_frame(status: ModeStatus) -> bytes:
    """The frame of a pulse."""
    return _whole(Pulse(status))


def rights_frame(document: bytes) -> bytes:
    """The frame of who may do what."""
    return _whole(RightsHeld(document))


def announcement_frame(shown: Shown) -> bytes:
    """The frame of what is shown."""
    return _whole(Announcement(shown.revision, shown.applied_index))


def wish_frame(*, to_hear: bool) -> bytes:
    """The frame by which a front-end asks for announcements, or for no more of them."""
    return _whole(to_hear)


def _whole(content: Build | Pulse | Announcement | RightsHeld | bool) -> bytes:  # noqa: FBT001  that is all there is to say
    body = _encoder.encode(content)
    return _LENGTH.pack(len(body)) + body


def submission_frames(items: Iterable[bytes]) -> bytes:
    """Frames of encoded submissions."""
    return b"".join(_frames(b"", items))


def reply_frames(items: Iterable[bytes]) -> bytes:
    """Frames of encoded replies."""
    return b"".join(_frames(b"\x92\x00", items))  # an array of two, the first of which is the tag 0


def _frames(head: bytes, items: Iterable[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size_bytes = 0
    for item in items:
        batch.append(item)
        size_bytes += len(item)
        if size_bytes >= FILL_BYTES or len(batch) == _MAX_ITEMS:
            yield from _frame(head, batch, size_bytes)
            batch, size_bytes = [], 0
    if batch:
        yield from _frame(head, batch, size_bytes)


def _frame(head: bytes, batch: list[bytes], size_bytes: int) -> Iterator[bytes]:
    # The items are encoded one by one, so that their size is known; an array header (msgpack's array 16) joins them.
    yield _LENGTH.pack(len(head) + 3 + size_bytes) + head + b"\xdc" + len(batch).to_bytes(2, "big")
    yield from batch


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._part = bytearray()
        """What has come of a frame that is not whole, and how much of it there must be to go on."""

        self._needed_bytes = _LENGTH.size

    def feed(self, data: bytes) -> list[memoryview]:
        """Take ``data``, return the bodies completed by it; raises ``WireError`` for a frame that is too large.

        Bodies are parts of what came, so that nothing is copied but what comes in pieces.
        """
        whole: bytes | bytearray = data
        if self._part:
            self._part += data
            if len(self._part) < self._needed_bytes:
                return []
            whole, self._part = self._part, bytearray()
        view = memoryview(whole)
        bodies: list[memoryview] = []
        position, end = 0, len(whole)
        while end - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(whole, position)
            if length > MAX_FRAME_BYTES:
                raise WireError(f"a frame of {length} bytes")
            body_at = position + _LENGTH.size
            if end - body_at < length:
                self._needed_bytes = _LENGTH.size + length
                break
            position = body_at + length
            bodies.append(view[body_at:position])
        else:
            self._needed_bytes = _LENGTH.size
        if position < end:
            self._part += view[position:]
        return bodies
