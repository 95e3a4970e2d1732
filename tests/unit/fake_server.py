"""A small HTTP server for tests of the client: answers as it is told, and remembers what it was asked."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

import msgspec

CUT = "cut"
"""An answer that is none: the connection is closed after the request was read."""

HANG = "hang"
"""The request is read and nothing follows until the server stops."""


class Asked(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012  a default of a tuple, never changed


def problem(status: int, code: str, applied: str, headers: dict[str, str] | None = None, **members: Any) -> Answer:
    body = {"status": status, "title": code, "detail": f"it is {code}", "code": code, "applied": applied, **members}
    return Answer(status, msgspec.json.encode(body), {"Content-Type": "application/problem+json", **(headers or {})})


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, msgspec.json.encode(content), {"Content-Type": "application/json", **(headers or {})})


class FakeServer:
    """Gives ``answers`` in turn, the last one for ever. ``url`` is where."""

    def __init__(self, *answers: Answer | str) -> None:
        self.asked: list[Asked] = []
        self.answers = list(answers)
        self.connections = 0
        self._released = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                fake.connections += 1

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                # What a client asks that wonders whether HTTP is spoken here at all is no part of a test.
                is_probe = self.path == "/livez"
                if not is_probe:
                    fake.asked.append(Asked(self.command, self.path, headers, body))
                answer = fake.answers[0] if is_probe or len(fake.answers) == 1 else fake.answers.pop(0)
                if isinstance(answer, str):
                    if answer == HANG:
                        fake._released.wait(30)
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  http.server's names

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
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
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
