"""Ranges of one key: told as the whole plan of a range tells them, and told again only while that stays the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from raftkv.coordination.steps import Circumstances
from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Consistency, Get
from raftkv.core.results import Answer, KeyRecord, Missing
from raftkv.core.rights import NOBODY
from raftkv.core.status import RaftStatus
from raftkv.etcd import gateway_json, lookups, protobuf
from raftkv.etcd.calls import EtcdCall
from raftkv.etcd.errors import CallStatus
from raftkv.etcd.lookups import Lookups
from raftkv.etcd.messages import RangeRequest, RangeResponse, SortOrder, SortTarget
from raftkv.etcd.ranges import range_

RECORD = KeyRecord(key=b"k", value=b"v", version=2, create_revision=3, mod_revision=5, lease=7)

ONE = RangeRequest(key=b"k")


def standing(term: int = 4) -> RaftStatus:
    return RaftStatus(
        node="n1", mode="raft", role="leader", leader="n1", term=term, commit_index=9, applied_index=9, revision=6,
        peers=(), offers=tuple(Consistency), cluster_size=3,
    )  # fmt: skip


class Node:
    """What of a context is looked at."""

    cluster, node = "c", "n1"

    def __init__(self) -> None:
        self.status = standing()

    def last_status(self) -> RaftStatus:
        return self.status


def answer(content: Any = RECORD, revision: int = 6) -> Answer:
    return Answer(content=content, consistency=Consistency.LOCAL, revision=revision)


class Asked:
    """One who asks by protobuf, and counts what was encoded."""

    def __init__(self) -> None:
        self.node = Node()
        self.encoded = 0
        self.lookups = Lookups(self.node, protobuf.decode, self._encode)  # type: ignore[arg-type]

    def _encode(self, response: RangeResponse) -> bytes:
        self.encoded += 1
        return protobuf.encode(response)

    def ask(self, outcome: Any, request: RangeRequest = ONE) -> RangeResponse:
        told = self.lookups.told(self.lookups.find(protobuf.encode(request)), outcome)
        return protobuf.decode(RangeResponse, told)


def test_the_same_is_told_again_as_it_was() -> None:
    asked = Asked()

    assert asked.ask(answer()) == asked.ask(answer())
    assert asked.encoded == 1


def test_what_is_found_anew_at_another_revision_or_in_another_term_is_told_anew() -> None:
    asked = Asked()
    asked.ask(answer())
    changed = KeyRecord(key=b"k", value=b"w", version=3, create_revision=3, mod_revision=6)

    assert asked.ask(answer(changed)).kvs[0].value == b"w"
    assert asked.ask(answer(changed, 8)).header.revision == 9  # type: ignore[union-attr]
    asked.node.status = standing(term=5)
    assert asked.ask(answer(changed, 8)).header.raft_term == 5  # type: ignore[union-attr]
    assert asked.ask(answer(Missing(key=b"k"), 8)).kvs == ()
    assert asked.encoded == 5


def test_a_read_that_came_to_nothing_says_so_and_what_was_told_before_is_told_after_it() -> None:
    asked = Asked()
    before = asked.ask(answer())

    with pytest.raises(CallStatus, match="no leader"):
        asked.ask(Refused(code=Code.NO_LEADER, detail="", retry_after_s=1.0))
    assert asked.ask(answer()) == before
    assert asked.encoded == 1


@pytest.mark.parametrize(
    "request_",
    [
        RangeRequest(),
        RangeRequest(key=b"k", range_end=b"l"),
        RangeRequest(key=b"\xff\xff"),
        RangeRequest(key=b"k", revision=1),
        RangeRequest(key=b"k", revision=2),
        RangeRequest(key=b"k", sort_order=9),  # type: ignore[arg-type]
    ],
)
def test_every_other_range_is_left_to_its_plan(request_: RangeRequest) -> None:
    assert Asked().lookups.find(protobuf.encode(request_)).read is None


def test_what_is_no_message_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(gateway_json.GatewayError):
            Lookups(Node(), gateway_json.decode, gateway_json.encode).find(b"{")  # type: ignore[arg-type]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "KNOWN_MAX", 3)
    asked = Asked()
    large = KeyRecord(key=b"k", value=b"v" * lookups.TOLD_BYTES_MAX, version=1, create_revision=1, mod_revision=1)

    for request in (ONE, RangeRequest(key=b"k", count_only=True)):
        asked.ask(answer(large), request)
        assert asked.lookups.find(protobuf.encode(request)).content is None
    for number in range(9):
        asked.ask(answer(), RangeRequest(key=b"%d" % number))
    asked.ask(answer(), RangeRequest(key=b"k" * lookups.REQUEST_BYTES_MAX))
    assert list(asked.lookups._known) == [protobuf.encode(RangeRequest(key=b"%d" % number)) for number in (6, 7, 8)]


REVISIONS = some.integers(-1, 8)
REQUESTS = some.builds(
    RangeRequest,
    key=some.sampled_from([b"k", b"\0", b"other"]),
    limit=some.integers(-1, 2),
    revision=some.integers(-1, 0),
    sort_order=some.sampled_from(SortOrder),
    sort_target=some.sampled_from(SortTarget),
    serializable=some.booleans(),
    keys_only=some.booleans(),
    count_only=some.booleans(),
    min_mod_revision=REVISIONS,
    max_mod_revision=REVISIONS,
    min_create_revision=REVISIONS,
    max_create_revision=REVISIONS,
)
OUTCOMES = some.sampled_from(
    [answer(), answer(Missing(key=b"k"), 9), Refused(code=Code.QUORUM_UNREACHABLE, detail="late", retry_after_s=1.0)]
)


def planned(request: RangeRequest, outcome: Any, node: Node) -> RangeResponse | str:
    """What the plan of a range tells, whose one step is answered so; and the step is the read of a lookup."""
    plan = range_(request, EtcdCall(node, NOBODY, Circumstances(lambda: 0.0, lambda: False), 1.0))  # type: ignore[arg-type]
    step = next(plan)
    assert step.request == lookups.lookup_of(request, NOBODY)  # type: ignore[union-attr]
    assert step.request.query == Get(key=request.key)  # type: ignore[union-attr]
    try:
        plan.send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    except CallStatus as status:
        return status.message
    raise AssertionError("a range of one key is one read")


@given(request=REQUESTS, outcomes=some.lists(OUTCOMES, min_size=1, max_size=4))
def test_it_is_told_what_the_plan_of_a_range_tells(request: RangeRequest, outcomes: list[Any]) -> None:
    asked = Asked()
    for outcome in outcomes:
        wanted = planned(request, outcome, asked.node)
        try:
            told: RangeResponse | str = asked.ask(outcome, request)
        except CallStatus as status:
            told = status.message
        assert told == wanted
