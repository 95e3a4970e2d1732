"""Election.Observe: who leads under a name, and whoever leads next, over a watch of the keys that contend.

Who leads is told as often as what it says has changed. What changed at one revision is one change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from raftkv.coordination.steps import Plan
from raftkv.core.keys import clients_span
from raftkv.core.rights import Caller
from raftkv.etcd import protobuf
from raftkv.etcd.calls import EtcdCall, key_value, revision_asked
from raftkv.etcd.contending import contenders
from raftkv.etcd.errors import CallStatus
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import (
    EventType,
    KeyValue,
    LeaderRequest,
    LeaderResponse,
    ResponseHeader,
    WatchCreateRequest,
    WatchRequest,
    WatchResponse,
)
from raftkv.etcd.watching import ProtobufForm, SharedWatching, WatchStream, Where

_FORM = ProtobufForm()


class Contest:
    """The keys under a name as of a revision, of which the oldest leads."""

    def __init__(self, name: bytes, found: Sequence[KeyValue], header: ResponseHeader) -> None:
        self.name = name
        self.header = header
        self._keys = {one.key: one for one in found}
        self._told: KeyValue | None = None

    def leader(self) -> LeaderResponse | None:
        """Who leads, if that was not told yet."""
        first = min(self._keys.values(), key=lambda one: one.create_revision, default=None)
        if first is None or first == self._told:
            return None
        self._told = first
        return LeaderResponse(header=self.header, kv=first)

    def go_on(self, response: WatchResponse) -> list[LeaderResponse]:
        """Who leads by what is told next."""
        self.header = response.header or self.header
        found = []
        for _, events in groupby(response.events, lambda event: event.kv.mod_revision if event.kv else 0):
            for event in events:
                assert event.kv is not None
                if event.type is EventType.DELETE:
                    self._keys.pop(event.kv.key, None)
                else:
                    self._keys[event.kv.key] = event.kv
            leader = self.leader()
            if leader is not None:
                found.append(leader)
        return found


def contest(request: LeaderRequest, call: EtcdCall) -> Plan[Contest]:
    """How it stands now."""
    found, head = yield from contenders(request.name, call)
    return Contest(request.name, [key_value(one) for one in found], head)


class Observation:
    """What one observer is told by ``tell``, which says whether he takes more; ``ended`` hears why there is no more."""

    def __init__(
        self,
        contest: Contest,
        watching: SharedWatching,
        caller: Caller,
        tell: Callable[[LeaderResponse], bool],
        ended: Callable[[CallStatus], None],
    ) -> None:
        self._contest = contest
        self._tell = tell
        self._ended = ended
        at = revision_asked(contest.header.revision)
        self._stream = WatchStream(
            watching, caller, _FORM, self, lambda _plan, told: told(Where(after=at, revision=at), None)
        )

    def begin(self) -> None:
        """Tell who leads now, and listen."""
        leader = self._contest.leader()
        if leader is not None:
            self._tell(leader)
        start, end = clients_span(self._contest.name + b"/")
        create = WatchCreateRequest(key=start, range_end=end, start_revision=self._contest.header.revision + 1)
        self._stream.received(WatchRequest(create_request=create))

    def send(self, message: bytes) -> bool:
        """See ``Outlet``: what is watched."""
        response = protobuf.decode(WatchResponse, message)
        if response.canceled:
            self._ended(CallStatus(GrpcStatus.UNKNOWN, response.cancel_reason or "election: history is gone"))
            return False
        takes = [self._tell(leader) for leader in self._contest.go_on(response)]
        return not takes or takes[-1]

    def go_on(self) -> None:
        """The observer takes more."""
        self._stream.go_on()

    def close(self) -> None:
        """Nobody listens any more."""
        self._stream.close()
