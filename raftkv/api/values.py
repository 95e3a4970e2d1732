"""Values and keys in JSON: text as a string, other bytes as base64. Imports the standard library and msgspec only."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

import msgspec
from msgspec import Meta

BASE64: Final = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
"""How the description says base64; decoding is what decides."""


class Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value or a key that is no text, in JSON."""

    base64: Annotated[str, Meta(extra_json_schema={"pattern": BASE64, "contentEncoding": "base64"})]


Value = str | Base64


def value_to_json(value: bytes) -> Value:
    """Text as a string, other bytes as ``{"base64": ...}``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return Base64(base64.b64encode(value).decode())


def text_from_json(value: Value) -> str:
    """A key as Python's text: bytes that are none are in it as those of file names are (PEP 383).

    Raises ``ValueError``.
    """
    return value if isinstance(value, str) else value_from_json(value).decode(errors="surrogateescape")


def text_to_json(text: str) -> Value:
    """Such text as JSON has it. Raises ``UnicodeEncodeError`` for what stands for no bytes."""
    return text if text.isascii() else value_to_json(text.encode(errors="surrogateescape"))


def value_from_json(value: Value) -> bytes:
    """The bytes behind a JSON value; raises ``ValueError`` with a reason."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair is not text") from None
    try:
        return base64.b64decode(value.base64, validate=True)
    except binascii.Error:
        raise ValueError("not valid base64") from None
