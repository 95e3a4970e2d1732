"""A small server of gRPC on the carrier, with a method of each shape, for foreign clients; a program, too."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop

from raftkv.etcd.grpc.calls import GrpcCall, ManyRequests, Method, OneRequest
from raftkv.etcd.grpc.carrier import GrpcCarrier
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.http.door.room import HeldBytes


class EchoService:
    """``/test.Echo/...``; what it saw is kept for the tests."""

    def __init__(self) -> None:
        self.over: list[str] = []
        self.waiting: list[GrpcCall] = []
        self.sent = 0
        self.methods: dict[str, Method] = {
            "/test.Echo/Say": OneRequest(GrpcCall.answer),
            "/test.Echo/Later": OneRequest(self.later),
            "/test.Echo/Wait": OneRequest(self.wait),
            "/test.Echo/Refuse": OneRequest(self.refuse),
            "/test.Echo/Break": OneRequest(self.break_down),
            "/test.Echo/Metadata": OneRequest(self.metadata),
            "/test.Echo/Count": OneRequest(self.count),
            "/test.Echo/Chat": ManyRequests(Chat),
            "/test.Echo/Slow": ManyRequests(self.slow),
        }

    def find(self, path: str) -> Method | None:
        return self.methods.get(path)

    def later(self, call: GrpcCall, message: bytes) -> None:
        asyncio.get_running_loop().call_soon(call.answer, message)

    def wait(self, call: GrpcCall, message: bytes) -> None:
        call.on_over = lambda: self.over.append(message.decode(errors="replace"))
        self.waiting.append(call)

    def refuse(self, call: GrpcCall, message: bytes) -> None:
        call.finish(
            GrpcStatus.FAILED_PRECONDITION,
            message.decode(errors="replace"),
            ((b"reason", b"told"), (b"raw-bin", b"AAH/")),
        )

    def break_down(self, call: GrpcCall, message: bytes) -> None:
        raise RuntimeError("a defect")

    def metadata(self, call: GrpcCall, message: bytes) -> None:
        call.begin(((b"early", b"yes"),))
        call.send(call.head.metadata(message.decode("latin-1")) or b"")
        call.finish(GrpcStatus.OK, "", ((b"late", b"yes"),))

    def slow(self, call: GrpcCall) -> SlowChat:
        """Begun, but not listening yet."""
        call.pause()
        self.waiting.append(call)
        return SlowChat(call)

    def count(self, call: GrpcCall, message: bytes) -> None:
        """So many messages of such a size."""
        Counting(self, call, *map(int, message.split()))


class Counting:
    """One stream of answers, that stops while its reader does."""

    def __init__(self, service: EchoService, call: GrpcCall, left: int, size: int) -> None:
        self._service = service
        self._call = call
        self._left = left
        self._message = b"x" * size
        call.on_taking = self.go_on
        call.on_over = lambda: service.over.append("count")
        self.go_on()

    def go_on(self) -> None:
        while self._left:
            self._left -= 1
            self._service.sent += 1
            if not self._call.send(self._message):
                return
        self._call.finish()


class Chat:
    """Says back what it hears."""

    def __init__(self, call: GrpcCall) -> None:
        self._call = call

    def received(self, message: bytes) -> None:
        self._call.send(message)

    def ended(self) -> None:
        self._call.finish()


class SlowChat(Chat):
    """Says one thing back, and listens no more until it is told to."""

    def received(self, message: bytes) -> None:
        self._call.pause()
        super().received(message)


def carrier_factory(service: EchoService, report: Callable[[str, Exception], None]) -> Callable[[], GrpcCarrier]:
    room = HeldBytes(256 << 20, monotonic_s=asyncio.get_running_loop().time)
    return lambda: GrpcCarrier(service.find, room, report, lambda call, status: None)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    factory = carrier_factory(EchoService(), lambda path, error: sys.stderr.write(f"{path}: {error}\n"))
    server = await loop.create_server(factory, "127.0.0.1", port)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
