"""What peers say, brought to the part of the replica that takes it; a message that means nothing costs its sender.

The table of handlers is what the parts bring (``raftkv.raft.ports.Part``). A message that nobody takes, or two, is a
mistake in the assembly, and no replica starts with it. Nothing is decided here but what concerns all messages: terms
that no election can reach, and the end of a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, get_args

from raftkv.formats import raft_messages as messages
from raftkv.formats.peers import MalformedMessageError
from raftkv.peers.notices import Notices
from raftkv.raft.ports import Handlers, Leading, Part, RaftLink
from raftkv.raft.standing.participation import Participation

TERM_JUMP_MAX: Final = 1 << 32
"""No cluster holds as many elections while a node is away; taken over, such a term would use up the numbers."""


def merged(parts: Iterable[Part]) -> Handlers:
    """One table of what ``parts`` bring: every message once."""
    table: dict[type[Any], Callable[[str, Any, float], None]] = {}
    for part in parts:
        for kind, handler in part.handlers().items():
            assert kind not in table, f"two parts take {kind.__name__}"
            table[kind] = handler
    missing = [kind.__name__ for kind in get_args(messages.Message) if kind not in table]
    assert not missing, f"no part takes {', '.join(missing)}"
    return table


class RaftConversation:
    """One node's side of all conversations with its peers; its public methods are the link's events."""

    def __init__(
        self,
        parts: Iterable[Part],
        *,
        core: Leading,
        participation: Participation,
        on_up: Callable[[str], None],
        on_down: Sequence[Callable[[str], None]],
        link: RaftLink,
        clock: Callable[[], float],
    ) -> None:
        """``on_up`` and ``on_down``, in this order, are told of connections."""
        self._handlers = merged(parts)
        self._core = core
        self._participation = participation
        self._link = link
        self._clock = clock
        self._notices = Notices()
        self._on_down = on_down
        self.link_up = on_up

    def link_down(self, peer: str) -> None:
        """The connection to ``peer`` is gone, with everything on it."""
        for lost in self._on_down:
            lost(peer)

    def received(self, peer: str, payload: bytes) -> None:
        """One message of ``peer``; a malformed one costs it its connection."""
        try:
            message = messages.decode(payload)
            if getattr(message, "term", 0) > self._core.term + TERM_JUMP_MAX:
                raise MalformedMessageError("a term beyond what elections can reach")  # noqa: TRY301
            self._participation.overhear(message)
            self._handlers[type(message)](peer, message, self._clock())
        except MalformedMessageError as error:
            self.refuse(peer, error)

    def refuse(self, peer: str, error: MalformedMessageError) -> None:
        """What ``peer`` sent cannot be: end the connection it came by."""
        if isinstance(error, messages.ContradictionError):
            self._participation.contradicted(peer, error.index)
        reason = "malformed message"
        self._notices.warn("peer_link_closed", reason=reason, peer=peer, now_s=self._clock(), detail=str(error))
        self._link.close_peer(peer)
