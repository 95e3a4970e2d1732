"""Raw conversations with the HTTP port: bytes there, and what came back, taken apart."""

from __future__ import annotations

import http.client
import io
import socket
import time
from contextlib import suppress
from typing import NamedTuple

from raftkv.api.problems import TABLE
from tests.fuzz.siege import Siege

ANSWER_S = 20.0
"""Within this time every conversation must have come to its end."""

PIECE_S = 0.002
"""Between pieces, so that they are mostly read as such."""

STATUSES = {200, 201, 202, 304, 307} | {kind.status for kind in TABLE.values()}
"""Every status that is documented; 500 is not."""

WAYS = {"plain": b"", "general": b"\r\n"}
"""What is sent first so that what follows goes either way, if it is plain: an empty line before a request means nothing
(RFC 9112, section 2.2), and only the general way knows that."""

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
    return _finish(client)[0]


def _finish(client: socket.socket) -> tuple[bytes, bool]:
    received = b""
    with suppress(OSError):  # it may be closed already
        client.shutdown(socket.SHUT_WR)
    try:
        while chunk := client.recv(1 << 16):
            received += chunk
    except ConnectionResetError:  # it was closed with something of ours unread
        return received, False
    except TimeoutError:
        raise AssertionError("the server neither answers nor closes") from None
    return received, True


def converse(siege: Siege, node: str, data: bytes) -> bytes:
    """Send ``data``, and take what comes back."""
    return converse_in_pieces(siege, node, [data])[0]


def converse_in_pieces(siege: Siege, node: str, pieces: list[bytes]) -> tuple[bytes, bool]:
    """Send ``pieces``, one after another; what comes back, and whether that is certainly all that was said."""
    with connect(siege, node) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        is_whole = True
        try:
            for place, piece in enumerate(pieces):
                time.sleep(PIECE_S if place else 0)
                client.sendall(piece)
        except ConnectionError:
            is_whole = False
        received, is_all = _finish(client)
        return received, is_whole and is_all


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
