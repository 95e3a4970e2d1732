"""One connection as a pure machine: handshake first, then frames; bytes in, payloads and bytes out.

An empty payload is a keepalive. The acceptor's first frame after the handshake is one: it tells the dialer that it has
been let in, so that neither side calls the link up before both have proven themselves. No I/O, clock or randomness.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.formats.frames import FrameDecoder, FrameEncoder, plain_frame
from raftkv.peers.handshake import Acceptor, Dialer, SessionKeys

# A Hello with the longest names is under 400 bytes; a stranger gets no more room than this.
HANDSHAKE_LIMIT_BYTES = 4096

KEEPALIVE = b""


class PeerSession:
    """The protocol state of one connection. After an exception from ``receive`` the connection must be closed."""

    def __init__(self, handshake: Dialer | Acceptor, frame_limit_bytes: int) -> None:
        """``frame_limit_bytes`` is the longest payload taken from an authenticated peer."""
        self.established = False
        self._handshake = handshake
        self._frame_limit_bytes = frame_limit_bytes
        self._decoder = FrameDecoder(min(HANDSHAKE_LIMIT_BYTES, frame_limit_bytes))
        self._encoder: FrameEncoder | None = None
        self._output = plain_frame(handshake.opening()) if isinstance(handshake, Dialer) else b""

    @property
    def peer(self) -> str | None:
        """The other node's id: for a dialer whom it means to reach, for an acceptor who has proven itself."""
        return self._handshake.peer

    @property
    def held_bytes(self) -> int:
        """Bytes of a frame that has not arrived in full."""
        return self._decoder.held_bytes

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes from the other side and give the payloads they complete, keepalives among them.

        Raises ``HandshakeRefused`` or ``FrameError``. Look at ``established`` and ``take_output`` afterwards.
        """
        frames = self._decoder.feed(data)
        while frames and self._encoder is None:
            step = self._handshake.receive(frames[0])
            if step.reply:
                self._output += plain_frame(step.reply)
            if step.keys is not None:
                self._secure(step.keys)
            frames = self._decoder.feed(b"")
        if frames:
            self.established = True
        return frames

    def encode(self, payloads: Iterable[bytes]) -> bytes:
        """The frames of ``payloads`` as one piece; only once established."""
        assert self._encoder is not None
        return self._encoder.encode(payloads)

    def take_output(self) -> bytes:
        """Handshake bytes to send now; empties the machine of them."""
        output, self._output = self._output, b""
        return output

    def _secure(self, keys: SessionKeys) -> None:
        self._encoder = FrameEncoder(keys.send)
        self._decoder.secure(keys.receive, self._frame_limit_bytes)
        if isinstance(self._handshake, Acceptor):
            self._output += self._encoder.encode([KEEPALIVE])
            self.established = True
