"""The peer port of a leaderless node's process, under a member that holds the secret and went bad.

What it says of the members is left to ``test_quorum_messages``: a cluster that believed it would be another afterwards.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats import quorum_messages
from tests.fuzz.budget import made_up
from tests.fuzz.siege import Siege
from tests.fuzz.test_quorum_messages import NO_GOSSIP
from tests.fuzz.traitor import Traitor

pytestmark = pytest.mark.integration

NODE = "n3"
WHOLE = quorum_messages.frame([quorum_messages.encode(quorum_messages.Fetch(1, b"k"))])
NO_FRAMES = {
    "no msgpack": b"\xc1",
    "deep nesting": b"\x91" * 100_000,
    "an unknown kind": b"\x91\x92\x7f\x01",
    "half a frame": WHOLE[:-1],
    "more than a frame": WHOLE + b"\x00",
    "millions of messages": b"\xdd\x00\xff\xff\xff" + bytes(1000),
    "millions of rows": b"\x91\x94\x07\x01\xdd\x00\xff\xff\xff" + b"\x92\xc4\x01a\xc4\x00" * 1000 + b"\xc3",
    "a state of gigabytes": b"\x91\x95\x00\x01\xc4\x01k\xc6\xff\xff\xff\xff" + bytes(1000),
}


@pytest.mark.parametrize("payload", NO_FRAMES.values(), ids=NO_FRAMES)
def test_what_is_no_frame_costs_a_member_its_connection_and_nothing_else(
    leaderless_siege: Siege, payload: bytes
) -> None:
    with Traitor(leaderless_siege, NODE) as traitor:
        traitor.say(payload)
        is_heard = traitor.is_heard()

    assert not is_heard


@made_up
@given(payloads=st.lists(NO_GOSSIP | st.binary(min_size=1, max_size=300), min_size=1, max_size=4))
def test_whatever_a_member_says_costs_at_most_its_connection(leaderless_siege: Siege, payloads: list[bytes]) -> None:
    with Traitor(leaderless_siege, NODE) as traitor:
        traitor.say(*payloads)
        traitor.is_heard()

    with Traitor(leaderless_siege, NODE) as traitor:
        assert traitor.is_heard(), "this stopped the node"


def test_a_member_that_asks_for_more_than_anybody_can_send_loses_its_connection(leaderless_siege: Siege) -> None:
    leaderless_siege.cluster.put(NODE, "large", bytes(1 << 20))
    question = quorum_messages.encode(quorum_messages.Fetch(1, b"large", hinted=True))
    with Traitor(leaderless_siege, NODE) as traitor:
        traitor.say(quorum_messages.frame([question] * quorum_messages.MESSAGES_PER_FRAME))
        is_heard = traitor.is_heard()

    assert not is_heard
