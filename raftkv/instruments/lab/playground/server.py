"""The page of a playground and what its buttons do, served on loopback by Werkzeug, a thread for each connection.

Whoever has the token of this start may do everything; it is in the address that is printed, behind the ``#``, which no
browser sends to anybody, and the page sends it as a bearer token, which no page of another site can do unasked. Besides
that, browsers are kept from what they should not do as by a node (``raftkv.http.door.browsers``): foreign names that
point here (DNS rebinding), and other sites' requests. Bounded: connections, streams, bodies, and every wait.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler

from raftkv.api import headers
from raftkv.api.paths import CONSOLE
from raftkv.console.serving import SAFELY, TYPES
from raftkv.console.serving import files as console_files
from raftkv.http.door.browsers import BrowserGuard
from raftkv.instruments.lab.playground.faultdesk import FaultOrder, FaultOrderError
from raftkv.instruments.lab.playground.play import Playground, TrafficOrder
from raftkv.instruments.lab.playground.saving import SavingError
from raftkv.instruments.local.nodes import ClusterError

CONNECTIONS_MAX: Final = 64
STREAMS_MAX: Final = 16
BODY_BYTES_MAX: Final = 4096
SILENCE_S: Final = 60.0
"""A connection on which a browser says nothing, or takes nothing, for so long is closed."""

PAGE: Final = "playground.html"
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""A report is one file with its style in it, and has no scripts."""


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the terminal is for people."""


class _Server(ThreadedWSGIServer):
    """Serves so many connections at most; of more each is closed at once."""

    daemon_threads = True

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(*arguments, **more)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


@contextlib.contextmanager
def serving(playground: Playground, listener: socket.socket) -> Iterator[str]:
    """Serve ``playground`` on ``listener``, which is bound; gives the address of the page."""
    token = secrets.token_urlsafe(24)
    host, port = listener.getsockname()[:2]
    server: BaseWSGIServer = _Server(host, port, application(playground, token), handler=_Handler, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{port}/#{token}"
    finally:
        server.shutdown()
        thread.join()


def application(playground: Playground, token: str) -> Flask:
    """What is served to whoever knows ``token``."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    page = _Pages(playground, token)
    app.before_request(page.guarded)
    app.add_url_rule("/", view_func=page.front)
    app.add_url_rule(f"{CONSOLE}/<name>", view_func=page.console_file)
    app.add_url_rule("/playground/<name>", view_func=page.own_file)
    app.add_url_rule("/report/<word>", view_func=page.report)
    app.add_url_rule("/live", view_func=page.live)
    app.add_url_rule("/<what>", view_func=page.order, methods=["POST"])
    app.register_error_handler(HTTPException, _mistaken)
    return app


class _Pages:
    """The answers. Files are the same for everybody; the rest is for whoever knows ``token``."""

    def __init__(self, playground: Playground, token: str) -> None:
        self._playground = playground
        self._expected = f"Bearer {token}".encode()
        self._guard = BrowserGuard(())
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)
        self._console = {name: one for name, one in console_files().items() if name != "index.html"}
        self._own = {one.name: one.read_bytes() for one in (resources.files(__package__) / "files").iterdir()}

    def guarded(self) -> Response | None:
        """What is not to be heard of at all."""
        raw = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}
        path = CONSOLE if request.path == "/" else request.path  # a page that anybody may link to
        refusal = self._guard.refusal(request.method, path.encode("latin-1", "replace"), raw)
        if refusal is None:
            return None
        assert isinstance(refusal.body, bytes)
        return Response(refusal.body, refusal.status, content_type=headers.PROBLEM_JSON)

    def _stranger(self) -> Response | None:
        given = request.headers.get("Authorization", "").encode("latin-1", "replace")
        if hmac.compare_digest(given, self._expected):
            return None
        return _problem(401, "this page belongs to another start: open the address that the command printed")

    def front(self) -> Response:
        """The page."""
        return _file(PAGE, self._own[PAGE])

    def console_file(self, name: str) -> Response:
        """What it shares with the pages of nodes."""
        return _file(name, self._console[name]) if name in self._console else _nothing()

    def own_file(self, name: str) -> Response:
        """What it has of its own."""
        return _file(name, self._own[name]) if name in self._own else _nothing()

    def report(self, word: str) -> Response:
        """The report of a run that was saved; its word was told to whoever saved it."""
        found = self._playground.saved(word)
        if found is None:
            return _nothing()
        shown = _file(found.name, found.read_bytes())
        shown.headers["Content-Security-Policy"] = REPORT_POLICY
        return shown

    def live(self) -> Response:
        """Everything that happens, for as long as it is taken."""
        if (refusal := self._stranger()) is not None:
            return refusal
        if not self._streams.acquire(blocking=False):
            return _problem(429, f"{STREAMS_MAX} pages look already")
        lines = self._playground.board.lines()
        answer = Response(lines, content_type=headers.LINES, headers={"Cache-Control": "no-store"})
        answer.call_on_close(self._streams.release)
        return answer

    def order(self, what: str) -> Response:
        """Do something."""
        if (refusal := self._stranger()) is not None:
            return refusal
        try:
            done = _done(self._playground, what, request.get_data())
        except (FaultOrderError, msgspec.DecodeError) as error:
            return _problem(400, str(error))
        except LookupError:
            return _nothing()
        except (ClusterError, SavingError) as error:
            return _problem(409, str(error))
        except TimeoutError:
            return _problem(504, "it takes too long, and may still happen")
        return Response(json.dumps(done), content_type=headers.JSON)


def _mistaken(error: HTTPException) -> Response:
    return _problem(error.code or 500, error.description or error.name)


def _nothing() -> Response:
    return _problem(404, "there is nothing of the kind here")


def _done(playground: Playground, what: str, body: bytes) -> dict[str, Any]:
    """Do it and say what came of it; raises ``LookupError`` where there is nothing of the kind."""
    if what == "fault":
        playground.desk.order(msgspec.json.decode(body, type=FaultOrder))
    elif what == "heal":
        playground.desk.heal()
    elif what == "traffic":
        playground.change(msgspec.json.decode(body, type=TrafficOrder))
    elif what == "cart":
        told = playground.cart(with_care=msgspec.json.decode(body, type=CartOrder).with_care)
        return {"lines": told.lines, "lost": told.lost, "is_certain": told.is_certain}
    elif what == "save":
        word, page = playground.save()
        return {"report": f"/report/{word}", "folder": str(page.parent.resolve())}
    else:
        raise LookupError(what)
    return {}


class CartOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the two of the cart write it back."""

    with_care: bool


def _file(name: str, content: bytes) -> Response:
    answer = Response(content, content_type=TYPES[name.rpartition(".")[2]].decode())
    for header, value in SAFELY:
        answer.headers[header.decode()] = value.decode()
    return answer


def _problem(status: int, detail: str) -> Response:
    return Response(json.dumps({"detail": detail, "status": status}), status, content_type=headers.PROBLEM_JSON)
