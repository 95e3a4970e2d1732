"""A leaderless node for tests of the HTTP layer: a ``Replicator`` over a dictionary that keeps every value as told."""

from __future__ import annotations

from typing import Any

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Hear, Pending, Shown, Subscribers, Subscription
from raftkv.core.requests import (
    AddMember,
    ChangeMember,
    Configure,
    Consistency,
    Delete,
    Get,
    Inspect,
    PromoteMember,
    Put,
    Read,
    RemoveMember,
    Repair,
    ShowReplicas,
    ShowRing,
    StoreHere,
    TransferLeadership,
    Write,
)
from raftkv.core.results import (
    Answer,
    Configured,
    KeyPage,
    LeaderChanged,
    MembersChanged,
    Missing,
    QuorumWritten,
    Repaired,
    Siblings,
    StampedAnswer,
    StampedDelete,
    StampedPut,
    StampedRecord,
    StoredVersion,
)
from raftkv.core.sights import Fate
from raftkv.core.status import (
    HintShown,
    MemberState,
    MemberStatus,
    PeerStatus,
    QuorumStatus,
    ReplicaPart,
    ReplicaShown,
    ReplicasShown,
    RingShown,
    Transfer,
    VersionShown,
)
from raftkv.http.door.admission import Admission
from raftkv.http.door.asgi import Application
from tests.unit.http_node import LIMITS, MEMBERS, Node

REPLICAS = ("n1", "n3")


class LeaderlessReplicator:
    """Numbers its writes from 1 as node n2 would; a key with several records has siblings."""

    def __init__(self) -> None:
        self.submitted: list[Any] = []
        self.records: dict[bytes, tuple[StampedRecord, ...]] = {}
        self.counter = 0
        self.sizes = (3, 2, 2)
        self.level_at_s: float | None = None
        self.cluster_size = 3
        self.context = b""
        self.subscribers = Subscribers()

    def subscribe(self, hear: Hear) -> Subscription:
        return self.subscribers.add(hear)

    def submit(self, request: Any, deadline_s: float) -> Pending:
        self.submitted.append(request)
        pending = Pending()
        pending.resolve(self._carry_out(request))
        self.subscribers.tell(Shown(revision=self.counter, applied_index=0))
        return pending

    def work(self, now_s: float) -> float:
        return now_s + 1

    def close(self) -> None:
        pass

    def put(self, key: bytes, *values: bytes) -> None:
        """Let ``values`` stand side by side."""
        self.records[key] = tuple([self._record(key, value) for value in values])

    def status(self) -> QuorumStatus:
        n, r, w = self.sizes
        members = tuple(
            MemberStatus(id=one.id, http=one.http, peer=one.peer, state=MemberState.UP, share=1 / 3, hints=2)
            for one in MEMBERS
        )
        return QuorumStatus(
            node="n1",
            mode="quorum",
            role="replica",
            leader=None,
            revision=self.counter,
            peers=(PeerStatus(id="n2", reachable=True), PeerStatus(id="n3", reachable=True)),
            offers=(Consistency.EVENTUAL, Consistency.LOCAL),
            cluster_size=3,
            n=n,
            r=r,
            w=w,
            ring="abcd",
            vnodes=100,
            conflicts="siblings",
            hints_pending=4,
            members=members,
            transfer=Transfer(ranges_done=1, ranges=4, keys=10, bytes=1000),
            repaired_keys=7,
        )

    def _record(self, key: bytes, value: bytes) -> StampedRecord:
        self.counter += 1
        number = self.counter
        return StampedRecord(
            key=key, value=value, version=number, create_revision=number, mod_revision=number, node="n2"
        )

    def _carry_out(self, request: Any) -> Any:
        if isinstance(request, Write):
            results = tuple([self._apply(one) for one in request.operations])
            return QuorumWritten(results=results, revision=self.counter, acks=2, replicas=REPLICAS, hinted=1)
        if isinstance(request, Read):
            return self._read(request)
        return self._operate(request)

    def _operate(self, request: Any) -> Any:  # noqa: C901, PLR0911  one for each kind of request
        match request:
            case Configure():
                n, r, w = self.sizes
                self.sizes = n, r, w = (request.n or n, request.r or r, request.w or w)
                return Configured(n=n, r=r, w=w)
            case StoreHere():
                return StoredVersion(counter=request.counter or 9, node=request.node or "n1", taken=True)
            case Repair():
                return Repaired(peers=("n2",), unreachable=("n3",), ranges=8, differing=2, received=3, sent=1)
            case AddMember():
                about = {"id": request.id, "http": request.http, "peer": request.peer, "zone": request.zone}
                added = MemberStatus(**about, state=MemberState.JOINING)
                return MembersChanged(members=(*self.status().members, added))
            case RemoveMember(id="n9"):
                return Refused(code=Code.NOT_FOUND, detail="there is no member n9")
            case TransferLeadership():  # as where there is a leader; here only the answer's form is tried
                return LeaderChanged(leader=request.to, term=4)
            case RemoveMember() | PromoteMember() | ChangeMember():
                return MembersChanged(members=self.status().members)
            case Inspect():
                return self.status()
            case ShowRing():
                tokens = ((0.0, 0), (0.25, 1), (0.5, 0))
                return RingShown(digest="abcd", n=2, nodes=("n1", "n2"), tokens=tokens)
            case ShowReplicas():
                return ReplicasShown(key=request.key, turn=0.25, n=2, nodes=self._held())
        raise AssertionError(request)

    def _held(self) -> tuple[ReplicaShown, ...]:
        held = VersionShown(counter=9, node="n1", head=b"v", size_bytes=1, expires_at_ms=0)
        hint = HintShown(target="n2", counter=9, node="n1")
        n1 = ReplicaShown(
            node="n1",
            part=ReplicaPart.REPLICA,
            fate=Fate.HOLDS,
            reason="",
            is_behind=False,
            versions=(held, msgspec.structs.replace(held, head=None)),
            versions_count=2,
            seen={"n1~a": 9},
            hints=(hint,),
        )
        n2 = msgspec.structs.replace(
            n1, node="n2", fate=Fate.SILENT, versions=(), versions_count=0, seen={}, hints=None
        )
        return n1, n2

    def _apply(self, operation: Any) -> Any:
        if isinstance(operation, Get):
            found = self.records.get(operation.key, ())
            return found[-1] if found else Missing(key=operation.key)
        before = self.records.pop(operation.key, ())
        if isinstance(operation, Delete):
            self.counter += 1
            return StampedDelete(revision=self.counter, node="n2") if before else Missing(key=operation.key)
        assert isinstance(operation, Put)
        self.put(operation.key, operation.value)
        return StampedPut(version=self.counter, revision=self.counter, replaced=bool(before), node="n2")

    def _read(self, read: Read) -> Answer:
        replicas = REPLICAS if read.consistency is Consistency.EVENTUAL else ("n1",)
        content: Any
        if not isinstance(read.query, Get):
            newest = tuple([found[-1] for _, found in sorted(self.records.items())])
            content = KeyPage(records=newest, next_start=None)
            return Answer(content=content, consistency=read.consistency, revision=self.counter, replicas=replicas)
        key = read.query.key
        found = self.records.get(key, ())
        content = Siblings(key=key, records=found)
        if len(found) < 2:
            content = found[0] if found else Missing(key=key)
        return StampedAnswer(
            content=content,
            consistency=read.consistency,
            revision=found[-1].mod_revision if found else 0,
            replicas=replicas,
            node="n2" if found else "",
            context=self.context,
        )


class LeaderlessNode(Node):
    """An application over it. ``client`` is where its requests seem to come from."""

    def __init__(self, *, admission: Admission | None = None, client: str = "127.0.0.1") -> None:
        super().__init__(LIMITS)
        self.replicator = LeaderlessReplicator()
        context = msgspec.structs.replace(
            self.application._context,
            status=self.replicator.status,
            subscribe=self.replicator.subscribe,
            last_status=self.replicator.status,
            admission=admission or self.application._context.admission,
        )
        self.application = Application(self.replicator, context)
        self.client = client

    def put(self, key: str, *values: bytes) -> None:
        self.replicator.put(key.encode(), *values)
