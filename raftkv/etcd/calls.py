"""What a service is given with a call, and what all of them do: ask the replica, and say where the store stands.

Revisions: etcd's store begins at 1, raftkv's at 0, so every revision that goes out is one more than the native API's,
and every one that comes in one less. This is the one place that knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from raftkv.coordination.steps import Circumstances, Plan, Step, submitted
from raftkv.core.errors import Code, Failure, Refused, Unknown, of_read
from raftkv.core.requests import AnyOperation, Consistency, LaterQuery, Query, Read, Request, Write
from raftkv.core.results import Answer, KeyRecord, Outcome, Written
from raftkv.core.rights import NOBODY, Caller
from raftkv.core.status import RaftStatus
from raftkv.etcd.errors import Known, fail
from raftkv.etcd.messages import KeyValue, ResponseHeader
from raftkv.etcd.schema import Message
from raftkv.http.handlers.handler import Aside, Context, asked_by
from raftkv.http.needs import Needs

T = TypeVar("T")

FIRST_REVISION = 1
"""That of a store in which nothing has been written."""


class EtcdCall(NamedTuple):
    """Who asks, of which node, and until when it waits (monotonic clock, seconds).

    ``client`` is its address, ``version`` that of the etcd that it is told of.
    """

    context: Context
    caller: Caller
    circumstances: Circumstances
    deadline_s: float
    client: str = ""
    version: str = ""


Steps = Generator[Step | Aside, Any, T]
"""A plan that may step aside."""

Unary = Callable[[Any, EtcdCall], Steps[Message]]
"""Does what one message asks, and returns the answer; raises ``CallStatus`` where it does not."""


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One method of a service: its name in gRPC, its paths in JSON, what it is given, and what carries it out.

    ``is_long``: it waits for others, as long as its client does. ``needs`` is what whoever asks has to show.
    """

    path: str
    gateway: tuple[str, ...]
    request: type[Message]
    call: Unary
    is_long: bool = False
    needs: Needs = Needs.USER


@lru_cache(1000)
def member_number(node: str) -> int:
    """The 64 bits by which etcd's clients know a node: the same on every node, and never 0."""
    return int.from_bytes(hashlib.sha256(b"raftkv member\0" + node.encode()).digest()[:8], "big") | 1


@lru_cache(10)
def cluster_number(cluster: str) -> int:
    """The same for a cluster, by its name."""
    return int.from_bytes(hashlib.sha256(b"raftkv cluster\0" + cluster.encode()).digest()[:8], "big") | 1


def revision_told(revision: int) -> int:
    """A revision of ours as etcd's clients see it."""
    return revision + FIRST_REVISION


def compacted_told(revision: int) -> int:
    """What etcd's clients are told to have been compacted to, when ``revision`` is our oldest that can be read.

    They go on by a watch from there, and of our oldest the changes are forgotten already: so it is the one after it.
    """
    return revision_told(revision) + 1


def revision_asked(revision: int) -> int:
    """A revision that such a client names, as one of ours."""
    return revision - FIRST_REVISION


def revision_compared(revision: int, first: int = -1) -> int:
    """A revision that those of keys are compared with, as one of ours: 0 is that of a key that is not there, and stays.

    No key has etcd's first revision, which is nobody's write: ``first`` stands for it, by default none that a key has.
    """
    if revision <= 0:
        return revision
    return first if revision == FIRST_REVISION else revision_asked(revision)


def revision_of(call: EtcdCall) -> int:
    """Where the store stands, as far as this node knows."""
    status = call.context.last_status()
    return 0 if status is None else status.revision


def header(call: EtcdCall, revision: int | None) -> ResponseHeader:
    """Who answers; ``revision`` is ours, and ``None`` where etcd tells none."""
    status = call.context.last_status()
    return ResponseHeader(
        cluster_id=cluster_number(call.context.cluster),
        member_id=member_number(call.context.node),
        revision=0 if revision is None else revision_told(revision),
        raft_term=status.term if isinstance(status, RaftStatus) else 0,
    )


def key_value(record: KeyRecord, *, with_value: bool = True) -> KeyValue:
    """A record as etcd's clients see it."""
    return KeyValue(
        key=record.key,
        create_revision=revision_told(record.create_revision),
        mod_revision=revision_told(record.mod_revision),
        version=record.version,
        value=record.value if with_value else b"",
        lease=record.lease,
    )


def refuse(failure: Failure, call: EtcdCall) -> NoReturn:
    """End ``call`` as etcd would where raftkv has said ``failure``.

    Who shows no token is told so also by a node that has yet to learn that authentication is on.
    """
    if failure.code is Code.FORBIDDEN and call.caller is NOBODY:
        raise Known.USER_EMPTY.status
    fail(failure)


def asked(request: Request, call: EtcdCall) -> Plan[Outcome]:
    """What the replica says to ``request``, which is no failure."""
    outcome = yield from submitted(asked_by(call.caller, request), call.deadline_s)
    if isinstance(outcome, Refused | Unknown):
        refuse(outcome, call)
    return outcome


def read(query: Query | LaterQuery, call: EtcdCall, *, serializable: bool = False) -> Plan[Answer]:
    """The answer to ``query``, linearizable unless this node's own state will do."""
    outcome = yield from submitted(read_by(call.caller, query, serializable=serializable), call.deadline_s)
    return answered(outcome, call)


def read_by(caller: Caller, query: Query | LaterQuery, *, serializable: bool) -> Read:
    """The same as a request."""
    level = Consistency.LOCAL if serializable else Consistency.LINEARIZABLE
    return Read(query=query, consistency=level, caller=caller)


def answered(outcome: Outcome, call: EtcdCall) -> Answer:
    """The answer that a read came to; raises ``CallStatus`` where it came to none."""
    if isinstance(outcome, Refused | Unknown):
        refuse(of_read(outcome), call)
    assert isinstance(outcome, Answer)
    return outcome


def written(operations: tuple[AnyOperation, ...], call: EtcdCall) -> Plan[Written]:
    """What came of ``operations``, each of which was done."""
    outcome = yield from asked(Write(operations=operations), call)
    assert isinstance(outcome, Written)
    for result in outcome.results:
        if isinstance(result, Refused):
            refuse(result, call)
    return outcome
