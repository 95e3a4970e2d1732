"""How many replicas a request is about, ``r``, ``w``, ``n`` and ``sloppy``, and what its writer has seen.

Pure functions. Numbers are held against the sizes that the replica's status names, so that a typo is refused before
anybody is asked. Where every node has every key there is nothing to choose for ``n`` and ``sloppy``, and no causal
context: whoever names one is refused, never half heard. This module must not import Flask.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from raftkv.api.headers import CONTEXT
from raftkv.core.errors import Code
from raftkv.core.requests import DEFAULT, MAJORITY, Consistency, Query, Read, Write
from raftkv.core.results import Status
from raftkv.core.voters import majority
from raftkv.http import parameters
from raftkv.http.messages import HttpRequest
from raftkv.http.problems import refuse

OF_READS: Final = frozenset({"r", "n", "sloppy"})
OF_WRITES: Final = frozenset({"w", "n", "sloppy"})
MAX_CONTEXT_BYTES: Final = 6 << 10
"""Below what a header may be; a context grows with the nodes that have written the key, not with its writes."""

_WITHOUT_RING: Final = "belongs to a leaderless cluster; here every node has every key"


class Sizes(msgspec.Struct, frozen=True):
    """What the numbers of a request are held against: N by default, and how many nodes there are."""

    n: int
    cluster: int
    is_leaderless: bool


def sizes(status: Status | None, members: int) -> Sizes:
    """The sizes in force, as far as this node knows; ``members`` of the configuration before any status was heard."""
    if status is None:
        return Sizes(members, members, is_leaderless=False)
    return Sizes(status.sizes[0], status.cluster_size, is_leaderless=status.quorum is not None)


def with_replicas(query: Query, level: Consistency, found: dict[str, str], known: Sizes) -> Read:
    """The read of ``query`` at ``level`` that ``found`` describes."""
    named = OF_READS & found.keys()
    if not named:
        return Read(query=query, consistency=level)
    if level is not Consistency.EVENTUAL:
        detail = f"{', '.join(sorted(named))}: only eventual reads take it, and this one names {level.value}"
        refuse(Code.BAD_REQUEST, detail)
    n, sloppy = _ring_choices(found, known)
    r = parameters.whole_number(found, "r", n or known.n)
    return Read(query=query, consistency=level, r=r or DEFAULT, n=n, sloppy=sloppy)


def chosen(write: Write, found: dict[str, str], request: HttpRequest, known: Sizes) -> Write:
    """``write`` as its parameters and headers say it is to be made."""
    key, context = parameters.idempotency_key(request), _causal_context(request, known)
    if key is None and not context and not OF_WRITES & found.keys():
        return write
    n, sloppy = _ring_choices(found, known)
    acks = _acks(found["w"], n or known.n, known) if "w" in found else MAJORITY
    return Write(operations=write.operations, acks=acks, idempotency_key=key, n=n, sloppy=sloppy, context=context)


def context_to_text(context: bytes) -> bytes:
    """A causal context as the header carries it: base64url without padding."""
    return base64.urlsafe_b64encode(context).rstrip(b"=")


def _ring_choices(found: dict[str, str], known: Sizes) -> tuple[int, bool | None]:
    for name in ("n", "sloppy"):
        if name in found and not known.is_leaderless:
            refuse(Code.NOT_SUPPORTED, f"{name}: {_WITHOUT_RING}")
    n = parameters.whole_number(found, "n", known.cluster)
    return n or DEFAULT, parameters.flag(found, "sloppy") if "sloppy" in found else None


def _acks(text: str, n: int, known: Sizes) -> int:
    if text == "leader":
        if known.is_leaderless:
            refuse(Code.NOT_SUPPORTED, "w: there is no leader in this cluster; name a number, majority or all")
        return 1
    if text == "majority":
        return majority(n)  # never MAJORITY: that is what writes get that name nothing, and POST /config changes it
    if text == "all":
        return n
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= n):
        refuse(Code.BAD_REQUEST, f"w: {text[:100]!r} is none of leader, majority, all or a number from 1 to {n}")
    return int(text)


def _causal_context(request: HttpRequest, known: Sizes) -> bytes:
    header = request.headers.get(CONTEXT.raw)
    if not header:
        return b""
    if not known.is_leaderless:
        refuse(Code.NOT_SUPPORTED, f"{CONTEXT.name}: {_WITHOUT_RING}")
    text = header.strip()
    try:
        context = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        refuse(Code.BAD_REQUEST, f"{CONTEXT.name}: must be what a read has answered, unchanged")
    if len(context) > MAX_CONTEXT_BYTES:
        refuse(Code.BAD_REQUEST, f"{CONTEXT.name}: more than {MAX_CONTEXT_BYTES} bytes")
    return context
