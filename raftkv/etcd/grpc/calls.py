"""gRPC over the streams of one connection (the gRPC project's "gRPC over HTTP2"), messages being bytes. Sans-I/O.

``find`` says which method a path is. A method takes one request message, or a conversation of them, and answers by its
``GrpcCall``: with one message (``answer``), or with any number (``send``, then ``finish``). Rules: a call ends once;
what is said after that is nothing, so that whoever answers late need not know. A call that is answered in the turn in
which it came costs neither a task nor a timer.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, Protocol

from raftkv.etcd.grpc.fields import RequestHead, packed
from raftkv.etcd.grpc.heads import CallHead, read_head, timeout_s
from raftkv.etcd.grpc.status import CONTENT_TYPE, DONE, HEAD, GrpcStatus, Pairs, trailers, trailers_only
from raftkv.etcd.grpc.streams import ADVANCE_BYTES, Http2Stream, StreamReader
from raftkv.http.door.room import PATIENCE_S, SLOWEST_BYTES_PER_S

MESSAGE_BYTES_MAX: Final = 2 << 20
"""etcd's own bound of a request, 1.5 MiB, and what it allows gRPC on top of that."""

SMALL_BYTES: Final = 64 << 10
"""A message up to this size is always sent: the number of streams bounds what such ones come to."""

_NO_ROOM: Final = "too much waits for its readers, and there is no room for this; a write has been carried out"

_PREFIX: Final = struct.Struct(">BL")
_PLAIN_PREFIX: Final = struct.Struct(">xL")


P = ParamSpec("P")


class MessageReader(Protocol):
    """Who takes the messages of a conversation."""

    def received(self, message: bytes) -> None:
        """The client's next message."""

    def ended(self) -> None:
        """The client sends no more; it still listens."""


@dataclass(frozen=True, slots=True)
class OneRequest:
    """A method that takes one message, unary or with a stream of answers. ``respond`` is called once that is there."""

    respond: Callable[[GrpcCall, bytes], None]


@dataclass(frozen=True, slots=True)
class ManyRequests:
    """A method that takes a stream of messages. ``begin`` is called before the first."""

    begin: Callable[[GrpcCall], MessageReader]


Method = OneRequest | ManyRequests


def nothing() -> None:
    """Whoever wants to hear of it sets another."""


def none_there(size_bytes: int) -> bool:  # noqa: ARG001  see ``GrpcCalls``
    """The room for a client that is gone."""
    return False


Ended = Callable[["GrpcCall", GrpcStatus], None]
"""Is told that a call is over, and how; it never raises."""


class GrpcCalls:
    """The calls of one connection. ``find`` never raises; ``report`` is told of defects.

    ``has_room`` says whether so many bytes more may wait for this client to take them, ``ended`` is told of every call.
    """

    def __init__(
        self,
        find: Callable[[str], Method | None],
        *,
        client: str,
        certificate: object = None,
        report: Callable[[str, Exception], None],
        monotonic_s: Callable[[], float],
        has_room: Callable[[int], bool],
        ended: Ended,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        assert message_bytes_max + _PREFIX.size <= ADVANCE_BYTES
        self.find = find
        self.client = client
        self.certificate = certificate
        self.report = report
        self.monotonic_s = monotonic_s
        self.has_room = has_room
        self.ended = ended
        self.message_bytes_max = message_bytes_max
        self.is_full = False
        """Is there no room for a new call?"""
        self.held_bytes = 0
        """Of heads of calls that are open, and of messages that were not taken yet."""
        self.open: dict[GrpcCall, None] = {}

    def accept(self, stream: Http2Stream, head: RequestHead, timeout: bytes | None) -> StreamReader:
        """See ``Http2Connection``."""
        call_head = head.meaning
        if call_head is None:
            call_head = head.meaning = read_head(head)
        call = GrpcCall(self, stream, call_head)
        if call_head.answer is not None:
            call.is_over = True
            stream.end(call_head.answer)
        elif self.is_full:
            call.finish(GrpcStatus.RESOURCE_EXHAUSTED, "too much is under way at once; nothing was done")
        else:
            call.find(timeout)
        return call

    def end_all(self, status: GrpcStatus, text: str) -> None:
        """The server leaves: calls that are still under way are ended, and told."""
        for call in list(self.open):
            call.fail(status, text)


class GrpcCall:
    """One call. Whoever answers it sets ``on_over`` and ``on_taking`` if it takes longer than a turn."""

    __slots__ = (
        "_calls", "_held", "_held_since_s", "_is_begun", "_is_cutting", "_is_ended", "_is_paused", "_listener",
        "_message", "_method", "_stream", "began_s", "deadline_s", "head", "is_over", "on_over", "on_taking",
        "sent_bytes", "taken_bytes", "user",
    )  # fmt: skip

    def __init__(self, calls: GrpcCalls, stream: Http2Stream, head: CallHead) -> None:
        self.head = head
        """The path, and the metadata."""
        self.is_over = False
        self.deadline_s = math.inf
        """Monotonic; the client hears of nothing that comes later."""
        self.on_over: Callable[[], None] = nothing
        """Called when the call ends otherwise than by its answer: nobody wants it any more."""
        self.on_taking: Callable[[], None] = nothing
        """Called when more may be sent, after ``send`` has said false."""
        self.user = ""
        """Who asks, once whoever answers has found out."""
        self.began_s = calls.monotonic_s()
        self.taken_bytes = self.sent_bytes = 0
        """Of its messages."""
        self._calls = calls
        self._stream = stream
        self._method: Method | None = None
        self._listener: MessageReader | None = None
        self._message: bytes | None = None
        self._held: bytearray | None = None
        self._held_since_s = math.inf
        self._is_begun = False
        self._is_cutting = False
        self._is_ended = False
        self._is_paused = False

    @property
    def client(self) -> str:
        """The address of the client."""
        return self._calls.client

    @property
    def certificate(self) -> object:
        """What TLS knows of the client, as ``ssl.SSLSocket.getpeercert`` says it; ``None`` where it showed nothing."""
        return self._calls.certificate

    def find(self, timeout: bytes | None) -> None:
        """Look for the method, and begin."""
        calls, head = self._calls, self.head
        method = self._method = calls.find(head.path)
        if method is None:
            self.finish(GrpcStatus.UNIMPLEMENTED, unknown(head.path))
            return
        if timeout is not None:
            try:
                left_s = timeout_s(timeout)
            except ValueError as error:
                self.finish(GrpcStatus.INTERNAL, str(error))
                return
            if not left_s:
                self._expire()
                return
            self.deadline_s = calls.monotonic_s() + left_s
        calls.open[self] = None
        calls.held_bytes += head.held_bytes
        if isinstance(method, ManyRequests):
            self._have(self._begin_conversation, method)
        else:
            self._held_since_s = calls.monotonic_s()

    def _begin_conversation(self, method: ManyRequests) -> None:
        listener = method.begin(self)
        if not self.is_over:
            self._listener = listener

    # --- what answers

    def answer(self, message: bytes) -> None:
        """One message, and all is well."""
        if self.is_over:
            return
        if self._has_room(message):
            self.sent_bytes = len(message)
            self._leave(GrpcStatus.OK)
            self._stream.answer(HEAD, _PLAIN_PREFIX.pack(len(message)) + message, DONE)
        else:
            self.finish(GrpcStatus.RESOURCE_EXHAUSTED, _NO_ROOM)

    def _has_room(self, message: bytes) -> bool:
        return len(message) <= SMALL_BYTES or self._calls.has_room(len(message))

    def begin(self, metadata: Pairs = ()) -> None:
        """Tell the client that its call is under way, before the first message; ``send`` does it otherwise."""
        if not self.is_over and not self._is_begun:
            self._is_begun = True
            self._stream.begin(packed(((b":status", b"200"), CONTENT_TYPE, *metadata)) if metadata else HEAD)

    def send(self, message: bytes) -> bool:
        """One message of several; false: do not send more before ``on_taking``."""
        if self.is_over:
            return False
        if not self._has_room(message):
            self.fail(GrpcStatus.UNAVAILABLE, _NO_ROOM)
            return False
        self.begin()
        self.sent_bytes += len(message)
        return self._stream.write(_PLAIN_PREFIX.pack(len(message)) + message)

    def finish(self, status: GrpcStatus = GrpcStatus.OK, text: str = "", more: Pairs = ()) -> None:
        """The end of a call, behind what was sent."""
        if not self.is_over:
            is_begun = self._is_begun
            self._leave(status)
            self._stream.end((trailers if is_begun else trailers_only)(status, text, more))

    def fail(self, status: GrpcStatus, text: str, more: Pairs = ()) -> None:
        """End a call that somebody else is answering, who is told."""
        if not self.is_over:
            on_over = self.on_over
            self.finish(status, text, more)
            self._have(on_over)

    def pause(self) -> None:
        """Take no more messages of a conversation until ``resume``: they stay within the window of their stream."""
        self._is_paused = True
        self._held_since_s = math.inf

    def resume(self) -> None:
        """Take the messages that have come meanwhile, and go on."""
        self._is_paused = False
        self._go_on_taking()

    def _leave(self, status: GrpcStatus) -> None:
        self.is_over = True
        calls = self._calls
        calls.ended(self, status)
        if self in calls.open:
            del calls.open[self]
            calls.held_bytes -= self.head.held_bytes
        if self._held:
            calls.held_bytes -= len(self._held)
        self._held = self._listener = self._message = None
        self.on_over = self.on_taking = nothing

    def _have(self, act: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        """Have who answers the call do something. If that fails, the client hears of it, and others go on."""
        try:
            act(*arguments, **named)
        except Exception as error:  # noqa: BLE001  whatever it is
            self._calls.report(self.head.path, error)
            self.fail(GrpcStatus.INTERNAL, "internal error")

    def _expire(self) -> None:
        self.fail(GrpcStatus.DEADLINE_EXCEEDED, "context deadline exceeded")

    # --- what comes in: see ``StreamReader``

    def data(self, chunk: bytes) -> None:
        """See ``StreamReader``."""
        if self.is_over:
            return
        if self._held is None:
            if len(chunk) >= _PREFIX.size and not self._stream.is_full and not self._is_paused:
                flag, size = _PREFIX.unpack_from(chunk)
                if size == len(chunk) - _PREFIX.size and not flag and size <= self._calls.message_bytes_max:
                    self._stream.consumed(len(chunk))
                    self._take(chunk[_PREFIX.size :])
                    return
            self._held = bytearray()
        self._held += chunk
        self._calls.held_bytes += len(chunk)
        self._cut()

    def _cut(self) -> None:
        """Take every message that is whole, unless nobody listens, or the client takes too little of its answers."""
        if not self._is_cutting:
            self._is_cutting = True
            self._cut_all()
            self._is_cutting = False

    def _cut_all(self) -> None:
        held = self._held
        while held and not self.is_over and not self._stream.is_full and not self._is_paused:
            if len(held) < _PREFIX.size:
                self._wait()
                return
            flag, size = _PREFIX.unpack_from(held)
            end = _PREFIX.size + size
            if size > self._calls.message_bytes_max:
                self._refuse_size(size)
            elif len(held) < end:
                self._stream.require(end - len(held))
                self._wait()
                return
            else:
                message = bytes(held[_PREFIX.size : end])
                del held[:end]
                self._calls.held_bytes -= end
                self._held_since_s = math.inf
                self._stream.consumed(end)
                self._take(message if flag == 0 else self._inflated(flag, message))
        if not self.is_over and not held:
            self._held = None

    def _wait(self) -> None:
        if self._held_since_s == math.inf:
            self._held_since_s = self._calls.monotonic_s()

    def _inflated(self, flag: int, message: bytes) -> bytes | None:
        """What a compressed message says; ``None``: the call was ended, since it says nothing."""
        limit = self._calls.message_bytes_max
        if flag != 1 or not self.head.is_gzip:
            self.fail(GrpcStatus.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
            return None
        inflater = zlib.decompressobj(wbits=31)
        try:
            found = inflater.decompress(message, limit + 1)
        except zlib.error:
            found = b""
        if len(found) > limit:
            self._refuse_size(len(found))
            return None
        if not inflater.eof or inflater.unused_data:
            self.fail(GrpcStatus.INTERNAL, "grpc: failed to decompress the received message")
            return None
        return found

    def _refuse_size(self, size: int) -> None:
        limit = self._calls.message_bytes_max
        self.fail(GrpcStatus.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})")

    def _take(self, message: bytes | None) -> None:
        if message is None:
            return
        self.taken_bytes += len(message)
        if self._listener is not None:
            self._have(self._listener.received, message)
        elif self._message is None:
            self._message = message
        else:
            self.fail(GrpcStatus.INTERNAL, "cardinality violation: more than one request message of a unary call")

    def end(self) -> None:
        """See ``StreamReader``."""
        if self.is_over:
            return
        self._is_ended = True
        if self._listener is not None:
            self._end_conversation()
            return
        self._held_since_s = math.inf
        method, message, self._message = self._method, self._message, None
        assert isinstance(method, OneRequest)
        if message is None or self._held is not None:
            self.fail(GrpcStatus.INTERNAL, "cardinality violation: no whole request message of a unary call")
            return
        self._have(method.respond, self, message)

    def _end_conversation(self) -> None:
        """The client has sent all, and all of it was taken."""
        if self._is_paused or (self._held is not None and self._stream.is_full):
            return
        if self._held is not None:
            self.fail(GrpcStatus.INTERNAL, "the last message was cut short")
            return
        assert self._listener is not None
        self._is_ended = False
        self._have(self._listener.ended)

    def go_on(self) -> None:
        """See ``StreamReader``."""
        if self.is_over:
            return
        self._have(self.on_taking)
        self._go_on_taking()

    def _go_on_taking(self) -> None:
        if self._held is not None and not self.is_over:
            self._cut()
        if self._is_ended and self._listener is not None and not self._is_cutting:
            self._end_conversation()

    def gone(self) -> None:
        """See ``StreamReader``."""
        if not self.is_over:
            on_over = self.on_over
            self._leave(GrpcStatus.CANCELLED)
            self._have(on_over)

    def due(self, now_s: float) -> float:
        """See ``StreamReader``."""
        if self.is_over:
            return math.inf
        lacking_s = self._held_since_s + PATIENCE_S + self._calls.message_bytes_max / SLOWEST_BYTES_PER_S
        if now_s >= self.deadline_s:
            self._expire()
        elif now_s >= lacking_s:
            self.fail(GrpcStatus.UNAVAILABLE, "the request did not arrive in time; nothing was done")
        return math.inf if self.is_over else min(self.deadline_s, lacking_s)


def unknown(path: str) -> str:
    """Why there is no such method, in the words of gRPC for Go."""
    service, _, method = path[1:].rpartition("/")
    return f"unknown method {method} for service {service}" if service else f'malformed method name: "{path}"'
