"""What is no msgpack struct, or lies around one: heads, units, seals, frames, rows, and what is hashed or signed."""

from __future__ import annotations

import msgspec
import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.rights import Caller
from raftkv.formats import (
    commands,
    commands_1,
    entries,
    greetings,
    layout,
    outcomes,
    quorum_messages,
    rights,
    rows,
    seals,
    segments,
)
from raftkv.formats.commands import (
    AdoptCommand,
    CallersCommand,
    CompactCommand,
    CompareKey,
    CompareRange,
    ConfigureCommand,
    DeleteKey,
    DeleteRange,
    GetKey,
    GrantLease,
    IncrementKey,
    KeepAliveCommand,
    ListRange,
    OperateCommand,
    PutKey,
    PutLeased,
    RevokeLease,
    TouchKey,
    Transact,
    WriteCommand,
)
from raftkv.formats.entries import MEMBERS, NO_OP, REGULAR
from raftkv.formats.frames import FrameEncoder, plain_frame
from raftkv.formats.identity import Identity, Life, encode_identity
from raftkv.formats.peers import Refusal, refusal_of, refused_by
from raftkv.formats.seals import part_of, sealed
from raftkv.formats.versions import KeyState, Version, encode_state
from raftkv.peers.handshake import Acceptor, Dialer
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.snapshots.bodies import write_body

OPERATIONS = (PutKey(b"k", b"v", 7, 60_000), DeleteKey(b"d", (0, 3)), GetKey(b"g"), PutKey(b"p", b"", -1, 0))
BRANCH = (
    PutLeased(b"k", b"v", (0, 3), 9),
    IncrementKey(b"i", -2, None, 1 << 62),
    TouchKey(b"t", 60_000),
    DeleteRange(b"a", b"b"),
    ListRange(b"l", None, 5, True),
)
LATER = (
    *BRANCH,
    GrantLease(0, 10_000),
    RevokeLease(9),
    Transact(
        (CompareKey(b"k", 0, 3, b"v"), CompareRange(b"a", b"b", 2, 1, -7)),
        (*OPERATIONS, *BRANCH, Transact((), (), (GetKey(b"n"),))),
        (),
    ),
)
EVENTS = (
    layout.Event(3, b"k", None, b"row"),
    layout.Event(3, b"l", b"before", b"row"),
    layout.Event(4, b"k", b"before", b"", expired=True),
    layout.Event(5, b"l", b"", b"row"),
)
"""A new key, a changed one, one that was removed by time, and one whose row before is not kept."""

SALT = bytes(range(8))
HEADER = segments.SegmentHeader(
    format=1,
    sequence=2,
    salt=SALT,
    first_unit=3,
    term=4,
    voted_for="n5",
    commit_index=6,
    base=((b"", 7, 8), (b"c", 8, 9)),
)
RECORDS = [
    segments.EntryRecord(1, 2, b"c"),
    segments.TruncateRecord(3),
    segments.VoteRecord(4, None),
    segments.CommitRecord(5),
]
STATE = KeyState((Version(5, "a", b"v"), Version(6, "b", None, 7)), (("a", 5), ("b", 6)))
LONG = b"l" * 500


def body(tmp_path):
    engine = MemoryEngine((b"keys", b"meta"))
    engine.commit([(b"keys", b"k", b"v"), (b"meta", b"applied_index", layout.pack_number(9))])
    write_body(engine, (b"meta", b"keys"), tmp_path / "body")
    return (tmp_path / "body").read_bytes()


def handshake():
    """What dialer, acceptor and dialer say, and the keys that they come to."""
    names = {"cluster": "c", "secret": b"s" * 32}
    dialer = Dialer(node_id="n1", target="n2", nonce=b"d" * 32, **names)
    acceptor = Acceptor(node_id="n2", members=("n1", "n2"), nonce=b"a" * 32, **names)
    hello = dialer.opening()
    challenge = acceptor.receive(hello).reply
    step = dialer.receive(challenge)
    return hello + challenge + step.reply + step.keys.send + step.keys.receive


def parts_of(event):
    return layout.event_parts(event.revision, event.key, event.before, event.row, event.expired)


LAYOUTS = {
    "kinds of entries": lambda: REGULAR + NO_OP + MEMBERS,
    "command": lambda: entries.encode(
        1_000, 1 << 62, 9, WriteCommand(OPERATIONS, "once"), WriteCommand((), None), ConfigureCommand(1, 3)
    ),
    "command of format 3": lambda: entries.encode(
        1_000,
        1,
        2,
        OperateCommand(LATER, "once"),
        KeepAliveCommand((9, 258)),
        CompactCommand(7),
        AdoptCommand(100_000, 3_600_000, 1 << 24),
    ),
    "command of format 4": lambda: entries.encode(
        1_000,
        1,
        2,
        CallersCommand("ann", 7, WriteCommand(OPERATIONS, "once")),
        CallersCommand("ann", 258, OperateCommand(LATER, None)),
        CallersCommand("\0cluster", 0, KeepAliveCommand((9, 258))),
    ),
    "keys of rights": lambda: b" ".join(
        (rights.AUTH, rights.AUTH_END, rights.ENABLED, rights.user_key("ann"), rights.role_key("shop"))
    ),
    "name of the outcome of a user's write": lambda: outcomes.name_of(Caller("ann", 7), "once"),
    "command without arms": lambda: entries.encode(1_000, 0, 0),
    "stamp": lambda: entries.stamp(2, 1_000),
    "batch": lambda: b"".join(commands.batch_parts(1, 2, [b"\x90"])),
    "operations of format 1": lambda: commands_1.encode_operations(OPERATIONS),
    "fingerprint": lambda: outcomes.fingerprint_of(OPERATIONS),
    "fingerprint of later operations": lambda: outcomes.fingerprint_of(LATER),
    "row of keys": lambda: layout.pack_record(1, 2, 3, 4, 0, b"v"),
    "row of a leased key": lambda: layout.pack_record(1, 2, 3, 0, 9, b"v"),
    "key of a chunk of events": lambda: layout.pack_place(3, 5),
    "chunk of events": lambda: layout.pack_chunk(
        1_000, len(EVENTS), [part for one in EVENTS for part in parts_of(one)]
    ),
    "history": lambda: layout.pack_history(layout.HistoryNumbers(*range(1, 8))),
    "row of a lease": lambda: layout.pack_lease(1, 2, 3, 4),
    "mark of a lease": lambda: layout.LEASE_MARK,
    "number": lambda: layout.pack_number(258),
    "names of meta": lambda: b" ".join(
        (
            layout.APPLIED_INDEX,
            layout.APPLIED_TERM,
            layout.REVISION,
            layout.CLOCK_MS,
            layout.OUTCOME_FIRST,
            layout.OUTCOME_NEXT,
            layout.READ_SIZE,
            layout.WRITE_SIZE,
            layout.HISTORY,
            layout.LEASE_NEXT,
            layout.LEASE_LEAPT,
            layout.RIGHTS,
            *layout.TABLES,
        )
    ),
    "segment header": lambda: segments.encode_header(HEADER),
    "flush unit": lambda: bytes(segments.UnitCodec(HEADER).encode(3, RECORDS)),
    "seal": lambda: b"|".join(sealed(b"keys", b"k", b"v", part_of(b"keys", b"k", b"v"))),
    "seal of a long key": lambda: b"|".join(sealed(b"keys", LONG, b"v", 0))[480:],
    "names of the leaderless store": lambda: b" ".join((*rows.TABLES, *rows.META_NAMES)),
    "promise of meta": lambda: rights.encode_stamp((258, "n1")),
    "number of meta": lambda: rows.encode_number(258),
    "state hash": lambda: layout.pack_number(seals.state_hash_of(1, 2, 3, 4, 5, 6, 7)),
    "state hash with history": lambda: layout.pack_number(seals.state_hash_of(1, 2, 3, 4, 5, 6, 7, more=b"more")),
    "FORMAT of a state": lambda: seals.FORMAT,
    "order key": lambda: rows.order_key(b"k"),
    "hint key": lambda: rows.hint_key("n3", b"k"),
    "row of data": lambda: rows.encode_held(rows.Held(STATE, "a"), encode_state(STATE)),
    "row of data without actor": lambda: rows.encode_held(rows.Held(STATE), encode_state(STATE)),
    "mark": lambda: rows.mark_of(STATE, encode_state(STATE)),
    "frame of messages": lambda: quorum_messages.frame([b"\x01", b"\x02"]),
    "verdict": lambda: greetings.encode_verdict("n2 has other rules"),
    "identity file": lambda: encode_identity(Identity(node="n1", disk="d", starts=(Life(1, "a"),), rules={"r": 1})),
    "plain frame": lambda: plain_frame(b"hello"),
    "tagged frames": lambda: FrameEncoder(b"k" * 32).encode([b"one", b"two"]),
    "handshake": handshake,
    "snapshot body": body,
}

GOLDEN = {
    "kinds of entries": "000110",
    "command": (
        "0200000000000003e893cf4000000000000000cf0000000000000009dc00039300949500c4016bc4017607cdea609301c401"
        "649200039202c401679500c40170c400ff00a46f6e6365930090c093010103"
    ),
    "command of format 3": (
        "0300000000000003e893cf0000000000000001cf0000000000000002dc00049302989503c4016bc40176920003099504c401"
        "69fec0cf40000000000000009305c40174cdea609306c40161c401629507c4016cc005c3930800cd2710920909940a929500"
        "c4016b0003c401769601c40161c401620201f99a9500c4016bc4017607cdea609301c401649200039202c401679500c40170"
        "c400ff009503c4016bc40176920003099504c40169fec0cf40000000000000009305c40174cdea609306c40161c401629507"
        "c4016cc005c3940a9090919202c4016e90a46f6e636592039209cd01029204079405ce000186a0ce0036ee80ce01000000"
    ),
    "command of format 4": (
        "0400000000000003e893cf0000000000000001cf0000000000000002dc00039407a3616e6e079300949500c4016bc4017607"
        "cdea609301c401649200039202c401679500c40170c400ff00a46f6e63659407a3616e6ecd01029302989503c4016bc40176"
        "920003099504c40169fec0cf40000000000000009305c40174cdea609306c40161c401629507c4016cc005c3930800cd2710"
        "920909940a929500c4016b0003c401769601c40161c401620201f99a9500c4016bc4017607cdea609301c401649200039202"
        "c401679500c40170c400ff009503c4016bc40176920003099504c40169fec0cf40000000000000009305c40174cdea609306"
        "c40161c401629507c4016cc005c3940a9090919202c4016e90c09407a800636c75737465720092039209cd0102"
    ),
    "keys of rights": (
        "ffff617574682f20ffff617574683020ffff617574682f656e61626c656420ffff617574682f757365722f616e6e20ffff61"
        "7574682f726f6c652f73686f70"
    ),
    "name of the outcome of a user's write": "ff616e6eff6f6e6365",
    "command without arms": "0200000000000003e893cf0000000000000000cf0000000000000000dc0000",
    "stamp": "0200000000000003e8",
    "batch": "93cf0000000000000001cf0000000000000002dc000190",
    "operations of format 1": (
        "9495a3707574c4016bc4017607cdea6093a664656c657465c4016492000392a3676574c4016795a3707574c40170c400ff00"
    ),
    "fingerprint": "7a23781fb24834f13e7cded8d0464bca",
    "fingerprint of later operations": "7eab915068b8f471c264e2bc7eb390b1",
    "row of keys": "000000000000000100000000000000020000000000000003000000000000000476",
    "row of a leased key": "8000000000000001000000000000000200000000000000030000000000000000000000000000000976",
    "key of a chunk of events": "000000000000000300000005",
    "chunk of events": (
        "00000000000003e800000004000000000000000003000100000000000000036b726f77010000000000000003000100000006"
        "000000036c6265666f7265726f77050000000000000004000100000006000000006b6265666f726503000000000000000500"
        "0100000000000000036c726f77"
    ),
    "history": (
        "0000000000000001000000000000000200000000000000030000000000000004000000000000000500000000000000060000"
        "000000000007"
    ),
    "row of a lease": "00000000000000010000000000000002000000000000000300000004",
    "mark of a lease": "ff",
    "number": "0000000000000102",
    "names of meta": (
        "6170706c6965645f696e646578206170706c6965645f7465726d207265766973696f6e20636c6f636b5f6d73206f7574636f"
        "6d655f6669727374206f7574636f6d655f6e65787420726561645f73697a652077726974655f73697a6520686973746f7279"
        "206c656173655f6e657874206c656173655f6c6561707420726967687473206b65797320657870697279206f7574636f6d65"
        "73206f7574636f6d655f6f72646572206576656e7473206c6561736573206c656173655f6b657973206d657461"
    ),
    "segment header": (
        "524146544b564c31000000601a0cfed588a6666f726d617401a873657175656e636502a473616c74c4080001020304050607"
        "aa66697273745f756e697403a47465726d04a9766f7465645f666f72a26e35ac636f6d6d69745f696e64657806a462617365"
        "9293c400070893c401630809"
    ),
    "flush unit": "1111131300000012062263c100000000000000039494000102c40163920103930204c092030511111313",
    "seal": "6b6579737c6b7c5a9074145dc192eb76",
    "seal of a long key": (
        "6c6c6c6c6c0033cf84e701eef1cb353498b1d27ccf517c9a9704147d12e025000000146c6c6c6c6c6c6c6c6c6c6c6c6c6c6c"
        "6c6c6c6c6c76"
    ),
    "names of the leaderless store": (
        "64617461206f726465722068696e7473206d65746120636c6f636b20616c6976655f6d7320756e70726f76656e206163746f"
        "7220636f6e666c69637473206d656d6265727320726967687473"
        "2070726f6d69736564"
    ),
    "promise of meta": "92cd0102a26e31",
    "number of meta": "323538",
    "state hash": "18f01cd38ecb4024",
    "state hash with history": "1b03a582e0950308",
    "FORMAT of a state": "330a",
    "order key": "ac52cb5ff985d4636b",
    "hint key": "6e33006b",
    "row of data": "93929405a161c40176009406a162c0079292a1610592a16206a161",
    "row of data without actor": "92929405a161c40176009406a162c0079292a1610592a16206",
    "mark": "4089d489e7ab7748",
    "frame of messages": "dc00020102",
    "verdict": "b26e3220686173206f746865722072756c6573",
    "identity file": (
        "7b0a20226e6f6465223a20226e31222c0a20226469736b223a202264222c0a2022737461727473223a205b0a20205b0a2020"
        "20312c0a2020202261220a20205d0a205d2c0a202272756c6573223a207b0a20202272223a20310a207d2c0a20226f746865"
        "7273223a207b7d2c0a20227374616e64696e67223a20226e6577222c0a2022766f74656c6573735f7468726f7567685f7465"
        "726d223a20302c0a2022646966666572656e6365223a2022222c0a20227265616473223a207b7d2c0a2022636f6e66696775"
        "726564223a2066616c73652c0a20226f726967696e223a2022220a7d0a"
    ),
    "plain frame": "0000000568656c6c6f",
    "tagged frames": "000000036f6e656bf30915f0cc72818e9f39a0f9ccfce80000000374776f47564c24595de6878023e340551ab27d",
    "handshake": (
        "9602a163a26e31a26e32c4206464646464646464646464646464646464646464646464646464646464646464c4200bfe252f"
        "c81d0c85eb40163e151527a7d193485559f14dc10454a086fcc9e47892c42061616161616161616161616161616161616161"
        "61616161616161616161616161c4204b1bdb552f409741fd6a17b0b4a5079e79d6de43e973f9f175f01f10d51c6ad291c420"
        "94c1f6fe7a772a517f1bd78e06c91786b4d52a33dbe9980be878dead50bc06530a2f59f9c868cb2b4dc27f7031ad2a1c26df"
        "34f3e0d366205cb4890d952936f8b15cd0c92c30cd189bd093844c038ec821a8ab5a4837dca40d0bc7640bd90e5f"
    ),
    "snapshot body": (
        "524146544b5653310000001090a8bfb892c40092c4046b657973c4046d6574610000000e241a0fd592c4046b65797392c401"
        "6bc40176000000215e5237b992c4046d65746192c40d6170706c6965645f696e646578c4080000000000000009"
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_has_the_bytes_that_it_had(name, tmp_path):
    make = LAYOUTS[name]
    made = make(tmp_path) if make is body else make()

    assert made.hex() == GOLDEN[name]


def test_events_are_read_from_the_bytes_that_they_had():
    chunk = bytes.fromhex(GOLDEN["chunk of events"])
    found, start = [], layout.CHUNK_BYTES
    while start < len(chunk):
        event, start = layout.unpack_event(chunk, start)
        found.append(event)

    assert layout.unpack_chunk(chunk) == (1_000, len(EVENTS))
    assert tuple(found) == EVENTS


def test_rows_of_keys_and_the_numbers_of_history_are_read_from_the_bytes_that_they_had():
    headers = [layout.unpack_header(bytes.fromhex(GOLDEN[name])) for name in ("row of keys", "row of a leased key")]
    history = layout.unpack_history(bytes.fromhex(GOLDEN["history"]))

    assert headers == [(1, 2, 3, 4, 0), (1, 2, 3, 0, 9)]
    assert msgspec.structs.astuple(history) == tuple(range(1, 8))
    assert history.event_bytes == 6


def test_no_layout_is_left_without_golden_bytes():
    assert set(GOLDEN) == set(LAYOUTS)


def test_a_refusal_has_the_bytes_that_it_had_when_it_was_a_value_of_the_api():
    first = bytes.fromhex("94a772656675736564ad6e6f745f737570706f72746564a664657461696ccb40a9fd0000000000")
    refused = Refused(code=Code.NOT_SUPPORTED, detail="detail", retry_after_s=3326.5)

    assert quorum_messages.encode(refusal_of(refused)) == first
    assert refused_by(msgspec.msgpack.decode(first, type=Refusal)) == refused


def test_a_refusal_in_words_of_a_later_version_is_still_one():
    assert refused_by(Refusal("moved", "ask n4")) == Refused(code=Code.NOT_SUPPORTED, detail="ask n4")
