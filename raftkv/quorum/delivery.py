"""What comes in, brought to the part of the replica that it concerns: messages, by their kind, and changes of links.

A node that is not in service, because nobody has told it yet what time it is, declines what it would have to judge.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.quorum import messages
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.conversation import Conversation
from raftkv.quorum.coordination.coordination import Coordination
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.membership.members import Members
from raftkv.quorum.outbox import Outbox, PeerPort
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.repair.handoff import Handoff
from raftkv.quorum.serving.serving import Serving
from raftkv.quorum.settings import QuorumSettings, untimely
from raftkv.quorum.timeliness import Timeliness


class Delivery:
    """The way in of one node; a message of its own to itself takes it too."""

    def __init__(
        self,
        settings: QuorumSettings,
        *,
        conversation: Conversation,
        outbox: Outbox,
        link: PeerPort,
        timeliness: Timeliness,
        serving: Serving,
        coordination: Coordination,
        anti_entropy: AntiEntropy,
        handoff: Handoff,
        members: Members,
        time: ClusterTime,
        upkeep: Upkeep,
        clock: Callable[[], float],
    ) -> None:
        self._node_id = settings.node_id
        self._max_waiting = settings.max_waiting
        self._window_bytes = settings.window_bytes
        self._conversation = conversation
        self._outbox = outbox
        self._link = link
        self._timeliness = timeliness
        self._serving = serving
        self._coordination = coordination
        self._anti_entropy = anti_entropy
        self._handoff = handoff
        self._members = members
        self._time = time
        self._upkeep = upkeep
        self._clock = clock

    def answer_own(self) -> None:
        """What this node asks of itself, and answers itself, until nothing is left but what waits for the disk."""
        own, here = self._outbox.own, self._node_id
        for _ in range(len(own) + self._max_waiting):
            if not own:
                return
            self.take(here, own.popleft())

    def take(self, node: str, message: messages.Message) -> None:
        """``node`` sent ``message``."""
        if isinstance(message, messages.Question):
            if self._timeliness.is_in_service:
                self._serving.take(node, message)
            elif message.id != messages.NO_ANSWER:
                self._outbox.post(node, messages.Declined(message.id, untimely(self._timeliness.fault)))
        elif isinstance(message, messages.Answer):
            self._coordination.answered(node, message)
            if isinstance(message, messages.Declined):
                self._anti_entropy.take(node, message, self._clock())
        elif isinstance(message, messages.Gossip):
            self._members.heard(node, message.message, self._clock())
        elif isinstance(message, messages.ClockMessage):
            self._time.take(node, message, self._clock())
            self._upkeep.let_in(self._clock())
        elif self._timeliness.is_in_service:
            self._anti_entropy.take(node, message, self._clock())
        elif isinstance(message, messages.Compare | messages.OfferPage):
            self._outbox.post(node, messages.Declined(message.id, untimely(self._timeliness.fault)))

    def is_usable(self, node: str) -> bool:
        """Can ``node`` be asked now? A peer that leaves too much unread or unanswered is as good as unreachable."""
        if node == self._node_id:
            return True
        if not self._conversation.is_answering(node):
            return False
        return self._link.outstanding_bytes(node) < self._window_bytes

    def link_changed(self, peer: str, *, up: bool) -> None:
        """The connection to ``peer`` came up or went down."""
        if up:
            self._time.ask(peer, self._clock())
            self._members.link_up(peer, self._clock())
        else:
            self._time.lost(peer)
            self._coordination.lost(peer)
            self._handoff.lost(peer)
            self._anti_entropy.lost(peer)
