"""How many replicas a request is about, ``r``, ``w``, ``n`` and ``sloppy``, and what its writer has seen.

Pure functions. Numbers are held against the sizes that the replica's status names, so that a typo is refused before
anybody is asked. Where every node has every key there is nothing to choose for ``n`` and ``sloppy``, and no causal
context: whoever names one is refused, never half heard. This module must not import Flask.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final

import msgspec

from raftkv.api.headers import CONTEXT
from raftkv.core.errors import Code
from raftkv.core.status import QuorumStatus, Status
from raftkv.core.voters import majority
from raftkv.http import parameters
from raftkv.http.problems import refuse

MAX_CONTEXT_BYTES: Final = 6 << 10
"""Below what a header may be; a context grows with the nodes that have written the key, not with its writes."""

_WITHOUT_RING: Final = "belongs to a leaderless cluster; here every node has every key"


class KnownSizes(msgspec.Struct, frozen=True):
    """What the numbers of a request are held against: N by default, and how many nodes there are."""

    n: int
    cluster: int
    is_leaderless: bool


def sizes(status: Status | None, members: int) -> KnownSizes:
    """The sizes in force, as far as this node knows; ``members`` of the configuration before any status was heard."""
    if status is None:
        return KnownSizes(members, members, is_leaderless=False)
    return KnownSizes(status.sizes[0], status.cluster_size, is_leaderless=isinstance(status, QuorumStatus))


def context_to_text(context: bytes) -> bytes:
    """A causal context as the header carries it: base64url without padding."""
    return base64.urlsafe_b64encode(context).rstrip(b"=")


def n_of(found: dict[str, str], known: KnownSizes) -> int:
    """``n``: how many replicas of the key are asked."""
    _check_ring("n", known)
    return parameters.whole_number(found, "n", known.cluster)


def sloppy_of(found: dict[str, str], known: KnownSizes) -> bool:
    """``sloppy``: may others stand in for those that cannot be reached?"""
    _check_ring("sloppy", known)
    return parameters.flag(found, "sloppy")


def r_of(found: dict[str, str], known: KnownSizes) -> int:
    """``r``: how many of them a read waits for."""
    return parameters.whole_number(found, "r", _asked(found, known))


def _asked(found: dict[str, str], known: KnownSizes) -> int:
    return n_of(found, known) if "n" in found else known.n


def _check_ring(name: str, known: KnownSizes) -> None:
    if not known.is_leaderless:
        refuse(Code.NOT_SUPPORTED, f"{name}: {_WITHOUT_RING}")


def w_of(found: dict[str, str], known: KnownSizes) -> int:
    """``w``: how many of them have a write durably before its answer."""
    n, text = _asked(found, known), found["w"]
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


def context_of(headers: dict[bytes, bytes], sizes: Callable[[], KnownSizes]) -> bytes:
    """What the writer has seen, as a read has answered it."""
    header = headers.get(CONTEXT.raw)
    if not header:
        return b""
    _check_ring(CONTEXT.name, sizes())
    text = header.strip()
    try:
        context = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        refuse(Code.BAD_REQUEST, f"{CONTEXT.name}: must be what a read has answered, unchanged")
    if len(context) > MAX_CONTEXT_BYTES:
        refuse(Code.BAD_REQUEST, f"{CONTEXT.name}: more than {MAX_CONTEXT_BYTES} bytes")
    return context
