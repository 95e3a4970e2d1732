"""The transport that PySyncObj is given: its messages in and out, through the guards, into an outbox.

Nothing is sent from here. Messages gather in one outbox per peer until the replica has flushed the log; so nothing
that rests on an entry, a term or a vote leaves before it is on disk (1). Per-peer facts that PySyncObj lacks are kept
here: sequence numbers of appends, who voted (24), and flow control towards a peer that does not keep up (23).

Raising out of PySyncObj's send loop is how the library learns that a peer cannot take more: it is told that the peer
disconnected, and told in ``resume_peers`` that it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from pysyncobj.transport import Transport

from raftkv.formats.raft_messages import Append, AppendAnswer, Message, NewerTerm, RequestVote, Vote
from raftkv.raft.engine.guards import admit_answer, admit_append
from raftkv.raft.engine.internals import Core, Nodes, StableNode
from raftkv.raft.ports import Handlers

NOTICE_DELAY_S: Final = 0.01
"""How long news of the commit index alone may wait for entries to travel with, when no client of the peer waits."""


class _PeerState:
    """What is known about the traffic with one peer."""

    __slots__ = (
        "answered_at_s",
        "answering",
        "appended_at_s",
        "awaits_index",
        "connected",
        "outbox",
        "outbox_bytes",
        "owed_since_s",
        "paused",
        "reset_since",
        "sequence",
        "told_commit_index",
    )

    def __init__(self) -> None:
        self.outbox: list[Message] = []
        self.outbox_bytes = 0
        self.sequence = 0
        self.reset_since = 0
        self.answering = 0
        self.answered_at_s = float("-inf")
        self.appended_at_s = float("-inf")
        self.told_commit_index = 0
        self.awaits_index = 0
        self.owed_since_s: float | None = None
        self.connected = False
        self.paused = False


class _PeerStates(dict[str, _PeerState]):
    """By peer; members come and go, and a node that is let in may speak before it is known to be one."""

    def __missing__(self, peer: str) -> _PeerState:
        state = self[peer] = _PeerState()
        return state


class GuardedTransport(Transport):  # type: ignore[misc]
    """PySyncObj's transport, whose messages wait in outboxes until ``drain``."""

    def __init__(
        self,
        nodes: Nodes,
        *,
        has_room: Callable[[str, int], bool],
        needs_snapshot: Callable[[str], None],
        counts: Callable[[], bool],
        heartbeat_s: float,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        super().__init__(None, None, None)
        self._counts = counts
        self._nodes = nodes
        self._peers = _PeerStates()
        self._has_room = has_room
        self._needs_snapshot = needs_snapshot
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._wall_ms = wall_ms
        self._voters: set[str] = set()
        self._voters_term = 0
        self._reached = (0, 0)
        self.handed_over_term: int | None = None
        self.entrusted_term = 0
        self.core: Core

    # --- PySyncObj sends

    def send(self, node: StableNode, message: dict[str, Any]) -> bool:
        """Take one message of PySyncObj's into the outbox, translated and guarded."""
        peer = node.id
        kind = message["type"]
        if kind == "append_entries":
            self._send_append(node, message)
        elif kind == "next_node_idx":
            answer = AppendAnswer(
                term=self.core.term,
                sequence=self._peers[peer].answering,
                next_index=message["next_node_idx"],
                success=message["success"],
                reset=message["reset"],
            )
            self.post(peer, answer)
        elif kind == "request_vote":
            request = RequestVote(
                term=message["term"],
                last_log_index=message["last_log_index"],
                last_log_term=message["last_log_term"],
                handed_over=message["term"] - 1 == self.handed_over_term,
            )
            if request.handed_over:
                self.entrusted_term = request.term
            self.post(peer, request)
        else:
            # Commands are forwarded, and leadership transferred, by messages of ours.
            assert kind == "response_vote", kind
            self.post(peer, Vote(term=message["term"], wall_ms=self._wall_ms()))
        return True

    def post(self, peer: str, message: Message) -> None:
        """Put a message of ours into the outbox."""
        if isinstance(message, AppendAnswer) and not self._counts():
            message = msgspec.structs.replace(message, counts=False)
        self._peers[peer].outbox.append(message)

    def drain_appends(self) -> Iterator[tuple[str, list[Message]]]:
        """Take the appends only; nothing that stays behind must leave before them."""
        for peer, state in self._peers.items():
            appends: list[Message] = [message for message in state.outbox if isinstance(message, Append)]
            if appends:
                state.outbox = [message for message in state.outbox if not isinstance(message, Append)]
                state.outbox_bytes = 0
                yield peer, appends

    def drain(self) -> Iterator[tuple[str, list[Message]]]:
        """Take every outbox, in the order its messages must leave."""
        for peer, state in self._peers.items():
            if state.outbox:
                messages, state.outbox, state.outbox_bytes = state.outbox, [], 0
                yield peer, messages

    def _send_append(self, node: StableNode, message: dict[str, Any]) -> None:
        assert "transmission" not in message  # the batch size exceeds every command (12)
        peer, state = node.id, self._peers[node.id]
        state.sequence += 1
        entries = tuple(message.get("entries") or ())
        heartbeat = Append(term=message["term"], commit_index=message["commit_index"], sequence=state.sequence)
        if "serialized" in message:
            self._pause(node)
            # It goes ahead of the offer, which a follower that has just started takes from nobody but its leader.
            self.post(peer, heartbeat)
            self._needs_snapshot(peer)
        elif entries and not self._has_room(peer, state.outbox_bytes):
            self.core.set_next_index(peer, message["prevLogIdx"] + 1)
            self._pause(node)
            self.post(peer, heartbeat)
        elif not entries and self._may_wait(state, message["commit_index"]):
            return
        else:
            append = Append(
                term=message["term"],
                commit_index=message["commit_index"],
                sequence=state.sequence,
                previous_index=message["prevLogIdx"],
                previous_term=message["prevLogTerm"],
                entries=entries,
            )
            _drop_superseded(state.outbox, append)
            state.outbox_bytes += sum([len(entry[0]) for entry in entries])
            state.appended_at_s, state.owed_since_s = self._clock(), None
            state.told_commit_index = append.commit_index
            self.post(peer, append)

    def _may_wait(self, state: _PeerState, commit_index: int) -> bool:
        """May an append without entries wait a moment? It tells of a commit index, which the next one tells too."""
        now_s = self._clock()
        if (
            now_s - state.appended_at_s >= NOTICE_DELAY_S
            or state.told_commit_index < state.awaits_index <= commit_index
        ):
            return False
        if state.told_commit_index < commit_index and state.owed_since_s is None:
            state.owed_since_s = now_s
        return True

    def await_commit(self, peer: str, index: int) -> None:
        """A client of ``peer`` waits until it has applied ``index``: tell it of that commit index without delay."""
        state = self._peers[peer]
        state.awaits_index = max(state.awaits_index, index)
        if state.owed_since_s is not None:
            state.owed_since_s = float("-inf")

    def notice_due_s(self) -> float | None:
        """When news of the commit index that waits must go; ``None`` when there is none."""
        owed = [state.owed_since_s for state in self._peers.values() if state.owed_since_s is not None]
        return min(owed) + NOTICE_DELAY_S if owed else None

    def send_appends(self, now_s: float) -> None:
        """As leader, send what was appended or committed since: once a turn, however many commands came in.

        News of the commit index alone that found no entries to travel with goes on its own when it is due.
        """
        core, due_s = self.core, self.notice_due_s()
        is_due = due_s is not None and (now_s >= due_s or not core.is_leader)
        if is_due:
            self.forget_notices()
        reached = core.last_index, core.commit_index
        if core.is_leader and (is_due or reached != self._reached):
            self._reached = reached
            core.send_appends()

    def forget_notices(self) -> None:
        """Owe nobody anything: this node leads no more, or tells everyone now."""
        for state in self._peers.values():
            if state.owed_since_s is not None:
                state.owed_since_s, state.appended_at_s = None, float("-inf")

    def _pause(self, node: StableNode) -> None:
        """End PySyncObj's sending to this peer for now; it would go round and round otherwise (23)."""
        state = self._peers[node.id]
        if not state.paused:
            state.paused = True
            self._onNodeDisconnected(node)

    def resume_peers(self) -> None:
        """Let PySyncObj send to the paused peers again, at its next heartbeat."""
        for peer, state in self._peers.items():
            if state.paused:
                state.paused = False
                if state.connected:
                    self._onNodeConnected(self._nodes[peer])

    # --- peers send

    def handlers(self) -> Handlers:
        """See ``Part``: answers to what the engine sent."""
        return {AppendAnswer: self.take_answer, NewerTerm: self._on_newer_term}

    def _on_newer_term(self, peer: str, newer: NewerTerm, _now_s: float) -> None:
        if newer.term > self.core.term:
            self.core.adopt_term(peer, newer.term)

    def link_up(self, peer: str) -> None:
        """A connection to ``peer`` stands; what was in flight on an earlier one is lost."""
        state = self._peers[peer]
        # A pause belongs to the connection it was made on; kept, it would let PySyncObj's sending go round and round.
        state.connected, state.paused = True, False
        self._onNodeConnected(self._nodes[peer])
        if self.core.is_leader and self.core.match_index(peer):
            self.core.set_next_index(peer, self.core.match_index(peer) + 1)

    def link_down(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        self._peers[peer].connected = self._peers[peer].paused = False
        self._onNodeDisconnected(self._nodes[peer])

    def is_up(self, peer: str) -> bool:
        """Is there a connection to ``peer``?"""
        return self._peers[peer].connected

    def take_append(self, peer: str, append: Append, now_s: float) -> bool:
        """Hand an append to PySyncObj as far as the guards let it; false when it belongs to an older term."""
        state = self._peers[peer]
        verdict = admit_append(self.core, append)
        if verdict.answer is not None and self._worth_saying(state, append, verdict.answer, now_s):
            self.post(peer, verdict.answer)
        if append.entries:
            state.answered_at_s = now_s
        if verdict.hand_on is None:
            return False
        admitted = verdict.hand_on
        message: dict[str, Any] = {
            "type": "append_entries",
            "term": admitted.term,
            "commit_index": admitted.commit_index,
        }
        if admitted.previous_index:
            message["prevLogIdx"] = admitted.previous_index
            message["prevLogTerm"] = admitted.previous_term
            message["entries"] = admitted.entries
        state.answering = append.sequence
        self._onMessageReceived(self._nodes[peer], message)
        return True

    def _worth_saying(self, state: _PeerState, append: Append, answer: AppendAnswer | NewerTerm, now_s: float) -> bool:
        """Spare the leader answers that tell it nothing: it sent no entries, and heard from us a moment ago."""
        if append.entries or isinstance(answer, NewerTerm) or answer.reset:
            return True
        if now_s - state.answered_at_s < self._heartbeat_s / 2:
            return False
        state.answered_at_s = now_s
        return True

    def take_answer(self, peer: str, answer: AppendAnswer, _now_s: float) -> None:
        """Hand a follower's answer to PySyncObj; an acknowledgement never lowers what goes next (7)."""
        node, state = self._nodes[peer], self._peers[peer]
        admitted = admit_answer(self.core, answer, reset_since=state.reset_since)
        if admitted is None:
            return
        if not answer.counts:
            self._go_on_uncounted(peer, admitted)
            return
        next_before = self.core.next_index(peer)
        self._onMessageReceived(
            node,
            {
                "type": "next_node_idx",
                "next_node_idx": admitted.next_index,
                "reset": admitted.reset,
                "success": admitted.success,
            },
        )
        next_index = self.core.next_index(peer)
        if admitted.reset:
            state.reset_since = state.sequence
        else:
            next_index = max(next_before, next_index)
        # What the peer is known to hold need not go again; and if our log begins there, there is no going back.
        self.core.set_next_index(peer, max(next_index, self.core.match_index(peer) + 1))

    def _go_on_uncounted(self, peer: str, answer: AppendAnswer) -> None:
        """A follower that does not count is sent what it lacks; PySyncObj does not hear that it holds anything."""
        state = self._peers[peer]
        self.core.forget_match(peer)
        if answer.reset:
            state.reset_since = state.sequence
            self.core.set_next_index(peer, answer.next_index)
        elif answer.success:
            self.core.set_next_index(peer, max(self.core.next_index(peer), answer.next_index))

    def take_vote_request(self, peer: str, request: RequestVote) -> None:
        """Hand a vote request to PySyncObj."""
        message = {
            "type": "request_vote",
            "term": request.term,
            "last_log_index": request.last_log_index,
            "last_log_term": request.last_log_term,
        }
        self._onMessageReceived(self._nodes[peer], message)

    def take_vote(self, peer: str, vote: Vote) -> None:
        """Hand a vote to PySyncObj, once for each voter and term (24)."""
        if vote.term != self.core.term:
            return
        if self._voters_term != vote.term:
            self._voters_term = vote.term
            self._voters.clear()
        if peer not in self._voters:
            self._voters.add(peer)
            self._onMessageReceived(self._nodes[peer], {"type": "response_vote", "term": vote.term})


def _drop_superseded(outbox: list[Message], append: Append) -> None:
    """An empty append right before one that begins at the same place says nothing more than it."""
    if not outbox:
        return
    last = outbox[-1]
    if isinstance(last, Append) and not last.entries and last.previous_index == append.previous_index:
        outbox.pop()
