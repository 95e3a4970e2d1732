"""What leaves at the end of a turn: one run of frames for each peer; and what this node tells itself.

A replica is one of its own replicas: what it asks of itself goes the same way as to a peer, without being encoded.
Rules: nothing is sent before ``flush``; a peer that leaves more than the window unread is not asked for more.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from raftkv.formats import quorum_messages
from raftkv.process.loggers import get_logger
from raftkv.quorum.settings import PAGE_BYTES

UNSENT_LIMIT_BYTES: Final = 64 << 20
"""Who asks for more than this in one turn loses the connection: as much unread would end it in any case."""

log_line = get_logger("raftkv.quorum")


class QuorumLink(Protocol):
    """Links to the other nodes. FIFO while they stand; ``send`` never blocks and may lose; nothing arrives twice."""

    def send(self, peer: str, payload: bytes) -> bool:
        """Send, if there is a connection; true says nothing about arrival. ``ValueError``: longer than a frame."""

    def flush(self) -> None:
        """Hand what was sent to the network as soon as the caller returns, rather than when it gets to it."""

    def outstanding_bytes(self, peer: str) -> int:
        """How much was sent and not yet taken by the network."""

    def close_peer(self, peer: str) -> None:
        """Drop the connection; it will be made anew."""

    def set_members(self, addresses: dict[str, str]) -> None:
        """Keep connections to exactly these peers, by id and ``host:port``."""


class Outbox:
    """Messages waiting for the end of the turn."""

    def __init__(self, node_id: str, link: QuorumLink) -> None:
        self._node_id = node_id
        self._link = link
        self._waiting: dict[str, list[bytes]] = {}
        self._sizes: dict[str, int] = {}
        self.own: deque[quorum_messages.Message] = deque()

    def post(self, node: str, message: quorum_messages.Message) -> None:
        """``message`` leaves for ``node`` at the end of the turn."""
        if node == self._node_id:
            self.own.append(message)
            return
        item = quorum_messages.encode(message)
        waiting = self._waiting.get(node)
        if waiting is None:
            waiting = self._waiting[node] = []
            self._sizes[node] = 0
        if self._sizes[node] <= UNSENT_LIMIT_BYTES:
            waiting.append(item)
            self._sizes[node] += len(item)

    def flush(self) -> bool:
        """Send everything; was there anything?"""
        if not self._waiting:
            return False
        gathered, self._waiting = self._waiting, {}
        for peer, items in gathered.items():
            if self._sizes[peer] > UNSENT_LIMIT_BYTES:
                log_line.warning("too much asked for at once", peer=peer)
                self._link.close_peer(peer)
            else:
                self._send(peer, items)
        self._link.flush()
        return True

    def _send(self, peer: str, items: list[bytes]) -> None:
        batch: list[bytes] = []
        size_bytes = 0
        for item in items:
            batch.append(item)
            size_bytes += len(item)
            if size_bytes >= PAGE_BYTES or len(batch) == quorum_messages.MESSAGES_PER_FRAME:
                self._send_frame(peer, batch)
                batch, size_bytes = [], 0
        if batch:
            self._send_frame(peer, batch)

    def _send_frame(self, peer: str, batch: list[bytes]) -> None:
        try:
            self._link.send(peer, quorum_messages.frame(batch))
        except ValueError as error:
            # Longer than a frame may be, as the union of very many large siblings is. It is not sent: whoever waits for
            # it hears nothing, and this node must not end for it. What was to go with it leaves all the same.
            if len(batch) > 1:
                for item in batch:
                    self._send_frame(peer, [item])
                return
            log_line.warning("message not sent", peer=peer, reason=str(error))
