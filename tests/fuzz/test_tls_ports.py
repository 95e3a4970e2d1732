"""Ports that speak TLS, HTTP's and the peers', under what is none, and under handshakes that never end."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.peers.listener import STRANGER_LIMIT
from tests.fuzz.budget import made_up
from tests.fuzz.http_talk import answers, check_answers
from tests.fuzz.siege import Siege
from tests.fuzz.traitor import hear_out

pytestmark = pytest.mark.integration

NODE = "n1"
ANSWER_S = 20.0


def hello() -> bytes:
    """What a client of TLS says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello()
OPENINGS = {
    "a request of HTTP": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "garbage": b"\x00\xff\xfe garbage" * 20,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a record of no kind": b"\xff\x03\x03\x00\x05hello",
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(1 << 16),
    "a version that is none": HELLO.replace(b"\x03\x03", b"\x7f\x7f"),
    "a hello twice": HELLO + HELLO,
    "a hello and a request": HELLO + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def connect(siege: Siege, door: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", getattr(siege.cluster, door)[NODE]), timeout=ANSWER_S)


@pytest.mark.parametrize("door", ["http", "peer"])
@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_what_is_no_handshake_is_never_answered_in_the_clear(tls_siege: Siege, door: str, opening: bytes) -> None:
    with connect(tls_siege, door) as client:
        with suppress(OSError):  # it may hang up in the middle
            client.sendall(opening)
            client.shutdown(socket.SHUT_WR)
        heard = hear_out(client)

    assert b"HTTP/1.1" not in heard
    assert heard[:1] in (b"", b"\x15", b"\x16")  # nothing, an alert, a handshake


@pytest.mark.parametrize("door", ["http", "peer"])
@made_up
@given(
    data=st.binary(min_size=1, max_size=300),
    kept=st.integers(0, len(HELLO)),
    is_record=st.booleans(),
    is_reset=st.booleans(),
)
def test_random_bytes_open_nothing(
    tls_siege: Siege, *, door: str, data: bytes, kept: int, is_record: bool, is_reset: bool
) -> None:
    with connect(tls_siege, door) as client:
        with suppress(OSError):
            client.sendall(HELLO[:kept])
            client.sendall(b"\x16\x03\x03" + len(data).to_bytes(2, "big") + data if is_record else data)
            if is_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                return
            client.shutdown(socket.SHUT_WR)
        heard = hear_out(client)

    assert b"HTTP/1.1" not in heard
    assert tls_siege.stands()


def test_requests_in_one_record_and_in_pieces_are_answered_in_order(tls_siege: Siege, before: bytes) -> None:
    context = ssl.create_default_context(cafile=tls_siege.cluster.verify)
    host = b"Host: 127.0.0.1\r\n"
    put = b"PUT /kv/tls HTTP/1.1\r\n" + host + b"Content-Length: 40000\r\n\r\n" + b"v" * 40_000
    last = b"GET /kv/tls HTTP/1.1\r\nConnection: close\r\n" + host + b"\r\n"
    sent = put + b"GET /kv/tls HTTP/1.1\r\n" + host + b"\r\n"
    for cuts in ((0,), (0, 70, 100, 20_000, len(put), len(put) + 10)):
        with context.wrap_socket(connect(tls_siege, "http"), server_hostname="127.0.0.1") as client:
            client.sendall(before)
            for start, end in pairwise((*cuts, len(sent))):
                client.sendall(sent[start:end])
            client.sendall(last)
            received = b""
            while piece := client.recv(1 << 16):
                received += piece
        found = answers(received)

        check_answers(found)
        assert [len(answer.body) for answer in found[1:]] == [40_000, 40_000]


@pytest.mark.parametrize("door", ["http", "peer"])
def test_half_and_slow_handshakes_keep_nobody_out(tls_siege: Siege, door: str) -> None:
    with ExitStack() as stack:
        strangers = [stack.enter_context(connect(tls_siege, door)) for _ in range(5 * STRANGER_LIMIT)]
        for at in range(0, 24, 4):
            for turn, stranger in enumerate(strangers):
                with suppress(OSError):
                    stranger.sendall((b"", HELLO[at : at + 4], HELLO[at : at + 1])[turn % 3])
            tls_siege.serves_soon()
        tls_siege.check_memory()
