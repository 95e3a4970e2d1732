"""What comes in, brought to the part of the replica that it concerns: messages, by their kind, and changes of links.

A node that is not in service, because nobody has told it yet what time it is, declines what it would have to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftkv.formats import quorum_messages
from raftkv.formats.peers import refusal_of
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.conversation import QuorumConversation
from raftkv.quorum.coordination.coordination import Coordination
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.rights import SharedRights
from raftkv.quorum.outbox import Outbox, QuorumLink
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.repair.handoff import Handoff
from raftkv.quorum.serving.serving import Serving
from raftkv.quorum.settings import QuorumSettings, untimely
from raftkv.quorum.timeliness import Timeliness


@dataclass(kw_only=True, eq=False, repr=False)
class Delivery:
    """The way in of one node; a message of its own to itself takes it too."""

    settings: QuorumSettings
    conversation: QuorumConversation
    outbox: Outbox
    link: QuorumLink
    timeliness: Timeliness
    serving: Serving
    coordination: Coordination
    anti_entropy: AntiEntropy
    handoff: Handoff
    members: Members
    rights: SharedRights
    time: ClusterTime
    upkeep: Upkeep
    clock: Callable[[], float]

    def answer_own(self) -> None:
        """What this node asks of itself, and answers itself, until nothing is left but what waits for the disk."""
        own, here = self.outbox.own, self.settings.node_id
        for _ in range(len(own) + self.settings.max_waiting):
            if not own:
                return
            self.take(here, own.popleft())

    def take(self, node: str, message: quorum_messages.Message) -> None:  # noqa: C901  one line for each kind
        """``node`` sent ``message``."""
        if isinstance(message, quorum_messages.Question):
            if self.timeliness.is_in_service:
                self.serving.take(node, message)
            elif message.id != quorum_messages.NO_ANSWER:
                self.outbox.post(
                    node, quorum_messages.QuestionDeclined(message.id, refusal_of(untimely(self.timeliness.fault)))
                )
        elif isinstance(message, quorum_messages.Answer):
            self.coordination.answered(node, message)
            if isinstance(message, quorum_messages.QuestionDeclined):
                self.anti_entropy.take(node, message, self.clock())
        elif isinstance(message, quorum_messages.Gossip):
            self.members.heard(node, message.message, self.clock())
        elif isinstance(message, quorum_messages.RightsMessage):
            self.rights.heard(node, message)
        elif isinstance(message, quorum_messages.ClockMessage):
            self.time.take(node, message, self.clock())
            self.upkeep.let_in(self.clock())
        elif self.timeliness.is_in_service:
            self.anti_entropy.take(node, message, self.clock())
        elif isinstance(message, quorum_messages.Compare | quorum_messages.OfferPage):
            self.outbox.post(
                node, quorum_messages.QuestionDeclined(message.id, refusal_of(untimely(self.timeliness.fault)))
            )

    def is_usable(self, node: str) -> bool:
        """Can ``node`` be asked now? A peer that leaves too much unread or unanswered is as good as unreachable."""
        if node == self.settings.node_id:
            return True
        if not self.conversation.is_answering(node):
            return False
        return self.link.outstanding_bytes(node) < self.settings.window_bytes

    def link_changed(self, peer: str, *, up: bool) -> None:
        """The connection to ``peer`` came up or went down."""
        if up:
            self.time.ask(peer, self.clock())
            self.members.link_up(peer, self.clock())
            self.rights.meet(peer)
        else:
            self.time.lost(peer)
            self.rights.lost(peer)
            self.coordination.lost(peer)
            self.handoff.lost(peer)
            self.anti_entropy.lost(peer)
