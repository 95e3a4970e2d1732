"""Ranges of one key as it stands now, which is what most ranges are: each is one read, and needs no plan.

What a request says is known by its bytes once it has come before. What was told is told again while it would come out
the same: the read has found the same at the same revision, and this node knows the same of its replica. So
the read is made each time, and who may make it is judged each time; what is saved is to read and to write messages.
What is remembered is bounded: ``KNOWN_MAX`` requests of ``REQUEST_BYTES_MAX``, and of ``TOLD_BYTES_MAX`` what each was
told and what it was told of.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from time import monotonic
from typing import Final

from raftkv.coordination.steps import Circumstances
from raftkv.core.pages import size_of
from raftkv.core.requests import Read
from raftkv.core.results import Answer, KeyRecord, Outcome
from raftkv.core.rights import NOBODY
from raftkv.core.status import Status
from raftkv.etcd.calls import EtcdCall, answered
from raftkv.etcd.errors import CallStatus
from raftkv.etcd.messages import RangeRequest, RangeResponse
from raftkv.etcd.ranges import lookup_of, lookup_told
from raftkv.http.handlers.handler import Context

KNOWN_MAX: Final = 512
REQUEST_BYTES_MAX: Final = 1 << 10
TOLD_BYTES_MAX: Final = 16 << 10
"""Of a longer answer most of the cost is its length."""


class Lookup:
    """One request for a range.

    ``read`` is the one read that it is, of nobody in particular: it is for where it does not matter who asks. ``None``:
    it is another range, or none at all, and whoever carries it out will say so.
    """

    __slots__ = ("content", "read", "request", "revision", "status", "told")

    def __init__(self, request: RangeRequest) -> None:
        self.request = request
        self.read: Read | None = None
        with contextlib.suppress(CallStatus):
            self.read = lookup_of(request, NOBODY)
        self.content: object = None
        """What ``told`` tells of; nothing yet."""

        self.revision = 0
        self.status: Status | None = None
        self.told = b""


class Lookups:
    """What was asked of one worker in one form. ``decode`` may raise."""

    def __init__(
        self,
        context: Context,
        decode: Callable[[type[RangeRequest], bytes], RangeRequest],
        encode: Callable[[RangeResponse], bytes],
    ) -> None:
        self._context = context
        self._decode = decode
        self._encode = encode
        self._call = EtcdCall(context, NOBODY, Circumstances(monotonic, lambda: False), math.inf)
        self._known: dict[bytes, Lookup] = {}

    def find(self, data: bytes) -> Lookup:
        """What ``data`` asks; raises what ``decode`` raises."""
        known = self._known.get(data)
        if known is None:
            known = Lookup(self._decode(RangeRequest, data))
            if len(data) <= REQUEST_BYTES_MAX:
                if len(self._known) >= KNOWN_MAX:
                    del self._known[next(iter(self._known))]
                self._known[data] = known
        return known

    def told(self, lookup: Lookup, outcome: Outcome) -> bytes:
        """What is told of the ``outcome`` of its read; raises ``CallStatus``."""
        status = self._context.last_status()
        if (
            isinstance(outcome, Answer)
            and outcome.content == lookup.content
            and outcome.revision == lookup.revision
            and status is lookup.status
        ):
            return lookup.told
        answer = answered(outcome, self._call)
        told = self._encode(lookup_told(lookup.request, answer, self._call))
        content_bytes = size_of(answer.content) if isinstance(answer.content, KeyRecord) else 0
        if content_bytes + len(told) <= TOLD_BYTES_MAX:
            lookup.content, lookup.revision, lookup.status, lookup.told = answer.content, answer.revision, status, told
        return told
