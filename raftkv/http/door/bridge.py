"""Runs the Flask application on the event loop: every view in a greenlet of its own.

Where a view waits for an outcome, its greenlet switches back to the loop, and the loop resumes it with the outcome; so
hundreds of views wait at once on one thread, without a thread pool. Rules: a view is only ever resumed by the loop
itself, never from inside whoever resolved the outcome; nothing here knows a route.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import flask
import greenlet

from raftkv.core.replicator import Replicator
from raftkv.core.requests import Request
from raftkv.core.results import Outcome
from raftkv.http.app import REQUEST_KEY, ROUTE_KEY, STREAM_KEY
from raftkv.http.counts import UNROUTED
from raftkv.http.futures import settle
from raftkv.http.messages import HttpRequest, HttpResponse

log = logging.getLogger("raftkv.http")


def greenlet_wait(replicator: Replicator) -> Callable[[Request, float], Outcome]:
    """The ``wait`` of ``app.create_app`` for views that this module runs."""

    def wait(request: Request, timeout_s: float) -> Outcome:
        pending = replicator.submit(request, monotonic() + timeout_s)
        if pending.outcome is not None:
            return pending.outcome
        view = greenlet.getcurrent()
        assert view.parent is not None
        loop = asyncio.get_running_loop()
        pending.when_done(lambda outcome: _resume_soon(loop, view, outcome))
        outcome: Outcome = view.parent.switch()
        return outcome

    return wait


def _resume_soon(loop: asyncio.AbstractEventLoop, view: greenlet.greenlet, outcome: Outcome) -> None:
    loop.call_soon(view.switch, outcome)


async def respond(app: flask.Flask, request: HttpRequest) -> tuple[HttpResponse, str]:
    """The response of ``app``, and the name of the route that gave it."""
    future: asyncio.Future[tuple[HttpResponse, str]] = asyncio.get_running_loop().create_future()
    greenlet.greenlet(_run).switch(app, request, future)
    return await future


def _run(app: flask.Flask, request: HttpRequest, future: asyncio.Future[tuple[HttpResponse, str]]) -> None:
    try:
        answer = _call(app, request)
    except Exception as error:  # noqa: BLE001  whatever it is, the waiting request must hear of it
        if not future.done():
            future.set_exception(error)
        return
    settle(future, answer)


def _call(app: flask.Flask, request: HttpRequest) -> tuple[HttpResponse, str]:
    environ = _environ(request)
    started: list[tuple[int, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], object]:
        started.append((int(status.split(" ", 1)[0]), headers))
        return _no_write

    chunks: Iterable[bytes] = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    defect = environ.get("raftkv.defect")
    if defect is not None:
        raise defect
    status, headers = started[-1]
    pairs = tuple([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers])
    stream = environ.get(STREAM_KEY)
    if stream is not None:
        pairs = tuple([pair for pair in pairs if pair[0] != b"content-length"])  # which is Flask's, of its empty body
    return HttpResponse(status=status, headers=pairs, body=stream or body), environ.get(ROUTE_KEY, UNROUTED)


def _no_write(_: bytes) -> object:
    raise AssertionError("Flask does not use WSGI's write")


def _environ(request: HttpRequest) -> dict[str, Any]:
    """The little of WSGI that Flask's routing looks at; views read the ``HttpRequest`` itself.

    The path stays percent-encoded: handlers take their keys from the raw path, so no other spelling may reach a route.
    """
    return {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.decode("latin-1"),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_NAME": "raftkv",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b""),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        REQUEST_KEY: request,
    }
