"""Frames: what was sent arrives, in order, or the decoder refuses; never anything else."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats.frames import HEADER_BYTES, TAG_BYTES, FrameDecoder, FrameEncoder, FrameError

KEY = b"k" * 32
LIMIT_BYTES = 1 << 16

payloads_drawn = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def make_decoder(*, key=KEY, limit_bytes=LIMIT_BYTES):
    decoder = FrameDecoder(100)
    decoder.secure(key, limit_bytes)
    return decoder


def separate_frames(payloads, *, key=KEY):
    encoder = FrameEncoder(key)
    return [encoder.encode([payload]) for payload in payloads]


def decode_until_refused(decoder, pieces):
    """Everything delivered, and whether the decoder refused."""
    delivered = []
    try:
        for piece in pieces:
            delivered += decoder.feed(piece)
    except FrameError:
        return delivered, True
    return delivered, False


@given(payloads_drawn, st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_frames_survive_any_fragmentation(payloads, sizes):
    stream = FrameEncoder(KEY).encode(payloads)
    decoder, delivered, offset = make_decoder(), [], 0
    for size in itertools.cycle(sizes):
        if offset >= len(stream):
            break
        delivered += decoder.feed(stream[offset : offset + size])
        offset += size

    assert delivered == payloads
    assert decoder.held_bytes == 0


def test_many_payloads_in_one_piece_are_the_same_as_one_by_one():
    payloads = [b"a", b"", b"ccc"]

    assert FrameEncoder(KEY).encode(payloads) == b"".join(separate_frames(payloads))


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_random_bytes_deliver_nothing(pieces):
    delivered, _ = decode_until_refused(make_decoder(), pieces)

    assert delivered == []


@given(payloads_drawn, st.data())
def test_a_flipped_byte_delivers_only_what_came_before_it(payloads, data):
    stream = bytearray(FrameEncoder(KEY).encode(payloads))
    offset = data.draw(st.integers(0, len(stream) - 1))
    stream[offset] ^= data.draw(st.integers(1, 255))
    decoder = make_decoder()
    delivered, refused = decode_until_refused(decoder, [bytes([byte]) for byte in stream])

    assert delivered == payloads[: len(delivered)]
    assert len(delivered) < len(payloads)
    assert refused or decoder.held_bytes  # a length made longer leaves the decoder waiting, which the link times


@given(payloads_drawn, st.data())
def test_a_truncated_stream_delivers_a_prefix(payloads, data):
    stream = FrameEncoder(KEY).encode(payloads)
    cut = data.draw(st.integers(0, len(stream) - 1))
    delivered, refused = decode_until_refused(make_decoder(), [stream[:cut]])

    assert not refused
    assert delivered == payloads[: len(delivered)]
    assert len(delivered) < len(payloads)


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=6), st.data())
def test_reordered_replayed_or_missing_frames_are_refused(payloads, data):
    frames = separate_frames(payloads)
    order = data.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=10))
    delivered, refused = decode_until_refused(make_decoder(), [frames[index] for index in order])
    in_order = 0
    while in_order < len(order) and order[in_order] == in_order:
        in_order += 1

    assert delivered == payloads[:in_order]
    assert refused == (in_order < len(order))


def test_a_frame_of_the_other_direction_is_refused():
    with pytest.raises(FrameError, match="does not verify"):
        make_decoder().feed(FrameEncoder(b"o" * 32).encode([b"reflected"]))


def test_a_refusing_decoder_goes_on_refusing():
    decoder = make_decoder()
    with pytest.raises(FrameError):
        decoder.feed(b"\xff" * 100)

    with pytest.raises(FrameError):
        decoder.feed(FrameEncoder(KEY).encode([b"good"]))


def test_a_giant_length_is_refused_before_anything_is_stored():
    decoder = make_decoder(limit_bytes=1000)

    assert decoder.feed((1000).to_bytes(4, "big")) == []
    with pytest.raises(FrameError, match="longer than the limit"):
        make_decoder(limit_bytes=1000).feed((1001).to_bytes(4, "big"))


def test_a_long_length_that_is_allowed_takes_no_memory_until_bytes_arrive():
    decoder = make_decoder(limit_bytes=1 << 30)
    decoder.feed((1 << 30).to_bytes(4, "big"))

    assert decoder.held_bytes == HEADER_BYTES
    assert decoder._buffer.__sizeof__() < 1000


def test_the_time_for_a_large_frame_grows_with_its_size_and_not_with_its_square():
    def cost_s(size_bytes):
        stream = FrameEncoder(KEY).encode([bytes(size_bytes)])
        decoder = make_decoder(limit_bytes=1 << 26)
        begin = time.process_time()
        for offset in range(0, len(stream), 4096):
            delivered = decoder.feed(stream[offset : offset + 4096])
        assert len(delivered[0]) == size_bytes
        return time.process_time() - begin

    small = min(cost_s(2 << 20) for _ in range(3))
    large = min(cost_s(32 << 20) for _ in range(2))

    assert large < 16 * small * 4  # sixteen times the bytes; a quadratic decoder needs two hundred and fifty times


def test_the_overhead_is_a_header_and_a_tag():
    assert len(FrameEncoder(KEY).encode([b"x" * 10])) == 10 + HEADER_BYTES + TAG_BYTES
