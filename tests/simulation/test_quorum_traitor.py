"""What one leaderless member that went wrong says cannot stop the others."""

import msgspec
import pytest

from raftkv.core.requests import Consistency, List, Put, Read, Repair, Write
from raftkv.core.results import Repaired, Written
from raftkv.core.rights import CLUSTER, User
from raftkv.formats import quorum_messages
from raftkv.formats import rights as rows
from raftkv.formats.gossip import NUMBER_MAX, AgreedSizes, Delta, Phase
from raftkv.formats.peers import Refusal
from raftkv.formats.quorum_messages import (
    AskRights,
    FetchedPage,
    Gossip,
    OfferPage,
    QuestionDeclined,
    ShowRights,
    StoreDone,
    TakeRights,
    TookRights,
)
from raftkv.formats.versions import KeyState, Version, encode_state
from raftkv.instruments.sim.cluster import Port
from raftkv.quorum.membership.ring import POSITIONS
from raftkv.replicas.reach import Reach
from tests.simulation.leaderless import Leaderless

NO = Refusal("overloaded", "no")


def say(cluster, sender, receiver, *said):
    payload = quorum_messages.frame([quorum_messages.encode(message) for message in said])
    cluster.machines[receiver].tell(lambda events: events.received(sender, payload))


@pytest.mark.parametrize(
    "answer", [lambda number: QuestionDeclined(number, NO), lambda number: StoreDone(number, (False,))]
)
def test_who_was_not_asked_yet_has_no_say_about_an_event(answer):
    cluster = Leaderless(5, conflicts="siblings")
    replica = cluster.replica("n1")
    key = next(key for key in map(b"%d".__mod__, range(100)) if "n1" not in replica.owners(key))
    origin, *others = replica.owners(key)
    pending = cluster.submit("n1", cluster.written(key, b"value", w=3))
    running = replica.parts.coordination._dispatch.running
    cluster.run_until(lambda: bool(running))
    number = max(running)
    for other in others:
        say(cluster, other, "n1", answer(number))
    cluster.run(1.0)

    assert isinstance(pending.outcome, Written)
    assert {cluster.held(owner)[key] for owner in (origin, *others)} == {b"value"}


def test_numbers_at_their_end_stop_nobody():
    cluster = Leaderless(3)
    entries = tuple(
        msgspec.structs.replace(entry, generation=NUMBER_MAX, heartbeat=NUMBER_MAX, phase_version=NUMBER_MAX, view="x")
        for entry in cluster.replica("n2").entries.values()
    )
    say(cluster, "n1", "n2", Gossip(Delta(entries, AgreedSizes(NUMBER_MAX, "z", 3, 2, 2))))
    cluster.run(10.0)
    written = cluster.put("n2", b"k", b"value", w=2)

    assert isinstance(written, Written)
    assert cluster.get("n3", b"k", r=2) == b"value"


LAST = (1 << 53) - 1
FAR = (rows.StampedRow(rows.ENABLED, b"", LAST, "n1"),)


@pytest.mark.parametrize(
    "said",
    [
        AskRights(1, b"m" * rows.MARK_BYTES, LAST),
        TakeRights(0, FAR),
        TakeRights(LAST, FAR),
        *[ShowRights(number, True, False, LAST, FAR) for number in range(9)],
        *[TookRights(number, False) for number in range(3)],
    ],
)
def test_rights_of_the_far_future_are_taken_by_nobody(said):
    cluster = Leaderless(3)
    for _ in range(3):
        say(cluster, "n1", "n2", said)
        cluster.run(0.3)
    user = Put(key=rows.user_key("ann"), value=rows.encode_user(User(generation=1)))
    outcome = cluster.ask("n2", Write(operations=(user,), caller=CLUSTER))

    assert isinstance(outcome, Written)
    assert cluster.replica("n2").parts.rights.promised[0] < LAST
    assert not cluster.replica("n3").parts.rights.rights.enabled


def test_a_cluster_that_is_said_to_have_no_members_is_waited_out():
    cluster = Leaderless(3)
    entries = tuple(
        msgspec.structs.replace(entry, phase=Phase.JOINING, phase_version=entry.phase_version + 1)
        for entry in cluster.replica("n2").entries.values()
    )
    say(cluster, "n1", "n2", Gossip(Delta(entries, AgreedSizes(0, "", 3, 2, 2))))
    cluster.run(10.0)

    assert isinstance(cluster.put("n2", b"k", b"value", w=2), Written)


@pytest.mark.parametrize(
    "question",
    [OfferPage(1, 5, 4, 1, b"", b"", ()), OfferPage(1, 0, POSITIONS - 1, 0, b"", b"", ())],
    ids=["backwards", "everything"],
)
def test_an_offer_of_a_range_that_is_none_is_declined(question):
    cluster = Leaderless(3)
    say(cluster, "n1", "n2", question)
    cluster.run(1.0)

    assert isinstance(cluster.ask("n2", Repair()), Repaired)


def test_a_page_of_other_keys_than_were_asked_for_costs_the_connection(monkeypatch):
    closed = []
    monkeypatch.setattr(Port, "close_peer", lambda port, peer: closed.append((port._name, peer)))
    cluster = Leaderless(3)
    replica = cluster.replica("n2")
    cluster.submit("n2", Read(query=List(start=b"b", end=b"c", limit=9), consistency=Consistency.EVENTUAL, r=3))
    number = max(replica.parts.coordination._dispatch.running)
    state = encode_state(KeyState((Version(1, "n1", b"v"),)))
    say(cluster, "n1", "n2", FetchedPage(number, ((b"a", state),), complete=True))

    assert closed == [("n2", "n1")]


def test_a_member_without_an_address_keeps_nobody_from_the_others():
    class Link:
        send = flush = outstanding_bytes = close_peer = None

        def set_members(self, members):
            self.members = members

    link = Link()
    Reach(link, link).set_members({"n1": "nowhere", "n2": "127.0.0.1:9002", "n3": "127.0.0.1:99999"})

    assert {node: str(address) for node, address in link.members.items()} == {"n2": "127.0.0.1:9002"}
