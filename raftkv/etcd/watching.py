"""The Watch service: several watches on one stream, over the feed that native watchers listen to.

What is told of a revision is made once for all who watch the same in the same form, header included; a watch adds its
number. Messages of several revisions join to one response. Each watch is told no more than its reader takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

from raftkv.coordination.audience import Interest, Tell
from raftkv.coordination.feed import ChangeListener, Heard
from raftkv.coordination.steps import Circumstances, Plan, submitted
from raftkv.core.errors import Refused, Unknown
from raftkv.core.judgement import of_span
from raftkv.core.keys import SYSTEM
from raftkv.core.requests import Consistency, Get, Read
from raftkv.core.results import Answer, Change, HistoryGone
from raftkv.core.rights import CLUSTER, Access, Caller
from raftkv.etcd import gateway_json, protobuf
from raftkv.etcd.calls import (
    cluster_number,
    compacted_told,
    key_value,
    member_number,
    revision_asked,
    revision_told,
)
from raftkv.etcd.errors import Known, fail
from raftkv.etcd.messages import (
    Event,
    EventType,
    KeyValue,
    ResponseHeader,
    WatchCreateRequest,
    WatchFilter,
    WatchRequest,
    WatchResponse,
)
from raftkv.frontend.rights import RightsListener
from raftkv.http.handlers.handler import Context

PROGRESS_S: Final = 600.0
"""A watch that wants it is told how far it is when nothing else was told for so long, as etcd does it."""

WATCHES_MAX: Final = 10_000
"""Of one stream."""

FRAGMENT_BYTES: Final = (1536 << 10) + (512 << 10)
"""A response that is larger is told in fragments to those who asked for that: etcd's bound of a request, and a bit."""

_SEPARATOR: Final = b"\n"
"""Between the parts of a response in JSON, which has no such byte in it."""

_FORBIDDEN: Final = f"rpc error: code = PermissionDenied desc = {Known.PERMISSION_DENIED.status.message}"
"""Why a watch is refused or ends, as Go's library writes a status out: clients compare it."""

INVALID_ID: Final = -1
"""In a response that is of no watch, or of none that came to be."""


class ResponseForm(Protocol):
    """How responses are written."""

    def whole(self, response: WatchResponse) -> bytes:
        """A response of its own."""

    def told(self, header: ResponseHeader, events: tuple[Event, ...]) -> bytes:
        """A part of a response; several join to one."""

    def of_watch(self, watch_id: int, told: bytes, *, is_fragment: bool = False) -> bytes:
        """The response that joined parts make for a watch; ``is_fragment``: the rest follows."""

    def pieces(self, told: bytes) -> list[bytes]:
        """Joined parts in pieces of a size that every client takes, for those who asked for that."""


class Outlet(Protocol):
    """Where a stream's responses go."""

    def send(self, message: bytes) -> bool:
        """Send one, to nobody if nobody listens any more; false: no more events before ``WatchStream.go_on``."""


class Where(NamedTuple):
    """Where a watch begins: behind ``after``, while the store is at ``revision``."""

    after: int
    revision: int


Perform = Callable[[Callable[[Circumstances], Plan[Where]], Callable[[Where | None, Exception | None], None]], object]
"""Performs a plan for the cluster itself, and tells what it came to, or raised."""

Schedule = Callable[[float, Callable[[], None]], Any]
"""Calls something in so many seconds; what it gives has ``cancel``."""


class SharedWatching:
    """What all streams of one worker share. ``schedule`` calls something in so many seconds, and can be cancelled."""

    def __init__(self, context: Context, schedule: Schedule) -> None:
        self.context = context
        self.schedule = schedule
        self._tells: dict[ResponseForm, Tell] = {}

    def tell_of(self, form: ResponseForm) -> Tell:
        """How changes are told: one function for all streams of one form, so that they share what is made."""
        return self._tells.setdefault(form, partial(self._told, form))

    def _told(self, form: ResponseForm, revision: int, changes: Sequence[Change], interest: Interest) -> bytes:
        events = tuple([_event(change, with_previous=interest.previous) for change in changes])
        return form.told(self.header(revision), events)

    @property
    def revision(self) -> int:
        """Where the store stands, as far as this node knows."""
        status = self.context.last_status()
        return 0 if status is None else status.revision

    def header(self, revision: int | None) -> ResponseHeader:
        """The header of a response; ``None``: it says of no revision."""
        return ResponseHeader(
            cluster_id=cluster_number(self.context.cluster),
            member_id=member_number(self.context.node),
            revision=0 if revision is None else revision_told(revision),
            raft_term=getattr(self.context.last_status(), "term", 0),
        )

    def forbids(self, caller: Caller, interest: Interest) -> bool:
        """Has ``caller`` no right to see that, by what is known now?"""
        rights = self.context.callers.known.current
        if rights is None:
            return False
        return of_span(rights, caller, Access.READ, interest.start, interest.end) is not None


def _event(change: Change, *, with_previous: bool) -> Event:
    previous = key_value(change.previous) if with_previous and change.previous is not None else None
    if change.record is None:
        gone = KeyValue(key=change.key, mod_revision=revision_told(change.revision))
        return Event(type=EventType.DELETE, kv=gone, prev_kv=previous)
    return Event(kv=key_value(change.record), prev_kv=previous)


class WatchStream:
    """The watches of one stream, whose requests come by ``received``. Ids count from 0, as etcd's do."""

    def __init__(
        self, watching: SharedWatching, caller: Caller, form: ResponseForm, outlet: Outlet, perform: Perform
    ) -> None:
        self._watching = watching
        self._perform = perform
        self._caller = caller
        self._form = form
        self._outlet = outlet
        self._watches: dict[int, _Watch] = {}
        self._beginning: dict[int, WatchCreateRequest] = {}
        self._next_id = 0
        self._waiting: dict[_Watch, None] = {}

    # -- requests

    def received(self, request: WatchRequest) -> None:
        """The client's next word."""
        if request.create_request is not None:
            self._create(request.create_request)
        elif request.cancel_request is not None:
            self._cancel(request.cancel_request.watch_id)
        elif request.progress_request is not None:
            self._tell_progress()

    def _create(self, request: WatchCreateRequest) -> None:
        key, range_end = request.key or b"\0", request.range_end
        if range_end == b"\0":
            end = SYSTEM
        elif range_end:
            end = min(range_end, SYSTEM)
        else:
            end = min(key + b"\0", SYSTEM)
        if key >= range_end and range_end not in {b"", b"\0"}:
            self._refuse("mvcc: watcher range is empty")
            return
        if (
            max(len(key), len(range_end)) > self._watching.context.limits.max_key_bytes + 1
        ):  # a bound may be longer by one
            self._refuse(Known.REQUEST_TOO_LARGE.status.message)
            return
        watch_id = request.watch_id or self._free_id()
        if watch_id in self._watches or watch_id in self._beginning:
            self._refuse("mvcc: duplicate watch ID provided on the WatchStream")
            return
        if len(self._watches) + len(self._beginning) >= WATCHES_MAX:
            self._refuse(Known.TOO_MANY_REQUESTS.status.message)
            return
        interest = Interest(start=min(key, end), end=end, previous=request.prev_kv, only=_only(request.filters))
        if self._watching.forbids(self._caller, interest):
            self._refuse(_FORBIDDEN)
            return
        self._beginning[watch_id] = request
        if len(set(request.filters)) > 1:
            interest = Interest(start=SYSTEM, end=SYSTEM)  # whoever wants neither kind hears of nothing
        plan = partial(place, request.start_revision, self._watching.context)
        self._perform(plan, partial(self._begin, watch_id, request, interest))

    def _free_id(self) -> int:
        while self._next_id in self._watches or self._next_id in self._beginning:
            self._next_id += 1
        self._next_id += 1  # one that has ended is not given again
        return self._next_id - 1

    def _refuse(self, reason: str) -> None:
        header = self._watching.header(self._watching.revision)
        told = WatchResponse(header=header, watch_id=INVALID_ID, created=True, canceled=True, cancel_reason=reason)
        self._outlet.send(self._form.whole(told))

    def _begin(
        self,
        watch_id: int,
        request: WatchCreateRequest,
        interest: Interest,
        where: Where | None,
        failure: Exception | None,
    ) -> None:
        if self._beginning.get(watch_id) is not request:
            return  # it was canceled meanwhile
        del self._beginning[watch_id]
        if where is None:
            self._refuse(str(failure))
            return
        created = WatchResponse(header=self._watching.header(where.revision), watch_id=watch_id, created=True)
        self._outlet.send(self._form.whole(created))
        watch = self._watches[watch_id] = _Watch(self, self._watching, request, interest, watch_id)
        watch.listen(self._caller, self._watching.tell_of(self._form), where.after)

    def _cancel(self, watch_id: int) -> None:
        watch, header = self._watches.pop(watch_id, None), self._watching.header(self._watching.revision)
        if watch is not None:
            watch.end()
            self._waiting.pop(watch, None)
        elif self._beginning.pop(watch_id, None) is not None:
            self._outlet.send(self._form.whole(WatchResponse(header=header, watch_id=watch_id, created=True)))
        else:
            return
        self._outlet.send(self._form.whole(WatchResponse(header=header, watch_id=watch_id, canceled=True)))

    def _tell_progress(self) -> None:
        """How far all of the stream's watches are: whatever was before that has been sent."""
        throughs = [watch.through for watch in self._watches.values()]
        through = min(throughs, default=self._watching.revision)
        told = WatchResponse(header=self._watching.header(through), watch_id=INVALID_ID)
        self._outlet.send(self._form.whole(told))

    # -- what watches say

    def tell(self, watch: _Watch, told: bytes) -> bool:
        """Events; true: ``watch`` may be told more at once."""
        *first, last = self._form.pieces(told) if watch.request.fragment else [told]
        for piece in first:
            self._outlet.send(self._form.of_watch(watch.watch_id, piece, is_fragment=True))
        takes = self._outlet.send(self._form.of_watch(watch.watch_id, last))
        if not takes:
            self._waiting[watch] = None
        return takes

    def tell_how_far(self, watch: _Watch) -> None:
        """Nothing happened for long."""
        told = WatchResponse(header=self._watching.header(watch.through), watch_id=watch.watch_id)
        self._outlet.send(self._form.whole(told))

    def tell_end(self, watch: _Watch, *, compacted: int = 0, reason: str = "") -> None:
        """``watch`` has ended by itself."""
        self._watches.pop(watch.watch_id, None)
        self._waiting.pop(watch, None)
        watch.end()
        header = self._watching.header(None if compacted else self._watching.revision)
        told = WatchResponse(
            header=header,
            watch_id=watch.watch_id,
            canceled=True,
            compact_revision=compacted_told(compacted) if compacted else 0,
            cancel_reason=reason,
        )
        self._outlet.send(self._form.whole(told))

    def go_on(self) -> None:
        """The reader takes more."""
        waiting, self._waiting = self._waiting, {}
        for watch in waiting:
            watch.ask()

    def close(self) -> None:
        """Nobody listens any more."""
        self._beginning.clear()
        for watch in self._watches.values():
            watch.end()
        self._watches.clear()
        self._waiting.clear()


def _only(filters: Sequence[WatchFilter]) -> Literal["put", "delete"] | None:
    """The one kind that is wanted, if it is one."""
    if not filters:
        return None
    return "delete" if filters[0] == WatchFilter.NOPUT else "put"


def place(start_revision: int, context: Context, circumstances: Circumstances) -> Plan[Where]:
    """Where a watch from ``start_revision`` begins; from now on, which is behind all that was acknowledged, with 0."""
    # No key is there: what is asked is where the store stands, which is no secret of anybody's.
    query = Get(key=SYSTEM)
    level = Consistency.LOCAL if start_revision > 0 else Consistency.LINEARIZABLE
    deadline_s = circumstances.now_s() + context.limits.request_timeout_s
    outcome = yield from submitted(Read(query=query, consistency=level, caller=CLUSTER), deadline_s)
    if isinstance(outcome, Refused | Unknown):
        fail(outcome)
    assert isinstance(outcome, Answer)
    if start_revision <= 0:
        return Where(outcome.revision, outcome.revision)
    return Where(max(0, revision_asked(start_revision) - 1), outcome.revision)


class _Watch:
    """One watch of a stream."""

    def __init__(
        self,
        stream: WatchStream,
        watching: SharedWatching,
        request: WatchCreateRequest,
        interest: Interest,
        watch_id: int,
    ) -> None:
        self.watch_id = watch_id
        self.request = request
        self._stream = stream
        self._watching = watching
        self._interest = interest
        self._listener: ChangeListener | None = None
        self._judging: RightsListener | None = None
        self._timer: Any = None
        self._has_told = False

    def listen(self, caller: Caller, tell: Tell, after: int) -> None:
        """Begin behind revision ``after``."""
        watching = self._watching
        self._listener = watching.context.feed.listen(self._interest, tell, after)
        self._judging = watching.context.callers.known.listen(partial(self._judge, caller))
        if self.request.progress_notify:
            self._timer = watching.schedule(PROGRESS_S, self._tell_progress)
        self.ask()

    @property
    def through(self) -> int:
        """All up to here has been sent."""
        return 0 if self._listener is None else self._listener.through

    def ask(self) -> None:
        """Tell what comes next, now or later."""
        if self._listener is not None:
            self._listener.ask(self._hear)

    def _hear(self, heard: Heard) -> bool:
        if isinstance(heard, HistoryGone):
            self._stream.tell_end(self, compacted=heard.compacted_revision)
            return False
        self._has_told = True
        return self._stream.tell(self, heard.content)

    def _judge(self, caller: Caller) -> None:
        """End, if the right to all of this is gone, before anything is told of the state that says so."""
        if self._watching.forbids(caller, self._interest):
            self._stream.tell_end(self, reason=_FORBIDDEN)

    def _tell_progress(self) -> None:
        if not self._has_told:
            self._stream.tell_how_far(self)
        self._has_told = False
        self._timer = self._watching.schedule(PROGRESS_S, self._tell_progress)

    def end(self) -> None:
        """Hear nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._judging is not None:
            self._judging.end()
        if self._listener is not None:
            self._listener.end()
        self._listener = None


# -- forms ------------------------------------------------------------------------------------------------------------


class ProtobufForm:
    """Parts of a message join to one by standing behind each other: lists add up, of the rest the last counts."""

    def whole(self, response: WatchResponse) -> bytes:
        """See ``ResponseForm``."""
        return protobuf.encode(response)

    def told(self, header: ResponseHeader, events: tuple[Event, ...]) -> bytes:
        """See ``ResponseForm``."""
        return protobuf.encode(WatchResponse(header=header, events=events))

    def of_watch(self, watch_id: int, told: bytes, *, is_fragment: bool = False) -> bytes:
        """See ``ResponseForm``."""
        return protobuf.encode(WatchResponse(watch_id=watch_id, fragment=is_fragment)) + told

    def pieces(self, told: bytes) -> list[bytes]:
        """See ``ResponseForm``."""
        if len(told) <= FRAGMENT_BYTES:
            return [told]
        pieces, start, end = [], 0, 0
        for field_end in protobuf.field_ends(told):
            if field_end - start > FRAGMENT_BYTES and end > start:
                pieces.append(told[start:end])
                start = end
            end = field_end
        return [*pieces, told[start:]]


class JsonForm:
    """A line for each response; parts are the events, each with a comma behind it, behind the header they come with."""

    def whole(self, response: WatchResponse) -> bytes:
        """See ``ResponseForm``."""
        return b'{"result":' + gateway_json.encode(response) + b"}\n"

    def told(self, header: ResponseHeader, events: tuple[Event, ...]) -> bytes:
        """See ``ResponseForm``."""
        return _SEPARATOR.join((gateway_json.encode(header), b",".join(map(gateway_json.encode, events)), b""))

    def of_watch(self, watch_id: int, told: bytes, *, is_fragment: bool = False) -> bytes:
        """See ``ResponseForm``."""
        parts = told.split(_SEPARATOR)
        of_watch = b'"watch_id":"%d",' % watch_id if watch_id else b""
        flag = b'"fragment":true,' if is_fragment else b""
        events = b",".join(parts[1::2])
        return b'{"result":{"header":%b,%b%b"events":[%b]}}\n' % (parts[-3], of_watch, flag, events)

    def pieces(self, told: bytes) -> list[bytes]:
        """See ``ResponseForm``. Readers of lines take any length."""
        return [told]
