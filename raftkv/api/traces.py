"""W3C Trace Context, level 1: the header that says which trace a request is part of (www.w3.org/TR/trace-context-1).

A header that breaks the rules is none, as the recommendation asks for; what it says is never acted on, only told.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


class TraceParent(NamedTuple):
    """Which trace, and which span of it asks; both in lower-case hexadecimal. Bit 0 of ``flags``: it is recorded."""

    trace_id: str
    parent_id: str
    flags: int


def trace_parent(text: str) -> TraceParent | None:
    """What a ``traceparent`` header says; ``None`` if it is none. Later versions may say more than this one."""
    found = _PARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not (trace_id.strip("0") and parent_id.strip("0")):
        return None
    return TraceParent(trace_id, parent_id, int(flags, 16))
