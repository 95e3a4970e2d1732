"""Lines and Server-Sent Events in a body that comes piece by piece (WHATWG HTML, section 9.2). Pure.

What is held of a line or an event that is not whole yet is bounded. Lines end with LF or CRLF.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.client.reach import UnheardError

EVENT_BYTES_MAX: Final = 1 << 26
"""Of a line, and of an event: far above what raftkv sends at a time."""


class ServerSentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event; ``id`` is the last one that was told, with this event or before it."""

    data: bytes
    event: str = "message"
    id: str = ""


class LineReader:
    """Gives lines, without their ends, as they become whole."""

    def __init__(self) -> None:
        self._part: list[bytes] = []
        self._held_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that ``piece`` ends; raises ``UnheardError`` when one is too long."""
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._part, lines[0]])
            self._part, self._held_bytes = [], 0
        self._part.append(rest)
        self._held_bytes += len(rest)
        if self._held_bytes > EVENT_BYTES_MAX:
            raise UnheardError(f"answers what is not readable (a line of more than {EVENT_BYTES_MAX} bytes)")
        return [line.removesuffix(b"\r") for line in lines]


class EventReader:
    """Gives events as they become whole; comments, which only say that the server is alive, give none."""

    def __init__(self) -> None:
        self._lines = LineReader()
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._event = ""
        self._id = ""

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that ``piece`` ends; raises ``UnheardError`` when one is too long."""
        events = []
        for line in self._lines.feed(piece):
            if line:
                self._read(line)
            else:
                if self._data:
                    data, event = b"\n".join(self._data), self._event or "message"
                    events.append(ServerSentEvent(data=data, event=event, id=self._id))
                self._data, self._held_bytes, self._event = [], 0, ""
        return events

    def _read(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._held_bytes += len(line)
            if self._held_bytes > EVENT_BYTES_MAX:
                raise UnheardError(f"answers what is not readable (an event of more than {EVENT_BYTES_MAX} bytes)")
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
