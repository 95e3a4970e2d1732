"""Raw conversations with the HTTP port: bytes there, and what came back, taken apart."""

from __future__ import annotations

import http.client
import io
import socket
from contextlib import suppress
from typing import NamedTuple

from raftkv.api.problems import TABLE
from tests.fuzz.siege import Siege

ANSWER_S = 20.0
"""Within this time every conversation must have come to its end."""

STATUSES = {200, 201, 202, 304, 307} | {kind.status for kind in TABLE.values()}
"""Every status that is documented; 500 is not."""

PROBLEM = "application/problem+json"


class Answer(NamedTuple):
    """One response."""

    status: int
    kind: str
    body: bytes


class _Recording:
    """What ``http.client`` takes for a socket."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._stream


class _Stream(io.BytesIO):
    def close(self) -> None:
        """Stay open: one response follows another."""


def connect(siege: Siege, node: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", siege.cluster.http[node]), timeout=ANSWER_S)


def finish(client: socket.socket) -> bytes:
    """Say that nothing more will come, and take what comes until the server closes; a server that does not, fails."""
    received = b""
    with suppress(OSError):  # it may be closed already
        client.shutdown(socket.SHUT_WR)
    try:
        while chunk := client.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass  # it was closed with something of ours unread
    except TimeoutError:
        raise AssertionError("the server neither answers nor closes") from None
    return received


def converse(siege: Siege, node: str, data: bytes) -> bytes:
    """Send ``data``, and take what comes back."""
    with connect(siege, node) as client:
        with suppress(ConnectionError):
            client.sendall(data)
        return finish(client)


def answers(received: bytes, method: str = "GET") -> list[Answer]:
    """The responses in ``received``, each whole; ``method`` is that of all requests."""
    stream, found = _Stream(received), []
    while stream.tell() < len(received):
        response = http.client.HTTPResponse(_Recording(stream), method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        found.append(Answer(response.status, response.headers.get("content-type", ""), body))
    return found


def check_answers(found: list[Answer]) -> None:
    """Every answer has a documented status, and is a problem when it is no success."""
    for answer in found:
        assert answer.status in STATUSES, answer
        assert answer.status < 400 or answer.kind == PROBLEM, answer
