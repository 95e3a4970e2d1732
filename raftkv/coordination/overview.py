"""Who holds what, and who waits: plans that only read. Pure."""

from __future__ import annotations

from typing import NamedTuple

from raftkv.coordination.contention import PAGE_KEYS, PAGES_MAX, Look, look
from raftkv.coordination.names import Contender, Kind, Queue, contender_of, in_order
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core.errors import Code, Refused
from raftkv.core.requests import FindLease, List, Read
from raftkv.core.results import Answer, KeyPage, LeaseRecord


class Lineup(NamedTuple):
    """All who contend for one name, in order: the first ``permits`` hold it."""

    name: bytes
    permits: int
    contenders: list[Contender]

    @property
    def holders(self) -> list[Contender]:
        """Who holds it."""
        return self.contenders[: self.permits]

    @property
    def waiting(self) -> list[Contender]:
        """Who does not yet."""
        return self.contenders[self.permits :]


class NamePage(NamedTuple):
    """Names in order; ``next_name`` is the first of the page that follows."""

    names: list[Lineup]
    next_name: bytes | None


def standing(queue: Queue, timeout_s: float, circumstances: Circumstances) -> Plan[Lineup | Refused]:
    """Who contends for the name; nobody, where nobody is found."""
    found = yield from look(queue, timeout_s, circumstances)
    if isinstance(found, Look):
        return _lineup(queue.name, found.contenders)
    return found


def expiries(
    contenders: list[Contender], timeout_s: float, circumstances: Circumstances
) -> Plan[dict[int, int] | Refused]:
    """When the leases of ``contenders`` end unless they are kept alive, in milliseconds since the epoch."""
    ends: dict[int, int] = {}
    for one in contenders:
        outcome = yield from submitted(Read(query=FindLease(lease=one.lease)), circumstances.now_s() + timeout_s)
        if not isinstance(outcome, Answer):
            return read_failure(outcome)
        if isinstance(outcome.content, LeaseRecord):
            ends[one.lease] = outcome.content.expires_at_ms
    return ends


def page(
    kind: Kind, prefix: bytes, start: bytes, timeout_s: float, circumstances: Circumstances, *, limit: int
) -> Plan[NamePage | Refused]:
    """The names with ``prefix`` from ``start`` on, ``limit`` at most; each as it stood at some time in between."""
    found: dict[bytes, list[Contender]] = {}
    cursor, end = kind.start + max(start, prefix), min(kind.end, kind.start + prefix + b"\xff")
    for _ in range(PAGES_MAX):
        outcome = yield from submitted(
            Read(query=List(start=cursor, end=end, limit=PAGE_KEYS)), circumstances.now_s() + timeout_s
        )
        if not isinstance(outcome, Answer):
            return read_failure(outcome)
        assert isinstance(outcome.content, KeyPage)
        for record in outcome.content.records:
            one = contender_of(kind, record)
            found.setdefault(one.name, []).append(one)
        is_last = outcome.content.next_start is None
        if is_last or len(found) > limit:
            names = list(found)
            more = names[limit] if len(names) > limit else None
            return NamePage([_lineup(name, in_order(found[name])) for name in names[:limit]], more)
        assert outcome.content.next_start is not None
        cursor = outcome.content.next_start
    return Refused(code=Code.OVERLOADED, detail="too many contend for so few names; ask for fewer", retry_after_s=1.0)


def _lineup(name: bytes, contenders: list[Contender]) -> Lineup:
    return Lineup(name, contenders[0].permits if contenders else 1, contenders)
