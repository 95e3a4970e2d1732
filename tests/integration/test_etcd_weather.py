"""Clients of gRPC who flood, bomb, stall or leave in mid-sentence, on real nodes: bounded, and others are served."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from raftkv.etcd import messages, protobuf
from raftkv.etcd.grpc import frames
from raftkv.etcd.grpc.frames import ErrorCode
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running, workers
from tests.integration.rough_client import LOCK, PUT, RANGE, WATCH, RoughClient
from tests.integration.test_crowds import held_mib, shown
from tests.integration.test_etcdctl import Etcdctl
from tests.unit.http2_client import message

pytestmark = pytest.mark.integration

LARGE = b"large"
HELD_MIB = 256
"""What a worker may hold for all its clients, as configured."""

OF_ITS_OWN_MIB = 120
"""What it may need besides for what is done to it here."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with running(tmp_path_factory.mktemp("cluster"), size=1) as cluster:
        cluster.put("n1", LARGE.decode(), b"x" * 1_000_000)
        yield cluster


@pytest.fixture
def port(cluster: RealCluster) -> Iterator[int]:
    """Of the node, which is asked something by another client all the time, holds little, and finds no fault."""
    (worker,) = workers(cluster, "n1")
    before_mib = held_mib(worker)
    is_over = threading.Event()
    failed: list[str] = []
    most_mib = [before_mib]
    answered = [0]

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{cluster.http['n1']}") as channel:
            put = channel.unary_unary(PUT)
            while not (answered[0] and is_over.wait(0.02)):
                answered[0] += 1
                most_mib[0] = max(most_mib[0], held_mib(worker))
                try:
                    put(protobuf.encode(messages.PutRequest(key=b"neighbour", value=b"%d" % answered[0])), timeout=30)
                except grpc.RpcError as error:
                    failed.append(str(error))

    neighbour = threading.Thread(target=ask)
    neighbour.start()
    yield cluster.http["n1"]
    is_over.set()
    neighbour.join(60)

    assert failed == []
    assert answered[0] > 0
    assert most_mib[0] - before_mib < HELD_MIB + OF_ITS_OWN_MIB
    assert cluster.get("n1", "neighbour").content == b"%d" % answered[0]
    assert not {"Traceback", "defect", "level=error"} & set(cluster.log("n1").split())


def watched(key: bytes, **more: object) -> messages.WatchRequest:
    return messages.WatchRequest(create_request=messages.WatchCreateRequest(key=key, **more))


# --- floods


def settings_and_pings(client: RoughClient) -> None:
    client.flood((frames.frame(frames.SETTINGS, 0, 0) + frames.frame(frames.PING, 0, 0, b"12345678")) * 1000, 1000)


def resets(client: RoughClient) -> None:
    for _ in range(200):
        asked = [
            client.call(RANGE, messages.RangeRequest(key=b"k")) + frames.reset_frame(client.last_id, ErrorCode.CANCEL)
            for _ in range(100)
        ]
        if not client.flood(b"".join(asked), 1):
            return


def continuations(client: RoughClient) -> None:
    client.say(client.head(RANGE, flags=0))
    client.flood(frames.frame(frames.CONTINUATION, 0, client.last_id, b"\0\1a\1b" * 3000), 1000)


def indexes(client: RoughClient) -> None:
    """A field of the table, named so often that the list would be of twenty megabytes."""
    field = ("bomb", "y" * 2000)
    client.say(client.head(RANGE, more=(field,)))
    client.say(client.head(RANGE, more=(field,) * 10_000))


def windows(client: RoughClient) -> None:
    client.say(frames.window_frame(0, frames.WINDOW_MAX))


def garbage(client: RoughClient) -> None:
    client.flood(os.urandom(64 << 10), 10)


FLOODS = [
    (settings_and_pings, {ErrorCode.ENHANCE_YOUR_CALM}),
    (resets, {ErrorCode.ENHANCE_YOUR_CALM}),
    (continuations, {ErrorCode.ENHANCE_YOUR_CALM}),
    (indexes, {ErrorCode.ENHANCE_YOUR_CALM}),
    (windows, {ErrorCode.FLOW_CONTROL_ERROR}),
    (garbage, {ErrorCode.FRAME_SIZE_ERROR, ErrorCode.PROTOCOL_ERROR}),
]


@pytest.mark.parametrize(("flood", "codes"), FLOODS, ids=[one[0].__name__ for one in FLOODS])
def test_a_flood_ends_its_connection(port: int, flood: Callable[[RoughClient], None], codes: set[ErrorCode]) -> None:
    told = []
    for _ in range(5):
        with RoughClient(port) as client:
            with contextlib.suppress(ConnectionError):
                flood(client)
            told.append(client.last_word()[0])

    # What it is told may be overtaken by the reset that answers what it goes on to say.
    assert set(told) <= {*codes, -1}


# --- messages


def test_a_message_that_is_too_large_is_refused_before_it_is_there(port: int) -> None:
    with RoughClient(port) as client:
        beginning = struct.pack(">BL", 0, 0xFFFFFFFF) + b"x" * 1000
        client.say(client.head(PUT), frames.frame(frames.DATA, 0, client.last_id, beginning))
        told = client.fields(client.next(frames.HEADERS, client.last_id))

    assert told["grpc-status"] == str(int(GrpcStatus.RESOURCE_EXHAUSTED))


def test_a_message_that_inflates_is_inflated_no_further_than_it_may_be(port: int) -> None:
    bomb = message(gzip.compress(b"\0" * (100 << 20)), flag=1)
    with RoughClient(port) as client:
        client.say(client.head(PUT, more=(("grpc-encoding", "gzip"),)))
        for at in range(0, len(bomb), 16_000):
            is_last = at + 16_000 >= len(bomb)
            client.say(frames.frame(frames.DATA, int(is_last), client.last_id, bomb[at : at + 16_000]))
        told = client.fields(client.next(frames.HEADERS, client.last_id))

    assert told["grpc-status"] == str(int(GrpcStatus.RESOURCE_EXHAUSTED))


def test_what_is_said_faster_than_it_is_done_waits_with_the_client(port: int) -> None:
    padded = protobuf.encode(messages.LeaseKeepAliveRequest(id=7)) + b"\x9a\x06\xc0\x84\x3d" + bytes(1_000_000)

    def keep_alive(channel: grpc.Channel) -> int:
        return len(list(channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")(iter([padded] * 100), timeout=110)))

    options = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(2) as pool:
        channels = [opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options)) for _ in range(2)]
        assert list(pool.map(keep_alive, channels)) == [100] * 2


def test_a_watch_of_a_key_that_nobody_can_have_is_refused(port: int) -> None:
    request = messages.WatchRequest(create_request=messages.WatchCreateRequest(key=b"k" * 1_000_000))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_stream(WATCH)(iter([protobuf.encode(request)] * 100), timeout=60)
        told = [protobuf.decode(messages.WatchResponse, next(stream)) for _ in range(100)]
        stream.cancel()

    assert {(one.created, one.canceled, one.cancel_reason) for one in told} == {
        (True, True, "etcdserver: request is too large")
    }


# --- who takes nothing, or does not go on


def test_large_answers_that_nobody_takes_are_bounded_and_refused_beyond_that(port: int) -> None:
    with RoughClient(port, window=0) as client:
        client.say(*(client.call(RANGE, messages.RangeRequest(key=LARGE)) for _ in range(900)))
        codes = []
        with contextlib.suppress(ConnectionError):
            while len(codes) < 100:
                head = client.fields(client.next(frames.HEADERS))
                codes += [head["grpc-status"]] if "grpc-status" in head else []

    # Or it was let go for the sake of its neighbour.
    assert set(codes) <= {str(int(GrpcStatus.RESOURCE_EXHAUSTED))}


def test_watchers_who_take_nothing_are_bounded_however_many(cluster: RealCluster, port: int) -> None:
    with RoughClient(port, window=1000) as client:
        for _ in range(900):
            client.say(client.call(WATCH, watched(b"large/"), is_last=False))
        wait_until(lambda: shown(cluster, "raftkv_listeners") == 900, "all to watch")
        assert cluster.put("n1", "large/", b"x" * 1_000_000).ok
        wait_until(lambda: shown(cluster, "raftkv_listeners") < 900, "those for whom there is no room to be let go")
    wait_until(lambda: not shown(cluster, "raftkv_listeners"), "the rest to be gone")


def test_ten_thousand_calls_that_never_end_cost_little(port: int) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(10):
            client = opened.enter_context(RoughClient(port))
            client.say(*(client.head(PUT) for _ in range(1000)))
            client.say(frames.frame(frames.PING, 0, 0, b"12345678"))
            client.next(frames.PING)


def test_ten_thousand_watchers_are_told_and_leave_nothing(cluster: RealCluster, port: int) -> None:
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(RoughClient(port)) for _ in range(10)]
        for client in clients:
            client.say(*(client.call(WATCH, watched(b"idle/%d" % one), is_last=False) for one in range(1000)))
        for client in clients:
            for _ in range(1000):
                client.next(frames.DATA)
        assert shown(cluster, "raftkv_listeners") == 10_000
        cluster.put("n1", "idle/500", b"told")
        for client in clients:
            assert b"told" in client.next(frames.DATA).payload
    wait_until(lambda: not shown(cluster, "raftkv_listeners"), "all to be gone")


def test_a_wish_to_change_protocols_is_not_heeded(port: int) -> None:
    asked = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(asked + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_connection_too_many_is_told_to_ask_elsewhere(tmp_path: Path) -> None:
    with (
        running(tmp_path, size=1, sections="[http]\nmax_connections = 20\n") as cluster,
        contextlib.ExitStack() as all_,
    ):
        for _ in range(20):
            client = all_.enter_context(RoughClient(cluster.http["n1"]))
            client.say(client.call(WATCH, watched(b"k"), is_last=False))
            client.next(frames.DATA)
        with RoughClient(cluster.http["n1"]) as late:
            code, why = late.last_word()

    assert code == ErrorCode.NO_ERROR
    assert why.endswith("connections already")


# --- the end of a node


def test_a_node_that_ends_answers_what_was_begun_and_takes_nothing_new(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        with RoughClient(cluster.http["n1"]) as client:
            client.say(client.call(LOCK, messages.LockRequest(name=b"held")))
            client.next(frames.DATA, client.last_id)
            client.say(client.call(LOCK, messages.LockRequest(name=b"held")))
            waits_on = client.last_id
            client.say(client.call(WATCH, watched(b"k"), is_last=False))
            client.next(frames.DATA, client.last_id)
            cluster.processes["n1"].send_signal(signal.SIGTERM)
            (first,) = struct.unpack_from(">L", client.next(frames.GOAWAY).payload)
            # So the client knows; what was sent meanwhile is answered all the same.
            client.say(client.call(PUT, messages.PutRequest(key=b"late", value=b"1")))
            late = client.last_id
            client.say(frames.frame(frames.PING, frames.ACK, 0, b"leaving\0"))
            answered = client.fields(client.next(frames.HEADERS, late))
            (last,) = struct.unpack_from(">L", client.next(frames.GOAWAY).payload)
            told = client.fields(client.next(frames.HEADERS, waits_on))
        cluster.processes["n1"].wait(20)
        wait_until(lambda: cluster.get("n2", "late").content == b"1", "it to be there")

    assert (first, last) == (frames.STREAM_ID_MAX, late)
    assert answered[":status"] == "200"
    assert told["grpc-status"] == str(int(GrpcStatus.UNAVAILABLE))


def listeners(cluster: RealCluster, node: str) -> int:
    told = cluster.request("GET", node, "/metrics").text
    return round(float(next(line.split()[-1] for line in told.splitlines() if line.startswith("raftkv_listeners "))))


def test_a_watch_of_etcdctl_goes_on_elsewhere_when_its_node_stands_still(tmp_path: Path) -> None:
    keys = [f"seen/{number}" for number in range(20)]
    seen: list[str] = []
    with running(tmp_path) as cluster:
        etcdctl = Etcdctl(cluster.sites, tmp_path, "--keepalive-time=1s", "--keepalive-timeout=1s")
        watch = etcdctl.begun("watch", "--prefix", "seen/", "-w", "json")
        try:
            its_node = wait_until(
                lambda: next((node for node in cluster.nodes if listeners(cluster, node)), None), "it to watch"
            )
            other = next(node for node in cluster.nodes if node != its_node)
            for number, key in enumerate(keys):
                if number == 5:
                    cluster.pause(its_node)
                wait_until(lambda key=key: cluster.put(other, key).ok, "a leader")
            assert watch.stdout is not None
            while keys[-1] not in seen:
                events = json.loads(watch.stdout.readline())["Events"]
                seen += [base64.b64decode(event["kv"]["key"]).decode() for event in events]
            cluster.resume(its_node)
        finally:
            watch.terminate()
            watch.wait(10)

    # Where the node led, what was asked just then may have been done by the first of two tries.
    assert list(dict.fromkeys(seen)) == keys


# --- nghttp2's programs


def test_h2load_is_answered_all(port: int, tmp_path: Path) -> None:
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not installed (apt-get install nghttp2-client)")
    (tmp_path / "body").write_bytes(message(protobuf.encode(messages.RangeRequest(key=b"neighbour"))))
    command = ["h2load", "-n", "5000", "-c", "10", "-m", "50", "-d", str(tmp_path / "body")]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{RANGE}"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in told
