"""``/openapi.json`` and ``/docs``, made once at start from the list of routes and the types of the bodies."""

from __future__ import annotations

import html
import re
from typing import Any, Final

import msgspec

from raftkv.http import bodies
from raftkv.http.messages import encode_json
from raftkv.http.problems import TABLE
from raftkv.http.routes import ROUTES, Route

PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)

_QUERY: Final = {
    "consistency": "linearizable (default), lease or local",
    "timeout": "seconds to wait for the outcome, up to 60",
    "w": "who has the write durably before the answer: leader, majority (default), all, or a number of replicas",
    "redirect": "1: answer 307 to the leader instead of forwarding",
    "ttl": "seconds after which the key expires",
    "key": "the key",
    "prefix": "only keys that begin with this",
    "start": "the first key",
    "end": "the first key no more",
    "limit": "how many keys at most",
    "keys_only": "1: without the values",
}
_HEADERS: Final = {
    "If-Match": 'the revision the key must stand at, as in "7", or * (it must exist)',
    "If-None-Match": "* (the key must not exist)",
    "Idempotency-Key": "a retry with the same key returns the first outcome instead of applying twice",
}
_TITLE: Final = "raftkv: a replicated key-value store"


def describe(version: str) -> tuple[bytes, bytes]:
    """The OpenAPI description and the page for people."""
    (body_schemas,), components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.name, {})[route.method.lower()] = _operation(route, body_schemas)
    for path, what in (("/metrics", "Counters for Prometheus"), ("/openapi.json", "This"), ("/docs", "For people")):
        paths[path] = {"get": {"summary": what, "responses": {"200": {"description": "the page"}}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": version},
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _problem_schema()}},
    }
    return encode_json(document), _page(paths).encode()


def _schemas() -> tuple[list[dict[Any, dict[str, Any]]], dict[str, Any]]:
    types = [bodies.Batch, bodies.KeyAndValue]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return [dict(zip(types, schemas, strict=True))], components


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "RFC 9457, with a stable code and whether the request may have been applied",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": [*(code.value for code in TABLE), "internal_error"]},
            "applied": {"type": "string", "enum": ["no", "unknown"]},
        },
        "required": ["title", "status", "detail", "code", "applied"],
    }


def _operation(route: Route, body_schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)\*?}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": _QUERY[name], "schema": {"type": "string"}}
        for name in sorted(route.query)
    ]
    wanted = [*(("If-Match", "If-None-Match") if route.conditional else ())]
    wanted += ["Idempotency-Key"] if "w" in route.query else []
    parameters += [
        {"name": name, "in": "header", "description": _HEADERS[name], "schema": {"type": "string"}} for name in wanted
    ]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "2XX": {"description": "done"},
            "4XX": {"description": "refused", "content": problem},
            "5XX": {"description": "unavailable, or the outcome is unknown", "content": problem},
        },
    }
    if route.body is bytes:
        schema = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": schema}
    elif route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body_schemas[route.body]}},
        }
    return operation


def _page(paths: dict[str, dict[str, Any]]) -> str:
    rows = []
    for path, operations in paths.items():
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
