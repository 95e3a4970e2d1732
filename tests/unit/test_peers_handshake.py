"""The handshake: two pure machines joined in memory, and every way to be turned away."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.formats import handshakes
from raftkv.formats.frames import FrameDecoder, FrameError, plain_frame
from raftkv.formats.handshakes import HANDSHAKE_VERSION, Challenge, Hello, Proof
from raftkv.peers import handshake
from raftkv.peers.handshake import Acceptor, Dialer, HandshakeRefused
from raftkv.peers.session import HANDSHAKE_LIMIT_BYTES, PeerSession

SECRET = b"a secret of the cluster, long enough"
LIMIT_BYTES = 1 << 20


def make_dialer(*, cluster="c", node_id="n1", target="n2", secret=SECRET, nonce=b"d" * 32):
    return Dialer(cluster=cluster, node_id=node_id, target=target, secret=secret, nonce=nonce)


def make_acceptor(*, cluster="c", node_id="n2", members=("n1", "n2", "n3"), secret=SECRET, nonce=b"a" * 32):
    return Acceptor(cluster=cluster, node_id=node_id, members=members, secret=secret, nonce=nonce)


def refusal(machine, message):
    with pytest.raises(HandshakeRefused) as caught:
        machine.receive(message)
    return caught.value.reason


def shake(dialer, acceptor):
    """Run the handshake to its end; returns both sides' keys."""
    challenge = acceptor.receive(dialer.opening())
    answer = dialer.receive(challenge.reply)
    return answer.keys, acceptor.receive(answer.reply).keys


def test_both_sides_end_up_with_the_same_two_keys_crossed_over():
    dialer, acceptor = make_dialer(), make_acceptor()
    ours, theirs = shake(dialer, acceptor)

    assert ours.send == theirs.receive
    assert ours.receive == theirs.send
    assert ours.send != ours.receive
    assert (dialer.peer, acceptor.peer) == ("n2", "n1")


def test_keys_are_new_for_every_connection():
    first, _ = shake(make_dialer(), make_acceptor())
    second, _ = shake(make_dialer(), make_acceptor(nonce=b"b" * 32))
    third, _ = shake(make_dialer(nonce=b"e" * 32), make_acceptor())

    assert len({first.send, second.send, third.send, first.receive, second.receive, third.receive}) == 6


def test_the_acceptor_is_nobodys_peer_until_the_proof():
    acceptor = make_acceptor()
    acceptor.receive(make_dialer().opening())

    assert acceptor.peer is None


@pytest.mark.parametrize(
    ("dialer", "reason"),
    [
        (make_dialer(secret=b"another secret"), handshake.WRONG_SECRET),
        (make_dialer(secret=b""), handshake.WRONG_SECRET),
        (make_dialer(cluster="other"), handshake.OTHER_CLUSTER),
        (make_dialer(target="n3"), handshake.WRONG_TARGET),
        (make_dialer(node_id="n0"), handshake.UNKNOWN_NODE),
    ],
)
def test_a_dialer_with_something_wrong_is_refused_at_its_hello(dialer, reason):
    assert refusal(make_acceptor(), dialer.opening()) == reason


def forged_hello(**changes):
    """A Hello with a valid proof over fields that a Dialer would not send."""
    fields = {
        "version": HANDSHAKE_VERSION,
        "cluster": "c",
        "dialer": "n1",
        "acceptor": "n2",
        "nonce": b"d" * 32,
    } | changes
    seal = handshake._Seal(SECRET, fields["cluster"], fields["dialer"], fields["acceptor"])
    proof = seal.proof("hello", fields["nonce"], b"")
    return msgspec.msgpack.encode(Hello(**fields, proof=proof))


def test_the_forgery_of_the_next_tests_is_itself_sound():
    assert forged_hello() == make_dialer().opening()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dialer": "n2"}, handshake.DIALS_ITSELF),
        ({"dialer": "n3"}, handshake.WRONG_DIRECTION),
        ({"version": HANDSHAKE_VERSION - 1}, handshake.OTHER_VERSION),
        ({"nonce": b"short"}, handshake.MALFORMED),
    ],
)
def test_a_holder_of_the_secret_who_breaks_the_rules_is_refused(changes, reason):
    assert refusal(make_acceptor(), forged_hello(**changes)) == reason


def test_the_version_is_covered_by_every_proof(monkeypatch):
    hello = msgspec.msgpack.decode(make_dialer().opening(), type=Hello)
    later = HANDSHAKE_VERSION + 1
    for module in (handshake, handshakes):
        monkeypatch.setattr(module, "HANDSHAKE_VERSION", later)
    moved_up = msgspec.msgpack.encode(msgspec.structs.replace(hello, version=later))

    assert refusal(make_acceptor(), moved_up) == handshake.WRONG_SECRET


def test_a_replayed_hello_and_proof_do_not_open_a_second_connection():
    dialer, first = make_dialer(), make_acceptor()
    hello = dialer.opening()
    proof = dialer.receive(first.receive(hello).reply).reply
    first.receive(proof)
    second = make_acceptor(nonce=b"b" * 32)
    second.receive(hello)

    assert refusal(second, proof) == handshake.STALE_PROOF
    assert second.peer is None


def test_a_replayed_challenge_does_not_convince_a_new_dialer():
    challenge = make_acceptor().receive(make_dialer().opening()).reply

    assert refusal(make_dialer(nonce=b"e" * 32), challenge) == handshake.IMPOSTOR


@pytest.mark.parametrize(
    "acceptor",
    [make_acceptor(secret=b"another secret"), make_acceptor(cluster="other"), make_acceptor(node_id="n3")],
)
def test_an_acceptor_that_skips_its_checks_cannot_prove_itself(acceptor):
    hello = make_dialer().opening()
    fields = msgspec.msgpack.decode(hello, type=Hello)
    seal = handshake._Seal(acceptor._secret, acceptor._cluster, fields.dialer, acceptor._node_id)
    proof = seal.proof("challenge", fields.nonce, b"a" * 32)

    challenge = msgspec.msgpack.encode(Challenge(nonce=b"a" * 32, proof=proof))
    assert refusal(make_dialer(), challenge) == handshake.IMPOSTOR


def test_messages_sent_back_to_where_they_came_from_are_refused():
    dialer, acceptor = make_dialer(), make_acceptor()
    hello = dialer.opening()
    challenge = acceptor.receive(hello).reply
    fields = msgspec.msgpack.decode(challenge, type=Challenge)
    reflected_proof = msgspec.msgpack.encode(Proof(proof=fields.proof))
    hello_fields = msgspec.msgpack.decode(hello, type=Hello)
    reflected_hello = msgspec.msgpack.encode(Challenge(nonce=hello_fields.nonce, proof=hello_fields.proof))

    assert refusal(acceptor, reflected_proof) == handshake.STALE_PROOF
    assert refusal(dialer, reflected_hello) == handshake.IMPOSTOR


@pytest.mark.parametrize(
    "message", [b"", b"\xc1", b"\x90", b"\x91" * 4000, b"\x96\x01\xa1\xff\xa1a\xa1b\xc4\x00\xc4\x00"]
)
def test_malformed_messages_are_refused(message):
    greeted = make_acceptor()
    greeted.receive(make_dialer().opening())

    assert refusal(make_acceptor(), message) == handshake.MALFORMED
    assert refusal(greeted, message) == handshake.MALFORMED
    assert refusal(make_dialer(), message) == handshake.MALFORMED


@given(st.binary(max_size=300))
def test_no_bytes_crash_or_convince_either_side(message):
    with pytest.raises(HandshakeRefused):
        make_acceptor().receive(message)
    with pytest.raises(HandshakeRefused):
        make_dialer().receive(message)


@given(st.integers(0, 2), st.data())
def test_one_changed_byte_anywhere_in_the_handshake_ends_it(which, data):
    dialer, acceptor = make_dialer(), make_acceptor()
    sides = [acceptor, dialer, acceptor]
    message = dialer.opening()
    for position, side in enumerate(sides):
        if position == which:
            offset = data.draw(st.integers(0, len(message) - 1))
            message = bytearray(message)
            message[offset] ^= data.draw(st.integers(1, 255))
            with pytest.raises(HandshakeRefused):
                side.receive(bytes(message))
            return
        message = side.receive(message).reply
    raise AssertionError("one of the three messages is changed")


def joined():
    """Two established sessions and what the handshake left to say."""
    left, right = PeerSession(make_dialer(), LIMIT_BYTES), PeerSession(make_acceptor(), LIMIT_BYTES)
    right.receive(left.take_output())
    left.receive(right.take_output())
    right.receive(left.take_output())
    welcome = right.take_output()
    return left, right, welcome


def test_the_dialer_is_established_only_by_the_acceptors_welcome():
    left, right, welcome = joined()

    assert (left.established, right.established) == (False, True)
    assert left.receive(welcome) == [b""]
    assert left.established


def test_sessions_carry_payloads_both_ways():
    left, right, welcome = joined()
    left.receive(welcome)

    assert right.receive(left.encode([b"one", b"two"])) == [b"one", b"two"]
    assert left.receive(right.encode([b"three"])) == [b"three"]


def test_payloads_on_the_heels_of_the_proof_are_delivered_once_it_is_verified():
    left, right = PeerSession(make_dialer(), LIMIT_BYTES), PeerSession(make_acceptor(), LIMIT_BYTES)
    right.receive(left.take_output())
    left.receive(right.take_output())

    assert right.receive(left.take_output() + left.encode([b"first"])) == [b"first"]


def test_the_whole_handshake_works_byte_by_byte():
    left, right = PeerSession(make_dialer(), LIMIT_BYTES), PeerSession(make_acceptor(), LIMIT_BYTES)
    for _ in range(2):
        for byte in left.take_output():
            right.receive(bytes([byte]))
        for byte in right.take_output():
            left.receive(bytes([byte]))

    assert left.established
    assert right.established


def test_an_unauthenticated_length_above_the_handshake_limit_is_refused_at_sight():
    session = PeerSession(make_acceptor(), LIMIT_BYTES)

    with pytest.raises(FrameError):
        session.receive((HANDSHAKE_LIMIT_BYTES + 1).to_bytes(4, "big"))


def test_nothing_is_delivered_to_the_acceptor_before_the_proof():
    session = PeerSession(make_acceptor(), LIMIT_BYTES)

    with pytest.raises(HandshakeRefused):
        session.receive(plain_frame(make_dialer().opening()) + plain_frame(b"let me in"))
    assert not session.established


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_random_bytes_never_establish_a_session(pieces):
    for session in (PeerSession(make_acceptor(), LIMIT_BYTES), PeerSession(make_dialer(), LIMIT_BYTES)):
        session.take_output()
        try:
            for piece in pieces:
                assert session.receive(piece) == []
        except (HandshakeRefused, FrameError):
            pass

        assert not session.established


def test_the_plain_decoder_gives_one_frame_at_a_time():
    decoder = FrameDecoder(100)

    assert decoder.feed(plain_frame(b"a") + plain_frame(b"b")) == [b"a"]
    assert decoder.feed(b"") == [b"b"]
    assert decoder.feed(b"") == []
