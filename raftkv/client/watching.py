"""What is told of changes: a stream that goes on from node to node without a gap, and states that follow it. Pure.

Each message of a server has the changes of one revision, or says how far it has seen. Whenever a stream breaks off, or
is silent for longer than a server ever is, the next one goes on after the last revision that was told, at another node
if need be: nothing is told twice, left out, or out of order. Only the first beginning has a deadline; after that it
goes on until it is closed, or a server says that it cannot: the history is forgotten (``RevisionCompacted``), or the
request is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec
from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import ChangesTold, ChangeTold
from raftkv.api.problems import Problem, read_problem
from raftkv.api.values import value_from_json
from raftkv.client.arguments import Key, query_of, text_of
from raftkv.client.calls import Call
from raftkv.client.errors import UNREACHABLE, RevisionCompacted
from raftkv.client.events import EventReader, ServerSentEvent
from raftkv.client.portions import SILENCE_S
from raftkv.client.reach import UnheardError
from raftkv.client.records import Page, not_raftkv
from raftkv.client.requests import CallPlans, Query
from raftkv.client.servers import FIRST_WAIT_S
from raftkv.client.steps import AnswerBody, Plan, TakePiece, Wait
from raftkv.core.errors import Code, DefiniteError, RaftkvError, UsageError

ChangeType = Literal["put", "delete"]

PAUSE_S: Final = 0.5
"""After a stream that could not be begun again within the time of a call."""

_PASSING: Final = frozenset(
    {UNREACHABLE, Code.NO_LEADER, Code.QUORUM_UNREACHABLE, Code.OVERLOADED, Code.OUTCOME_UNKNOWN, Code.DISK_FULL}
)


class WatchedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A key changed at ``revision``; ``value`` is ``None`` when it was deleted, or expired.

    ``expired``: it was removed by time. ``previous`` is what was there before, where that was asked for, there was
    anything, and it is kept.
    """

    type: ChangeType
    key: str
    value: bytes | None
    revision: int
    version: int = 0
    create_revision: int = 0
    lease: int | None = None
    expired: bool = False
    previous: bytes | None = None


class WatchedRevision(msgspec.Struct, frozen=True, kw_only=True):
    """All of one revision that was watched for, in order: a transaction is never split."""

    revision: int
    changes: tuple[WatchedChange, ...]


class WatchRange(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched; see ``Client.watch``."""

    key: Key | None = None
    prefix: str | None = None
    start: str | None = None
    end: str | None = None
    previous: bool = False
    only: ChangeType | None = None

    def query(self) -> Query:
        """As the API has it; raises ``UsageError``."""
        is_range = self.start is not None or self.end is not None
        if (self.key is not None) + (self.prefix is not None) + is_range != 1:
            raise UsageError("watch a key, a prefix, or a range from start to end")
        return {
            "key": None if self.key is None else text_of(self.key),
            "prefix": self.prefix,
            "start": self.start,
            "end": self.end,
            "previous": 1 if self.previous else None,
            "only": self.only,
        }


class RevisionStream:
    """The revisions at which something changed that is watched for, one by one; see the module.

    ``seen_revision``: nothing up to it will be told any more.
    """

    def __init__(self, calls: CallPlans, watched: WatchRange, from_revision: int | None) -> None:
        self._calls = calls
        self._query = watched.query()
        self._first = from_revision
        self._has_begun = False
        self._body: AnswerBody | None = None
        self._reader = EventReader()
        self._ending: RaftkvError | None = None
        self.is_closed = False
        self.seen_revision = None if from_revision is None else from_revision - 1

    def more(self) -> Plan[list[WatchedRevision] | None]:
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
        if self._first is not None and not self._has_begun:
            query = {**query, "from_revision": self._first}
        elif self.seen_revision is not None:
            headers[names.LAST_EVENT_ID.name] = str(self.seen_revision)
        call = Call(
            method="GET", path=paths.WATCH, query=query_of(query), headers=headers, is_read=True, repeatable=True
        )
        self._body = yield from self._calls.begun(call)
        self._reader, self._has_begun = EventReader(), True
        kind = self._body.head.header("content-type")
        if kind.partition(";")[0] != names.EVENTS:
            raise not_raftkv(f"no stream, but {kind or 'something of no type'}")
        if self.seen_revision is None:
            # One that breaks off before it told anything leaves no gap either.
            self.seen_revision = names.revision_in(self._body.head.header(names.REVISION.low))
        if self.seen_revision is None:
            raise not_raftkv(f"it has no {names.REVISION.name}")

    def _taken(self) -> Plan[list[WatchedRevision]]:
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

    def _told(self, event: ServerSentEvent) -> WatchedRevision | None:
        assert self.seen_revision is not None
        if event.event not in ("changes", "progress"):
            return None
        try:
            told = msgspec.json.decode(event.data, type=ChangesTold) if event.event == "changes" else None
            changes = () if told is None else tuple([_change(one) for one in told.changes])
            found = WatchedRevision(revision=int(event.id), changes=changes)
        except (msgspec.DecodeError, ValueError) as error:
            raise not_raftkv(error) from None
        if found.revision <= self.seen_revision:
            return None  # progress that says nothing new
        self.seen_revision = found.revision
        return found if found.changes else None


def failure_of(problem: Problem) -> RaftkvError:
    """What ended a stream."""
    if problem.code == Code.COMPACTED:
        return RevisionCompacted(problem.detail, problem.compacted_revision or 0)
    return DefiniteError(problem.code or UNREACHABLE, problem.detail)


def _change(told: ChangeTold) -> WatchedChange:
    before = told.previous
    return WatchedChange(
        type=told.type,
        key=told.key,
        value=None if told.value is UNSET else value_from_json(told.value),
        revision=told.revision,
        version=told.version or 0,
        create_revision=told.create_revision or 0,
        lease=told.lease or None,
        expired=bool(told.expired),
        previous=None if before is UNSET else value_from_json(before.value),
    )


class PagePlan(Protocol):
    """Plans a page of a prefix from ``start`` on, as it stood at ``revision``, or now."""

    def __call__(self, prefix: str, start: str, revision: int | None) -> Plan[Page]: ...


class MirrorStream:
    """What is under a prefix, whole: as it stands, and again after every revision that changed it.

    All that came together is shown at once, so that who is slow sees the newest. Where history has overtaken it, it
    begins anew: then states in between are not shown, which a state needs no more than those.
    """

    def __init__(self, calls: CallPlans, prefix: str, page: PagePlan) -> None:
        self._calls = calls
        self._prefix = prefix
        self._page = page
        self._stream: RevisionStream | None = None
        self._values: dict[str, bytes] = {}
        self._is_closed = False

    def more(self) -> Plan[list[Mapping[str, bytes]] | None]:
        """See ``Portions``."""
        try:
            if self._stream is None:
                return [(yield from self._whole())]
            revisions = yield from self._stream.more()
        except RevisionCompacted:
            self._stream = None
            return []
        if revisions is None:
            return None
        for change in [one for each in revisions for one in each.changes]:
            if change.value is None:
                self._values.pop(change.key, None)
            else:
                self._values[change.key] = change.value
        return [dict(self._values)] if revisions else []

    def close(self) -> None:
        """See ``Portions``."""
        self._is_closed = True
        if self._stream is not None:
            self._stream.close()

    def _whole(self) -> Plan[Mapping[str, bytes]]:
        page = yield from self._page(self._prefix, "", None)
        revision, values = page.revision, {one.key: one.value or b"" for one in page.records}
        while page.next is not None:
            page = yield from self._page(self._prefix, page.next, revision)
            values |= {one.key: one.value or b"" for one in page.records}
        self._values = values
        self._stream = RevisionStream(self._calls, WatchRange(prefix=self._prefix), revision + 1)
        self._stream.is_closed = self._is_closed
        return dict(values)


class Flattened:
    """The changes of revisions, one by one."""

    def __init__(self, revisions: RevisionStream) -> None:
        self._revisions = revisions
        self.close = revisions.close

    def more(self) -> Plan[list[WatchedChange] | None]:
        """See ``Portions``."""
        found = yield from self._revisions.more()
        return None if found is None else [change for each in found for change in each.changes]
