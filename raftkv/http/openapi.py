"""``/openapi.json`` and ``/docs``, made once at start from the list of routes and the types of the bodies."""

from __future__ import annotations

import html
from http import HTTPStatus
from typing import Any, Final

import msgspec

from raftkv.api import answers, cluster_answers, headers, paths
from raftkv.api.problems import ALWAYS, INTERNAL_ERROR, TABLE
from raftkv.core.errors import Effect
from raftkv.core.requests import Consistency
from raftkv.http import parameters
from raftkv.http.events import FORMS
from raftkv.http.handlers.handler import Context
from raftkv.http.messages import encode_json
from raftkv.http.needs import Needs
from raftkv.http.routes import ROUTES, Route

PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)

_FLAG: Final = {"type": "string", "enum": ["", "0", "1", "true", "false"]}
_KEY: Final = {"type": "string", "minLength": 1}
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    headers.IF_MATCH.name: (
        'the revision the key must stand at, as in "7"; several, of which any may match; or * (it must exist)',
        {"type": "string", "pattern": r'^(\*|"[0-9]{1,18}"(, ?"[0-9]{1,18}"){0,63})$'},
    ),
    headers.IF_NONE_MATCH.name: (
        "* (the key must not exist); not together with If-Match",
        {"type": "string", "enum": ["*"]},
    ),
    headers.IDEMPOTENCY_KEY.name: (
        "a retry with the same key returns the first outcome instead of applying twice",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    headers.LAST_EVENT_ID.name: (
        "the id of the last message that was had: what comes after it is told",
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
    ),
    headers.CONTEXT.name: (
        "as a read has answered it, where siblings are kept: what the writer has seen is replaced",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]*$"},
    ),
}
_UNLESS: Final = (
    headers.IF_NONE_MATCH.name,
    "answer 304 when the value still stands at one of these revisions, or at any (*)",
)
_EVENTS: Final = {"schema": {"type": "string", "description": "the JSON, one object an event; it has no end"}}
_TITLE: Final = "raftkv: a replicated key-value store"
_PAGES: Final = (
    (paths.METRICS, "Counters for Prometheus", "text/plain"),
    (paths.OPENAPI, "This", headers.JSON),
    (paths.DOCS, "For people", "text/html"),
)
_SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "of POST /auth/login"},
    "password": {"type": "http", "scheme": "basic"},
    "certificate": {"type": "mutualTLS", "description": "its common name is the user"},
}
_NO_SCOPES: Final[list[str]] = []
_SHOWN: Final[tuple[dict[str, list[str]], ...]] = (*({name: _NO_SCOPES} for name in _SCHEMES), {})
"""One of them, or, while authentication is off, nothing."""

_PROBLEM: Final = {headers.PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEMS: Final = {str(kind.status): {"$ref": f"#/components/responses/{kind.status}"} for kind in TABLE.values()}
"""Every problem there is, by status; a 500 is a defect, and therefore not among them."""


def describe(context: Context) -> tuple[bytes, bytes]:
    """The OpenAPI description and the page for people."""
    schemas, components = _schemas()
    parameters = _query_parameters(context)
    found: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        found.setdefault(route.name, {})[route.method.lower()] = _operation(route, schemas, parameters)
    for path, what, kind in _PAGES:
        answer = {"description": "the page", "content": {kind: {}}}
        found[path] = {"get": {"summary": what, "responses": {"200": answer, **_PROBLEMS}, "security": []}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": context.version},
        "paths": found,
        "components": {
            "schemas": {**components, "Problem": _problem_schema()},
            "responses": _problem_responses(),
            "securitySchemes": _SCHEMES,
        },
        "security": _SHOWN,
    }
    return encode_json(document), _page(found).encode()


def _schemas() -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    types = {answer for route in ROUTES for found in route.answers.values() for answer in found}
    types = {*types, *(route.body for route in ROUTES)} - {None, bytes}
    ordered = sorted(types, key=lambda one: one.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    answered = vars(answers) | vars(cluster_answers)
    for name, component in components.items():
        if name in answered:  # a default there is for who reads an answer that does not say so
            fields = msgspec.structs.fields(answered[name])
            component["required"] = [field.name for field in fields if field.default is not msgspec.UNSET]
            for described in component["properties"].values():
                described.pop("default", None)
    return dict(zip(ordered, schemas, strict=True)), components


def _query_parameters(context: Context) -> dict[str, tuple[str, dict[str, Any]]]:
    """What each query parameter means, and its schema."""
    replicas, limit = len(context.members), context.limits.max_list_limit
    levels = [level.value for level in Consistency]
    replica = {"type": "integer", "minimum": 1, "maximum": replicas}
    named = [{"enum": ["leader", "majority", "all"]}, replica]
    return {
        "consistency": (
            "linearizable (default where it is offered), lease, eventual or local",
            {"type": "string", "enum": levels},
        ),
        "r": ("how many replicas must answer an eventual read; the newest of their values is given", replica),
        "n": ("how many replicas of the key are asked, in a leaderless cluster", replica),
        "sloppy": ("0: no other node stands in for a replica that cannot be reached", _FLAG),
        "timeout": ("seconds to wait for the outcome, up to 60", _seconds(parameters.MAX_TIMEOUT_S)),
        "w": ("who has the write durably before the answer: majority (default)", {"anyOf": named}),
        "redirect": ("1: answer 307 to the leader instead of forwarding", _FLAG),
        "ttl": ("seconds after which the key expires", _seconds(parameters.MAX_TTL_S)),
        "lease": ("the lease with which the key goes; not together with ttl", {"type": "integer", "minimum": 1}),
        "token": ("the fencing token of the grant", {"type": "integer", "minimum": 1}),
        "revision": ("as it stood at this revision", {"type": "integer", "minimum": 1}),
        "at_ms": (
            "as it stood at this time by the log's clock, in milliseconds since 1970",
            {"type": "integer", "minimum": 1},
        ),
        "start_lease": ("the first lease", {"type": "integer", "minimum": 1}),
        "key": ("the key", _KEY),
        "prefix": ("only keys that begin with this", {"type": "string"}),
        "start": ("the first key", {"type": "string"}),
        "end": ("the first key no more", _KEY),
        "limit": (
            f"how many keys at most; a page has {limit} of them, or fewer when they are large, and next leads on",
            {"type": "integer", "minimum": 1, "maximum": parameters.NUMBER_MAX},
        ),
        "keys_only": ("1: without the values", _FLAG),
        "from_revision": (
            "the first revision that is told; from now on, if it is not said",
            {"type": "integer", "minimum": 1},
        ),
        "previous": ("1: with what was there before", _FLAG),
        "standing": ("1: with events of how the asked node stands, and of the members", _FLAG),
        "traffic": ("1: with events of what the asked node is asked", _FLAG),
        "access": (
            "what the permission allows; missing, it is refused",
            {"type": "string", "enum": ["read", "write", "both"]},
        ),
        "only": ("changes of this kind only", {"type": "string", "enum": ["put", "delete"]}),
        "progress_s": (
            "after how many quiet seconds it is told how far it has seen: 5 if it is not said",
            _seconds(parameters.MAX_PROGRESS_S),
        ),
    }


def _seconds(limit_s: float) -> dict[str, Any]:
    return {"type": "number", "exclusiveMinimum": 0, "maximum": limit_s}


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "RFC 9457, with a stable code and whether the request may have been applied",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": [*(code.value for code in TABLE), INTERNAL_ERROR]},
            "applied": {"type": "string", "enum": [*Effect]},
        },
        "required": ALWAYS,
    }


def _problem_responses() -> dict[str, Any]:
    titles: dict[str, list[str]] = {}
    for kind in TABLE.values():
        titles.setdefault(str(kind.status), []).append(kind.title)
    return {status: {"description": ", ".join(names), "content": _PROBLEM} for status, names in titles.items()}


def _operation(
    route: Route, schemas: dict[Any, dict[str, Any]], query: dict[str, tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    described = [
        _parameter("path", name, name, _KEY if name in ("key", "name") else {"type": "string"}, required=True)
        for name in paths.names_in(route.path)
    ]
    described += [
        _parameter("query", name, *query[name], required=name == "key" and not route.endless)
        for name in sorted(route.handler.form.query)
    ]
    described += _header_parameters(route)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": described,
        "responses": _responses(route, schemas),
    }
    if route.handler.needs is Needs.NOTHING:
        operation["security"] = []
    elif route.handler.needs in (Needs.ROOT, Needs.OPERATOR):
        operation["description"] = "for users with the role root, or who proves to hold the cluster's secret"
    if route.body is not None:
        is_form = route.handler.takes_token_in_form
        content = {headers.FORM: {"schema": schemas[route.body]}} if is_form else _content(route.body, schemas)
        operation["requestBody"] = {"required": not is_form, "content": content}
    return operation


def _parameter(place: str, name: str, what: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "description": what, "schema": schema, "required": required}


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if route.method == "GET":
        unless = [_parameter("header", *_UNLESS, {"type": "string"})] if route.conditional else []
    else:
        unless = []
    return unless + [_parameter("header", one.name, *_HEADERS[one.name]) for one in route.handler.form.headers]


def _responses(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """Every status the route answers with; problems are told by their ``code``."""
    responses: dict[str, Any] = {}
    for status, kinds in route.answers.items():
        content = {kind: schema for answer in kinds for kind, schema in _content(answer, schemas).items()}
        if route.endless:
            (message,) = content.values()  # an event is more than its message
            content = {
                headers.EVENTS: {"schema": {"description": "events, as docs/http.rst says"}},
                headers.LINES: message,
            }
        elif route.events:
            content |= {kind.decode(): _EVENTS for kind in FORMS}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **({"content": content} if content else {})}
    if "redirect" in route.handler.form.query:
        responses["307"] = {"description": "the leader's address, when ?redirect=1 asked for it"}
    return {**responses, **_PROBLEMS}


def _content(kind: Any, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if kind is bytes:
        return {headers.BYTES: {"schema": {"type": "string", "format": "binary"}}}
    return {headers.JSON: {"schema": schemas[kind]}}


def _page(operations_of: dict[str, dict[str, Any]]) -> str:
    rows = []
    for path, operations in operations_of.items():
        for method, operation in operations.items():
            details = "".join(
                f"<li><code>{html.escape(one['name'])}</code> ({one['in']}) {html.escape(one.get('description', ''))}"
                for one in operation.get("parameters", ())
            )
            rows.append(
                f"<tr><td><code>{method.upper()}</code><td><code>{html.escape(path)}</code>"
                f"<td>{html.escape(operation['summary'])}<ul>{details}</ul>"
            )
    codes = "".join(
        f"<tr><td>{kind.status}<td><code>{code.value}</code><td>{kind.title}<td>{kind.applied}"
        for code, kind in TABLE.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>raftkv</title><style>body{font:16px/1.4 sans-serif;"
        "margin:2rem auto;max-width:64rem;padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{text-align:"
        "left;vertical-align:top;padding:.3rem .6rem;border-top:1px solid #ccc}ul{margin:0;padding-left:1.2rem;"
        f"font-size:.85em;color:#555}}</style><h1>{_TITLE}</h1><p>Machine-readable: <a href=/openapi.json>/openapi.json"
        f"</a></p><table><tr><th>Method<th>Path<th>What{''.join(rows)}</table><h2>Errors</h2><table><tr><th>Status<th>"
        f"Code<th>Title<th>Applied{codes}</table></html>"
    )
