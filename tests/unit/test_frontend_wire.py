"""Frames: whole, split, joined, too large, and not understood."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.replicator import Shown
from raftkv.core.requests import Barrier, Consistency, Delete, Get, Inspect, List, Put, Read, Request, Write
from raftkv.core.results import Answer, KeyPage, KeyRecord, Mismatch, Missing, PutDone, Ready, Written
from raftkv.core.status import RaftStatus
from raftkv.frontend import wire

REQUESTS = (
    Write(operations=(Put(key=b"a", value=b"\xff", match=0, ttl_ms=5), Delete(key=b"b"), Get(key=b"c")), acks=1),
    Write(operations=(), idempotency_key="k"),
    Read(query=Get(key=b"a"), consistency=Consistency.LEASE),
    Read(query=List(start=b"", end=None, limit=3, keys_only=True)),
    Barrier(),
    Inspect(),
)
RECORD = KeyRecord(key=b"a", value=b"v", version=1, create_revision=2, mod_revision=3)
STATUS = RaftStatus(
    node="n1",
    mode="raft",
    role="leader",
    leader="n1",
    term=1,
    commit_index=2,
    applied_index=2,
    revision=2,
    peers=(),
    offers=(Consistency.LOCAL,),
    cluster_size=1,
)
OUTCOMES = (
    Written(
        results=(PutDone(version=1, revision=2), Mismatch(revision=3), Missing(key=b"a"), RECORD), revision=3, acks=2
    ),
    Answer(content=KeyPage(records=(RECORD,), next_start=b"b"), consistency=Consistency.LOCAL, revision=4),
    Ready(applied_index=7),
    STATUS,
    Refused(code=Code.NO_LEADER, detail="none", retry_after_s=1.5),
    Unknown(detail="lost"),
)


def test_a_build_is_told_apart_from_every_other_first_frame() -> None:
    build, pulse = wire.FrameReader().feed(wire.build_frame() + wire.pulse_frame(STATUS))

    assert wire.decode_build(build) == wire.build()
    assert wire.decode_build(pulse) is None
    assert wire.decode_build(b"\xc1") is None
    with pytest.raises(wire.WireError):
        wire.decode_submissions(build)
    with pytest.raises(wire.WireError):
        wire.decode_message(build)


def test_requests_survive_the_wire() -> None:
    sent = tuple(wire.Submission(number, number + 0.5, request) for number, request in enumerate(REQUESTS))
    frames = wire.submission_frames([wire.encode_item(one) for one in sent])

    (body,) = wire.FrameReader().feed(frames)

    assert wire.decode_submissions(body) == sent


def test_outcomes_and_pulses_survive_the_wire() -> None:
    replies = tuple(wire.Reply(number, outcome) for number, outcome in enumerate(OUTCOMES))
    stream = wire.reply_frames([wire.encode_item(one) for one in replies]) + wire.pulse_frame(STATUS)

    first, second = wire.FrameReader().feed(stream)

    assert wire.decode_message(first) == wire.Replies(replies)
    assert wire.decode_message(second) == wire.Pulse(STATUS)


@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(1, 700))
def test_a_stream_may_be_cut_anywhere(sizes: list[int], step: int) -> None:
    items = [wire.encode_item(wire.Reply(number, Unknown(detail=size * "x"))) for number, size in enumerate(sizes)]
    stream = b"".join(wire.reply_frames([item]) for item in items)
    reader = wire.FrameReader()
    bodies = [body for start in range(0, len(stream), step) for body in reader.feed(stream[start : start + step])]

    decoded = [wire.decode_message(body).replies[0].id for body in bodies]  # type: ignore[union-attr]

    assert decoded == list(range(len(sizes)))


def test_large_items_fill_frames_of_their_own() -> None:
    item = wire.encode_item(wire.Reply(1, Unknown(detail=wire.FILL_BYTES * "x")))

    assert len(wire.FrameReader().feed(wire.reply_frames([item, item, item]))) == 3


def test_a_frame_that_is_too_large_is_refused_before_it_arrives() -> None:
    with pytest.raises(wire.WireError):
        wire.FrameReader().feed((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))


def submitted(request: Request) -> bytes:
    return msgspec.msgpack.encode([wire.Submission(1, 2.0, request)])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        b"\x91\x93\x01\x02\xa1x",
        b"\x91\x94\x01\x02" + msgspec.msgpack.encode(Inspect()) + b"\x91" * 100_000,
        submitted(Write(operations=(), idempotency_key="KEY")).replace(b"KEY", b"\xff\xff\xff"),
        submitted(Write(operations=(), idempotency_key="")),
        submitted(Write(operations=(Put(key=b"", value=b""),))),
        submitted(Write(operations=(Put(key=b"k", value=b"", ttl_ms=2**63),))),
        submitted(Write(operations=(Put(key=b"k", value=b"", ttl_ms=-1),))),
        submitted(Write(operations=(Delete(key=b"k", match=-2),))),
        submitted(Read(query=Get(key=b""))),
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_submissions(body)


def test_wishes_and_announcements_survive_the_wire_in_a_few_bytes() -> None:
    wishes = wire.wish_frame(to_hear=True) + wire.wish_frame(to_hear=False)
    announcement = wire.announcement_frame(Shown(revision=2**40, applied_index=7))

    assert [wire.decode_submissions(body) for body in wire.FrameReader().feed(wishes)] == [True, False]
    assert [wire.decode_message(body) for body in wire.FrameReader().feed(announcement)] == [
        wire.Announcement(2**40, 7)
    ]
    assert len(announcement) < 20
