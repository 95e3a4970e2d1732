"""The HTTP port under what no client sends: broken, contradictory, oversized and endless requests, by both ways."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, suppress
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.config import HttpSection
from tests.fuzz.budget import made_up
from tests.fuzz.http_talk import answers, check_answers, connect, converse, finish
from tests.fuzz.siege import Siege

pytestmark = pytest.mark.integration

NODE = "n2"
PUT = b"PUT /kv/fuzz HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /kv/siege HTTP/1.1\r\nHost: localhost\r\n"
CONNECTION_BYTES = 1 << 20
"""What one connection may hold besides: pieces that were read and not yet taken, and the room they leave behind."""
SMUGGLED = b"PUT /kv/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"

# Every one of these is refused: an answer that is a problem, or a closed connection; never a success.
REFUSED = {
    "no request": b"\x00\xff\xfe garbage \r\n\r\n",
    "a request line of spaces": b"   \r\n\r\n",
    "a method that is none": b"G\x00T /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a version that is none": b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "NUL in the path": b"GET /kv/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a bare carriage return": b"GET /livez HTTP/1.1\rHost: localhost\r\r",
    "an endless request line": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an endless query": b"GET /kv?" + b"a=b&" * (1 << 18) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a huge header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
    "many headers": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "a header without a colon": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n",
    "a header name with a space": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length : 0\r\n\r\n",
    "a folded header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "a negative length": PUT + b"Content-Length: -1\r\n\r\nx",
    "a length with a sign": PUT + b"Content-Length: +1\r\n\r\nx",
    "a length in words": PUT + b"Content-Length: one\r\n\r\nx",
    "a length beyond all numbers": PUT + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    "a length beyond the limit": PUT + b"Content-Length: 99999999999\r\n\r\nx",
    "two lengths": PUT + b"Content-Length: 1\r\nContent-Length: 50\r\n\r\nx" + SMUGGLED,
    "two lengths in one": PUT + b"Content-Length: 1, 50\r\n\r\nx" + SMUGGLED,
    "a length and chunks": PUT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and a length": PUT + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks that are not last": PUT + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks with a tab": PUT + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks of HTTP/1.0": b"PUT /kv/fuzz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "an unknown coding": PUT + b"Transfer-Encoding: gzip\r\n\r\nx",
    "a chunk size that is none": PUT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    "a negative chunk": PUT + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "a chunk of 2^80 bytes": PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\nx\r\n0\r\n\r\n",
    "a chunk without its end": PUT + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "an endless chunk extension": PUT + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * (1 << 20) + b"\r\nx\r\n",
    "half a body": PUT + b"Content-Length: 10\r\n\r\nhalf",
    "half a chunk": PUT + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf",
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /kv?consistency=sometimes HTTP/1.1\r\n\r\n",
    "broken percent-encoding": b"GET /kv/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is not UTF-8": b"GET /kv/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of raw bytes": b"GET /kv/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target that is no path": b"GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "all of it": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a way out": b"GET /kv/../../etc/passwd/../livez?bogus=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def json_request(body: bytes) -> bytes:
    head = b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


ONE = b'{"operations":[{"op":"put","key":"fuzz","value":"v"%s}]}'
REFUSED_JSON = {
    "deep arrays": b"[" * 500_000,
    "deep objects": b'{"operations":' * 200_000,
    "deep and ignored": b'{"operations":[{"op":"get","key":"a","x":' + b"[" * 200_000,
    "a lone surrogate in a key": b'{"operations":[{"op":"get","key":"\\ud800"}]}',
    "a lone surrogate in a value": b'{"operations":[{"op":"put","key":"a","value":"\\udfff"}]}',
    "text that is not UTF-8": b'{"operations":[{"op":"get","key":"\xff\xfe"}]}',
    "NaN": ONE % b',"ttl":NaN',
    "infinity": ONE % b',"ttl":1e999',
    "a huge number": ONE % (b',"if_revision":' + b"9" * 100_000),
    "a huge exponent": ONE % b',"ttl":1e-999999999',
    "a negative revision": ONE % b',"if_revision":-1',
    "a key given twice": b'{"operations":[{"op":"get","key":5,"key":"a","key":""}]}',
    "a value that is no base64": b'{"operations":[{"op":"put","key":"a","value":{"base64":"?"}}]}',
    "two documents": b'{"operations":[]}{"operations":[]}',
    "half a document": b'{"operations":[{"op":"pu',
    "UTF-16": '{"operations":[]}'.encode("utf-16"),
    "nothing": b"",
}


@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED)
def test_a_broken_request_is_refused_and_nothing_behind_it_is_heard(
    siege: Siege, before: bytes, request_bytes: bytes
) -> None:
    found = answers(converse(siege, NODE, before + request_bytes))
    smuggled = siege.cluster.get(NODE, "smuggled")

    check_answers(found)
    assert all(answer.status >= 400 for answer in found), found
    assert smuggled.status_code == 404


@pytest.mark.parametrize("body", REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_json_that_is_none_is_refused(siege: Siege, before: bytes, body: bytes) -> None:
    found = answers(converse(siege, NODE, before + json_request(body)))

    check_answers(found)
    assert [answer.status for answer in found] == [400]


@pytest.mark.parametrize(
    ("length", "body", "kept"), [(b"1", b"xyz", b"x"), (b"0", b"xyz", b""), (b"003", b"xyz", b"xyz")]
)
def test_what_follows_the_announced_length_is_another_request(
    siege: Siege, before: bytes, length: bytes, body: bytes, kept: bytes
) -> None:
    found = answers(converse(siege, NODE, before + PUT + b"Content-Length: " + length + b"\r\n\r\n" + body))

    check_answers(found)
    assert found[0].status in (200, 201)
    assert all(answer.status == 400 for answer in found[1:])
    assert siege.cluster.get(NODE, "fuzz").content == kept


FRAGMENTS = st.sampled_from(
    [
        *(b"GET PUT POST HEAD DELETE /kv/fuzz /kv?limit=2 /batch /status / * HTTP/1.1 HTTP/1.0 HTTP/0.9".split()),
        *(b" ,\t,\r\n,\n,\r,\r\n\r\n,:,%,%00,?,&,=,//,#,{,},[,]".split(b",")),
        b"Host: localhost",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"If-Match: ",
        b"0",
        b"5",
        b"ffffffffffffffff",
    ]
)
BYTES = st.lists(FRAGMENTS | st.binary(max_size=20), max_size=40).map(b"".join)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """Valid requests with a few places changed."""
    valid = [
        PUT + b"Content-Length: 3\r\n\r\nabc",
        PUT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
        GET + b"\r\n",
        json_request(ONE % b""),
        b"GET /kv?prefix=a&limit=3&consistency=local HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"DELETE /kv/%66uzz?w=all&timeout=1 HTTP/1.1\r\nHost: localhost\r\nIf-Match: *\r\nIdempotency-Key: k\r\n\r\n",
    ]
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(valid), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(FRAGMENTS | st.binary(max_size=4))
    return bytes(data)


@made_up
@given(data=bent() | BYTES | st.binary(max_size=2000))
def test_whatever_bytes_arrive_the_conversation_ends_with_documented_answers(
    siege: Siege, before: bytes, data: bytes
) -> None:
    received = converse(siege, NODE, before + data)

    assert siege.stands()
    assert not received or received.startswith(b"HTTP/1."), received
    for line in received.split(b"\r\n"):
        if line.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")):
            assert line.split()[1] in (b"503", b"504"), received


def test_a_slow_body_beyond_the_limit_is_answered_before_it_ends(siege: Siege) -> None:
    with connect(siege, NODE) as client:
        client.sendall(PUT + b"Transfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(200):
                client.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        found = answers(finish(client))

    check_answers(found)
    assert [answer.status for answer in found] == [413]


def test_large_bodies_that_never_end_hold_a_bounded_amount(siege: Siege, before: bytes) -> None:
    head = (
        b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n"
    )
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(siege, NODE)) for _ in range(100)]
        for client in clients:
            with suppress(ConnectionError):
                client.sendall(before + head + bytes(2_900_000))
        siege.serves_soon()
        siege.check_memory(HttpSection().max_held_bytes + len(clients) * CONNECTION_BYTES)
        found = [answers(finish(client)) for client in clients]

    statuses = {answer.status for answer in chain(*found)}
    check_answers(list(chain(*found)))
    assert statuses <= {400, 429}


def test_a_flood_of_requests_in_one_connection_is_answered_in_full_and_in_order(siege: Siege, before: bytes) -> None:
    targets = [b"/livez", b"/kv/siege?consistency=local", b"/bogus"]
    requests = [b"GET " + targets[turn % 3] + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" for turn in range(1500)]

    found = answers(converse(siege, NODE, before + b"".join(requests)))

    check_answers(found)
    assert [answer.status for answer in found] == [200, 200, 404] * 500


def test_a_client_that_reads_nothing_costs_a_bounded_amount(siege: Siege, before: bytes) -> None:
    siege.cluster.put(NODE, "large", bytes(1 << 20))
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(connect(siege, NODE))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0.5)
            with suppress(TimeoutError, ConnectionError):
                client.sendall(before + b"GET /kv/large HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        siege.check_memory()


def test_hundreds_of_dripping_connections_keep_nobody_out(siege: Siege, before: bytes) -> None:
    beginnings = [
        b"",
        b"G",
        b"GET /livez HTTP/1.1\r\nX: ",
        PUT + b"Content-Length: 100\r\n\r\n",
        GET + b"\r\n" + b"GET ",
    ]
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(siege, NODE)) for _ in range(600)]
        for turn, client in enumerate(clients):
            client.sendall(before + beginnings[turn % len(beginnings)])
        for _ in range(5):
            for client in clients:
                with suppress(ConnectionError):
                    client.sendall(b"x")
            siege.serves_soon()
        siege.check_memory()


def test_connections_that_break_off_leave_nothing_behind(siege: Siege, before: bytes) -> None:
    for turn in range(300):
        client = connect(siege, NODE)
        client.sendall(before + (PUT + b"Content-Length: 100\r\n\r\nhalf", GET + b"\r\n", b"GET /st", b"")[turn % 4])
        if turn % 2:  # a reset instead of an end
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()


def test_tls_at_the_plain_port_is_turned_away(siege: Siege) -> None:
    context = ssl.create_default_context()
    with connect(siege, NODE) as client, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(client, server_hostname="localhost")


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"TLS/1.0", b"\xff"])
def test_the_wish_to_change_protocols_is_not_heeded(siege: Siege, protocol: bytes) -> None:
    wish = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: "
        + protocol
        + b"\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    )
    wish += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

    found = answers(converse(siege, NODE, GET + wish + b"\r\n"))

    check_answers(found)
    assert len(found) == 1
    assert found[0].status == 200


def test_http_1_0_is_answered_and_closed(siege: Siege) -> None:
    with connect(siege, NODE) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        received = b""
        while chunk := client.recv(1 << 16):
            received += chunk

    assert [answer.status for answer in answers(received)] == [200]
