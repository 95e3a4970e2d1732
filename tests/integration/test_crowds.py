"""Watchers who never read, who leave by the thousand, or close their half: bounded, and nothing of them is left."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from http.client import HTTPResponse
from pathlib import Path

import pytest
import requests

from raftkv import Client
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running, workers

pytestmark = pytest.mark.integration

RESET = struct.pack("ii", 1, 0)
IDLE_COUNT = 50
VALUE = b"x" * 100_000
PUTS = 300
PASSING = 5_000
AT_ONCE = 100
BURST = 400


def open_watch(
    cluster: RealCluster, version: str = "1.1", accept: str = "text/event-stream", query: str = "prefix="
) -> socket.socket:
    """A watcher, whose request is sent; of everything, unless ``query`` says otherwise."""
    client = socket.create_connection(("127.0.0.1", cluster.http["n1"]), timeout=30)
    client.sendall(f"GET /watch?{query} HTTP/{version}\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
    return client


def begun(client: socket.socket) -> bytes:
    """What came with the head of the answer, which is to be a stream."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(4096)
        assert piece, received
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.split()[1] == b"200", received
    return rest


def heard(client: socket.socket, text: bytes, received: bytes = b"") -> None:
    """Read until ``text`` has come."""
    while text not in received:
        piece = client.recv(1 << 16)
        assert piece, received[-200:]
        received = received[-len(text) :] + piece


def shown(cluster: RealCluster, name: str) -> int:
    lines = cluster.request("GET", "n1", "/metrics").text.splitlines()
    return round(float(next(line.split()[-1] for line in lines if line.startswith(f"{name} "))))


def none_left(cluster: RealCluster) -> bool:
    return shown(cluster, "raftkv_http_streams") == shown(cluster, "raftkv_listeners") == 0


def held_mib(pid: int) -> float:
    """What the process has allocated itself."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  they may be gone when they are looked at


def test_watchers_who_never_read_cost_little_while_others_are_told_all_and_are_let_go(tmp_path):
    with running(tmp_path, size=1) as cluster:
        (worker,) = workers(cluster, "n1")
        deaf = [open_watch(cluster) for _ in range(IDLE_COUNT)]
        reader = open_watch(cluster)
        rest = begun(reader)
        wait_until(lambda: shown(cluster, "raftkv_listeners") == IDLE_COUNT + 1, "all to watch")
        before_mib = held_mib(worker)
        told = threading.Thread(target=heard, args=(reader, b'"key":"last"', rest), daemon=True)
        told.start()
        most_mib = 0.0
        with requests.Session() as session:
            for number in range(PUTS):
                answer = session.put(cluster.url("n1", f"/kv/k{number % 3}"), data=VALUE, timeout=30)
                assert answer.status_code in (200, 201), answer.text
                most_mib = max(most_mib, held_mib(worker))
        assert shown(cluster, "raftkv_listeners") == IDLE_COUNT + 1
        cluster.put("n1", "last")
        told.join(30)

        assert not told.is_alive()
        # Each could be owed all that was written, thirty megabytes.
        assert most_mib - before_mib < 100
        wait_until(lambda: shown(cluster, "raftkv_listeners") == 1, "those who never read to be let go", 90)
        assert shown(cluster, "raftkv_http_streams") == 1
        for client in (*deaf, reader):
            client.close()
        wait_until(lambda: none_left(cluster), "the reader to be gone")


def test_thousands_of_watchers_who_leave_in_every_way_leave_nothing(tmp_path):
    with running(tmp_path, size=1) as cluster:
        (worker,) = workers(cluster, "n1")
        held: list[float] = []
        opened: list[int] = []
        for number in range(PASSING // AT_ONCE):
            clients = [open_watch(cluster) for _ in range(AT_ONCE)]
            for client in clients:
                begun(client)
            assert cluster.put("n1", "k", str(number)).ok
            for place, client in enumerate(clients):
                if place % 3 == 0:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                elif place % 3 == 1:
                    client.shutdown(socket.SHUT_WR)
                client.close()
            if number % 10 == 9:
                wait_until(lambda: none_left(cluster), "all to be gone")
                held.append(held_mib(worker))
                opened.append(descriptors(worker))

        assert len(held) == PASSING // AT_ONCE // 10
        assert max(opened[1:]) - opened[0] <= 2  # the metrics' own connections
        assert held[-1] - held[1] < 8
        (line,) = [
            one
            for one in cluster.request("GET", "n1", "/metrics").text.splitlines()
            if one.startswith('raftkv_http_streams_ended_total{how="left"}')
        ]
        assert float(line.split()[-1]) == PASSING


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_who_closes_its_half_goes_on_hearing_and_is_missed_when_it_has_left(tmp_path, version, accept):
    with running(tmp_path, size=1) as cluster:
        clients = [open_watch(cluster, version, accept) for _ in range(20)]
        rests = []
        for place, client in enumerate(clients):
            if place % 2:  # before it was answered
                client.shutdown(socket.SHUT_WR)
            rests.append(begun(client))
            if not place % 2:
                client.shutdown(socket.SHUT_WR)
        wait_until(lambda: shown(cluster, "raftkv_listeners") == len(clients), "all to watch")
        for text in ("first", "second"):
            assert cluster.put("n1", text).ok
            for client, rest in zip(clients, rests, strict=True):
                heard(client, f'"key":"{text}"'.encode(), rest if text == "first" else b"")

        assert shown(cluster, "raftkv_listeners") == len(clients)
        for client in clients:
            client.close()
        wait_until(lambda: none_left(cluster), "all to be gone, though nothing changes")


def test_a_burst_while_no_quorum_answers_is_told_so_and_the_client_asks_again(tmp_path):
    with running(tmp_path) as cluster:
        assert cluster.put("n1", "first").ok
        for node in ("n2", "n3"):
            cluster.pause(node)
        watch = Client(cluster.url("n1", ""), timeout_s=60).watch(prefix="", from_revision=1)
        told: list[str] = []
        watching = threading.Thread(target=lambda: told.append(next(iter(watch)).key), daemon=True)
        watching.start()
        clients = [open_watch(cluster, query="prefix=&timeout=1") for _ in range(BURST)]
        for client in clients:
            answer = HTTPResponse(client)
            answer.begin()
            refusal = json.loads(answer.read())
            assert (answer.status, refusal["applied"]) == (503, "no"), refusal
            assert refusal["code"] in ("no_leader", "quorum_unreachable")
            assert answer.getheader("Retry-After")
            client.close()
        assert shown(cluster, "raftkv_listeners") == 0
        assert told == []
        for node in ("n2", "n3"):
            cluster.resume(node)
        watching.join(60)

        assert told == ["first"]
        watch.close()
