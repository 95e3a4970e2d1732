"""Whether a caller has the rights that something needs, by keys; and the sentences with which it is refused.

Locks and elections are keys of the cluster's own, one for each contender (``raftkv.coordination``), and are judged as
the key of their name: whoever contends for it writes it, and sees by that right who else does. All other keys from
``SYSTEM`` on are root's alone. A lease has no owner but its keys. Pure; imports msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftkv.core.errors import Code, Refused
from raftkv.core.keys import ELECTION_KEYS, END_OF_NAME, LOCK_KEYS, SYSTEM, quoted
from raftkv.core.requests import ChangesAfter, CountKeys, FindLeases, Get, LaterQuery, List, Query
from raftkv.core.results import Found, LeaseRecord
from raftkv.core.rights import NOBODY, Access, Caller, Rights

_DOES: Final = {Access.READ: "read", Access.WRITE: "write", Access.BOTH: "read and write"}


def of_caller(rights: Rights, caller: Caller) -> Refused | None:
    """Why ``caller`` may do nothing at all, if so."""
    if rights.knows(caller):
        return None
    if caller == NOBODY:
        return _forbidden("authentication is on, and the request does not say who asks")
    return _forbidden(
        f"{caller.user} is no user any more, or has another password since it proved who it is; log in again"
    )


def of_operator(rights: Rights, caller: Caller | None) -> Refused | None:
    """Why ``caller`` may not change the cluster, if it may not."""
    asker = caller or NOBODY
    if rights.is_root(asker):
        return None
    return of_caller(rights, asker) or _forbidden(f"{asker.user} does not have the role root, which this needs")


def of_span(rights: Rights, caller: Caller, access: Access, start: bytes, end: bytes | None) -> Refused | None:
    """Why ``caller`` may not have that access to every key with ``start`` <= key < ``end``, if it may not."""
    if _may(rights, caller, access, start, end):
        return None
    named = _named(start, end) or (start, end)
    return of_caller(rights, caller) or _forbidden(f"{caller.user} may not {_DOES[access]} {_words(*named)}")


def of_keys(rights: Rights, caller: Caller, access: Access, keys: Iterable[bytes]) -> Refused | None:
    """The same of each of ``keys``, which are those of a lease, and are not told."""
    refusal = of_caller(rights, caller)
    if refusal is not None or all(_may(rights, caller, access, key, key + b"\0") for key in keys):
        return refusal
    return _forbidden(f"{caller.user} may not {_DOES[access]} every key of the lease")


def of_query(rights: Rights, caller: Caller, query: Query | LaterQuery, found: Found) -> Refused | None:
    """Why ``caller`` may not be told what ``query`` has ``found`` in the state of ``rights``, if it may not."""
    if isinstance(query, Get):
        return of_span(rights, caller, Access.READ, query.key, query.key + b"\0")
    if isinstance(query, List | CountKeys | ChangesAfter):
        return of_span(rights, caller, Access.READ, query.start, query.end)
    if isinstance(query, FindLeases) or not isinstance(found, LeaseRecord):
        return of_caller(rights, caller)
    return of_keys(rights, caller, Access.READ, found.keys or ())


def not_of_lease(caller: Caller) -> Refused:
    """Of a lease that has keys, of which ``caller`` may write none."""
    return _forbidden(f"{caller.user} may write none of the keys of the lease")


def may_write_one(rights: Rights, caller: Caller, keys: Iterable[bytes]) -> bool:
    """May ``caller`` write at least one of ``keys``, or are there none?"""
    found = True
    for key in keys:
        found = _may(rights, caller, Access.WRITE, key, key + b"\0")
        if found:
            break
    return found


def _may(rights: Rights, caller: Caller, access: Access, start: bytes, end: bytes | None) -> bool:
    if end is not None and end <= SYSTEM:
        return rights.may(caller, access, start, end)
    if rights.is_root(caller):
        return True
    named = _named(start, end)
    if named is None:
        return False
    return rights.may(caller, access, *named) or (access is Access.READ and rights.may(caller, Access.WRITE, *named))


def _named(start: bytes, end: bytes | None) -> tuple[bytes, bytes] | None:
    """The span of names whose contenders' keys lie from ``start`` up to ``end``, if these are of one kind."""
    for area in (LOCK_KEYS, ELECTION_KEYS):
        if start.startswith(area) and end is not None and end <= area + b"\xff":
            first = start[len(area) :].partition(END_OF_NAME)[0]
            last, mark, _ = end[len(area) :].partition(END_OF_NAME)
            return first, last + mark
    return None


def _words(start: bytes, end: bytes | None) -> str:
    if end == start + b"\0":
        return f"the key {quoted(start)}"
    to = "" if end is None or end >= SYSTEM else f" to {quoted(end)}"
    return f"all keys from {quoted(start)}{to}"


def _forbidden(detail: str) -> Refused:
    return Refused(code=Code.FORBIDDEN, detail=detail)
