"""What each node holds of one key, side by side: for people who look, so nothing is joined, counted or repaired by it.

Every node of the ring is asked, the key's replicas first, and whoever has not answered within ``silence_s`` is told as
silent. What a node keeps for others is told by those that speak ``EXAMINED_PROTOCOL``; older ones are asked for their
states alone, as a read does. Answers are bounded: so many nodes, versions, actors and hints, and the heads of values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.sights import Fate
from raftkv.core.status import HintShown, ReplicaPart, ReplicaShown, ReplicasShown, VersionShown
from raftkv.formats import quorum_messages
from raftkv.formats.peers import refused_by
from raftkv.formats.quorum_messages import Examine, Examined, Fetch, Fetched, QuestionDeclined
from raftkv.formats.versions import KeyState, Stamp, Version, decode_state
from raftkv.quorum.coordination.operations import Dispatch
from raftkv.quorum.membership.ring import turn_of

EXAMINED_PROTOCOL: Final = 5
"""The oldest protocol between nodes in which ``Examine`` is understood."""

NODES_MAX: Final = 64
VERSIONS_MAX: Final = 32
HEAD_BYTES: Final = 256


class RunningExamination:
    """One look at what all nodes hold of a key."""

    def __init__(
        self,
        dispatch: Dispatch,
        key: bytes,
        deadline_s: float,
        pending: Pending,
        *,
        n: int,
        speaks: Callable[[str], int],
    ) -> None:
        self.deadline_s = deadline_s
        self._dispatch = dispatch
        self._key = key
        self._pending = pending
        self._n = n
        self._speaks = speaks
        self._id = 0
        primaries, besides, others = dispatch.placement.order(key, n)
        parts = dict.fromkeys(others[: NODES_MAX - len(primaries) - len(besides)], ReplicaPart.OTHER)
        self._parts = dict.fromkeys(primaries, ReplicaPart.REPLICA)
        self._parts |= dict.fromkeys(besides, ReplicaPart.MOVING) | parts
        self._fates: dict[str, Fate] = {}
        self._reasons: dict[str, str] = {}
        self._states: dict[str, KeyState | None] = {}
        self._hints: dict[str, tuple[tuple[str, Stamp], ...]] = {}

    def begin(self, operation_id: int) -> None:
        """Ask all that can be reached."""
        self._id = operation_id
        dispatch = self._dispatch
        for node in self._parts:
            if not dispatch.placement.is_usable(node):
                self._fates[node] = Fate.LOST
            elif node == dispatch.settings.node_id or self._speaks(node) >= EXAMINED_PROTOCOL:
                dispatch.post(node, Examine(operation_id, self._key))
            else:
                dispatch.post(node, Fetch(operation_id, self._key))
        self._finish_if_complete()

    def answered(self, node: str, answer: quorum_messages.Answer) -> None:
        """See ``Running``."""
        if node not in self._parts or node in self._fates:
            return
        if isinstance(answer, QuestionDeclined):
            self._fates[node], self._reasons[node] = Fate.DECLINED, refused_by(answer.refusal).detail
        elif isinstance(answer, Examined | Fetched):
            self._states[node] = None if answer.state is None else decode_state(answer.state)
            self._fates[node] = Fate.HOLDS
            if isinstance(answer, Examined):
                self._hints[node] = tuple([(target, Stamp(counter, name)) for target, counter, name in answer.hints])
        self._finish_if_complete()

    def lost(self, node: str) -> None:
        """See ``Running``."""
        if node in self._parts:
            self._fates.setdefault(node, Fate.LOST)
            self._finish_if_complete()

    def silent(self) -> None:
        """See ``Running``."""
        self._finish()

    def expire(self) -> None:
        """See ``Running``."""
        self._finish()

    def _finish_if_complete(self) -> None:
        if len(self._fates) == len(self._parts):
            self._finish()

    def _finish(self) -> None:
        if not self._dispatch.end(self._id):
            return
        if not self._states:
            detail = "no replica of the key has answered"
            self._pending.resolve(Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0))
            return
        behind = self._behind()
        shown = [self._shown(node, part, is_behind=node in behind) for node, part in self._parts.items()]
        self._pending.resolve(ReplicasShown(key=self._key, turn=turn_of(self._key), n=self._n, nodes=tuple(shown)))

    def _behind(self) -> frozenset[str]:
        """Whose state is not what all states come to, or who has a newer one waiting elsewhere."""
        join = self._dispatch.conflicts.join
        held = {node: self._states[node] for node in self._states if self._parts[node] is not ReplicaPart.OTHER}
        joined: KeyState | None = None
        for state in held.values():
            if state is not None:
                joined = state if joined is None else join(joined, state)
        waiting = [hint for hints in self._hints.values() for hint in hints]
        return frozenset(
            [
                node
                for node, state in held.items()
                if state != joined
                or any(target == node and (state is None or stamp > state.newest) for target, stamp in waiting)
            ]
        )

    def _shown(self, node: str, part: ReplicaPart, *, is_behind: bool) -> ReplicaShown:
        state = self._states.get(node)
        hints = self._hints.get(node)
        versions = () if state is None else state.versions
        return ReplicaShown(
            node=node,
            part=part,
            fate=self._fates.get(node, Fate.SILENT),
            reason=self._reasons.get(node, ""),
            is_behind=is_behind,
            versions=tuple([_version(one) for one in versions[-VERSIONS_MAX:]]),
            versions_count=len(versions),
            seen=_newest(dict(() if state is None else state.seen)),
            hints=None
            if hints is None
            else tuple([HintShown(target=target, counter=stamp.counter, node=stamp.node) for target, stamp in hints]),
        )


def _newest(seen: Mapping[str, int]) -> dict[str, int]:
    """The actors that wrote last."""
    last = sorted(seen.items(), key=lambda one: one[1])[-VERSIONS_MAX:]
    return dict(sorted(last))


def _version(version: Version) -> VersionShown:
    value = version.value
    return VersionShown(
        counter=version.counter,
        node=version.node,
        head=None if value is None else _head(value),
        size_bytes=len(value or b""),
        expires_at_ms=version.expires_at_ms,
    )


def _head(value: bytes) -> bytes:
    """How ``value`` begins; text is not cut within a character."""
    if len(value) <= HEAD_BYTES:
        return value
    head = value[:HEAD_BYTES]
    for cut in range(HEAD_BYTES, HEAD_BYTES - 4, -1):
        try:
            head[:cut].decode()
        except UnicodeDecodeError:
            continue
        return head[:cut]
    return head
