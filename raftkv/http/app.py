"""The Flask application with every route; its views call the handlers and wait as ordinary synchronous code.

How a view waits is the carrier's part: ``wait`` takes a request of ``core`` and how many seconds it may take, and
returns the outcome. Errors of Flask's own (no such route, wrong method) leave as problems too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from raftkv.api import paths
from raftkv.core.errors import Code
from raftkv.core.requests import Request
from raftkv.core.results import Outcome
from raftkv.http import exposition, openapi
from raftkv.http.handlers.handler import Ask, Context, begin, finish
from raftkv.http.messages import JSON, BodyStream, HttpRequest, HttpResponse
from raftkv.http.metrics import Metrics
from raftkv.http.problems import internal_error, problem
from raftkv.http.routes import ROUTES, Route

REQUEST_KEY: Final = "raftkv.request"
"""Where the WSGI environment carries the ``HttpRequest``: WSGI itself loses the raw path."""

ROUTE_KEY: Final = "raftkv.route"
"""Where the view leaves the name of its route for the metrics."""

STREAM_KEY: Final = "raftkv.stream"
"""Where the view leaves a body that is a stream: no thread carries it on as WSGI would."""

Wait = Callable[[Request, float], Outcome]

_REST: Final = re.compile(r"{(\w+)\*}")
_CODES: Final = {404: Code.UNKNOWN_ROUTE, 405: Code.METHOD_NOT_ALLOWED, 413: Code.VALUE_TOO_LARGE}


class _Rest(BaseConverter):
    """The whole rest of a path, whatever it holds, nothing included."""

    regex = r"(?s:.*)"
    part_isolating = False


def create_app(context: Context, wait: Wait, metrics: Metrics, more: Sequence[Route] = ()) -> flask.Flask:
    """The application; one for each worker. ``more`` is what is served beside the native API."""
    app = flask.Flask("raftkv", static_folder=None)
    app.url_map.converters["rest"] = _Rest
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    for route in (*ROUTES, *[one for one in more if one.method == "GET"]):
        _add(app, route, _view(route, context, wait))
    description, page = openapi.describe(context)
    _add_page(app, paths.OPENAPI, HttpResponse(status=200, headers=(JSON,), body=description))
    _add_page(app, paths.DOCS, HttpResponse(status=200, headers=openapi.PAGE_HEADERS, body=page))

    def show_metrics() -> flask.Response:
        flask.request.environ[ROUTE_KEY] = paths.METRICS
        return flask.Response(exposition.text(metrics), content_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_url_rule(paths.METRICS, paths.METRICS, show_metrics, methods=["GET"])
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _defect)
    return app


def flask_rule(path: str) -> str:
    """A path of the route list as Flask writes it."""
    return _REST.sub(r"<rest:\1>", path).replace("{", "<").replace("}", ">")


def _add(app: flask.Flask, route: Route, view: Callable[..., flask.Response]) -> None:
    app.add_url_rule(flask_rule(route.path), f"{route.method} {route.path}", view, methods=[route.method])


def _add_page(app: flask.Flask, path: str, page: HttpResponse) -> None:
    def view() -> flask.Response:
        flask.request.environ[ROUTE_KEY] = path
        return _to_flask(page)

    app.add_url_rule(path, path, view, methods=["GET"])


def _view(route: Route, context: Context, wait: Wait) -> Callable[..., flask.Response]:
    def view(**_: str) -> flask.Response:
        environ = flask.request.environ
        environ[ROUTE_KEY] = route.name
        request: HttpRequest = environ[REQUEST_KEY]
        ask = begin(route.handler, request, context)
        if isinstance(ask, HttpResponse):
            return _to_flask(ask)
        assert isinstance(ask, Ask), "conversations are of hot routes: a view cannot hear that its client has left"
        return _to_flask(finish(route.handler, ask, wait(ask.request, ask.timeout_s), context))

    return view


def _to_flask(response: HttpResponse) -> flask.Response:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
    body = response.body
    if isinstance(body, BodyStream):
        flask.request.environ[STREAM_KEY] = body
        return flask.Response(status=response.status, headers=headers)
    return flask.Response(body, status=response.status, headers=headers)


def _http_error(error: HTTPException) -> flask.Response:
    """Flask's own errors, of which only routing is left to it."""
    status = error.code or 500
    if status < 400:
        return flask.Response(status=status, headers=error.get_headers())
    code = _CODES.get(status, Code.BAD_REQUEST)
    if status == 404:
        detail = "there is no such resource; see /docs"
    elif status == 405:
        detail = f"{flask.request.method[:20]} is not allowed here"
    else:
        detail = str(error.description)
    response = _to_flask(problem(code, detail))
    allowed: Any = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _defect(error: Exception) -> flask.Response:
    """A defect of ours: the carrier logs it, the client learns no more than that."""
    flask.request.environ["raftkv.defect"] = error
    answer = _to_flask(internal_error(flask.request.method))
    answer.status_code = 500
    return answer
