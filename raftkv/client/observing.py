"""Who leads an election, one leader after another, as a stream that goes on from node to node. Pure.

Where history has been forgotten under it, it begins anew with who leads then; tokens grow all the same.
"""

from __future__ import annotations

import msgspec

from raftkv.api import paths
from raftkv.api.answers import LeaderTold
from raftkv.client.arguments import path_of
from raftkv.client.errors import RevisionCompacted
from raftkv.client.holds import LeaderRecord, leader_of
from raftkv.client.http1 import HttpAnswer
from raftkv.client.requests import CallPlans, Query
from raftkv.client.resuming import ResumedStream
from raftkv.client.steps import Plan


class AccessionStream(ResumedStream[tuple[LeaderRecord | None]]):
    """What a server tells of an election: who leads from a revision on, if anybody does."""

    _event = "leader"

    def __init__(self, calls: CallPlans, name: str) -> None:
        super().__init__(calls, path_of(name, paths.OBSERVE), {})

    def _beginning(self) -> Query:
        return {}

    def _opened(self, head: HttpAnswer) -> None:
        """It begins with who leads: one that breaks off before that has told nothing."""

    def _read(self, data: bytes) -> tuple[LeaderRecord | None]:
        told = msgspec.json.decode(data, type=LeaderTold).leader
        return (None if told is None else leader_of(told),)


class LeaderStream:
    """Who leads, ``None`` while nobody does: as it is, and again whenever that, or the leader's value, changes."""

    def __init__(self, calls: CallPlans, name: str) -> None:
        self._calls = calls
        self._name = name
        self._stream = AccessionStream(calls, name)
        self._shown: tuple[()] | tuple[LeaderRecord | None] = ()
        self._is_closed = False

    def more(self) -> Plan[list[LeaderRecord | None] | None]:
        """See ``Portions``."""
        try:
            told = yield from self._stream.more()
        except RevisionCompacted:
            self._stream = AccessionStream(self._calls, self._name)
            self._stream.is_closed = self._is_closed
            return []
        if told is None:
            return None
        found: list[LeaderRecord | None] = []
        for one in told:
            if one != self._shown:  # as who leads still is told when it begins anew
                found.extend(one)
            self._shown = one
        return found

    def close(self) -> None:
        """See ``Portions``."""
        self._is_closed = True
        self._stream.close()
