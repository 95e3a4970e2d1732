"""Header blocks: the examples of RFC 7541, and that what is not unpacked by hpack is read as hpack would."""

from __future__ import annotations

import itertools
import re

import hpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raftkv.etcd.grpc.fields import FIRST, LIST_BYTES_MAX, HeadReader, packed
from raftkv.etcd.grpc.frames import ErrorCode, Http2Fault

FIRST_REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
SECOND_REQUEST = [*FIRST_REQUEST, (b"cache-control", b"no-cache")]
THIRD_REQUEST = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]


@pytest.mark.parametrize(
    "blocks",
    [
        (  # appendix C.3, without Huffman coding
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (  # appendix C.4, with it
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
)
def test_the_examples_of_the_rfc(blocks):
    reader = HeadReader(b"none")

    assert [reader.unpack(bytes.fromhex(block)) for block in blocks] == [FIRST_REQUEST, SECOND_REQUEST, THIRD_REQUEST]


def test_the_table_changes_its_size_at_the_beginning_of_a_block_only():
    reader = HeadReader(b"none")

    assert reader.unpack(b"\x3f\xe1\x1f\x82") == [(b":method", b"GET")]
    with pytest.raises(Http2Fault, match="unpacked") as raised:
        reader.unpack(b"\x82\x20")
    assert raised.value.code == ErrorCode.COMPRESSION_ERROR


def test_the_table_changes_its_size_twice_at_most():
    for sizes in (b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f", b"\x3f\xe1\x1f\x3f\x80\x80\x00", b"\x20\x20"):
        assert HeadReader(b"none").unpack(sizes + b"\x82") == [(b":method", b"GET")]
    for sizes in (b"\x20" * 3, b"\x20" * 16_000, b"\x3f\xe1\x1f" * 3, b"\x3f\xe1", b"\x20\x3f\xff"):
        with pytest.raises(Http2Fault, match="unpacked"):
            HeadReader(b"none").unpack(sizes)


FIELD = st.tuples(
    st.sampled_from([b"a", b":path", b"grpc-timeout", b"content-type", b"x" * 40]), st.binary(max_size=20)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(FIELD, max_size=12), max_size=8), st.booleans())
def test_it_reads_what_hpack_reads(lists, huffman):
    encoder, reader, other = hpack.Encoder(), HeadReader(b"none"), hpack.Decoder()
    for fields in lists:
        block = encoder.encode(fields, huffman=huffman)

        assert reader.unpack(block) == list(other.decode(block, raw=True)) == fields


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_block_are_refused_as_hpack_refuses_them(block):
    assume(not re.match(rb"([\x20-\x3e]|\x3f[\x80-\xff]*[\0-\x7f]){3}", block, re.DOTALL))  # which hpack lets pass
    try:
        wanted = list(hpack.Decoder(max_header_list_size=LIST_BYTES_MAX).decode(block, raw=True))
    except hpack.HPACKError:
        with pytest.raises(Http2Fault):
            HeadReader(b"none").unpack(block)
    else:
        assert HeadReader(b"none").unpack(block) == wanted


_PLAIN = b"\x83\x86\x84"  # POST, http and / by the static table
_PIECES = st.sampled_from(
    [
        b"\xbe",  # the newest entry of the table
        b"\xbf",  # the one before
        b"\x40\x01a\x011",  # new entries
        b"\x40\x01a\x012",
        b"\x40\x01b" + b"\x64" + b"2" * 100,  # one that drives others out
        b"\x00\x01a\x013",  # no entry
        b"\x00\x05aside\x014",
    ]
)
_BLOCKS = st.builds(
    lambda size, pieces: size + _PLAIN + b"".join(pieces),
    st.sampled_from([b"", b"", b"", b"\x3f\x61", b"\x20\x3f\xe1\x1f"]),  # 128 bytes, and 0 before 4096
    st.lists(_PIECES, max_size=2),
)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(_BLOCKS, min_size=2, max_size=4).flatmap(lambda pool: st.lists(st.sampled_from(pool), max_size=16)),
    st.data(),
)
def test_a_block_that_came_before_is_read_as_hpack_reads_it_now(blocks, data):
    reader, reference = HeadReader(b"aside"), hpack.Decoder()

    for block in (_PLAIN + b"\x40\x01c\x015\x40\x01c\x016", *blocks):
        try:
            wanted = [tuple(field) for field in reference.decode(block, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(Http2Fault):
                reader.request(block)
            return
        if data.draw(st.booleans()):
            head, aside = reader.request(block)
            asides = [field for field in wanted if field[0] == b"aside"]
            assert aside == (asides[0][1] if asides else None)
            wanted = [field for field in wanted if field[0] != b"aside"] + asides[1:]
            assert sorted(head.fields) == sorted(wanted[3:])
        else:
            assert reader.unpack(block) == wanted


def test_what_is_kept_aside_makes_no_other_head():
    encoder, reader = hpack.Encoder(), HeadReader(b"grpc-timeout")
    fields = [*FIRST_REQUEST, (b"grpc-timeout", b"1S"), (b"token", b"x")]
    first, aside = reader.request(encoder.encode(fields))
    fields[4] = (b"grpc-timeout", b"2S")
    second, other = reader.request(encoder.encode(fields))
    third, none = reader.request(encoder.encode(fields[:4]))

    assert first is second
    assert third is not first
    assert (aside, other, none) == (b"1S", b"2S", None)
    assert first.fields == [(b"token", b"x")]


def test_heads_and_blocks_that_are_known_are_bounded():
    encoder, reader = hpack.Encoder(), HeadReader(b"none")
    for number in range(1000):
        reader.request(encoder.encode([*FIRST_REQUEST, (b"number", b"%d" % number * (number % 900))]))
    for number in range(1000):
        reader.request(b"\x83\x86\x84\x00\x06number" + bytes([number % 127]) + b"%d" % (number % 10) * (number % 127))

    assert len(reader._known) <= 16
    assert sum(len(value) for fields in reader._known for _, value in fields) < 16 << 10
    assert len(reader._blocks) <= 16
    assert sum(map(len, reader._blocks)) <= 16 << 10
    assert reader._blocks


_MANY_FIELDS = b"".join(b"\x10\x02%c%c\x00" % pair for pair in itertools.product(b"bcdfghjklmnpqrsuvwxyz", repeat=2))


@pytest.mark.parametrize(
    ("first", "block"),
    [
        pytest.param(b"", lambda number: _PLAIN + b"\x10\x01z\x01%c" % number + _MANY_FIELDS, id="short"),
        pytest.param(
            b"".join(b"\x40\x02a%c\x00" % number for number in b"abcdefghij"),
            lambda number: _PLAIN + bytes([0xBE + number % 10]) * 400 + b"\x10\x01z\x01%c" % number,
            id="indexes",
        ),
    ],
)
def test_heads_of_many_fields_are_not_kept_however_few_bytes_they_are(first, block):
    reader = HeadReader(b"none")
    reader.request(_PLAIN + first)
    for number in range(48, 80):
        head, _ = reader.request(block(number))

    assert len(head.fields) > 400
    assert sum(map(len, reader._known)) <= 16 * 24
    known = {id(head) for head in reader._known.values()}
    assert {id(head) for head, _ in reader._blocks.values()} <= known


def test_answers_need_no_table():
    fields = ((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-message", b"x" * 100))
    block = packed(fields)
    decoder = hpack.Decoder()
    for _ in range(3):
        assert tuple(decoder.decode(FIRST + block, raw=True)) == fields
        assert len(decoder.header_table.dynamic_entries) == 0
    decoder.max_allowed_table_size = 0
    assert tuple(decoder.decode(block, raw=True)) == fields
