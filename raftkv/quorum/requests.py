"""Clients' requests: what becomes of each, from what it asks to the part of the replica that does it, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raftkv.core.errors import NO_ONE_ORDER, Code, Refused
from raftkv.core.judgement import of_caller, of_operator, of_query, of_span
from raftkv.core.keys import is_text
from raftkv.core.replicator import Pending
from raftkv.core.requests import (
    AS_CONFIGURED,
    AboutNodes,
    AddMember,
    AnyOperation,
    Barrier,
    ChangeMember,
    Compact,
    Configure,
    Consistency,
    Delete,
    Get,
    HoldState,
    Inspect,
    KeepAlive,
    Placing,
    PromoteMember,
    Put,
    Query,
    Read,
    RemoveMember,
    Repair,
    Request,
    ShowReplicas,
    ShowRing,
    ShowSights,
    StoreHere,
    TransferLeadership,
    Write,
    is_of_past,
)
from raftkv.core.results import Configured, Missing, Outcome, StateHeld
from raftkv.core.rights import NOBODY, Access, Caller, Rights
from raftkv.core.sights import SightsShower
from raftkv.core.status import QuorumStatus, RingShown
from raftkv.formats.rights import is_of_rights
from raftkv.formats.versions import MalformedStateError, decode_context
from raftkv.quorum.coordination.coordination import Coordination
from raftkv.quorum.data.versions import HybridClock
from raftkv.quorum.membership.changes import RightsChanges
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.membership.rights import SharedRights
from raftkv.quorum.membership.ring import POSITIONS
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.serving.local import Local
from raftkv.quorum.settings import (
    NO_BARRIER,
    NO_IDEMPOTENCY,
    NO_LEADER_HERE,
    NO_LEVEL,
    NO_MATCH,
    NO_TEXT,
    NOT_KEPT,
    NOT_KEPT_ALONE,
    OFFERS,
    QuorumSettings,
    overloaded,
    untimely,
)
from raftkv.quorum.timeliness import Timeliness

OperatorsRequest = Configure | Repair | HoldState | AddMember | RemoveMember
_Judged = Write | Read | ShowReplicas | StoreHere | OperatorsRequest


@dataclass(kw_only=True, eq=False, repr=False)
class QuorumRequests:
    """Every request of this node's clients, on its way in."""

    settings: QuorumSettings
    coordination: Coordination
    local: Local
    anti_entropy: AntiEntropy
    members: Members
    rights: SharedRights
    changes: RightsChanges
    placement: Placement
    timeliness: Timeliness
    stamps: HybridClock
    store_path: str
    status: Callable[[], QuorumStatus]
    clock: Callable[[], float]
    show_sights: SightsShower
    speaks: Callable[[str], int]

    def submit(self, request: Request, deadline_s: float, pending: Pending) -> None:
        """Begin to do what ``request`` asks, or say why it cannot be done."""
        if isinstance(request, Write | Read) and is_of_rights(request):
            self._begin_of_rights(request, deadline_s, pending)
            return
        refusal = self._forbidden(request) or self._refusal(request) or self._doubted(request)
        if refusal is not None:
            pending.resolve(refusal)
        else:
            self._begin(request, deadline_s, pending)

    def _begin_of_rights(self, request: Write | Read, deadline_s: float, pending: Pending) -> None:
        if isinstance(request, Read):
            self.rights.read(request, deadline_s, pending)
        elif not self.timeliness.is_in_service:
            pending.resolve(untimely(self.timeliness.fault))
        else:
            self.changes.write(request, deadline_s, pending)

    def _forbidden(self, request: Request) -> Refused | None:
        """Why who asks has no right to it, by what is known here."""
        rights = self.rights.rights
        if not rights.enabled or not isinstance(request, _Judged):
            return None
        if isinstance(request, Read):
            if request.caller is None:
                return None
            key = request.query.key if isinstance(request.query, Get) else b""
            refusal = of_query(rights, request.caller, request.query, Missing(key=key))
            return self._doubted(request) or refusal
        return self._doubted(request) or _of_change(rights, request)

    def _doubted(self, request: Request) -> Refused | None:
        """Why it is not known well enough what rights there are; what is here is shown by what was heard of them."""
        is_own_copy = isinstance(request, Read) and (request.consistency is Consistency.LOCAL or request.caller is None)
        return self.rights.doubt(request.caller) if isinstance(request, _Judged) and not is_own_copy else None

    def _begin(self, request: Request, deadline_s: float, pending: Pending) -> None:
        match request:
            case Write():
                n, r, w = self._sizes(request.placing, 0, request.acks)
                self.coordination.write(request, deadline_s, pending, n=n, r=r, w=w)
            case Read() if request.consistency is Consistency.LOCAL:
                pending.resolve(self.local.read(request))
            case Read():
                n, r, _ = self._sizes(request.placing, request.r, 0)
                self.coordination.read(request, deadline_s, pending, n=n, r=r)
            case StoreHere():
                self.local.store(request, pending)
            case Configure():
                self._configure(request, pending)
            case Repair():
                self.anti_entropy.repair(pending, deadline_s)
            case ShowReplicas():
                n = self.members.sizes[0]
                self.coordination.examine(request.key, deadline_s, pending, n=n, speaks=self.speaks)
            case AddMember() | RemoveMember() | HoldState() | Inspect() | ShowSights() | ShowRing():
                pending.resolve(self._at_once(request))

    def _refusal(self, request: Request) -> Refused | None:
        """Why ``request`` cannot be done here at all, or not now."""
        refusal: Refused | None = None
        if self._is_of_one_order(request):
            refusal = NO_ONE_ORDER
        elif isinstance(request, Write | Read | ShowReplicas) and self.coordination.size >= self.settings.max_waiting:
            refusal = overloaded()
        elif self._needs_time(request) and not self.timeliness.is_in_service:
            refusal = untimely(self.timeliness.fault)
        elif isinstance(request, Read):
            refusal = self._bad_read(request)
        elif isinstance(request, Write):
            refusal = self._bad_write(request)
        elif isinstance(request, StoreHere):
            refusal = NOT_KEPT_ALONE if self._keeps_siblings else _no_text((request.key,))
        elif isinstance(request, Barrier):
            refusal = NO_BARRIER
        elif isinstance(request, PromoteMember | ChangeMember | TransferLeadership):
            refusal = NO_LEADER_HERE
        return refusal

    def _is_of_one_order(self, request: Request) -> bool:
        """Does it mean something only where all replicas apply the same writes in the same order?"""
        if isinstance(request, Write):
            return any(map(_needs_one_order, request.operations))
        if isinstance(request, Read):
            return not isinstance(request.query, Query) or is_of_past(request.query)
        return isinstance(request, KeepAlive | Compact)

    def _needs_time(self, request: Request) -> bool:
        """All that is written, or compared; a local read shows what is there, and nothing of it as expired."""
        if isinstance(request, Read):
            return request.consistency is not Consistency.LOCAL
        return isinstance(request, Write | ShowReplicas | StoreHere | Configure | Repair)

    def _bad_read(self, read: Read) -> Refused | None:
        if read.consistency not in OFFERS:
            return NO_LEVEL
        refusal = _no_text((read.query.key,)) if isinstance(read.query, Get) else None
        return refusal or self._too_many("r", read.r, read.placing)

    def _bad_write(self, write: Write) -> Refused | None:
        fault = self.timeliness.fault
        if fault:
            return untimely(fault)
        if write.idempotency_key is not None:
            return NO_IDEMPOTENCY
        if any(isinstance(one, Put | Delete) and one.match is not None for one in write.operations):
            return NO_MATCH
        if write.placing is not None and write.placing.context:
            if not self._keeps_siblings:
                return NOT_KEPT
            try:
                decode_context(write.placing.context)
            except MalformedStateError:
                return Refused(code=Code.BAD_REQUEST, detail="the causal context is not one that a read has given")
        keys = [one.key for one in write.operations if isinstance(one, Put | Delete | Get)]
        return _no_text(keys) or self._too_many("w", write.acks, write.placing)

    def _too_many(self, name: str, asked: int, placing: Placing | None) -> Refused | None:
        n = (placing or AS_CONFIGURED).n or self.members.sizes[0]
        if asked > n:
            return Refused(code=Code.BAD_REQUEST, detail=f"{name}: {asked} is more than n, which is {n}")
        return None

    def _sizes(self, placing: Placing | None, r: int, w: int) -> tuple[int, int, int]:
        """What is asked for, and the cluster's own numbers for the rest."""
        usual_n, usual_r, usual_w = self.members.sizes
        n = (placing or AS_CONFIGURED).n or usual_n
        return n, r or min(usual_r, n), w or min(usual_w, n)

    def _at_once(self, request: AddMember | RemoveMember | HoldState | AboutNodes) -> Outcome:
        match request:
            case HoldState():
                settings = self.settings
                return StateHeld(command=(*settings.export, self.store_path, *settings.export_arguments))
            case Inspect():
                return self.status()
            case ShowSights():
                return self.show_sights(request.after)
            case ShowRing():
                return self._ring()
            case _:
                return self.members.change(request, self.clock())

    def _ring(self) -> RingShown | Refused:
        ring = self.placement.reading
        if ring is None:
            return Refused(code=Code.QUORUM_UNREACHABLE, detail="no member is up yet", retry_after_s=1.0)
        places = {node: place for place, node in enumerate(ring.nodes)}
        tokens = tuple([(token / POSITIONS, places[node]) for token, node in ring.tokens])
        n = self.members.sizes[0]
        return RingShown(digest=ring.digest, n=n, nodes=tuple(ring.nodes), tokens=tokens)

    def _configure(self, request: Configure, pending: Pending) -> None:
        usual_n, usual_r, usual_w = self.members.sizes
        n, r, w = request.n or usual_n, request.r or usual_r, request.w or usual_w
        size = len(self.placement.nodes)
        for name, number, limit in (("n", n, size), ("r", r, n), ("w", w, n)):
            if not 1 <= number <= limit:
                detail = f"{name}: {number} is not between 1 and {limit}"
                pending.resolve(Refused(code=Code.BAD_REQUEST, detail=detail))
                return
        self.members.set_sizes(n, r, w, self.stamps.next())
        pending.resolve(Configured(n=n, r=r, w=w))

    @property
    def _keeps_siblings(self) -> bool:
        return self.settings.conflicts == "siblings"


def _of_change(rights: Rights, request: Write | ShowReplicas | StoreHere | OperatorsRequest) -> Refused | None:
    caller = request.caller or NOBODY
    if isinstance(request, Write):
        return _of_write(rights, caller, request)
    if isinstance(request, ShowReplicas | StoreHere):
        access = Access.READ if isinstance(request, ShowReplicas) else Access.WRITE
        return of_span(rights, caller, access, request.key, request.key + b"\0")
    return of_operator(rights, caller)


def _of_write(rights: Rights, caller: Caller, write: Write) -> Refused | None:
    """What means something only in one order is refused anyhow."""
    for one in write.operations:
        if isinstance(one, Put | Delete | Get):
            access = Access.READ if isinstance(one, Get) else Access.WRITE
            refusal = of_span(rights, caller, access, one.key, one.key + b"\0")
            if refusal is not None:
                return refusal
    return of_caller(rights, caller)


def _no_text(keys: Iterable[bytes]) -> Refused | None:
    """Peers take no others for keys, nor would the ring's pages."""
    return None if all(map(is_text, keys)) else NO_TEXT


def _needs_one_order(operation: AnyOperation) -> bool:
    match operation:
        case Put():
            return bool(operation.lease)
        case Get():
            return is_of_past(operation)
        case Delete():
            return False
    return True
