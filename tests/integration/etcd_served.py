"""Real etcd and a node of ours, both over JSON and over gRPC: the node's loop runs in a thread, behind a listener."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any

import grpc

from raftkv.etcd import gateway_json, messages, protobuf
from raftkv.etcd.grpc_service import speak
from raftkv.etcd.methods import METHODS
from raftkv.etcd.schema import Message
from raftkv.http.door.room import HeldBytes
from tests.integration.etcd_oracle import VERSION, Pair, comparable
from tests.unit.http_node import Answer

PATIENCE_S = 30.0

ANSWERS: dict[str, type[Message]] = {
    "/v3/kv/range": messages.RangeResponse,
    "/v3/kv/put": messages.PutResponse,
    "/v3/kv/deleterange": messages.DeleteRangeResponse,
    "/v3/kv/txn": messages.TxnResponse,
    "/v3/kv/compaction": messages.HeaderResponse,
    "/v3/lease/grant": messages.LeaseGrantResponse,
    "/v3/lease/revoke": messages.HeaderResponse,
    "/v3/lease/keepalive": messages.LeaseKeepAliveResponse,
    "/v3/lease/timetolive": messages.LeaseTimeToLiveResponse,
    "/v3/lease/leases": messages.LeaseLeasesResponse,
    "/v3/lock/lock": messages.LockResponse,
    "/v3/lock/unlock": messages.HeaderResponse,
    "/v3/election/campaign": messages.CampaignResponse,
    "/v3/election/proclaim": messages.HeaderResponse,
    "/v3/election/leader": messages.LeaderResponse,
    "/v3/election/resign": messages.HeaderResponse,
}
"""What is answered to what, by the paths of JSON."""

_METHODS = {path: (method.path, method.request) for method in METHODS for path in method.gateway}
_STREAMS = {"/v3/lease/keepalive": ("/etcdserverpb.Lease/LeaseKeepAlive", messages.LeaseKeepAliveRequest)}
"""What is answered to one request, if that is all that is sent."""


def read(message: type[Message], data: bytes, *, is_whole: bool = True) -> Any:
    """What was said; with nothing left out, if it ``is_whole``."""
    found = protobuf.decode(message, data)
    assert not is_whole or protobuf.encode(found) == data, ("a field is unknown, or not the last", data, found)
    return comparable(gateway_json.shown(found))


class Served(Pair):
    """See the module."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        listener = self._on_loop(self._listen())
        port = listener.sockets[0].getsockname()[1]
        bounds = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channels = tuple(
            grpc.insecure_channel(address, options=bounds)
            for address in (url.removeprefix("http://"), f"127.0.0.1:{port}")
        )

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _on_loop(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)

    async def _listen(self) -> asyncio.Server:
        room = HeldBytes(256 << 20, monotonic_s=self._loop.time)
        make = speak(VERSION, self._node, self._node.application._context, room, lambda *_told: None)
        return await self._loop.create_server(make, "127.0.0.1", 0)

    def _asked(self, path: str, data: bytes, **headers: str) -> Answer:
        return self._on_loop(self._node.ask("POST", path, data, **headers))

    def called(self, path: str, data: bytes) -> tuple[Any, Any]:
        """What both say to the same bytes, over gRPC."""
        call = _streamed if path in _STREAMS else _called
        name, _ = (_METHODS | _STREAMS)[path]
        theirs, ours = (call(channel, name, data, ANSWERS[path]) for channel in self.channels)
        return theirs, ours

    def message(self, path: str, body: Any) -> bytes:
        """The bytes for what is written as JSON."""
        _, request = (_METHODS | _STREAMS)[path]
        return protobuf.encode(gateway_json.decode(request, json.dumps(body).encode()))

    def same_call(self, path: str, body: Any) -> Any:
        """The answer over gRPC, which is equal; ``body`` as for JSON, or the bytes of a message."""
        theirs, ours = self.called(path, body if isinstance(body, bytes) else self.message(path, body))
        assert ours == theirs, (path, body)
        return ours[-1]


def _called(channel: grpc.Channel, name: str, data: bytes, answer: type[Message]) -> Any:
    try:
        return "OK", read(answer, channel.unary_unary(name)(data, timeout=PATIENCE_S))
    except grpc.RpcError as error:
        return error.code().name, error.details()


def _streamed(channel: grpc.Channel, name: str, data: bytes, answer: type[Message]) -> Any:
    said = channel.stream_stream(name)(iter([data]), timeout=PATIENCE_S)
    return "OK", [read(answer, one) for one in said]


# -- watches ----------------------------------------------------------------------------------------------------------


class Watcher:
    """One stream of one server's watches, and what each of them was told."""

    def __init__(self, channel: grpc.Channel, *, is_theirs: bool) -> None:
        self._is_theirs = is_theirs  # ours joins a response of several, whose headers add up to the last
        self._requests: list[bytes] = []
        self._came = threading.Condition()
        self._is_over = False
        self.told: dict[int, list[Any]] = {}
        self._promised: dict[int, int] = {}
        """Up to which revision a watch has been told all there is, as was said."""

        self._said = channel.stream_stream("/etcdserverpb.Watch/Watch")(self._sent(), timeout=PATIENCE_S)

    def _sent(self) -> Iterator[bytes]:
        while True:
            with self._came:
                self._came.wait_for(lambda: self._requests or self._is_over)
                if not self._requests:
                    return
                request = self._requests.pop(0)
            yield request

    def ask(self, request: messages.WatchRequest) -> None:
        with self._came:
            self._requests.append(protobuf.encode(request))
            self._came.notify_all()

    def hear(self) -> Any:
        """The next response."""
        return read(messages.WatchResponse, next(self._said), is_whole=self._is_theirs)

    def hear_created(self) -> Any:
        """The answer to a request, behind events of watches that were there before."""
        while True:
            found = self._noted()
            if found.get("created"):
                return found

    def hear_canceled(self, watch_id: int) -> Any:
        """That a watch has ended, as was asked for."""
        while True:
            found = self._noted()
            if found.get("canceled") and int(found.get("watch_id", 0)) == watch_id:
                return found

    def hear_progress(self, watches: Iterable[int]) -> None:
        """How far all ``watches`` of the stream are."""
        while (found := self._noted()).get("watch_id") != "-1":
            pass
        self._promised |= dict.fromkeys(watches, int(found["header"]["revision"]))

    def told_until(self, last: Mapping[int, int]) -> dict[int, list[Any]]:
        """What each watch was told, up to the revision that is its last; or of its end."""
        while not all(_is_told(self.told.get(number, []), revision) for number, revision in last.items()):
            try:
                self._noted()
            except grpc.RpcError as error:
                raise AssertionError((error.details(), self.told, last)) from None
        return {number: self.told.get(number, []) for number in last}

    def _noted(self) -> Any:
        found = self.hear()
        watch_id, events = int(found.get("watch_id", 0)), found.get("events", [])
        told = self.told.setdefault(watch_id, [])
        if events and not self._is_theirs:  # etcd before 3.5.11 said so before it had told all
            assert int(events[0]["kv"]["mod_revision"]) > self._promised.get(watch_id, 0), (found, self._promised)
            assert not (told and "canceled" in told[-1]), found
        told += events
        if found.get("canceled") and not found.get("created"):
            told.append(found)
        return found

    def close(self) -> None:
        with self._came:
            self._is_over = True
            self._came.notify_all()
        with contextlib.suppress(grpc.RpcError):
            self._said.cancel()


def _is_told(told: list[Any], revision: int) -> bool:
    if not revision or not told:
        return not revision
    return "canceled" in told[-1] or int(told[-1]["kv"]["mod_revision"]) >= revision
