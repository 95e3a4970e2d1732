"""Elections: whoever holds the name leads, and is known by a value that it may change. Pure.

A campaign is ``contention.acquire`` of a name in ``names.ELECTIONS``, with the value as content, and to resign is to
release it.
"""

from __future__ import annotations

from typing import Final

from raftkv.coordination.contention import look, result_of
from raftkv.coordination.names import Contender, ContenderNote, Queue, contender_of, encode_note
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code, Failure, Refused, Unknown
from raftkv.core.requests import ComparedField, Get, KeyComparison, Put, Read, Transaction, Write
from raftkv.core.results import Answer, KeyRecord, PutDone, Transacted

VALUE_BYTES_MAX: Final = 64 << 10
"""What a leader is known by: an address, a few settings."""

LOOKS_MAX: Final = 10
"""So many leaders in a row may resign while one is looked for."""


def leader(queue: Queue, timeout_s: float, circumstances: Circumstances) -> Plan[Contender | Refused | None]:
    """Who leads, with its value; ``None`` if nobody does."""
    for _ in range(LOOKS_MAX):
        found = yield from look(queue, timeout_s, circumstances)
        if isinstance(found, Refused):
            return found
        if not found.contenders:
            return None
        first = found.contenders[0]
        outcome = yield from submitted(Read(query=Get(key=first.key)), circumstances.now_s() + timeout_s)
        if not isinstance(outcome, Answer):
            return read_failure(outcome)
        if isinstance(outcome.content, KeyRecord) and outcome.content.create_revision == first.token:
            return contender_of(queue.kind, outcome.content)
    return Refused(code=Code.OVERLOADED, detail="it changes faster than it can be read", retry_after_s=1.0)


def proclaim(
    queue: Queue, token: int, value: bytes, timeout_s: float, circumstances: Circumstances
) -> Plan[int | Failure]:
    """Let the leader that has ``token`` be known by ``value``; the revision from which on it is.

    Who leads does so until its key is gone, so it is enough that it is the same key still.
    """
    first = yield from leader(queue, timeout_s, circumstances)
    if isinstance(first, Refused):
        return first
    if first is None or first.token != token:
        return _not_leading(token)
    assert first.note is not None
    same = KeyComparison(start=first.key, target=ComparedField.CREATE_REVISION, operand=token)
    put = Put(key=first.key, value=encode_note(ContenderNote(first.note.is_own, value)), lease=first.lease)
    write = Write(operations=(Transaction(comparisons=(same,), success=(put,)),))
    result = result_of((yield from submitted(write, circumstances.now_s() + timeout_s)))
    if isinstance(result, Refused | Unknown):
        return _not_leading(token) if result.code is Code.LEASE_NOT_FOUND else result
    assert isinstance(result, Transacted)
    if not result.succeeded:
        return _not_leading(token)
    (done,) = result.results
    assert isinstance(done, PutDone)
    return done.revision


def _not_leading(token: int) -> Refused:
    return Refused(code=Code.NOT_FOUND, detail=f"nobody leads with token {token}; its lease may have ended")
