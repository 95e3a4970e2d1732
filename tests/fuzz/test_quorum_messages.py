"""Every message of the leaderless mode, made up, against real replicas on the simulator's clock, network and disk.

The first member is silent, and all that is said in its name is made up. What it has heard is known: the numbers, keys
and states of questions under way, so that answers fit, or almost. Whatever it says may cost it its connection. It must
end no replica, and make no honest replica say what another finds malformed. One thing is left out, because members may
do it to each other: to let one leave.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.requests import AddMember, Consistency, Get, Inspect, List, Read, RemoveMember, Repair
from raftkv.core.results import Answer, Written
from raftkv.core.status import QuorumStatus
from raftkv.formats import quorum_messages
from raftkv.formats.gossip import Delta, Phase
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.quorum_messages import Gossip, Message
from raftkv.formats.rows import order_key
from raftkv.formats.versions import MAX_COUNTER, KeyState, Version, encode_state
from raftkv.instruments.sim.cluster import Port
from raftkv.instruments.sim.quorum import Absent, entry_of
from tests.fuzz.budget import made_up
from tests.fuzz.mutations import BYTES, bent, numbers, rearranged, values
from tests.simulation.leaderless import Leaderless

TRAITOR = "n1"
VICTIM = "n2"
KEYS = [b"key %d" % number for number in range(8)]


class Silent(Absent):
    """The traitor's process: it says nothing by itself, and remembers what it heard last."""

    numbers: ClassVar[deque[int]] = deque(maxlen=64)
    data: ClassVar[deque[bytes]] = deque(maxlen=64)

    def received(self, _peer: str, payload: bytes) -> None:
        self._remember(msgspec.to_builtins(quorum_messages.decode(payload), builtin_types=(bytes,)))

    def _remember(self, part: Any) -> None:
        if isinstance(part, list | tuple):
            for one in part[:8]:
                self._remember(one)
        elif isinstance(part, bytes):
            self.data.append(part)
        elif isinstance(part, int):
            self.numbers.append(part)


class Besieged(Leaderless):
    """Three members and one that is none yet; the traitor has turned."""

    def __init__(self, **settings: Any) -> None:
        Silent.numbers.clear()
        Silent.data.clear()
        super().__init__(4, members=3, **settings)
        for key in KEYS[:4]:
            self.put("n3", key, b"value")
        self.machines[TRAITOR].process = Silent()
        self.machines[TRAITOR].greeter.attach(Silent())

    def say(self, payload: bytes) -> None:
        if self.network.is_up(TRAITOR, VICTIM):
            self.machines[VICTIM].tell(lambda events: events.received(TRAITOR, payload))
        self.run(0.02)

    def check_alive(self) -> None:
        """Nobody ended, and the victim still answers from its own copy."""
        assert isinstance(self.ask(VICTIM, Inspect()), QuorumStatus)
        assert isinstance(self.ask(VICTIM, Read(query=Get(key=KEYS[0]), consistency=Consistency.LOCAL)), Answer)
        assert self.machines["n3"].process is not None

    def check_serves(self) -> None:
        """What the honest replicas can do without the traitor, they do."""
        self.run(8.0)
        for node, value in ((VICTIM, b"one"), ("n3", b"two")):
            assert isinstance(self.put(node, b"after", value, w=2), Written)
            assert isinstance(self.read("n3", b"after", r=2), Answer)


def is_quiet(_cluster: Besieged) -> None:
    """Nothing is under way."""


def is_asked(cluster: Besieged) -> None:
    """The victim coordinates writes, reads and lists, and waits for the traitor."""
    for key in KEYS:
        cluster.submit(VICTIM, cluster.written(key, b"new", w=3))
        cluster.submit(VICTIM, Read(query=Get(key=key), consistency=Consistency.EVENTUAL, r=3))
    everything = List(start=b"", end=None, limit=100)
    cluster.submit(VICTIM, Read(query=everything, consistency=Consistency.EVENTUAL, r=3))


def compares(cluster: Besieged) -> None:
    """The victim has asked the traitor what differs."""
    cluster.submit(VICTIM, Repair(), 60.0)


def joins(cluster: Besieged) -> None:
    """A fourth node is on its way in."""
    cluster.ask(VICTIM, AddMember(id="n4", http="n4:1", peer="n4:2"))
    members = [entry_of(name, Phase.JOINING if name == "n4" else Phase.UP) for name in cluster.machines]
    cluster.mode.let_in("n4", tuple(members))


def leaves(cluster: Besieged) -> None:
    """The victim is on its way out."""
    cluster.ask("n3", RemoveMember(id=VICTIM))


SITUATIONS = [is_quiet, is_asked, compares, joins, leaves]


@pytest.fixture(autouse=True)
def closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the traitor is ever hung up on."""

    def close_peer(port: Port, peer: str) -> None:
        assert peer == TRAITOR, f"{port._name} was made to find a message of {peer} malformed"
        port._network.close(port._name, peer)

    monkeypatch.setattr(Port, "close_peer", close_peer)


def lets_leave(payload: bytes) -> bool:
    """Is this a well-formed word of somebody on the way out?"""
    try:
        found = quorum_messages.decode(payload)
    except MalformedMessageError:
        return False
    deltas = [one.message for one in found if isinstance(one, Gossip) and isinstance(one.message, Delta)]
    going = {Phase.LEAVING, Phase.DEPARTING, Phase.LEFT}
    return any(entry.phase in going for delta in deltas for entry in delta.entries)


def states(number: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    whole = values(KeyState, number).map(encode_state)
    sane = st.builds(
        lambda counter, node, value: encode_state(KeyState((Version(counter, node, value),))),
        st.sampled_from([0, 1, 10**15, MAX_COUNTER]) | number.filter(lambda counter: counter <= MAX_COUNTER),
        st.sampled_from(["n1", "n2", "n3", "n1~0~1"]),
        st.none() | st.binary(max_size=8),
    )
    return sane | whole | bent(whole) | rearranged(whole)


def said(*, gossips: bool) -> st.SearchStrategy[bytes]:
    """Frames of every kind of message with what was heard, or worse, in their fields; some are then bent."""
    heard_number = st.integers(0, 63).map(lambda at: Silent.numbers[at % len(Silent.numbers)] if Silent.numbers else 1)
    number = heard_number | heard_number | numbers([])
    heard_data = st.integers(0, 63).map(lambda at: Silent.data[at % len(Silent.data)] if Silent.data else b"")
    data = heard_data | st.sampled_from([*KEYS, *map(order_key, KEYS), b""]) | states(number) | BYTES
    kinds = [kind for kind in get_args(Message) if gossips or kind is not Gossip]
    whole = st.one_of([values(kind, number, data) for kind in kinds]).map(quorum_messages.encode)
    frames = st.lists(whole | rearranged(whole), max_size=4).map(quorum_messages.frame)
    return (frames | bent(frames)).filter(lambda payload: not lets_leave(payload))


ANYTHING = said(gossips=True)
NO_GOSSIP = said(gossips=False)


@pytest.mark.parametrize("conflicts", ["lww", "siblings"])
@pytest.mark.parametrize("situation", SITUATIONS)
@made_up
@given(data=st.data())
def test_nothing_that_is_said_ends_a_replica(situation: Any, conflicts: str, data: st.DataObject) -> None:
    cluster = Besieged(conflicts=conflicts)
    situation(cluster)
    cluster.run(0.1)
    for _ in range(8):
        cluster.say(data.draw(ANYTHING))

    cluster.check_alive()


@pytest.mark.parametrize("conflicts", ["lww", "siblings"])
@pytest.mark.parametrize("situation", [is_asked, compares])
@made_up
@given(data=st.data())
def test_nothing_but_gossip_keeps_the_others_from_serving(situation: Any, conflicts: str, data: st.DataObject) -> None:
    cluster = Besieged(conflicts=conflicts)
    situation(cluster)
    cluster.run(0.1)
    for _ in range(8):
        cluster.say(data.draw(NO_GOSSIP))

    cluster.check_serves()
