"""Every request of the HTTP API, from the very description that a running node serves at ``/openapi.json``."""

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import raftkv
from raftkv.core.config import HttpSection
from raftkv.http.openapi import describe

_NODES = 3
"""Of how many nodes the described cluster is: it bounds what ``w`` and ``r`` may be."""


class HttpRequests(SphinxDirective):
    """A heading for each first part of a path, below it every request with its parameters, body and answers."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        context = SimpleNamespace(version=raftkv.__version__, members=range(_NODES), limits=HttpSection())
        description, _ = describe(context)
        document = json.loads(description)
        sections: dict[str, nodes.section] = {}
        for path, operations in document["paths"].items():
            first = "/" + path.split("/")[1]
            if first not in sections:
                sections[first] = nodes.section(ids=[nodes.make_id(first)], names=[first])
                sections[first] += nodes.title(text=first)
            for method, operation in operations.items():
                sections[first] += _request(method.upper(), path, operation, document["components"]["schemas"])
        return list(sections.values())


def _request(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> nodes.Node:
    term = nodes.term("", "", nodes.literal(text=f"{method} {path}"), ids=[nodes.make_id(f"{method} {path}")])
    told = nodes.definition("", nodes.paragraph(text=_sentence(operation["summary"])))
    if "description" in operation:
        told += nodes.paragraph(text=_sentence(operation["description"]))
    parameters = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
    if parameters:
        told += nodes.bullet_list("", *(_parameter(one) for one in parameters))
    body = operation.get("requestBody")
    if body:
        told += nodes.paragraph("", "Body: ", *_shapes(body["content"].items(), schemas))
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:  # problems are the same everywhere
            shapes = _shapes(answer.get("content", {}).items(), schemas)
            told += nodes.paragraph(
                "", "", nodes.literal(text=status), nodes.Text(f" {answer['description']} "), *shapes
            )
    return nodes.definition_list("", nodes.definition_list_item("", term, told), classes=["request"])


def _parameter(one: dict[str, Any]) -> nodes.list_item:
    name = f"{one['name']}:" if one["in"] == "header" else f"?{one['name']}="
    return nodes.list_item("", nodes.paragraph("", "", nodes.literal(text=name), nodes.Text(f" {one['description']}")))


def _shapes(contents: Iterable[tuple[str, dict[str, Any]]], schemas: dict[str, Any]) -> list[nodes.Node]:
    """The form of each content: JSON by its members, all else by its type."""
    shown: list[nodes.Node] = []
    for kind, content in contents:
        shape = _shape(content.get("schema", {}), schemas) if kind == "application/json" else kind
        shown += [nodes.Text(" or ")] if shown else []
        shown.append(nodes.literal(text=shape))
    return shown


def _shape(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> str:
    """JSON in short: an object by its members, those that may be left out with a question mark."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _shape(schemas[name], schemas, depth + 1) if depth < 3 else "{...}"
    if "properties" in schema:
        needed = schema.get("required", ())
        members = (
            f'"{name}"{"" if name in needed else "?"}{_inside(one, schemas, depth)}'
            for name, one in schema["properties"].items()
        )
        return "{" + ", ".join(members) + "}"
    if schema.get("type") == "array":
        return f"[{_shape(schema.get('items') or {}, schemas, depth) or '...'}]"
    return schema.get("type", "...")


def _inside(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> str:
    """What stands in a member, if that is more than one value."""
    shape = _shape(schema, schemas, depth)
    return f": {shape}" if shape[0] in "{[" else ""


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
