"""One end of the Unix socket between front-end and replica: whole frames, and only from the same build.

Rules: the first thing said is this side's ``wire.Build``; nothing else is heard before the other's, and nothing at all
of another build or of a peer that breaks the rules of the wire. Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from raftkv.frontend import wire

Heard = TypeVar("Heard")


class WireConnection(asyncio.Protocol, Generic[Heard]):
    """One connection; ``decode`` is how the other side's frames are read."""

    def __init__(self, decode: Callable[[bytes | memoryview], Heard]) -> None:
        self._decode = decode
        self._frames = wire.FrameReader()
        self.transport: asyncio.Transport | None = None
        """``None`` before and after."""

        self.is_known = False
        """Has the other side told its build, and is that ours?"""

    @abstractmethod
    def known(self) -> None:
        """The other side turned out to be of this build."""

    @abstractmethod
    def mismatched(self, other: wire.Build | None) -> None:
        """It is of another, or of none: this ends the connection."""

    @abstractmethod
    def received(self, message: Heard) -> None:
        """It said this."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports are not asyncio.Transport
        self.write(wire.build_frame())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """See asyncio."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        try:
            for body in self._frames.feed(data):
                if self.is_known:
                    self.received(self._decode(body))
                    continue
                other = wire.decode_build(body)
                if other != wire.build():
                    self.mismatched(other)
                    return
                self.is_known = True
                self.known()
        except wire.WireError:
            self.abort()

    @property
    def unsent_bytes(self) -> int:
        """What the other side has not taken yet."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self.transport is not None:
            self.transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()
