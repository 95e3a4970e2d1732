"""Versions and how they merge: the laws of joins, and an oracle that remembers every event."""

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.formats.fingerprint import fingerprint
from raftkv.formats.versions import (
    MAX_COUNTER,
    KeyState,
    MalformedStateError,
    Stamp,
    Version,
    decode_context,
    decode_state,
    encode_context,
    encode_state,
)
from raftkv.quorum.data import versions
from raftkv.quorum.data.versions import CONFLICTS, MAX_ACTORS, HybridClock, KeepSiblings, LastWriterWins, visible

LWW, SIBLINGS = LastWriterWins(), KeepSiblings()

NODES = st.sampled_from(("n1", "n2", "n3"))
VALUES = st.none() | st.binary(max_size=2)
VERSIONS = st.builds(Version, st.integers(1, 6), NODES, VALUES, st.sampled_from((0, 5)))


def version(counter, node="n1", value=b"value", expires_at_ms=0):
    return Version(counter, node, value, expires_at_ms)


# -- stamps and the clock


def test_a_stamp_is_compared_by_counter_and_then_by_node():
    assert Stamp(2, "a") > Stamp(1, "b")
    assert Stamp(2, "b") > Stamp(2, "a")
    assert str(Stamp(17, "n1")) == "17@n1"


def test_the_clock_follows_the_wall_and_never_repeats_when_the_wall_stands_or_goes_back():
    wall = iter((100, 100, 50, 200))
    clock = HybridClock(0, lambda: next(wall), limit_us=lambda: 110)

    assert [clock.next() for _ in range(4)] == [100, 101, 102, 200]


def test_the_clock_goes_on_from_its_mark_and_above_what_it_observed():
    clock = HybridClock(500, lambda: 100, limit_us=lambda: 110)

    assert clock.next() == 501

    clock.observe(900)
    clock.observe(300)

    assert clock.next() == 901


def test_a_counter_is_too_far_ahead_by_the_wall_and_not_by_what_was_observed():
    clock = HybridClock(10_000, lambda: 100, limit_us=lambda: 110)

    assert not clock.is_too_far_ahead(110)
    assert clock.is_too_far_ahead(111)


# -- the codec


def test_a_state_comes_back_as_it_was_and_costs_little():
    small = KeyState((Version(1_763_722_800_000_000, "node-1", b"v" * 100),))
    siblings = SIBLINGS.join(
        SIBLINGS.write(None, version(5, "n1"), ()), SIBLINGS.write(None, version(4, "n2", None), ())
    )

    assert decode_state(encode_state(small)) == small
    assert len(encode_state(small)) - 100 < 40
    assert decode_state(encode_state(siblings)) == siblings
    assert [each.stamp for each in siblings.versions] == [Stamp(4, "n2"), Stamp(5, "n1")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x90",
        encode_state(KeyState(())),
        encode_state(KeyState((version(2), version(1)))),
        encode_state(KeyState((version(2), version(2)))),
        encode_state(KeyState((version(MAX_COUNTER + 1),))),
        encode_state(KeyState((version(-1),))),
        encode_state(KeyState((version(1),), (("b", 1), ("a", 1)))),
        encode_state(KeyState((version(1),), (("a", 1), ("a", 2)))),
        encode_state(KeyState((version(1),)))[:-1],
        encode_state(KeyState((version(1),))) + b"\0",
        b"\x91" * 5000,
    ],
)
def test_bytes_that_are_no_state_are_refused_by_type(data):
    with pytest.raises(MalformedStateError):
        decode_state(data)


@pytest.mark.parametrize("data", [b"\xc0", b"\x91\x91\xa1a", b"\x92\x92\xa1b\x01\x92\xa1a\x01", b"\xff\xff"])
def test_bytes_that_are_no_context_are_refused_by_type(data):
    with pytest.raises(MalformedStateError):
        decode_context(data)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data):
    for decode in (decode_state, decode_context):
        with suppress(MalformedStateError):
            decode(data)


def test_only_states_that_keep_siblings_have_a_context():
    state = SIBLINGS.write(None, version(7), ())

    assert encode_context(LWW.write(None, version(7), ())) == b""
    assert decode_context(b"") == ()
    assert decode_context(encode_context(state)) == (("n1", 7),)


def test_fingerprints_differ_where_states_do():
    one, other = KeyState((version(1),)), KeyState((version(2),))

    assert fingerprint(encode_state(one)) == fingerprint(encode_state(KeyState((version(1),))))
    assert fingerprint(encode_state(one)) != fingerprint(encode_state(other))
    assert len(fingerprint(encode_state(one))) == 8


def test_tombstones_and_what_has_expired_cannot_be_seen():
    state = KeyState((version(1), version(2, value=None), version(3, expires_at_ms=50), version(4, value=b"")))

    assert [each.counter for each in visible(state, 49)] == [1, 3, 4]
    assert [each.counter for each in visible(state, 50)] == [1, 4]


# -- last writer wins


STATES = VERSIONS.map(lambda each: KeyState((each,)))


@given(STATES, STATES, STATES)
def test_joins_of_last_writer_wins_make_a_semilattice(one, two, three):
    join = LWW.join

    assert join(one, one) == one
    assert join(one, two) == join(two, one)
    assert join(one, join(two, three)) == join(join(one, two), three)


@given(st.lists(VERSIONS, min_size=1))
def test_the_version_with_the_highest_stamp_wins_whatever_the_order(written):
    state = None
    for each in written:
        state = LWW.write(state, each, ())

    assert len(state.versions) == 1
    assert state.newest == max(each.stamp for each in written)


def test_a_deletion_with_the_higher_stamp_wins_over_a_value():
    state = LWW.write(LWW.write(None, version(1), ()), version(2, value=None), ())

    assert visible(state, 0) == ()


# -- siblings, against an oracle that keeps the whole history of each version


class Oracle:
    """What a replica holds as sets of events: the versions it shows, and everything it has heard of."""

    def __init__(self, shown, known):
        self.shown, self.known = shown, known

    def write(self, event, value, context):
        kept = {each: kept for each, kept in self.shown.items() if each not in context}
        return Oracle({**kept, event: value}, self.known | context | {event})

    def join(self, other):
        shown = {}
        for mine, theirs in ((self, other), (other, self)):
            shown |= {
                event: value
                for event, value in mine.shown.items()
                if event in theirs.shown or event not in theirs.known
            }
        return Oracle(shown, self.known | other.known)


class Replica:
    """A replica and its oracle."""

    def __init__(self, name):
        self.name, self.state, self.oracle = name, None, Oracle({}, frozenset())

    def write(self, counter, value, context, known):
        self.state = SIBLINGS.write(self.state, Version(counter, self.name, value), decode_context(context))
        self.oracle = self.oracle.write(Stamp(counter, self.name), value, known)

    def receive(self, state, oracle):
        received = decode_state(encode_state(state))
        self.state = received if self.state is None else SIBLINGS.join(self.state, received)
        self.oracle = self.oracle.join(oracle)

    def check(self):
        shown = {} if self.state is None else {each.stamp: each.value for each in self.state.versions}
        assert shown == self.oracle.shown


class World:
    """Replicas, clients that remember what they read, and a network that loses, repeats and reorders states."""

    def __init__(self, seed, replicas=3):
        self.dice = random.Random(seed)
        self.replicas = [Replica(f"n{number}") for number in range(1, replicas + 1)]
        self.contexts = [(b"", frozenset())]
        self.sent = []
        self.counter = 0
        self.written = {}
        self.replaced = set()

    def step(self):
        replica = self.dice.choice(self.replicas)
        action = self.dice.choice(("write", "read", "send", "receive", "receive"))
        if action == "write":
            self.counter += self.dice.randrange(1, 4)
            context, known = self.dice.choice(self.contexts[-4:])
            value = self.dice.choice((None, b"%d" % self.counter))
            replica.write(self.counter, value, context, known)
            self.written[Stamp(self.counter, replica.name)] = value
            self.replaced |= known
        elif action == "read" and replica.state is not None:
            self.contexts.append((encode_context(replica.state), replica.oracle.known))
        elif action == "send" and replica.state is not None:
            self.sent.append((replica.state, replica.oracle))
        elif action == "receive" and self.sent:
            replica.receive(*self.dice.choice(self.sent))
        replica.check()

    def heal(self):
        for _ in range(2):
            for sender in self.replicas:
                for receiver in self.replicas:
                    if sender.state is not None:
                        receiver.receive(sender.state, sender.oracle)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_siblings_agree_with_whole_histories_and_replicas_converge(seed):
    world = World(seed)
    for _ in range(world.dice.randrange(60)):
        world.step()
    world.heal()

    for replica in world.replicas:
        replica.check()
        assert replica.state == world.replicas[0].state

    # Nothing was lost: every write is there, or some client that had seen it wrote over it.
    shown = set() if world.replicas[0].state is None else {each.stamp for each in world.replicas[0].state.versions}
    assert shown == set(world.written) - world.replaced


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_joins_of_siblings_make_a_semilattice(seed):
    world = World(seed)
    for _ in range(30):
        world.step()
    states = [state for state, _ in world.sent] + [each.state for each in world.replicas if each.state is not None]
    one, two, three = (world.dice.choice(states or [KeyState((version(1),), (("n1", 1),))]) for _ in range(3))
    join = SIBLINGS.join

    assert join(one, one) == one
    assert join(one, two) == join(two, one)
    assert join(one, join(two, three)) == join(join(one, two), three)
    assert encode_state(join(one, two)) == encode_state(join(two, one))


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_write_with_the_context_of_everything_leaves_one_version(seed):
    world = World(seed)
    for _ in range(30):
        world.step()
    world.heal()
    replica = world.replicas[0]
    context = b"" if replica.state is None else encode_context(replica.state)
    replica.write(world.counter + 1, b"resolved", context, replica.oracle.known)
    world.heal()

    for each in world.replicas:
        assert [one.value for one in each.state.versions] == [b"resolved"]


def test_writes_without_a_context_become_siblings():
    state = SIBLINGS.write(SIBLINGS.write(None, version(1, value=b"a"), ()), version(2, value=b"b"), ())

    assert [each.value for each in state.versions] == [b"a", b"b"]


def test_a_version_that_was_replaced_does_not_come_back_from_a_replica_that_missed_it():
    old = SIBLINGS.write(None, version(1, "n1"), ())
    new = SIBLINGS.write(old, version(2, "n2", None), decode_context(encode_context(old)))

    assert SIBLINGS.join(old, new) == new
    assert SIBLINGS.join(new, old) == new


def test_a_joined_state_is_never_empty_even_if_contexts_were_forged():
    one = SIBLINGS.write(None, version(1, "n1"), (("n2", 5),))
    other = SIBLINGS.write(None, version(1, "n2"), (("n1", 5),))

    joined = SIBLINGS.join(one, other)

    assert joined == SIBLINGS.join(other, one)
    assert [each.node for each in joined.versions] == ["n2"]


@given(VERSIONS, VERSIONS)
def test_two_values_under_one_stamp_are_settled_alike_everywhere(one, two):
    states = [KeyState((Version(3, "n1", each.value, each.expires_at_ms),), (("n1", 3),)) for each in (one, two)]

    for conflicts in CONFLICTS.values():
        assert conflicts.join(*states) == conflicts.join(*reversed(states))


def test_actors_that_were_idle_longest_are_forgotten_but_none_that_has_a_version():
    state = SIBLINGS.write(None, version(1, "first"), ())
    for counter in range(2, 2 * MAX_ACTORS):
        context = tuple(entry for entry in state.seen if entry[0] != "first")
        state = SIBLINGS.write(state, version(counter, f"actor-{counter}"), context)

    actors = {actor for actor, _ in state.seen}

    assert [each.node for each in state.versions] == ["first", f"actor-{2 * MAX_ACTORS - 1}"]
    assert len(state.seen) == MAX_ACTORS + 2
    assert "first" in actors
    assert "actor-2" not in actors


def test_both_ways_to_settle_conflicts_go_by_the_name_that_the_configuration_gives_them():
    assert set(CONFLICTS) == {"lww", "siblings"}
    assert all(versions.CONFLICTS[name].name == name for name in CONFLICTS)
