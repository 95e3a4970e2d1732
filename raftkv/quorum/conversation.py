"""What the links to the other nodes have to say, and who is connected. Implements ``LinkEvents``.

Rule: a message that means nothing ends the connection it came by, and never the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftkv.peers.notices import Notices
from raftkv.quorum import messages
from raftkv.quorum.messages import MalformedMessageError
from raftkv.quorum.outbox import PeerPort
from raftkv.quorum.versions import MalformedStateError


class LinkChanged(Protocol):
    """Takes word of connections."""

    def __call__(self, peer: str, *, up: bool) -> None:
        """The connection to ``peer`` came up or went down."""


class Conversation:
    """Hands on what comes in."""

    def __init__(
        self,
        link: PeerPort,
        *,
        take: Callable[[str, messages.Message], None],
        changed: LinkChanged,
        now_s: Callable[[], float],
    ) -> None:
        """``take`` may raise ``MalformedMessageError`` or ``MalformedStateError``."""
        self._link = link
        self._take = take
        self._changed = changed
        self._now_s = now_s
        self._notices = Notices()
        self._up: set[str] = set()

    def is_up(self, peer: str) -> bool:
        """Is there a connection to ``peer``?"""
        return peer in self._up

    def link_up(self, peer: str) -> None:
        """See ``LinkEvents``."""
        self._up.add(peer)
        self._changed(peer, up=True)

    def link_down(self, peer: str) -> None:
        """See ``LinkEvents``."""
        self._up.discard(peer)
        self._changed(peer, up=False)

    def received(self, peer: str, payload: bytes) -> None:
        """See ``LinkEvents``."""
        try:
            for message in messages.decode(payload):
                self._take(peer, message)
        except (MalformedMessageError, MalformedStateError) as error:
            self._notices.warn(
                "peer_link_closed", reason="malformed message", peer=peer, now_s=self._now_s(), detail=str(error)
            )
            self._link.close_peer(peer)
