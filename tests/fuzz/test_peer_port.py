"""The peer port under strangers, and under a member that holds the secret and went bad."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats import raft_messages as messages
from raftkv.formats.entries import NO_OP, REGULAR
from raftkv.formats.frames import plain_frame
from raftkv.formats.handshakes import HANDSHAKE_VERSION, Hello
from raftkv.peers.listener import STRANGER_LIMIT
from tests.fuzz.budget import made_up
from tests.fuzz.mutations import bent
from tests.fuzz.siege import TRAITOR, Siege
from tests.fuzz.traitor import Traitor, dialer, hear_out, knock, own_greeting, said

pytestmark = pytest.mark.integration

NODE = "n3"
HELLO = msgspec.msgpack.encode(
    Hello(version=HANDSHAKE_VERSION, cluster="test", dialer="n1", acceptor=NODE, nonce=bytes(32), proof=bytes(32))
)
OPENINGS = {
    "nothing that anybody says": b"\xff\xfe\x00garbage",
    "a request of HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a hello of TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "a frame of four gigabytes": b"\xff\xff\xff\xff" + bytes(100),
    "an empty frame": plain_frame(b""),
    "a frame that is no message": plain_frame(b"\xc1"),
    "a deep frame": plain_frame(b"\x91" * 2000),
    "text that is not UTF-8": plain_frame(HELLO.replace(b"test", b"\xff\xfe\xfd\xfc")),
    "a hello without a proof": plain_frame(HELLO),
    "half a hello": plain_frame(HELLO)[:-10],
    "another version": plain_frame(HELLO.replace(bytes([0x96, HANDSHAKE_VERSION]), b"\x96\x7f", 1)),
}


def hears_nothing(siege: Siege, data: bytes) -> None:
    """Say ``data`` and nothing more: the port must hang up without a word."""
    with knock(siege, NODE) as client:
        with suppress(ConnectionError):
            client.sendall(data)
        received = hear_out(client)

    assert received == b""


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_who_does_not_hold_the_secret_is_cut_off_without_a_word(siege: Siege, opening: bytes) -> None:
    hears_nothing(siege, opening)


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": b"another secret of the same length, more or less"},
        {"cluster": "another"},
        {"target": "n4"},
        {"node_id": "n0"},
        {"node_id": ""},
    ],
    ids=str,
)
def test_who_does_not_belong_here_is_cut_off_without_a_word(siege: Siege, changes: dict[str, object]) -> None:
    hears_nothing(siege, plain_frame(dialer(siege, NODE, **changes).opening()))


def test_a_recorded_handshake_opens_nothing(siege: Siege) -> None:
    speaker = dialer(siege, NODE)
    hello = plain_frame(speaker.opening())
    with knock(siege, NODE) as client:
        client.sendall(hello)
        challenge = client.recv(4096)
        proof = plain_frame(speaker.receive(challenge[4:]).reply)
        client.sendall(proof)
        welcome = client.recv(4096)
    with knock(siege, NODE) as client:
        client.sendall(hello)
        other = client.recv(4096)
        client.sendall(proof)
        received = hear_out(client)

    assert welcome
    assert other not in (b"", challenge)
    assert received == b""


@made_up
@given(data=st.binary(max_size=300) | st.binary(max_size=300).map(plain_frame), after_hello=st.booleans())
def test_random_bytes_open_nothing(siege: Siege, data: bytes, after_hello: bool) -> None:
    with knock(siege, NODE) as client:
        heard = b""
        if after_hello:
            client.sendall(plain_frame(dialer(siege, NODE).opening()))
            heard = client.recv(4096)
        with suppress(ConnectionError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        received = hear_out(client)

    assert received == b""
    assert bool(heard) == after_hello
    assert siege.stands()


def test_hundreds_of_silent_strangers_are_counted_and_cut_off(siege: Siege) -> None:
    with ExitStack() as stack:
        strangers = [stack.enter_context(knock(siege, NODE)) for _ in range(5 * STRANGER_LIMIT)]
        for stranger in strangers[::2]:
            with suppress(ConnectionError):
                stranger.sendall(plain_frame(HELLO)[:7])
        with Traitor(siege, NODE) as member:
            member_is_heard = member.is_heard()
        heard = {hear_out(stranger) for stranger in strangers}

    assert member_is_heard
    assert heard == {b""}


BROKEN_FRAMES = {
    "a frame of four gigabytes": b"\xff\xff\xff\xff" + bytes(100),
    "a frame whose tag is wrong": plain_frame(b"payload") + bytes(16),
    "random bytes": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("data", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES)
def test_a_broken_frame_costs_a_member_its_connection_and_nothing_else(siege: Siege, data: bytes) -> None:
    with Traitor(siege, NODE) as traitor:
        traitor.write(data)
        is_heard = traitor.is_heard()

    assert not is_heard
    with Traitor(siege, NODE) as traitor:
        assert traitor.is_heard()


@made_up
@given(data=st.data())
def test_whatever_a_member_greets_with_costs_at_most_its_connection(siege: Siege, data: st.DataObject) -> None:
    with Traitor(siege, NODE, greets=False) as traitor:
        greeting = msgspec.msgpack.encode(own_greeting(traitor.greeting))
        payload = data.draw(st.binary(min_size=1, max_size=200) | bent(st.just(greeting)))
        traitor.say(payload)
        traitor.is_heard()

    with Traitor(siege, NODE) as traitor:
        assert traitor.is_heard(), "this stopped the node"


@pytest.mark.parametrize("node", ["n2", "n3", "n4"])
@made_up
@given(data=st.data())
def test_whatever_a_member_says_costs_at_most_its_connection(siege: Siege, node: str, data: st.DataObject) -> None:
    payloads = data.draw(st.lists(said(siege.place(node)), min_size=1, max_size=4))
    with Traitor(siege, node) as traitor:
        traitor.say(*payloads)
        traitor.is_heard()

    with Traitor(siege, node) as traitor:
        assert traitor.is_heard(), "this stopped the node"


NUMBERLESS = messages.encode(messages.NewerTerm(term=1))[:-1]
NO_MESSAGES = {
    "nothing": b"\x00",
    "text that is not UTF-8": messages.encode(
        messages.ProposalDeclined(sequence=1, refusal=messages.Refusal("no_leader", "QQ"))
    ).replace(b"QQ", b"\xff\xfe"),
    "deep nesting": b"\x93\x06\x01" + b"\x91" * 100_000,
    "a negative number": NUMBERLESS + b"\xff",
    "a number beyond the log's": NUMBERLESS + b"\xcf" + b"\xff" * 8,
    "a term beyond all elections": NUMBERLESS + b"\xcf\x00\x10" + bytes(6),
    "half a message": NUMBERLESS,
    "an unknown kind": b"\x92\x7f\x01",
}


@pytest.mark.parametrize("payload", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message_costs_a_member_its_connection_and_nothing_else(siege: Siege, payload: bytes) -> None:
    before = siege.place(NODE)
    with Traitor(siege, NODE) as traitor:
        traitor.say(payload)
        is_heard = traitor.is_heard()

    assert not is_heard
    assert siege.place(NODE)["term"] < before["term"] + 100


@pytest.mark.parametrize(
    "kind", ["a gap", "an unknown kind", "terms that decrease", "a conflict with what is committed"]
)
def test_a_leader_whose_entries_cannot_be_is_refused(siege: Siege, kind: str) -> None:
    node = siege.cluster.followers()[-1]
    place = siege.place(node)
    term, commit = place["term"], place["commit_index"]
    entries = {
        "a gap": ((REGULAR, 9, 1),),
        "an unknown kind": ((b"\x02pickle", 2, 1),),
        "terms that decrease": ((REGULAR, 2, 1), (REGULAR, 3, 0)),
        "a conflict with what is committed": ((NO_OP, 2, 0), (NO_OP, 3, term)),
    }[kind]
    append = messages.Append(
        term=term, commit_index=commit, sequence=1, previous_index=1, previous_term=0, entries=entries
    )
    with Traitor(siege, node) as traitor:
        traitor.say(messages.encode(append))
        is_heard = traitor.is_heard()

    assert not is_heard


def test_a_second_leader_in_the_leaders_term_is_refused(siege: Siege) -> None:
    leader = siege.cluster.leader()
    place = siege.place(leader)
    with Traitor(siege, leader) as traitor:
        traitor.say(messages.encode(messages.Append(term=place["term"], commit_index=0, sequence=1)))
        is_heard = traitor.is_heard()

    assert not is_heard
    assert leader != TRAITOR
