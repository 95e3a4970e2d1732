"""A small HTTP server for tests of the client: answers as it is told, and remembers what it was asked."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

import msgspec

from raftkv.client.http1 import HttpAnswer

CUT = "cut"
"""An answer that is none: the connection is closed after the request was read."""

HANG = "hang"
"""The request is read and nothing follows until the server stops."""


_BOUND: list[socket.socket] = []
"""What keeps the ports of ``unused_url`` as long as this process lives."""


class Asked(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Told(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {"Raftkv-Node": "n1"}  # noqa: RUF012  a default of a tuple, never changed


class Dripping(NamedTuple):
    """An answer in chunks, each sent by itself; a number is a pause in seconds, and ``CUT`` or ``HANG`` end it."""

    pieces: Iterable[bytes | float | str] = ()
    status: int = 200
    headers: dict[str, str] = {"Content-Type": "text/event-stream"}  # noqa: RUF012  a default, never changed


def heard(status: int = 200, body: bytes = b"", **headers: str) -> HttpAnswer:
    """An answer as a client has it once it was read."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return HttpAnswer(status=status, fields=f"\r\n{fields}".encode(), body=body)


def problem(status: int, code: str, applied: str, headers: dict[str, str] | None = None, **members: Any) -> Told:
    body = {"status": status, "title": code, "detail": f"it is {code}", "code": code, "applied": applied, **members}
    return Told(status, msgspec.json.encode(body), {"Content-Type": "application/problem+json", **(headers or {})})


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Told:
    return Told(status, msgspec.json.encode(content), {"Content-Type": "application/json", **(headers or {})})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections += 1

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        # What a client asks that wonders whether HTTP is spoken here at all is no part of a test.
        is_probe = self.path == "/livez"
        if not is_probe:
            self.server.fake.asked.append(Asked(self.command, self.path, headers, body))
        answer = (
            self.server.fake.answers[0]
            if is_probe or len(self.server.fake.answers) == 1
            else self.server.fake.answers.pop(0)
        )
        if isinstance(answer, str):
            self.end(answer)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if isinstance(answer, Dripping):
            with contextlib.suppress(OSError):
                self.drip(answer)
            return
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def end(self, how: str) -> None:
        if how == HANG:
            self.server.fake._released.wait(30)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def drip(self, answer: Dripping) -> None:
        self.close_connection = True  # unless it comes to the end
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            if isinstance(piece, str):
                self.end(piece)
                return
            if isinstance(piece, bytes):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.server.fake.dripped += 1
            else:
                time.sleep(piece)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = False

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  http.server's names

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: "FakeServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client whose time is over leaves in the middle of an answer, which is for nobody to be told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakeServer:
    """Gives ``answers`` in turn, the last one for ever. ``url`` is where."""

    def __init__(self, *answers: Told | Dripping | str) -> None:
        self.asked: list[Asked] = []
        self.answers = list(answers)
        self.connections = 0
        self.dripped = 0
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def unused_url() -> str:
    """An address where nobody listens, nor will: its port stays bound, so that no server of another test gets it."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    _BOUND.append(bound)
    return f"http://127.0.0.1:{bound.getsockname()[1]}"
