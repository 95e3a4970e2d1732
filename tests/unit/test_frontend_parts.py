"""The parts of a front-end's replicator, each alone: what it knows, what it asks, what it reads, how it listens."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import pytest

from raftkv.core.errors import Code, DefiniteError, Refused, StartupError, Unknown
from raftkv.core.replicator import Pending, Shown
from raftkv.core.requests import Barrier, Consistency, Get, Put, Read, Request, Write
from raftkv.core.results import Answer, Missing, Ready, Written
from raftkv.core.rights import Rights
from raftkv.frontend import replica, wire
from raftkv.frontend.connection import WireConnection
from raftkv.frontend.outstanding import Outstanding, Waiting
from raftkv.frontend.reading import StateReads
from raftkv.frontend.replica import NOT_RUNNING, OVERLOADED, KnownReplica
from tests.contract.solo import SoloReplicator

WRITE = Write(operations=(Put(key=b"a", value=b"v"),))
READ = Read(query=Get(key=b"a"))
DONE = Written(results=(), revision=1, acks=1)


class Transport:
    """Takes everything down."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False
        self.unsent_bytes = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes


class Heard(WireConnection[wire.ToFrontend]):
    """Takes down what it is told."""

    def __init__(self) -> None:
        super().__init__(wire.decode_message)
        self.heard: list[object] = []

    def known(self) -> None:
        self.heard.append("known")

    def mismatched(self, other: wire.Build | None) -> None:
        self.heard.append(other)

    def received(self, message: wire.ToFrontend) -> None:
        self.heard.append(message)


class Loop:
    """Calls what is to be called when a test says so; timers never come by themselves."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.timers: list[SimpleNamespace] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def call_later(self, after_s: float, call: Callable[[], None]) -> SimpleNamespace:
        self.timers.append(SimpleNamespace(after_s=after_s, call=call, cancel=lambda: None))
        return self.timers[-1]

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for call in soon:
            call()


class State:
    """An applied state in which no key is."""

    def __init__(self) -> None:
        self.is_gone = False
        self.closed = False
        self.rights = Rights()
        self.revision = 7

    def __enter__(self) -> Self:
        if self.is_gone:
            raise StartupError("the map is gone")
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, query: Any, caller: Any) -> Any:
        return Missing(key=query.key)

    def close(self) -> None:
        self.closed = True


def connected() -> tuple[KnownReplica, Heard, Transport]:
    known, connection, transport = KnownReplica(), Heard(), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    known.connected(connection)
    transport.written.clear()
    return known, connection, transport


def sent(transport: Transport) -> list[wire.Submission]:
    found: list[wire.Submission] = []
    for body in wire.FrameReader().feed(b"".join(transport.written)):
        submissions = wire.decode_submissions(body)
        assert isinstance(submissions, tuple)
        found.extend(submissions)
    return found


def asking() -> tuple[Outstanding, Loop, Transport]:
    known, _, transport = connected()
    outstanding, loop = Outstanding(known), Loop()
    outstanding.start(loop)  # type: ignore[arg-type]
    return outstanding, loop, transport


def asks(outstanding: Outstanding, request: Request, deadline_s: float = 9.0) -> Waiting:
    waiting = Waiting(request, deadline_s)
    outstanding.add(waiting)
    return waiting


def send(outstanding: Outstanding, request: Request, deadline_s: float = 9.0) -> Waiting:
    waiting = asks(outstanding, request, deadline_s)
    outstanding.send(waiting)
    return waiting


# -- what is known


def test_what_is_announced_is_kept_beside_the_status_and_joined_with_it_for_who_asks() -> None:
    known, _, _ = connected()
    status = SoloReplicator().status()
    known.heard(status)
    for revision in range(1, 100):
        known.announced(Shown(revision=revision, applied_index=2 * revision))

    assert known.status is status  # nothing was made anew for an announcement
    pulse = known.standing()
    assert (pulse.revision, pulse.applied_index) == (99, 198)  # type: ignore[union-attr]
    assert pulse.offers == status.offers


def test_what_was_announced_before_the_replica_was_lost_says_nothing_of_the_next_one() -> None:
    known, connection, _ = connected()
    known.heard(SoloReplicator().status())
    known.announced(Shown(revision=99, applied_index=99))
    known.connection = None
    assert known.pulse is None
    known.connected(connection)
    known.heard(SoloReplicator().status())

    assert known.standing().revision == 0


def test_a_state_is_opened_anew_when_it_moved_and_when_its_replica_is_another() -> None:
    known, connection, _ = connected()
    solo = SoloReplicator()
    opened = [known.heard(solo.status()), known.heard(solo.status())]
    solo.state_path = "elsewhere"
    opened += [known.heard(solo.status()), known.heard(solo.status())]
    known.connected(connection)
    opened += [known.heard(solo.status()), known.heard(solo.status())]

    assert opened == [True, False, True, False, True, False]


def test_why_a_replica_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known, connection, transport = connected()
    known.heard(SoloReplicator().status())
    assert known.refusal() is None
    transport.unsent_bytes = replica.MAX_UNSENT_BYTES
    assert known.refusal() is OVERLOADED
    monkeypatch.setattr(replica, "SILENCE_S", -1.0)
    stuck = known.refusal()
    assert stuck is not None
    assert stuck.detail == known.silence
    with pytest.raises(DefiniteError, match="does not answer"):
        known.standing()
    known.connection = None
    assert known.refusal() is NOT_RUNNING
    known.mismatched(None)

    assert "replica older: restart the node" in known.silence
    known.connected(connection)
    assert known.absent is NOT_RUNNING


# -- what is asked


def test_what_is_sent_in_one_turn_leaves_in_one_write_with_what_was_to_join_it() -> None:
    outstanding, loop, transport = asking()
    joining = []
    outstanding.gather = lambda: joining.append(send(outstanding, Barrier(consistency=Consistency.LEASE)))
    asked = [send(outstanding, WRITE) for _ in range(3)]
    assert not transport.written
    loop.turn()
    assert len(transport.written) == 1
    ids = [submission.id for submission in sent(transport)]
    outstanding.answered(tuple([wire.Reply(one, DONE) for one in (*ids, 99)]))

    assert [pending.outcome for pending in asked + joining] == [DONE] * 4
    assert len(outstanding) == 0


def test_a_deadline_and_a_loss_are_definite_only_for_what_never_left_or_is_a_read() -> None:
    outstanding, loop, transport = asking()
    kinds = []
    for end in (lambda: outstanding.expire(99.0), lambda: outstanding.lose(None)):
        early, read = send(outstanding, WRITE), send(outstanding, READ)
        loop.turn()
        late = send(outstanding, WRITE)
        end()
        loop.turn()
        kinds.append([type(pending.outcome) for pending in (early, read, late)])

    assert kinds == [[Unknown, Refused, Refused]] * 2
    assert [type(submission.request) for submission in sent(transport)] == [Write, Read] * 2


def test_deadlines_are_looked_at_for_as_long_as_any_are_left() -> None:
    outstanding, loop, _ = asking()
    send(outstanding, WRITE, float(10**9))
    send(outstanding, WRITE, float(10**9))
    assert len(loop.timers) == 1
    loop.timers[0].call()
    assert len(loop.timers) == 2
    outstanding.lose(NOT_RUNNING)
    loop.timers[1].call()

    assert len(loop.timers) == 2


# -- what is read


def reading() -> tuple[StateReads, Outstanding, Loop, Transport, list[State]]:
    outstanding, loop, transport = asking()
    opened: list[State] = []
    reads = StateReads(outstanding._replica, outstanding, lambda _: opened.append(State()) or opened[-1])  # type: ignore[func-returns-value]
    reads.open("here")
    return reads, outstanding, loop, transport, opened


def test_a_read_after_a_barrier_is_made_here_and_one_that_cannot_be_goes_to_the_replica() -> None:
    reads, outstanding, loop, transport, (state,) = reading()
    first = asks(outstanding, READ)
    assert reads.after_barrier(first)
    loop.turn()
    (barrier,) = sent(transport)
    assert len(outstanding) == 2
    outstanding.answered((wire.Reply(barrier.id, Ready(applied_index=1)),))
    assert isinstance(first.outcome, Answer)
    assert first.outcome.revision == 7
    assert len(outstanding) == 0

    second = asks(outstanding, READ)
    assert reads.after_barrier(second)
    loop.turn()
    state.is_gone = True
    outstanding.answered((wire.Reply(sent(transport)[-1].id, Ready(applied_index=1)),))
    loop.turn()
    assert second.outcome is None
    assert sent(transport)[-1].request == READ
    assert state.closed
    assert not reads.is_open
    assert not reads.after_barrier(asks(outstanding, READ))


def test_who_waits_for_a_barrier_that_is_refused_or_lost_is_told_so() -> None:
    reads, outstanding, loop, transport, _ = reading()
    refused = Refused(code=Code.NO_LEADER, detail="none")
    asked, waiting = asks(outstanding, READ), asks(outstanding, READ)
    assert reads.after_barrier(asked)
    loop.turn()
    assert reads.after_barrier(waiting)
    outstanding.answered((wire.Reply(sent(transport)[0].id, refused),))
    assert asked.outcome == refused
    outstanding.lose(NOT_RUNNING)

    assert waiting.outcome is NOT_RUNNING


def test_reads_of_so_many_replicas_or_of_other_levels_are_the_replicas() -> None:
    reads, outstanding, _, _, _ = reading()
    eventual = Read(query=Get(key=b"a"), consistency=Consistency.EVENTUAL)
    several = Read(query=Get(key=b"a"), consistency=Consistency.EVENTUAL, r=2)

    assert not reads.after_barrier(asks(outstanding, eventual))
    assert not reads.after_barrier(asks(outstanding, several))
    assert not reads.at_once(several, Pending())


# -- how it listens


def test_nothing_is_heard_before_the_other_side_told_its_build_nor_of_one_that_breaks_the_rules() -> None:
    connection, transport = Heard(), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    assert transport.written == [wire.build_frame()]
    pulse = wire.pulse_frame(SoloReplicator().status())
    connection.data_received(wire.build_frame()[:5])
    assert connection.heard == []
    connection.data_received(wire.build_frame()[5:] + pulse)
    assert connection.heard == ["known", wire.Pulse(SoloReplicator().status())]
    connection.data_received(b"\x01\x00\x00\x00\xff")
    assert transport.aborted

    other = Heard()
    other.connection_made(transport)  # type: ignore[arg-type]
    other.data_received(pulse + pulse)
    assert other.heard == [None]
    assert not other.is_known
