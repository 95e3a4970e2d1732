"""What a peer may say, read from bytes: no bytes bring anything about but a message or a refusal."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats import raft_messages as messages
from raftkv.formats.peers import MalformedMessageError, Refusal
from raftkv.formats.raft_messages import Append, NewerTerm, ProposalDeclined

REFUSAL = Refusal("disk_full", "TEXT")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x92\x7f\x01",
        b"\x93\x06\x01" + b"\x91" * 100_000,
        messages.encode(ProposalDeclined(sequence=1, refusal=REFUSAL)).replace(b"TEXT", b"\xff\xff\xff\xff"),
        messages.encode(ProposalDeclined(sequence=1, refusal=Refusal("disk_full", "x" * 5000))),
        messages.encode(NewerTerm(term=-1)),
        messages.encode(NewerTerm(term=2**64 - 1)),
        messages.encode(Append(term=1, commit_index=1, sequence=1, entries=((b"", -1, 1),))),
    ],
)
def test_what_is_no_message_is_malformed(payload):
    with pytest.raises(MalformedMessageError):
        messages.decode(payload)


@given(st.binary(max_size=60))
def test_whatever_bytes_arrive_are_a_message_or_malformed(payload):
    try:
        message = messages.decode(payload)
    except MalformedMessageError:
        return

    assert isinstance(message, msgspec.Struct)
