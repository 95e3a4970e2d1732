"""What the links to the other nodes have to say, who is connected, and who answers. Implements ``LinkEvents``.

A connection outlives a fresh partition by seconds. So whoever leaves a question unanswered, and says nothing else
meanwhile, is not asked again before it says something: its late answer, gossip, or a new connection.

Rule: a message that means nothing ends the connection it came by, and never the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftkv.formats import quorum_messages
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.versions import MalformedStateError
from raftkv.peers.notices import Notices
from raftkv.quorum.outbox import QuorumLink


class LinkChanged(Protocol):
    """Takes word of connections."""

    def __call__(self, peer: str, *, up: bool) -> None:
        """The connection to ``peer`` came up or went down."""


class QuorumConversation:
    """Hands on what comes in."""

    def __init__(
        self,
        link: QuorumLink,
        *,
        take: Callable[[str, quorum_messages.Message], None],
        changed: LinkChanged,
        now_s: Callable[[], float],
        silence_s: float,
    ) -> None:
        """``take`` may raise ``MalformedMessageError`` or ``MalformedStateError``."""
        self._link = link
        self._take = take
        self._changed = changed
        self._now_s = now_s
        self._notices = Notices()
        self._up: set[str] = set()
        self._silence_s = silence_s
        self._silent: set[str] = set()
        self._heard_s: dict[str, float] = {}

    def is_up(self, peer: str) -> bool:
        """Is there a connection to ``peer``?"""
        return peer in self._up

    def is_answering(self, peer: str) -> bool:
        """Is there a connection to ``peer``, and has it left nothing unanswered?"""
        return peer in self._up and peer not in self._silent

    def unanswered(self, peer: str) -> None:
        """``peer`` was asked something ``silence_s`` ago or earlier, and has not answered."""
        if peer in self._up and self._heard_s[peer] <= self._now_s() - self._silence_s:
            self._silent.add(peer)

    def _heard(self, peer: str) -> None:
        self._heard_s[peer] = self._now_s()
        self._silent.discard(peer)

    def link_up(self, peer: str) -> None:
        """See ``LinkEvents``."""
        self._up.add(peer)
        self._heard(peer)
        self._changed(peer, up=True)

    def link_down(self, peer: str) -> None:
        """See ``LinkEvents``."""
        self._up.discard(peer)
        self._changed(peer, up=False)

    def received(self, peer: str, payload: bytes) -> None:
        """See ``LinkEvents``."""
        self._heard(peer)
        try:
            for message in quorum_messages.decode(payload):
                self._take(peer, message)
        except (MalformedMessageError, MalformedStateError) as error:
            self._notices.warn(
                "peer_link_closed", reason="malformed message", peer=peer, now_s=self._now_s(), detail=str(error)
            )
            self._link.close_peer(peer)
