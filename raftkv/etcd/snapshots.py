"""Maintenance.Snapshot: the state as a backup of raftkv's, in pieces.

etcd's own tools can carry it, and ``raftkv restore`` takes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from hashlib import sha256

from raftkv.coordination.steps import Plan
from raftkv.core.requests import HoldState
from raftkv.core.results import StateHeld
from raftkv.etcd.calls import EtcdCall, asked
from raftkv.etcd.errors import Known
from raftkv.etcd.operating import SnapshotResponse
from raftkv.formats.backups import padding_bytes
from raftkv.http.exports import LIMIT, Exports


def hold(call: EtcdCall) -> Plan[StateHeld]:
    """The state of now, held while it is written. Raises ``CallStatus``."""
    if call.context.exports.count >= LIMIT:
        raise Known.TOO_MANY_REQUESTS.status
    held = yield from asked(HoldState(), call)
    assert isinstance(held, StateHeld)
    return held


async def pieces(held: StateHeld, exports: Exports) -> AsyncGenerator[SnapshotResponse]:
    """What it comes to, and at the end its seal, as etcd's tools look for it. Raises ``StreamCutError``."""
    seal, size_bytes = sha256(), 0
    async with aclosing(exports.body(held.command)) as body:
        async for piece in body:
            size_bytes += len(piece)
            seal.update(piece)
            # How much is left is not known before it is written: never 0, which would be the end.
            yield SnapshotResponse(remaining_bytes=1, blob=piece)
    zeros = bytes(padding_bytes(size_bytes))
    seal.update(zeros)
    yield SnapshotResponse(blob=zeros + seal.digest())
