"""Clients that others wrote, over real sockets: gRPC's own for Python, and nghttp2's programs.

``nghttp`` and ``h2load`` are of Debian's package nghttp2-client; where it is not installed, their tests are left out.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
import trustme
import uvloop

from tests.unit.grpc_server import EchoService, carrier_factory


class Served:
    """The echo service on a port of this machine, in a thread of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.service = EchoService()
        self.reported: list[str] = []
        self.carriers: list[object] = []
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._is_ready.wait(10)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._is_over = asyncio.Event()
        factory = carrier_factory(self.service, lambda path, error: self.reported.append(f"{path}: {error}"))

        def made():
            self.carriers.append(factory())
            return self.carriers[-1]

        server = await self.loop.create_server(made, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._is_ready.set()
        await self._is_over.wait()
        server.close()
        for carrier in self.carriers:
            carrier.abandon()
        await asyncio.sleep(0)

    def call(self, function: Callable[[], object]) -> None:
        """Have something done in the server's loop."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join(10)


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port}", [("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


def unary(channel: grpc.Channel, method: str) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(f"/test.Echo/{method}", None, None)


def refused(channel: grpc.Channel, method: str, data: bytes = b"x", **options: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        unary(channel, method)(data, **{"timeout": 20, **options})
    return raised.value


# --- grpcio


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_536, 2_000_000])
@pytest.mark.parametrize("method", ["Say", "Later"])
def test_unary_calls(channel, method, size):
    data = bytes(range(256)) * (size // 256 + 1)

    assert unary(channel, method)(data[:size], timeout=20) == data[:size]


def test_many_at_a_time_on_one_connection(served, channel):
    calls = [unary(channel, "Later").future(b"%d" % number * number, timeout=60) for number in range(3000)]

    assert [call.result() for call in calls] == [b"%d" % number * number for number in range(3000)]
    assert len(served.carriers) == 1


def test_large_messages_at_a_time_wait_for_each_other(channel):
    calls = [unary(channel, "Later").future(b"x" * 1_500_000, timeout=60) for _ in range(20)]

    assert [len(call.result()) for call in calls] == [1_500_000] * 20


def test_compressed_messages(channel):
    assert unary(channel, "Say")(b"x" * 100_000, compression=grpc.Compression.Gzip, timeout=20) == b"x" * 100_000
    assert refused(channel, "Say", compression=grpc.Compression.Deflate).code() == grpc.StatusCode.UNIMPLEMENTED


def test_refusals(channel):
    error = refused(channel, "Refuse", "käse: 100 %\n".encode())

    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "käse: 100 %\n")
    assert dict(error.trailing_metadata()) == {"reason": "told", "raw-bin": b"\0\1\xff"}
    assert refused(channel, "Break").code() == grpc.StatusCode.INTERNAL
    assert refused(channel, "None").code() == grpc.StatusCode.UNIMPLEMENTED
    assert refused(channel, "Say", b"x" * 3_000_000).code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_deadlines_and_cancellation(served, channel):
    assert refused(channel, "Wait", b"short", timeout=0.2).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    call = unary(channel, "Wait").future(b"cancelled", timeout=60)
    while len(served.service.waiting) < 2:
        assert unary(channel, "Say")(b"", timeout=20) == b""
    call.cancel()
    while len(served.service.over) < 2:
        assert unary(channel, "Say")(b"", timeout=20) == b""

    assert served.service.over == ["short", "cancelled"]


def test_metadata(channel):
    answer, call = unary(channel, "Metadata").with_call(b"token-bin", metadata=(("token-bin", b"\0\xff"),), timeout=20)

    assert answer == b"\0\xff"
    assert dict(call.initial_metadata()) == {"early": "yes"}
    assert dict(call.trailing_metadata()) == {"late": "yes"}


def test_a_stream_of_answers(channel):
    answers = channel.unary_stream("/test.Echo/Count", None, None)(b"2000 10000", timeout=60)

    assert sum(map(len, answers)) == 20_000_000


def test_a_stream_that_is_not_read_stops_and_is_cancelled(served, channel):
    answers = channel.unary_stream("/test.Echo/Count", None, None)(b"100000000 1000", timeout=60)
    for _ in range(100):
        assert len(next(answers)) == 1000
    answers.cancel()
    while not served.service.over:
        assert unary(channel, "Say")(b"", timeout=20) == b""

    assert served.service.over == ["count"]
    assert served.service.sent < 100_000


def test_a_conversation(channel):
    said = [b"%d" % number * 100 for number in range(500)]
    heard = channel.stream_stream("/test.Echo/Chat", None, None)(iter(said), timeout=60)

    assert list(heard) == said


def test_a_server_that_leaves_is_left_and_found_again(served, channel):
    assert unary(channel, "Say")(b"before", timeout=20) == b"before"
    waiting = unary(channel, "Wait").future(b"under way", timeout=60)
    while not served.service.waiting:
        assert unary(channel, "Say")(b"", timeout=20) == b""
    served.call(lambda: served.carriers[0].leave(0.5))

    with pytest.raises(grpc.RpcError) as raised:
        waiting.result()
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert raised.value.details() == "the server is shutting down"
    assert unary(channel, "Say")(b"after", timeout=20, wait_for_ready=True) == b"after"
    assert len(served.carriers) == 2


def test_tls():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    authority.issue_cert("localhost").configure_cert(context)
    served = Served(context)
    try:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(f"localhost:{served.port}", credentials) as channel:
            answers = channel.unary_stream("/test.Echo/Count", None, None)(b"2000 10000", timeout=60)
            assert sum(map(len, answers)) == 20_000_000
            assert unary(channel, "Say")(b"x" * 2_000_000, timeout=20) == b"x" * 2_000_000
            served.call(lambda: served.carriers[0].leave(0.1))
            assert unary(channel, "Say")(b"after", timeout=20, wait_for_ready=True) == b"after"
    finally:
        served.close()


# --- nghttp2


def run(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (apt-get install nghttp2-client)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def body(tmp_path):
    path = tmp_path / "body"
    path.write_bytes(struct.pack(">BL", 0, 80) + b"x" * 80)
    return str(path)


GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")


def test_nghttp_sees_head_message_and_trailers(served, body):
    told = run("nghttp", "-nv", "-d", body, *GRPC, f"http://127.0.0.1:{served.port}/test.Echo/Say")

    assert ":status: 200" in told
    assert "grpc-status: 0" in told
    assert "recv DATA frame <length=85" in told
    assert "GOAWAY" not in told.partition("recv DATA")[2].partition("send GOAWAY")[0]


def test_nghttp_with_a_window_of_nearly_nothing_and_padding(served, body):
    told = run(
        "nghttp",
        "-nv",
        "-w",
        "4",
        "-W",
        "4",
        "-b",
        "200",
        "-d",
        body,
        *GRPC,
        f"http://127.0.0.1:{served.port}/test.Echo/Later",
    )

    assert len(re.findall(r"recv DATA frame", told)) > 5
    assert "grpc-status: 0" in told


@pytest.mark.parametrize(("connections", "streams"), [(1, 100), (10, 10)])
@pytest.mark.parametrize("method", ["Say", "Later"])
def test_h2load_is_answered_all(served, body, connections, streams, method):
    told = run(
        "h2load", "-n", "5000", "-c", str(connections), "-m", str(streams), "-d", body, *GRPC,
        f"http://127.0.0.1:{served.port}/test.Echo/{method}",
    )  # fmt: skip

    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in told
    assert served.reported == []
