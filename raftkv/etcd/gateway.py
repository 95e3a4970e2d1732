"""The JSON gateway: etcd's methods as ``POST`` of JSON, with the codes, texts and shapes that etcd 3.5 answers with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from raftkv.coordination.steps import Circumstances
from raftkv.core.errors import NO_ONE_ORDER
from raftkv.core.results import Outcome
from raftkv.etcd import gateway_json, json_streams, leases, messages
from raftkv.etcd.admitting import admitted, is_open
from raftkv.etcd.calls import EtcdCall, Steps, Unary
from raftkv.etcd.errors import HTTP_STATUSES, CallStatus
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.lookups import Lookup, Lookups
from raftkv.etcd.methods import METHODS
from raftkv.etcd.schema import Message
from raftkv.etcd.watching import SharedWatching
from raftkv.http.choices import Nothing
from raftkv.http.handlers.handler import Ask, Context, Conversation, HttpPlan, at_once, conversing
from raftkv.http.messages import JSON, HttpRequest, HttpResponse, encode_json
from raftkv.http.needs import Needs
from raftkv.http.routes import Route

_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
KEEP_ALIVE: Final = ("/v3/lease/keepalive", "/v3/kv/lease/keepalive")
WATCH: Final = "/v3/watch"
OBSERVE: Final = "/v3/election/observe"
SNAPSHOT: Final = "/v3/maintenance/snapshot"
VERSION: Final = "/version"
_REST: Final = "/v3/{rest*}"

Carry = Callable[[Any, EtcdCall], Steps[HttpResponse]]
"""Does what a message asks, and makes the response; raises ``CallStatus``."""


def failed(status: CallStatus) -> HttpResponse:
    """What a call that was not carried out is answered: in the words of 3.5, which all clients read."""
    told = {"error": status.message, "code": int(status.code), "message": status.message}
    return HttpResponse(status=HTTP_STATUSES[status.code], headers=(JSON,), body=encode_json(told).rstrip())


class _Carried(NamedTuple):
    """What is done with a path: the message that it takes, and what carries it out, which waits if it ``is_long``."""

    message: type[Message]
    carry: Carry
    is_long: bool = False
    needs: Needs = Needs.USER
    is_stream: bool = False
    takes_expired: bool = False


class Gateway:
    """The routes of one worker."""

    def __init__(self, version: str) -> None:
        """``version`` is the etcd that clients are told of."""
        self._watching: SharedWatching | None = None
        self._lookups: Lookups | None = None
        self._version = version
        carried = {
            path: _Carried(one.request, partial(_once, one.call), one.is_long, one.needs)
            for one in METHODS
            for path in one.gateway
        }
        carried |= dict.fromkeys(KEEP_ALIVE, _Carried(messages.LeaseKeepAliveRequest, _keep_alive, takes_expired=True))
        carried[WATCH] = _Carried(messages.WatchRequest, self._watch, is_stream=True)
        carried[OBSERVE] = _Carried(messages.LeaderRequest, self._observe, is_stream=True)
        carried[SNAPSHOT] = _Carried(messages.EmptyRequest, json_streams.snapshot, needs=Needs.OPERATOR, is_stream=True)
        self.paths = frozenset(carried)
        calls = [self._call_route(path, one) for path, one in carried.items()]
        rest = [_route(method, _REST, self._nowhere) for method in ("GET", "POST", "PUT", "DELETE")]
        self.routes = (*calls, *rest, _route("GET", VERSION, self._tell_version))

    def _watch(self, asked: messages.WatchRequest, call: EtcdCall) -> Steps[HttpResponse]:
        return json_streams.watch(asked, call.caller, self._shared(call.context), call.circumstances)

    def _observe(self, asked: messages.LeaderRequest, call: EtcdCall) -> Steps[HttpResponse]:
        return json_streams.observe(asked, self._shared(call.context), call)

    def _shared(self, context: Context) -> SharedWatching:
        if self._watching is None:
            self._watching = SharedWatching(context, asyncio.get_running_loop().call_later)
        return self._watching

    def _tell_version(self, _request: HttpRequest, _chosen: Nothing, _context: Context) -> HttpResponse:
        """``GET /version``."""
        major, minor, _ = self._version.split(".")
        told = {"etcdserver": self._version, "etcdcluster": f"{major}.{minor}.0"}
        return HttpResponse(status=200, headers=(JSON,), body=encode_json(told).rstrip())

    def _nowhere(self, request: HttpRequest, _chosen: Nothing, _context: Context) -> HttpResponse:
        """As etcd's gateway says it."""
        if request.path.decode("latin-1") not in self.paths:
            return HttpResponse(status=404, headers=(_TEXT,), body=b"Not Found\n")
        told = {"error": "Method Not Allowed", "code": int(GrpcStatus.UNIMPLEMENTED), "message": "Method Not Allowed"}
        return HttpResponse(status=405, headers=(JSON, (b"allow", b"POST")), body=encode_json(told).rstrip())

    def _call_route(self, path: str, one: _Carried) -> Route:
        is_short = not (one.is_long or one.is_stream)
        handler = conversing(partial(self._converse, one), Nothing, needs=Needs.NOTHING, is_short=is_short)
        return Route(method="POST", path=path, handler=handler, summary="As etcd v3 has it", hot=True)

    def _converse(
        self, carried: _Carried, request: HttpRequest, _chosen: Nothing, context: Context
    ) -> Conversation | Ask | HttpResponse:
        if context.is_leaderless:
            return failed(CallStatus(GrpcStatus.UNIMPLEMENTED, f"etcdserver: {NO_ONE_ORDER.detail}"))
        try:
            if carried.message is messages.RangeRequest:
                lookup = self._lookups_of(context).find(request.body)
                if lookup.read is not None and is_open(carried.needs, context):
                    return self._look_up(lookup, request, context)
                asked: Message = lookup.request
            else:
                asked = gateway_json.decode(carried.message, request.body)
        except gateway_json.GatewayError as error:
            return failed(CallStatus(GrpcStatus.INVALID_ARGUMENT, str(error)))

        def plan(circumstances: Circumstances) -> HttpPlan:
            try:
                caller = yield from admitted(request, carried.needs, context, takes_expired=carried.takes_expired)
                call = EtcdCall(
                    context=context,
                    caller=caller,
                    circumstances=circumstances,
                    deadline_s=circumstances.now_s() + context.limits.request_timeout_s,
                    client=request.client,
                    version=self._version,
                )
                return (yield from carried.carry(asked, call))
            except CallStatus as status:
                return failed(status)

        return Conversation(plan=plan, is_long=carried.is_long)

    def _lookups_of(self, context: Context) -> Lookups:
        if self._lookups is None:
            self._lookups = Lookups(context, gateway_json.decode, gateway_json.encode)
        return self._lookups

    def _look_up(self, lookup: Lookup, request: HttpRequest, context: Context) -> Ask:
        assert lookup.read is not None
        tell = partial(_looked_up, self._lookups_of(context), lookup)
        return Ask(request=lookup.read, timeout_s=context.limits.request_timeout_s, http=request, tell=tell)


def _route(method: str, path: str, answer: Callable[[HttpRequest, Any, Context], HttpResponse]) -> Route:
    handler = at_once(answer, Nothing, needs=Needs.NOTHING)
    return Route(method=method, path=path, handler=handler, summary="As etcd v3 has it", hot=True)


def _looked_up(lookups: Lookups, lookup: Lookup, outcome: Outcome) -> HttpResponse:
    try:
        return HttpResponse(status=200, headers=(JSON,), body=lookups.told(lookup, outcome))
    except CallStatus as status:
        return failed(status)


def _once(unary: Unary, asked: Message, call: EtcdCall) -> Steps[HttpResponse]:
    answer = yield from unary(asked, call)
    return HttpResponse(status=200, headers=(JSON,), body=gateway_json.encode(answer))


def _keep_alive(asked: messages.LeaseKeepAliveRequest, call: EtcdCall) -> Steps[HttpResponse]:
    """A stream in name: whoever asks once is answered once."""
    answer = yield from leases.keep_alive(asked, call)
    return HttpResponse(status=200, headers=(JSON,), body=b'{"result":' + gateway_json.encode(answer) + b"}\n")
