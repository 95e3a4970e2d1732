"""Ranges: what is there under a key, or under many, read page by page at one revision, so that it is one view.

What etcd does in a transaction with a range is done by operations of one, and told by the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from raftkv.coordination.steps import Plan
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import AnyOperation, ChangesAfter, CountKeys, Get, List, Read
from raftkv.core.results import (
    Answer,
    AnyResult,
    HistoryAhead,
    HistoryGone,
    KeyCount,
    KeyPage,
    KeyRecord,
    Missing,
    Withheld,
)
from raftkv.core.rights import Caller
from raftkv.etcd.calls import (
    FIRST_REVISION,
    EtcdCall,
    header,
    key_value,
    read,
    read_by,
    revision_asked,
    revision_told,
)
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import (
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    SortOrder,
    SortTarget,
)

RANGE_BYTES_MAX: Final = 32 << 20
"""What one range may tell: whoever asks for more asks page by page."""

VIEWS: Final = 3
"""A range begins anew so often where its revision is forgotten while it is read."""

FOREVER: Final = 1 << 31

_TOO_LARGE: Final = CallStatus(
    GrpcStatus.RESOURCE_EXHAUSTED, f"etcdserver: the range is larger than {RANGE_BYTES_MAX >> 20} MiB; ask with a limit"
)


class Span(msgspec.Struct, frozen=True):
    """Keys from ``start`` up to ``end``, of the clients' own: none from ``SYSTEM`` on is named by it."""

    start: bytes
    end: bytes


def span_of(key: bytes, range_end: bytes) -> Span | None:
    """What ``key`` and ``range_end`` name: ``None`` for one key, if there can be it. Raises ``CallStatus``."""
    if not key:
        raise Known.EMPTY_KEY.status
    if not range_end:
        return None if key < SYSTEM else Span(SYSTEM, SYSTEM)
    end = SYSTEM if range_end == b"\0" else min(range_end, SYSTEM)
    start = b"" if key == b"\0" else min(key, SYSTEM)
    return Span(start, max(start, end))


def range_(request: RangeRequest, call: EtcdCall) -> Plan[RangeResponse]:
    """``KV.Range``."""
    span = _checked_range(request)
    if request.revision == FIRST_REVISION:
        return (yield from _nothing_yet(request, call))
    revision = max(0, revision_asked(request.revision))
    if revision:
        start, end = _bounds_of(request)
        yield from kept_after(revision - 1, call, start, end, serializable=request.serializable)
    if span is None:
        answer = yield from read(Get(key=request.key, revision=revision), call, serializable=request.serializable)
        return lookup_told(request, answer, call)
    for _ in range(VIEWS):
        view = _View(request, span, revision, call)
        found = yield from view.read()
        if found is not None:
            return range_told(request, found, view.count, header(call, view.told_at))
        if revision:
            check_revision(view.gone)
    raise Known.COMPACTED.status


def lookup_of(request: RangeRequest, caller: Caller) -> Read | None:
    """The one read of a range of one key as it stands now; ``None`` for any other range. Raises ``CallStatus``."""
    if _checked_range(request) is not None or request.revision > 0:
        return None
    return read_by(caller, Get(key=request.key), serializable=request.serializable)


def lookup_told(request: RangeRequest, answer: Answer, call: EtcdCall) -> RangeResponse:
    """What is told of one key that was read. Raises ``CallStatus``."""
    check_revision(answer.content)
    records = [answer.content] if isinstance(answer.content, KeyRecord) else []
    return range_told(request, records, len(records), header(call, answer.revision))


def _nothing_yet(request: RangeRequest, call: EtcdCall) -> Plan[RangeResponse]:
    """The store before anything was written, if it can still be told."""
    # By the keys that are asked for, so that whoever may not read them is not told that there are none.
    start, end = _bounds_of(request)
    answer = yield from kept_after(0, call, start, end, serializable=request.serializable)
    return range_told(request, (), 0, header(call, answer.revision))


def _bounds_of(request: RangeRequest) -> tuple[bytes, bytes]:
    span = span_of(request.key, request.range_end)
    return (request.key, request.key + b"\0") if span is None else (span.start, span.end)


def kept_after(
    revision: int, call: EtcdCall, start: bytes = SYSTEM, end: bytes = SYSTEM, *, serializable: bool = False
) -> Plan[Answer]:
    """Raises ``CallStatus`` unless everything after ``revision``, one of ours, is kept of the keys from ``start``."""
    query = ChangesAfter(revision=revision, start=start, end=end, limit_bytes=0)  # by default no key is there
    answer = yield from read(query, call, serializable=serializable)
    check_revision(answer.content)
    return answer


class _View:
    """One reading of a range, at one revision. ``gone``: why there is none."""

    def __init__(self, request: RangeRequest, span: Span, revision: int, call: EtcdCall) -> None:
        self._request = request
        self._span = span
        self._revision = revision
        self._call = call
        self.gone: object = None
        self.count = 0
        self.told_at = 0
        """The store's revision at the first look."""

    def read(self) -> Plan[list[KeyRecord] | None]:
        """The records, as many as there must be seen to tell what was asked for."""
        request, start = self._request, self._span.start
        wanted = 0 if request.count_only else _limit_of(request) or FOREVER
        records: list[KeyRecord] = []
        size_bytes = 0
        start_next: bytes | None = start
        while start_next is not None and len(records) < wanted:
            limit = min(wanted - len(records), self._call.context.limits.max_list_limit)
            query = List(
                start=start_next,
                end=self._span.end,
                limit=limit,
                keys_only=_without_values(request),
                revision=self._revision,
            )
            page = yield from self._look(query)
            if page is None:
                return None
            assert isinstance(page, KeyPage)
            records += page.records
            size_bytes += sum([len(one.key) + len(one.value) for one in page.records])
            if size_bytes > RANGE_BYTES_MAX:
                raise _TOO_LARGE
            start_next = page.next_start
        self.count = len(records)
        while start_next is not None:
            counted = yield from self._look(CountKeys(start=start_next, end=self._span.end, revision=self._revision))
            if counted is None:
                return None
            assert isinstance(counted, KeyCount)
            self.count += counted.count
            start_next = counted.next_start
        return records

    def _look(self, query: List | CountKeys) -> Plan[KeyPage | KeyCount | None]:
        answer = yield from read(query, self._call, serializable=self._request.serializable)
        content = answer.content
        if not isinstance(content, KeyPage | KeyCount):
            self.gone = content
            return None
        if not self.told_at:
            self.told_at = answer.revision
            self._revision = self._revision or answer.revision
        return content


def check_revision(content: object) -> None:
    """Refuse what is forgotten, and what is not there yet."""
    if isinstance(content, HistoryAhead):
        raise Known.FUTURE_REVISION.status
    if isinstance(content, HistoryGone):
        raise Known.COMPACTED.status


def _checked_range(request: RangeRequest) -> Span | None:
    span = span_of(request.key, request.range_end)
    if not isinstance(request.sort_order, SortOrder) or not isinstance(request.sort_target, SortTarget):
        raise Known.INVALID_SORT.status
    return span


def _is_filtered(request: RangeRequest) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _limit_of(request: RangeRequest) -> int:
    """How many records must be seen, 0 for all; one more than the limit tells whether there are more."""
    if request.limit <= 0 or request.sort_order is not SortOrder.NONE or _is_filtered(request):
        return 0
    return request.limit + 1


def _without_values(request: RangeRequest) -> bool:
    return request.keys_only and request.sort_target is not SortTarget.VALUE


_SORT_KEYS: Final[dict[SortTarget, Callable[[KeyRecord], Any]]] = {
    SortTarget.KEY: lambda record: record.key,
    SortTarget.VERSION: lambda record: record.version,
    SortTarget.CREATE: lambda record: record.create_revision,
    SortTarget.MOD: lambda record: record.mod_revision,
    SortTarget.VALUE: lambda record: record.value,
}


def range_told(request: RangeRequest, records: Sequence[KeyRecord], count: int, head: ResponseHeader) -> RangeResponse:
    """What is told of the records that were found: filtered, sorted and cut as etcd does it, in that order."""
    if request.count_only:
        return RangeResponse(header=head, count=count)
    if _is_filtered(request):
        records = [record for record in records if _passes(request, record)]
    order = request.sort_order
    if order is SortOrder.NONE and request.sort_target is not SortTarget.KEY:
        order = SortOrder.ASCEND
    if order is not SortOrder.NONE:
        # Go's sort is not stable either: ties come in any order.
        records = sorted(records, key=_SORT_KEYS[request.sort_target], reverse=order is SortOrder.DESCEND)
    more = 0 < request.limit < len(records)
    if more:
        records = records[: request.limit]
    return RangeResponse(
        header=head,
        kvs=tuple([key_value(record, with_value=not request.keys_only) for record in records]),
        more=more,
        count=count,
    )


def _passes(request: RangeRequest, record: KeyRecord) -> bool:
    changed, created = revision_told(record.mod_revision), revision_told(record.create_revision)
    return (
        (not request.min_mod_revision or changed >= request.min_mod_revision)
        and (not request.max_mod_revision or changed <= request.max_mod_revision)
        and (not request.min_create_revision or created >= request.min_create_revision)
        and (not request.max_create_revision or created <= request.max_create_revision)
    )


# -- within a transaction -------------------------------------------------------------------------------------------


def range_operations(request: RangeRequest) -> tuple[AnyOperation, ...]:
    """What a range is in a transaction; nothing where it is of the past. Raises ``CallStatus``."""
    span = _checked_range(request)
    if request.revision > 0:
        return ()
    if span is None:
        return (Get(key=request.key),)
    count = CountKeys(start=span.start, end=span.end)
    if request.count_only:
        return (count,)
    limit = _limit_of(request)
    listed = List(start=span.start, end=span.end, limit=limit or FOREVER, keys_only=_without_values(request))
    return (listed, count) if limit else (listed,)


UNTOLD: Final = CallStatus(
    GrpcStatus.RESOURCE_EXHAUSTED, "etcdserver: it was carried out, but its answer is too large to be told"
)


def record_of(result: AnyResult) -> KeyRecord | None:
    """The record that was read, if there was one."""
    if isinstance(result, Withheld):
        raise UNTOLD
    if isinstance(result, KeyRecord):
        return result
    assert isinstance(result, Missing)
    return None


def told_in_transaction(request: RangeRequest, results: Iterator[AnyResult], head: ResponseHeader) -> RangeResponse:
    """What is told of it, by the results of these."""
    result = next(results)
    if isinstance(result, KeyCount):
        return range_told(request, (), result.count, head)
    if not isinstance(result, KeyPage):
        record = record_of(result)
        return range_told(request, [] if record is None else [record], int(record is not None), head)
    limit = _limit_of(request)
    if result.next_start is not None and not (limit and len(result.records) == limit):
        raise UNTOLD
    count = len(result.records)
    if limit:
        counted = next(results)
        assert isinstance(counted, KeyCount)
        count = counted.count
    return range_told(request, result.records, count, head)
