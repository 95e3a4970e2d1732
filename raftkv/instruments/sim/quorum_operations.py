"""What clients ask of a leaderless cluster, kind by kind, and what they note of it for ``promises``.

A client names N, R and W itself. Rules: what is noted is what a client could know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from raftkv.core.errors import Refused
from raftkv.core.requests import Consistency, Delete, Get, List, Placing, Put, Read, Write
from raftkv.core.results import Answer, KeyPage, KeyRecord, Outcome, QuorumWritten, Siblings, StampedAnswer
from raftkv.core.rights import NOBODY
from raftkv.instruments.sim.clients import Operation, SimulatedClient
from raftkv.instruments.sim.notes import FAILED, OK, Asked
from raftkv.instruments.sim.quorum_plan import QuorumPlan

PASSING: Final = b"passing"
"""The key of what does not last; nobody judges it."""


class Asking:
    """How ``client`` asks, at ``now_s``, for something of these ``keys``."""

    def __init__(self, client: SimulatedClient, quorum: QuorumPlan, keys: Sequence[bytes], now_s: float) -> None:
        self.client, self.quorum, self.keys, self.now_s = client, quorum, keys, now_s
        self.caller = None if client.users is None else client.asks_as() or NOBODY
        self.keeps_siblings = quorum.settings["conflicts"] == "siblings"

    def note(self, key: bytes, kind: str) -> Asked:
        """A note, with sizes and strictness as they fall."""
        n, r, w = self.client.random.choice(self.quorum.sizes)
        asked = Asked(client=self.client.number, key=key, kind=kind, n=n, r=r, w=w, invoked_s=self.now_s)
        asked.caller = self.caller
        asked.is_strict = self.client.random.random() < self.quorum.strict
        if kind == "put":
            asked.value = self.client.new_value()
        return asked


class AskedOperation(Operation):
    """A read of one key, or a page; or a write of one key, or several in a batch."""

    def __init__(self, client: SimulatedClient, request: Read | Write, *asked: Asked, names_dots: bool = False) -> None:
        """``names_dots``: a write without effect is told no stamp."""
        super().__init__(client, request, *asked)
        self._asked, self._names_dots = asked, names_dots

    def answered(self, outcome: Outcome) -> None:
        """See ``Operation``."""
        for position, one in enumerate(self._asked):
            if isinstance(outcome, Refused):
                one.outcome = FAILED
            elif isinstance(outcome, Answer):
                self._read(one, outcome)
            elif isinstance(outcome, QuorumWritten):
                one.outcome, one.replicas = OK, outcome.replicas
                result = outcome.results[position]
                counter = getattr(result, "revision", 0) or outcome.revision
                one.stamp = (counter, getattr(result, "node", "") or ("" if self._names_dots else one.node))
            one.note = repr(outcome)[:300]

    def _read(self, asked: Asked, answer: Answer) -> None:
        asked.outcome, asked.replicas = OK, answer.replicas
        node, asked.context = (answer.node, answer.context) if isinstance(answer, StampedAnswer) else ("", b"")
        asked.stamp = (answer.revision, node)
        content = answer.content
        records: tuple[KeyRecord, ...] = ()
        if isinstance(content, KeyRecord):
            records = (content,)
        elif isinstance(content, Siblings | KeyPage):
            records = content.records
        asked.found = tuple(record.value for record in records)
        if asked.kind == "get":
            self.client.known[asked.key] = asked.context


# --- one function a kind


def get(asking: Asking, key: bytes) -> AskedOperation:
    """A read of ``key``."""
    asked = asking.note(key, "get")
    placing = Placing(n=asked.n, sloppy=False if asked.is_strict else None)
    read = Read(query=Get(key=key), consistency=Consistency.EVENTUAL, r=asked.r, placing=placing, caller=asking.caller)
    return AskedOperation(asking.client, read, asked)


def _list(asking: Asking, _key: bytes) -> AskedOperation:
    asked = asking.note(b"", "list")
    query = List(start=b"k", end=b"l", limit=asking.client.random.choice((1, 2, 100)))
    read = Read(
        query=query, consistency=Consistency.EVENTUAL, r=asked.r, placing=Placing(n=asked.n), caller=asking.caller
    )
    return AskedOperation(asking.client, read, asked)


def _write(asking: Asking, _key: bytes, kind: str) -> AskedOperation:
    client, dice = asking.client, asking.client.random
    count = dice.randint(2, 3) if kind == "batch" else 1
    keys = [PASSING] if kind == "passing put" else dice.sample(asking.keys, min(count, len(asking.keys)))
    written = [asking.note(one, "delete" if kind == "delete" else "put") for one in keys]
    first, context = written[0], b""
    if asking.keeps_siblings and kind in ("put", "delete"):
        context = client.known.get(keys[0], b"")
    ttl_ms = dice.choice((1, 300, 3_000_000)) if kind == "passing put" else 0
    operations = tuple(
        Delete(key=one.key) if one.value is None else Put(key=one.key, value=one.value, ttl_ms=ttl_ms)
        for one in written
    )
    for one in written:
        one.n, one.w, one.is_strict, one.context = first.n, first.w, first.is_strict, context
    placing = Placing(n=first.n, sloppy=False if first.is_strict else None, context=context)
    write = Write(operations=operations, acks=first.w, placing=placing, caller=asking.caller)
    return AskedOperation(client, write, *written, names_dots=asking.keeps_siblings)


_WRITES: Final = ("put", "delete", "put blindly", "passing put", "batch")

KINDS: Final[dict[str, Callable[[Asking, bytes], Operation]]] = {
    "get": get,
    "list": _list,
    **{kind: partial(_write, kind=kind) for kind in _WRITES},
}
