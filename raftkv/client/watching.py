"""What is told of changes: revisions, one after another without a gap, and states that follow them. Pure.

Each message of a server has the changes of one revision, or says how far it has seen. ``resuming`` says how a stream
goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import ChangesTold, ChangeTold
from raftkv.api.values import text_from_json, value_from_json
from raftkv.client.arguments import Key, text_of, time_of
from raftkv.client.errors import RevisionCompacted
from raftkv.client.http1 import HttpAnswer
from raftkv.client.records import Page, not_raftkv
from raftkv.client.requests import CallPlans, Query
from raftkv.client.resuming import ResumedStream
from raftkv.client.steps import Plan
from raftkv.core.errors import UsageError

ChangeType = Literal["put", "delete"]


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
    """All of one revision that was watched for, in order: a transaction is never split.

    ``time`` is when it came about, by the log's clock; ``None`` of nodes that do not say.
    """

    revision: int
    time: datetime | None = None
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


class RevisionStream(ResumedStream[WatchedRevision]):
    """The revisions at which something changed that is watched for, one by one; see the module."""

    _event = "changes"

    def __init__(self, calls: CallPlans, watched: WatchRange, from_revision: int | None) -> None:
        super().__init__(calls, paths.WATCH, watched.query())
        self._first = from_revision
        self.seen_revision = None if from_revision is None else from_revision - 1

    def _beginning(self) -> Query:
        return {} if self._first is None else {"from_revision": self._first}

    def _opened(self, head: HttpAnswer) -> None:
        if self.seen_revision is None:
            # One that breaks off before it told anything leaves no gap either.
            self.seen_revision = names.revision_in(head.header(names.REVISION.low))
        if self.seen_revision is None:
            raise not_raftkv(f"it has no {names.REVISION.name}")

    def _read(self, data: bytes) -> WatchedRevision:
        told = msgspec.json.decode(data, type=ChangesTold)
        time = None if told.time_ms is UNSET else time_of(told.time_ms)
        return WatchedRevision(revision=told.revision, changes=tuple([_change(one) for one in told.changes]), time=time)


def _change(told: ChangeTold) -> WatchedChange:
    before = told.previous
    return WatchedChange(
        type=told.type,
        key=text_from_json(told.key),
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
