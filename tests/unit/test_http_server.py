"""The real front-end process: gunicorn, its workers, sockets, and a replica process behind them; what clients see."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.unit.front_end import FrontEnd, until

pytestmark = pytest.mark.integration


def test_it_serves_and_is_silent_whatever_it_is_sent(make: Callable[..., FrontEnd]) -> None:
    front_end = make()

    assert front_end.ask("PUT", "/kv/a%2Fb", b"v")[0] == 201
    status, body, headers = front_end.ask("GET", "/kv/a/b")
    assert (status, body, headers["raftkv-node"]) == (200, b"v", "n1")
    status, body, headers = front_end.ask("HEAD", "/kv/a/b")
    assert (status, body, headers["content-length"]) == (200, b"", "1")
    assert front_end.ask("GET", "/kv/a/b", **{"If-None-Match": "*"})[0] == 304
    assert json.loads(front_end.ask("GET", "/kv")[1])["items"][0]["key"] == "a/b"
    for bad in [
        b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\nBroken\r\n\r\n",
        b"GET /kv/" + 20_000 * b"a" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n" + 200 * b"A: b\r\n" + b"\r\n",
        b"NONSENSE\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + 5_000 * b"9" + b"\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ]:
        answer = front_end.raw(bad)
        assert answer.startswith(b"HTTP/1.1 4"), (bad[:60], answer[:200])
        assert b"application/problem+json" in answer
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["applied"] == "no"

    assert front_end.ask("GET", "/kv/b")[0] == 404
    assert front_end.said() == ""


def test_requests_wait_side_by_side_on_the_hot_path_and_in_flask(make: Callable[..., FrontEnd]) -> None:
    front_end = make(delay_s=0.5)

    async def run() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{front_end.port}", connector=connector) as session:

            async def ask(target: str) -> int:
                async with session.get(target) as response:
                    await response.read()
                    return response.status

            started_s = time.monotonic()
            statuses = await asyncio.gather(*[ask("/kv") for _ in range(100)], *[ask("/kv/a") for _ in range(100)])
            assert set(statuses) == {200, 404}
            return time.monotonic() - started_s

    assert asyncio.run(run()) < 50  # one after another they would take 100 seconds; a busy machine may take its time


def test_a_half_sent_body_stores_nothing(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    with socket.create_connection(("127.0.0.1", front_end.port)) as client:
        client.sendall(b"PUT /kv/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", front_end.port)) as client:
        client.sendall(b"PUT /kv/half HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        time.sleep(0.1)
    time.sleep(0.2)

    assert front_end.ask("GET", "/kv/half")[0] == 404
    assert json.loads(front_end.ask("GET", "/status")[1])["revision"] == 0
    assert front_end.said() == ""


def test_a_large_body_gets_its_answer_although_it_is_not_wanted(make: Callable[..., FrontEnd]) -> None:
    front_end = make(http_section="max_value_bytes = 1000")

    status, body, _ = front_end.ask("PUT", "/kv/a", 2_000_000 * b"v")

    assert status == 413
    assert json.loads(body)["code"] == "value_too_large"
    assert front_end.ask("PUT", "/kv/a", 1000 * b"v")[0] == 201


def test_the_default_limit_takes_a_value_of_a_mebibyte(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    value = os.urandom(1 << 20)

    assert front_end.ask("PUT", "/kv/a", value)[0] == 201
    assert front_end.ask("GET", "/kv/a")[1] == value
    assert front_end.ask("PUT", "/kv/a", value + b"!")[0] == 413


def test_pipelined_requests_are_answered_in_order(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    requests = b"".join(
        b"PUT /kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n%s\r\n%d" % (close, number)
        for number, close in enumerate([b"", b"", b"", b"Connection: close\r\n"])
    )

    received = front_end.raw(requests)

    assert received.count(b"HTTP/1.1 2") == 4
    positions = [received.index(b'"version":%d' % version) for version in (1, 2, 3, 4)]
    assert positions == sorted(positions)
    assert front_end.ask("GET", "/kv/k")[1] == b"3"


SETTINGS = 4

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("cut", [1, 5, 16, len(PREFACE)])
def test_http2_is_told_apart_however_late_its_first_bytes_come_and_however_they_are_cut(
    make: Callable[..., FrontEnd], cut: int
) -> None:
    front_end = make()
    with socket.create_connection(("127.0.0.1", front_end.port), timeout=10) as client:
        front_end.ask("GET", "/livez")  # whatever a new connection starts has run by now
        client.sendall(PREFACE[:cut])
        front_end.ask("GET", "/livez")
        client.sendall(PREFACE[cut:])
        first = client.recv(9, socket.MSG_WAITALL)

    assert (first[3], first[5:]) == (SETTINGS, bytes(4)), first


def test_who_closed_their_half_is_still_answered(make: Callable[..., FrontEnd]) -> None:
    front_end = make()

    def said(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", front_end.port), timeout=5) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            return received

    head = b"PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n"
    whole = said(head + b"Content-Length: 1\r\n\r\n1")
    three = said(3 * b"GET /kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
    half = said(head + b"Content-Length: 10\r\n\r\nhalf")
    half_chunk = said(head + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf")
    half_behind_another = said(
        b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" + head + b"Content-Length: 10\r\n\r\nhalf"
    )
    half_header = said(head)

    assert whole.startswith(b"HTTP/1.1 201 Created\r\n")
    assert three.count(b"HTTP/1.1 200 OK\r\n") == 3
    for answer in (half, half_chunk):
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"did not arrive whole" in answer
    assert half_behind_another.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"did not arrive whole" in half_behind_another
    assert half_header == b""
    assert front_end.ask("GET", "/kv/k")[1] == b"1"
    assert front_end.said() == ""


def test_status_lines_say_what_the_status_means(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    close = b"Host: localhost\r\nConnection: close\r\n"

    assert front_end.raw(b'DELETE /kv/k HTTP/1.1\r\n%sIf-Match: "7"\r\n\r\n' % close).startswith(
        b"HTTP/1.1 412 Precondition Failed\r\n"
    )
    assert front_end.raw(b"GET /%s HTTP/1.1\r\n%s\r\n" % (20_000 * b"a", close)).split(b" ", 2)[1] == b"414"
    assert b" Error\r\n" not in front_end.raw(b"GET /%s HTTP/1.1\r\n%s\r\n" % (20_000 * b"a", close))


def test_the_wish_for_a_websocket_is_not_heeded(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

    answer = front_end.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n" % (upgrade, key))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'{"status":"alive"}' in answer


@pytest.mark.parametrize("max_key_bytes", [1024, 4096])
def test_keys_of_any_characters_fit_into_a_request_line(make: Callable[..., FrontEnd], max_key_bytes: int) -> None:
    front_end = make(http_section=f"max_key_bytes = {max_key_bytes}")
    key = (max_key_bytes // 2) * "%C3%A9"

    assert front_end.ask("PUT", f"/kv/{key}", b"v")[0] == 201
    status, body, _ = front_end.ask("GET", f"/kv?prefix={key}&start={key}&end={key[:-1]}A")

    assert status == 200
    assert len(json.loads(body)["items"]) == 1


def test_tls(make: Callable[..., FrontEnd], tmp_path: Path) -> None:
    import ssl

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    front_end = FrontEnd(tmp_path, http_section='tls_cert = "cert.pem"\ntls_key = "key.pem"')

    def ask() -> int | None:
        connection = http.client.HTTPSConnection("127.0.0.1", front_end.port, timeout=5, context=context)
        try:
            connection.request("PUT", "/kv/a", b"v")
            return connection.getresponse().status
        except ConnectionError:
            return None
        finally:
            connection.close()

    try:
        assert until(ask) in (201, 503)
    finally:
        front_end.stop()


def test_a_connection_too_many_is_answered_and_closed_and_the_others_are_served(make: Callable[..., FrontEnd]) -> None:
    front_end = make(http_section="max_connections = 10")
    clients = [http.client.HTTPConnection("127.0.0.1", front_end.port, timeout=10) for _ in range(10)]

    def ask(client: http.client.HTTPConnection) -> int:
        client.request("GET", "/livez")
        response = client.getresponse()
        response.read()
        return response.status

    def ask_anew() -> int | None:
        fresh = http.client.HTTPConnection("127.0.0.1", front_end.port, timeout=10)
        try:
            return ask(fresh)
        except OSError:  # reset, with our request unread
            return None
        finally:
            fresh.close()

    until(lambda: {ask(client) for client in clients} == {200})  # once those that asked for readiness are gone
    with socket.create_connection(("127.0.0.1", front_end.port), timeout=10) as one_more:
        assert [ask(client) for client in clients] == [200] * 10  # none is idle
        one_more.sendall(b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while chunk := one_more.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 429 ")
    assert json.loads(body)["code"] == "overloaded"
    assert ask_anew() == 200  # health is answered
    assert [ask(client) for client in clients] == [200] * 10
    for client in clients:
        client.close()


def test_descriptors_bound_the_connections_that_there_is_room_for() -> None:
    program = "import resource, sys; from raftkv.http.door.server import SPARE_DESCRIPTORS, room_for\n"
    program += "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))\n"
    program += "print(room_for(50), room_for(150), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)\n"
    program += "print(room_for(1000), 400 - SPARE_DESCRIPTORS)"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    ).stdout

    assert said.split() == ["50", "150", "150", "272", "272"]
