"""What the messages of both modes share: refusals, and the error for bytes that are no message.

A refusal is msgpack ``["refused", code, detail, seconds or nil]``. Words are only ever added: one that this version
does not know is told to clients as ``not_supported``, with its detail. This module imports msgspec and ``core``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from raftkv.core.errors import Code, Refused


class MalformedMessageError(ValueError):
    """A peer sent what is no message of this version."""


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """What was asked was not done and never will be; a retry may help after ``retry_after_s`` seconds, if told."""

    code: Annotated[str, Meta(max_length=64)]
    detail: Annotated[str, Meta(max_length=4096)]
    retry_after_s: Annotated[float, Meta(ge=0, le=3600)] | None = None


def refusal_of(refused: Refused) -> Refusal:
    """What goes over the wire."""
    return Refusal(refused.code.value, refused.detail, refused.retry_after_s)


def refused_by(refusal: Refusal) -> Refused:
    """What a client is told."""
    code = Code(refusal.code) if refusal.code in _KNOWN else Code.NOT_SUPPORTED
    return Refused(code=code, detail=refusal.detail, retry_after_s=refusal.retry_after_s)


_KNOWN = frozenset(Code)
