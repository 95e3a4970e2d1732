"""The methods of etcd over gRPC: messages in and out of protobuf, plans performed, streams told as they come."""

from __future__ import annotations

import abc
import asyncio
import logging
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import aclosing
from functools import partial
from time import monotonic
from typing import Any, Final

from raftkv.api.traces import TRACEPARENT
from raftkv.coordination.feed import Feed
from raftkv.coordination.steps import Circumstances, Plan, Step
from raftkv.core.errors import NO_ONE_ORDER
from raftkv.core.replicator import Replicator
from raftkv.core.results import Outcome, StateHeld
from raftkv.core.rights import NOBODY, Caller
from raftkv.etcd import leases, messages, observing, protobuf, snapshots
from raftkv.etcd.admitting import admitted, is_open
from raftkv.etcd.calls import EtcdCall, Method
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.calls import GrpcCall, ManyRequests, MessageReader, OneRequest
from raftkv.etcd.grpc.calls import Method as GrpcMethod
from raftkv.etcd.grpc.carrier import GrpcCarrier
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.health import HealthWatch
from raftkv.etcd.lookups import Lookup, Lookups
from raftkv.etcd.methods import METHODS, RANGE
from raftkv.etcd.protobuf import AnyMessage
from raftkv.etcd.schema import Message
from raftkv.etcd.watching import ProtobufForm, SharedWatching, WatchStream
from raftkv.http.counts import GRPC, UNROUTED
from raftkv.http.door.access import Exchanged
from raftkv.http.door.beside import Tell
from raftkv.http.door.general import common_name
from raftkv.http.door.performing import Performance
from raftkv.http.door.room import HeldBytes
from raftkv.http.handlers.handler import Aside, Context
from raftkv.http.messages import HttpRequest, StreamCutError
from raftkv.http.needs import Needs

LEADER_LOOK_S: Final = 1.0
LEADERLESS_S: Final = 3.0
"""Streams that ask for a leader end when there was none for so long, as etcd has it: three election timeouts."""

_FORM: Final = ProtobufForm()
_SHOWN: Final = (b"authorization", b"token", b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for")
"""What of a call's metadata says who asks, or that somebody carried it."""

log = logging.getLogger("raftkv.http")

AnyPlan = Callable[[Circumstances], Generator[Step | Aside, Any, Any]]
Report = Callable[[str, Exception], None]


WATCH: Final = "/etcdserverpb.Watch/Watch"
KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
SNAPSHOT: Final = "/etcdserverpb.Maintenance/Snapshot"
OBSERVE: Final = "/v3electionpb.Election/Observe"
HEALTH: Final = "/grpc.health.v1.Health/Watch"

PATHS: Final = (*(one.path for one in METHODS), WATCH, KEEP_ALIVE, SNAPSHOT, OBSERVE, HEALTH)
"""Every method that there is."""


class GrpcServices:
    """What one worker answers: clients are told that this is etcd's ``version``. ``report`` is told of defects."""

    def __init__(self, version: str, replicator: Replicator, context: Context, report: Report) -> None:
        self._version = version
        self._replicator = replicator
        self._context = context
        self._report = report
        self._watching: SharedWatching | None = None
        self._lookups = Lookups(context, self.decoded, protobuf.encode)
        self._methods: dict[str, GrpcMethod] = {one.path: OneRequest(partial(self._unary, one)) for one in METHODS}
        self._methods |= {
            RANGE.path: OneRequest(partial(self._range, RANGE)),
            WATCH: ManyRequests(self._watch),
            KEEP_ALIVE: ManyRequests(self._keep_alive),
            SNAPSHOT: OneRequest(self._snapshot),
            OBSERVE: OneRequest(self._observe),
            HEALTH: OneRequest(self._watch_health),
        }

    def find(self, path: str) -> GrpcMethod | None:
        """The method of that name."""
        return self._methods.get(path)

    # -- what all of them do ------------------------------------------------------------------------------------------

    def perform(self, plan: AnyPlan, ended: Callable[[Any, Exception | None], None]) -> Callable[[], None]:
        """Perform ``plan``; what this gives lets it hear that nobody waits any more."""
        performance: Performance[Any] = Performance(plan, self._replicator, self._feed, NOBODY)
        performance.begin(ended)
        return performance.leave

    @property
    def _feed(self) -> Feed:
        return self._context.feed

    def call_of(self, call: GrpcCall, caller: Caller, circumstances: Circumstances) -> EtcdCall:
        """What a service is given with ``call``."""
        deadline_s = min(call.deadline_s, circumstances.now_s() + self._context.limits.request_timeout_s)
        return EtcdCall(
            context=self._context,
            caller=caller,
            circumstances=circumstances,
            deadline_s=deadline_s,
            client=call.client,
            version=self._version,
        )

    def admitted(
        self, call: GrpcCall, needs: Needs, *, takes_expired: bool = False
    ) -> Generator[Step | Aside, Any, Caller]:
        """Who asks; raises ``CallStatus``."""
        if self._admits_anybody(call, needs):
            return NOBODY
        headers = {name: value for name in _SHOWN if (value := call.head.metadata(name.decode())) is not None}
        request = HttpRequest(method="POST", path=call.head.path.encode(), headers=headers, client=call.client)
        shown = call.certificate
        certificate = common_name(shown if isinstance(shown, Mapping) else None)
        caller = yield from admitted(request, needs, self._context, certificate, takes_expired=takes_expired)
        call.user = caller.user
        return caller

    def _admits_anybody(self, call: GrpcCall, needs: Needs) -> bool:
        """May whoever asks do so, no matter who it is? Raises ``CallStatus`` where nobody may."""
        if self._context.is_leaderless:
            raise CallStatus(GrpcStatus.UNIMPLEMENTED, f"etcdserver: {NO_ONE_ORDER.detail}")
        if call.head.metadata("hasleader") == b"true" and not self.has_leader():
            raise Known.NO_LEADER.status
        return is_open(needs, self._context)

    def has_leader(self) -> bool:
        """Does this node know who leads?"""
        status = self._context.status()
        return status is not None and status.leader is not None

    def fail(self, call: GrpcCall, failure: Exception) -> None:
        """End a call that came to nothing."""
        if isinstance(failure, CallStatus):
            call.finish(failure.code, failure.message)
        else:
            self._report(call.head.path, failure)
            call.finish(GrpcStatus.INTERNAL, "internal error")

    def decoded(self, message: type[AnyMessage], data: bytes) -> AnyMessage:
        """The message in ``data``; raises ``CallStatus``."""
        try:
            return protobuf.decode(message, data)
        except ValueError as error:
            text = f"grpc: error unmarshalling request: {error}"
            raise CallStatus(GrpcStatus.INTERNAL, text) from None

    # -- one request, one answer --------------------------------------------------------------------------------------

    def _unary(self, method: Method, call: GrpcCall, data: bytes) -> None:
        self._answer(method, call, partial(self.decoded, method.request, data))

    def _answer(self, method: Method, call: GrpcCall, decoded: Callable[[], Message]) -> None:
        def plan(circumstances: Circumstances) -> Generator[Step | Aside, Any, Message]:
            request = decoded()
            caller = yield from self.admitted(call, method.needs)
            return (yield from method.call(request, self.call_of(call, caller, circumstances)))

        def ended(answer: Message | None, failure: Exception | None) -> None:
            if answer is None:
                assert failure is not None
                self.fail(call, failure)
            else:
                call.answer(protobuf.encode(answer))

        leave = self.perform(plan, ended)
        if method.is_long and not call.is_over:
            call.on_over = leave

    def _range(self, method: Method, call: GrpcCall, data: bytes) -> None:
        try:
            lookup = self._lookups.find(data)
            is_at_once = lookup.read is not None and self._admits_anybody(call, method.needs)
        except CallStatus as status:
            self.fail(call, status)
            return
        if lookup.read is None or not is_at_once:
            self._answer(method, call, lambda: lookup.request)
            return
        deadline_s = min(call.deadline_s, monotonic() + self._context.limits.request_timeout_s)
        self._replicator.submit(lookup.read, deadline_s).when_done(partial(self._looked_up, call, lookup))

    def _looked_up(self, call: GrpcCall, lookup: Lookup, outcome: Outcome) -> None:
        try:
            told = self._lookups.told(lookup, outcome)
        except Exception as failure:  # noqa: BLE001  whatever it is, the client hears of it
            self.fail(call, failure)
        else:
            call.answer(told)

    # -- streams ------------------------------------------------------------------------------------------------------

    def _watch(self, call: GrpcCall) -> MessageReader:
        return WatchConversation(self, call, self._shared())

    def _shared(self) -> SharedWatching:
        if self._watching is None:
            self._watching = SharedWatching(self._context, asyncio.get_running_loop().call_later)
        return self._watching

    def _keep_alive(self, call: GrpcCall) -> MessageReader:
        return KeepAliveConversation(self, call)

    def _observe(self, call: GrpcCall, data: bytes) -> None:
        ObserveConversation(self, call, self._shared()).begin(data)

    def _watch_health(self, call: GrpcCall, data: bytes) -> None:
        def plan(_: Circumstances) -> Generator[Step | Aside, Any, str]:
            request = self.decoded(messages.HealthCheckRequest, data)
            assert isinstance(request, messages.HealthCheckRequest)
            yield from self.admitted(call, Needs.NOTHING)
            return request.service

        def ended(service: str | None, failure: Exception | None) -> None:
            if service is None:
                assert failure is not None
                self.fail(call, failure)
            elif not call.is_over:
                watch = HealthWatch(service, self._context, asyncio.get_running_loop().call_later, partial(_told, call))
                call.on_over = watch.close

        self.perform(plan, ended)

    def _snapshot(self, call: GrpcCall, data: bytes) -> None:
        def plan(circumstances: Circumstances) -> Generator[Step | Aside, Any, StateHeld]:
            self.decoded(messages.EmptyRequest, data)
            caller = yield from self.admitted(call, Needs.OPERATOR)
            return (yield from snapshots.hold(self.call_of(call, caller, circumstances)))

        def ended(held: StateHeld | None, failure: Exception | None) -> None:
            if held is None:
                assert failure is not None
                self.fail(call, failure)
                return
            task = asyncio.get_running_loop().create_task(self._send_snapshot(call, held))
            call.on_over = task.cancel  # type: ignore[assignment]  # whether it could be, nobody asks

        self.perform(plan, ended)

    async def _send_snapshot(self, call: GrpcCall, held: StateHeld) -> None:
        taking = asyncio.Event()
        call.on_taking = taking.set
        try:
            async with aclosing(snapshots.pieces(held, self._context.exports)) as pieces:
                async for piece in pieces:
                    taking.clear()
                    if not call.send(protobuf.encode(piece)):
                        await taking.wait()
        except StreamCutError:
            call.finish(GrpcStatus.UNAVAILABLE, "etcdserver: the snapshot was cut off")
        except Exception as error:  # noqa: BLE001  whatever it is, the client hears of it
            self.fail(call, error)
        else:
            call.finish()


class _Conversation(abc.ABC):
    """One call whose client may say several things, once it is known who it is.

    What he says while nobody listens yet stays in the window of his stream.
    """

    takes_expired = False

    def __init__(self, services: GrpcServices, call: GrpcCall) -> None:
        self._services = services
        self._call = call
        self._leaderless_s = math.inf
        self._look: asyncio.TimerHandle | None = None
        call.on_over = self._gone
        call.pause()
        services.perform(lambda _: services.admitted(call, Needs.USER, takes_expired=self.takes_expired), self._known)

    def _known(self, caller: Caller | None, failure: Exception | None) -> None:
        if self._call.is_over:
            return
        if caller is None:
            assert failure is not None
            self._end(failure)
            return
        if self._call.head.metadata("hasleader") == b"true":
            self._look_for_leader()
        self._begin(caller)
        self._call.resume()

    def _look_for_leader(self) -> None:
        loop = asyncio.get_running_loop()
        if self._services.has_leader():
            self._leaderless_s = math.inf
        else:
            self._leaderless_s = min(self._leaderless_s, loop.time())
            if loop.time() - self._leaderless_s >= LEADERLESS_S:
                self._end(Known.NO_LEADER.status)
                return
        self._look = loop.call_later(LEADER_LOOK_S, self._look_for_leader)

    @abc.abstractmethod
    def received(self, message: bytes) -> None:
        """See ``MessageReader``; it is known who asks."""

    @abc.abstractmethod
    def ended(self) -> None:
        """See ``MessageReader``."""

    def _end(self, failure: Exception | None = None) -> None:
        self._gone()
        if failure is None:
            self._call.finish()
        else:
            self._services.fail(self._call, failure)

    def _gone(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    @abc.abstractmethod
    def _begin(self, caller: Caller) -> None:
        """It is known who asks."""


class WatchConversation(_Conversation):
    """The Watch service; an outlet of its stream. Who has no more to ask listens until it cancels the call."""

    def __init__(self, services: GrpcServices, call: GrpcCall, watching: SharedWatching) -> None:
        self._watching = watching
        self._stream: WatchStream | None = None
        super().__init__(services, call)

    def _begin(self, caller: Caller) -> None:
        self._stream = WatchStream(self._watching, caller, _FORM, self, self._services.perform)
        self._call.on_taking = self._stream.go_on
        self._call.begin()

    def send(self, message: bytes) -> bool:
        """See ``Outlet``."""
        return self._call.send(message)

    def received(self, message: bytes) -> None:
        """See ``MessageReader``."""
        try:
            request = self._services.decoded(messages.WatchRequest, message)
        except CallStatus as status:
            self._end(status)
            return
        assert isinstance(request, messages.WatchRequest)
        assert self._stream is not None
        self._stream.received(request)

    def ended(self) -> None:
        """See ``MessageReader``: he goes on listening."""

    def _gone(self) -> None:
        super()._gone()
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class KeepAliveConversation(_Conversation):
    """The stream of the Lease service: one answer for each message, in their order."""

    takes_expired = True

    def _begin(self, caller: Caller) -> None:
        self._caller = caller

    def received(self, message: bytes) -> None:
        """See ``MessageReader``."""
        self._call.pause()
        self._services.perform(partial(self._plan, message, self._caller), self._answered)

    def ended(self) -> None:
        """See ``MessageReader``."""
        self._end()

    def _plan(self, data: bytes, caller: Caller, circumstances: Circumstances) -> Plan[messages.LeaseKeepAliveResponse]:
        request = self._services.decoded(messages.LeaseKeepAliveRequest, data)
        assert isinstance(request, messages.LeaseKeepAliveRequest)
        call = self._services.call_of(self._call, caller, circumstances)
        return (yield from leases.keep_alive(request, call))

    def _answered(self, answer: messages.LeaseKeepAliveResponse | None, failure: Exception | None) -> None:
        if self._call.is_over:
            return
        if answer is None:
            assert failure is not None
            self._end(failure)
            return
        self._call.send(protobuf.encode(answer))
        self._call.resume()


class ObserveConversation:
    """The stream of the Election service."""

    def __init__(self, services: GrpcServices, call: GrpcCall, watching: SharedWatching) -> None:
        self._services = services
        self._call = call
        self._watching = watching
        self._caller = NOBODY

    def begin(self, data: bytes) -> None:
        """The one request."""
        self._services.perform(partial(self._plan, data), self._found)

    def _plan(self, data: bytes, circumstances: Circumstances) -> Generator[Step | Aside, Any, observing.Contest]:
        request = self._services.decoded(messages.LeaderRequest, data)
        assert isinstance(request, messages.LeaderRequest)
        self._caller = yield from self._services.admitted(self._call, Needs.USER)
        call = self._services.call_of(self._call, self._caller, circumstances)
        return (yield from observing.contest(request, call))

    def _found(self, contest: observing.Contest | None, failure: Exception | None) -> None:
        if self._call.is_over:
            return
        if contest is None:
            assert failure is not None
            self._services.fail(self._call, failure)
            return
        tell = partial(_told, self._call)
        ended = partial(self._services.fail, self._call)
        observation = observing.Observation(contest, self._watching, self._caller, tell, ended)
        self._call.on_taking, self._call.on_over = observation.go_on, observation.close
        self._call.begin()
        observation.begin()


def _told(call: GrpcCall, response: Message) -> bool:
    return call.send(protobuf.encode(response))


def speak(
    version: str,
    replicator: Replicator,
    context: Context,
    room: HeldBytes,
    tell: Tell,
) -> Callable[[], GrpcCarrier]:
    """See ``raftkv.http.door.beside``; clients are told that this is etcd's ``version``."""
    services = GrpcServices(version, replicator, context, _report)

    def ended(call: GrpcCall, status: GrpcStatus) -> None:
        path, taken_s = call.head.path, context.monotonic_s() - call.began_s
        name = UNROUTED if services.find(path) is None else path
        tell(name, status, taken_s, partial(_exchanged, call, name, status, taken_s))

    return partial(GrpcCarrier, services.find, room, _report, ended)


def _exchanged(call: GrpcCall, name: str, status: GrpcStatus, taken_s: float) -> Exchanged:
    parent = call.head.metadata(TRACEPARENT)
    return Exchanged(
        method=GRPC,
        route=name,
        status=int(status),
        taken_s=taken_s,
        taken_bytes=call.taken_bytes,
        sent_bytes=call.sent_bytes,
        client=call.client,
        user=call.user,
        headers={} if parent is None else {TRACEPARENT.encode(): parent},
    )


def _report(path: str, failure: Exception) -> None:
    log.error("defect in %s: %s: %s", path, type(failure).__name__, failure)
