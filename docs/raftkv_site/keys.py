"""Every key of the configuration: bounds from the structs, defaults and reasons from ``conf/reference.toml``."""

import inspect
import re
from pathlib import Path

import msgspec
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from raftkv.core.config import ClusterConfig

_LINE = re.compile(r"(?P<key>\w+) = (?P<default>.+?)\s+# (?P<why>.*)")
_MORE = re.compile(r"\s+# (?P<why>.*)")


class ConfigurationKeys(SphinxDirective):
    """A heading and the keys of each section, in the order of the structs."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        file = Path(self.env.srcdir).parent / "conf" / "reference.toml"
        self.env.note_dependency(str(file))
        told = read_reference(file.read_text(encoding="utf-8"))
        return [self._section(field, told) for field in msgspec.structs.fields(ClusterConfig)]

    def _section(self, field: msgspec.structs.FieldInfo, told: dict[tuple[str, str], tuple[str, str]]) -> nodes.section:
        repeated = field.encode_name == "node"
        kind = field.type.__args__[0] if repeated else field.type
        section = nodes.section(ids=[field.encode_name], names=[field.encode_name])
        section += nodes.title(text=f"[[{field.encode_name}]]" if repeated else f"[{field.encode_name}]")
        section += self.parse_text_to_nodes(inspect.cleandoc(kind.__doc__ or ""))
        keys = nodes.definition_list(classes=["keys"])
        for key in msgspec.structs.fields(kind):
            keys += self._key(field.encode_name, key, *told[field.encode_name, key.encode_name])
        section += keys
        self.state.document.note_implicit_target(section)
        return section

    def _key(self, section: str, key: msgspec.structs.FieldInfo, default: str, why: str) -> nodes.Node:
        name = f"{section}.{key.encode_name}"
        term = nodes.term("", "", nodes.literal(text=key.encode_name), ids=[nodes.make_id(name)])
        term += nodes.inline("", " = ", nodes.literal(text=default), classes=["default"])
        told = [nodes.paragraph(text=why)]
        bounds = bounds_of(key.type)
        if bounds:
            told.append(nodes.paragraph("", bounds, classes=["bounds"]))
        return nodes.definition_list_item("", term, nodes.definition("", *told))


def read_reference(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Default and reason of each key of the reference file, by section and key."""
    told: dict[tuple[str, str], tuple[str, str]] = {}
    section, key = "", None
    for line in text.splitlines():
        if line.startswith("["):
            section, key = line.partition("]")[0].strip("["), None
        elif found := _LINE.fullmatch(line):
            key = (section, found["key"])
            told[key] = (found["default"], found["why"])
        elif key and (more := _MORE.fullmatch(line)):
            default, why = told[key]
            told[key] = (default, f"{why} {more['why']}")
    return told


def bounds_of(kind: object) -> str:
    """What a key may be, in words; empty where its default says it all."""
    schema = msgspec.json.schema(kind)
    if "enum" in schema:
        return "one of " + ", ".join(f'"{one}"' for one in schema["enum"])
    if schema.get("type") not in ("integer", "number"):
        return ""
    parts = [
        f"{word} {schema[bound]:,}"
        for bound, word in (("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"))
        if bound in schema
    ]
    return ", ".join(parts)
