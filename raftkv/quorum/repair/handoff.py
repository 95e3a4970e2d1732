"""Hinted handoff: what was kept for a node that could not be reached is given to it once it can (Dynamo, section 4.6).

A hint is dropped only when the node has said that it holds the version durably, and only if the hint has not grown
meanwhile. One batch is under way for each node at a time, so a node that comes back is not buried.

A node that has left the cluster never comes back for its hints, and they may be all that is left of a write: this node
takes them for its own, and hands over what does not belong here as it does after any change of the ring.
"""

from __future__ import annotations

from math import inf
from typing import Final

from raftkv.core.errors import Refused
from raftkv.core.sights import Fate, ReplicaAsked, SampleKind
from raftkv.formats import quorum_messages
from raftkv.formats.quorum_messages import StoreDone, StoreRows
from raftkv.formats.versions import encode_state
from raftkv.quorum.coordination.operations import Dispatch
from raftkv.quorum.data.store import Store as Replica

BATCH_HINTS: Final = 256
BATCH_BYTES: Final = 1 << 20
RETRY_S: Final = 5.0
"""A batch that was declined, or is not answered, is begun again after this long."""


class Handoff:
    """Gives hints to the nodes they are for."""

    def __init__(self, dispatch: Dispatch, store: Replica) -> None:
        self._dispatch = dispatch
        self._store = store
        self._batches: dict[str, HintBatch] = {}

    def work(self, now_s: float) -> None:
        """Begin, or go on with, the hints of every node that can be reached."""
        for node in self._store.hinted_nodes():
            if not self._dispatch.placement.is_placed(node):
                self._take_over(node)
                continue
            batch = self._batches.get(node)
            if batch is not None and not batch.may_follow(now_s):
                continue
            if batch is not None:
                batch.end()
                del self._batches[node]
            if self._dispatch.placement.is_usable(node):
                self._batches[node] = HintBatch(self._dispatch, self._store, node, now_s)

    def _take_over(self, node: str) -> None:
        for key, state in self._store.hints(node, BATCH_HINTS):
            if not isinstance(self._store.stage(key, state), Refused):
                self._store.drop_hint(node, key, encode_state(state))

    def lost(self, node: str) -> None:
        """The connection to ``node`` is gone, and what was under way with it."""
        batch = self._batches.pop(node, None)
        if batch is not None:
            batch.end()


class HintBatch:
    """Some hints on their way to one node."""

    def __init__(self, dispatch: Dispatch, store: Replica, node: str, now_s: float) -> None:
        self._began_s = now_s
        self._dispatch = dispatch
        self._store = store
        self._node = node
        self._left: dict[int, OneHint] = {}
        self._declined = False
        self._taken_count = 0
        size_bytes = 0
        for key, state in store.hints(node, BATCH_HINTS):
            encoded = encode_state(state)
            hint = OneHint(self, key, encoded)
            operation_id = dispatch.start(hint)
            hint.id = operation_id
            self._left[operation_id] = hint
            dispatch.post(node, StoreRows(operation_id, ((key, encoded),)))
            size_bytes += len(encoded)
            if size_bytes >= BATCH_BYTES:
                break

    def may_follow(self, now_s: float) -> bool:
        """May another batch begin: because all of this was taken, or because it is time to try again?"""
        return (not self._left and not self._declined) or now_s - self._began_s >= RETRY_S

    def end(self) -> None:
        """Give up what has not been answered; the hints stay."""
        if not self._left:
            return
        for operation_id in self._left:
            self._dispatch.end(operation_id)
        self._tell(Fate.LOST)
        self._left.clear()

    def settled(self, hint: OneHint, node: str, answer: quorum_messages.Answer) -> None:
        """A hint was taken, or declined, in which case it stays for another time."""
        if node != self._node:
            return
        self._dispatch.end(hint.id)
        self._left.pop(hint.id, None)
        if not isinstance(answer, StoreDone):
            self._declined = True
        else:
            self._store.drop_hint(self._node, hint.key, hint.state)
            self._dispatch.sampling.tally.hints_given += 1
            self._taken_count += 1
        if not self._left:
            self._tell(Fate.DECLINED if self._declined else Fate.HOLDS)

    def _tell(self, fate: Fate) -> None:
        """The batch is over: a sample of it."""
        if self._dispatch.sampling.is_watched:
            self._dispatch.sampling.take(
                SampleKind.HINTS,
                [ReplicaAsked(node=self._node, fate=fate)],
                done=fate is Fate.HOLDS,
                count=self._taken_count,
            )


class OneHint:
    """A hint under way; see ``Running``. Time and lost links are its batch's business."""

    __slots__ = ("_batch", "deadline_s", "id", "key", "state")

    def __init__(self, batch: HintBatch, key: bytes, state: bytes) -> None:
        self.deadline_s = inf
        self._batch = batch
        self.key = key
        self.state = state
        self.id = 0

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """See ``Running``."""
        self._batch.settled(self, node, answer)

    def lost(self, node: str) -> None:
        """See ``Running``."""

    def silent(self) -> None:
        """See ``Running``."""

    def expire(self) -> None:
        """See ``Running``."""
