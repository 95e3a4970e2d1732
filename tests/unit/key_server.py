"""A small store behind HTTP for tests of the client: keeps what is put, and says how many connections there were."""

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec


class KeyServer:
    """``stored`` holds what was put under each key; ``url`` is where."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.connections = 0
        self._open: set[socket.socket] = set()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                store.connections += 1
                store._open.add(self.connection)

            def do_PUT(self) -> None:
                body, key = self.rfile.read(int(self.headers["Content-Length"])), self._key()
                status = 200 if key in store.stored else 201
                store.stored[key] = body
                acks = parse_qs(urlsplit(self.path).query).get("w", ["majority"])[0]
                shown = msgspec.json.encode({"key": key, "version": 1, "revision": 1})
                self._answer(status, shown, "application/json", {"Raftkv-Durability": acks})

            def do_GET(self) -> None:
                value = store.stored.get(self._key())
                if value is None:
                    shown = msgspec.json.encode({"code": "not_found", "applied": "no", "detail": "no such key"})
                    self._answer(404, shown, "application/problem+json")
                    return
                self._answer(200, value, "application/octet-stream")

            def _key(self) -> str:
                return unquote(self.path.partition("?")[0].removeprefix("/kv/"))

            def _answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": kind, **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Raftkv-Node", "n1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *args: Any) -> None:
                pass  # clients go away as they like

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def wait_until_open(self, count: int) -> None:
        """Until neither side has closed ``count`` connections."""
        until_s = time.monotonic() + 20
        while sum(one.fileno() >= 0 for one in self._open) != count:
            assert time.monotonic() < until_s
            time.sleep(0.01)

    def drop_connections(self) -> None:
        """Close all that are open, as a server does with those that are idle for long."""
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
