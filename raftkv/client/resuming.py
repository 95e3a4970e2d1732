"""A stream of a server's messages that goes on from node to node without a gap. Pure: no socket, no clock.

Whenever a stream breaks off, or is silent for longer than a server ever is, the next one goes on after the last
revision that was told, at another node if need be: nothing is told twice, left out, or out of order. Only the first
beginning has a deadline; after that it goes on until it is closed, or a server says that it cannot: the history is
forgotten (``RevisionCompacted``), or the request is wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Generic, TypeVar

import msgspec

from raftkv.api import headers as names
from raftkv.api.problems import read_problem
from raftkv.client.arguments import query_of
from raftkv.client.calls import Call
from raftkv.client.errors import UNREACHABLE, failure_of
from raftkv.client.events import EventReader, ServerSentEvent
from raftkv.client.http1 import HttpAnswer
from raftkv.client.portions import SILENCE_S
from raftkv.client.reach import UnheardError
from raftkv.client.records import not_raftkv
from raftkv.client.requests import CallPlans, Query
from raftkv.client.servers import FIRST_WAIT_S
from raftkv.client.steps import AnswerBody, Plan, TakePiece, Wait
from raftkv.core.errors import Code, RaftkvError

Told = TypeVar("Told")

PAUSE_S: Final = 0.5
"""After a stream that could not be begun again within the time of a call."""

_PASSING: Final = frozenset(
    {UNREACHABLE, Code.NO_LEADER, Code.QUORUM_UNREACHABLE, Code.OVERLOADED, Code.OUTCOME_UNKNOWN, Code.DISK_FULL}
)


class ResumedStream(ABC, Generic[Told]):
    """What is told, message by message; see the module.

    ``seen_revision``: nothing up to it will be told any more; ``None`` until that is known.
    """

    _event: ClassVar[str]
    """The name of the messages that tell something."""

    def __init__(self, calls: CallPlans, path: str, query: Query) -> None:
        self._calls = calls
        self._path = path
        self._query = query
        self._has_begun = False
        self._body: AnswerBody | None = None
        self._reader = EventReader()
        self._ending: RaftkvError | None = None
        self.is_closed = False
        self.seen_revision: int | None = None

    @abstractmethod
    def _beginning(self) -> Query:
        """What the first request asks for beside."""

    @abstractmethod
    def _opened(self, head: HttpAnswer) -> None:
        """A stream has begun."""

    @abstractmethod
    def _read(self, data: bytes) -> Told:
        """What a message tells; raises ``ValueError`` or ``msgspec.DecodeError``."""

    def more(self) -> Plan[list[Told] | None]:
        """See ``Portions``; perhaps none."""
        while not self.is_closed:
            try:
                if self._body is None:
                    yield from self._begin()
                return (yield from self._taken())
            except RaftkvError as error:
                self._drop()
                if self.is_closed:
                    break
                if not self._has_begun or error.code not in _PASSING:
                    raise
                yield Wait(PAUSE_S)
            except UnheardError:
                self._drop()
                yield Wait(FIRST_WAIT_S)
        return None

    def close(self) -> None:
        """See ``Portions``; whoever waits for more, in another thread too, waits no longer."""
        self.is_closed = True
        if self._body is not None:
            self._body.cut()

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.end()

    def _begin(self) -> Plan[None]:
        query, headers = self._query, {"Accept": names.EVENTS}
        if not self._has_begun:
            query = {**query, **self._beginning()}
        elif self.seen_revision is not None:
            headers[names.LAST_EVENT_ID.name] = str(self.seen_revision)
        call = Call(
            method="GET", path=self._path, query=query_of(query), headers=headers, is_read=True, repeatable=True
        )
        self._body = yield from self._calls.begun(call)
        self._reader, self._has_begun = EventReader(), True
        kind = self._body.head.header("content-type")
        if kind.partition(";")[0] != names.EVENTS:
            raise not_raftkv(f"no stream, but {kind or 'something of no type'}")
        self._opened(self._body.head)

    def _taken(self) -> Plan[list[Told]]:
        """What the next piece ends; a server that is silent is left, as is one that ends."""
        assert self._body is not None
        ending, self._ending = self._ending, None
        if ending is not None:
            raise ending
        piece = yield TakePiece(self._body, SILENCE_S)
        if isinstance(piece, UnheardError):
            raise piece
        assert isinstance(piece, bytes)
        if not piece:
            raise UnheardError("ended the stream")
        found = []
        for event in self._reader.feed(piece):
            if event.event == "end":  # which is told after what came before it
                self._ending = failure_of(read_problem(event.data))
                break
            told = self._told(event)
            if told is not None:
                found.append(told)
        return found

    def _told(self, event: ServerSentEvent) -> Told | None:
        if event.event not in (self._event, "progress"):
            return None
        try:
            told = self._read(event.data) if event.event == self._event else None
            revision = int(event.id)
        except (msgspec.DecodeError, ValueError) as error:
            raise not_raftkv(error) from None
        if self.seen_revision is not None and revision <= self.seen_revision:
            return None  # progress that says nothing new
        self.seen_revision = revision
        return told
