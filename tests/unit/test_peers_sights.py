"""What nodes show each other while somebody looks, and what is noted of each meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from raftkv.core.measures import Measured
from raftkv.core.requests import Consistency
from raftkv.core.sights import HANDED_OVER, HappeningKind, Sample, SightsShown, WorkCounts, WorkSeen
from raftkv.core.status import MemberState, MemberStatus, ModeStatus, PeerStatus, QuorumStatus, RaftStatus
from raftkv.formats import sightings
from raftkv.formats.sightings import AskSight, SightTold
from raftkv.peers.sights import HAPPENINGS_MAX, LOOK_S, SAMPLES_MAX, TOLD_MAX, Sights

NODES = ("n1", "n2", "n3")


def raft_status(node: str, **more: object) -> RaftStatus:
    peers = tuple(PeerStatus(id=other, reachable=True) for other in NODES if other != node)
    fields: dict[str, object] = {
        "role": "follower",
        "leader": "n1",
        "term": 3,
        "commit_index": 5,
        "applied_index": 5,
        "last_index": 6,
        "voted_for": "n1",
        "revision": 4,
        "measures": Measured({}, {"disk_free_bytes": 7e9, "log_bytes": 1000}),
    }
    fixed = {"mode": "raft", "peers": peers, "offers": (Consistency.LINEARIZABLE,), "cluster_size": 3}
    return RaftStatus(node=node, **{**fields, **fixed, **more})  # type: ignore[arg-type]


class Replica:
    """Takes what is the replica's."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def link_up(self, peer: str) -> None:
        """See ``LinkEvents``."""

    def link_down(self, peer: str) -> None:
        """See ``LinkEvents``."""

    def received(self, peer: str, payload: bytes) -> None:
        self.heard.append((peer, payload))


class World:
    """Three nodes whose messages arrive at once, unless they are cut off."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.statuses: dict[str, ModeStatus] = {node: raft_status(node) for node in NODES}
        self.protocols = dict.fromkeys(NODES, sightings.PROTOCOL)
        self.cut: set[str] = set()
        self.sent: list[tuple[str, str, bytes]] = []
        self.closed: list[tuple[str, str]] = []
        self.replicas = {node: Replica() for node in NODES}
        self.sights = {node: self.begun(node, "1-a") for node in NODES}

    def begun(self, node: str, life: str) -> Sights:
        sights = Sights(Link(self, node), life=life, clock=lambda: self.now_s, wall_ms=lambda: round(self.now_s * 1000))
        sights.attach(self.replicas[node], lambda: self.statuses[node])
        sights.note(self.statuses[node])
        return sights

    def becomes(self, node: str, **more: object) -> None:
        self.statuses[node] = msgspec.structs.replace(self.statuses[node], **more)
        self.sights[node].note(self.statuses[node])

    def show_sights(self, node: str, after: dict[str, int] | None = None) -> SightsShown:
        """What is seen once everybody who was asked has answered."""
        self.sights[node].show_sights(after or {})
        self.now_s += LOOK_S
        return self.sights[node].show_sights(after or {})


class Link:
    def __init__(self, world: World, node: str) -> None:
        self.world = world
        self.node = node

    def send(self, peer: str, payload: bytes) -> bool:
        self.world.sent.append((self.node, peer, payload))
        if {self.node, peer} & self.world.cut:
            return False
        self.world.sights[peer].received(self.node, payload)
        return True

    def close_peer(self, peer: str) -> None:
        self.world.closed.append((self.node, peer))

    def speaks(self, peer: str) -> int:
        return self.world.protocols[peer]


def kinds(shown: SightsShown, node: str) -> list[tuple[str, str, int]]:
    (sight,) = [one for one in shown.sights if one.node == node]
    return [(one.kind, one.subject, one.term) for one in sight.happenings]


def test_who_is_asked_sees_all_that_it_reaches_and_how_long_ago():
    world = World()

    world.show_sights("n2")
    world.cut.add("n3")
    world.now_s += 2.0
    seen = world.show_sights("n2")

    assert [one.node for one in seen.sights] == ["n2", "n1", "n3"]
    own = seen.sights[0]
    assert (own.term, own.last_index, own.voted_for, own.disk_free_bytes, own.log_bytes) == (3, 6, "n1", 7e9, 1000)
    assert {peer.id for peer in own.peers} == {"n1", "n3"}
    assert seen.sights[2].heard_ago_ms >= 2000
    assert seen.sights[1].heard_ago_ms <= 1000 * LOOK_S


def test_nothing_is_sent_while_nobody_looks_and_little_while_many_do():
    world = World()
    world.becomes("n1", term=4)
    assert not world.sent

    for _ in range(50):
        world.sights["n2"].show_sights({})

    assert [(sender, peer) for sender, peer, _ in world.sent if sender == "n2"].count(("n2", "n1")) == 1
    assert len(world.sent) == 4


def test_an_election_is_told_by_each_who_took_part_and_once():
    world = World()
    world.becomes("n3", leader=None)
    world.becomes("n3", role="candidate", term=4, voted_for="n3")
    world.becomes("n2", term=4, leader=None, voted_for="n3")
    world.becomes("n3", role="leader", leader="n3")
    world.becomes("n2", leader="n3")
    world.becomes("n1", term=4, leader="n3", voted_for="")

    seen = world.show_sights("n1")

    assert kinds(seen, "n3") == [
        (HappeningKind.LEADERLESS, "n1", 3),
        (HappeningKind.STANDS, "", 4),
        (HappeningKind.LEADS, "", 4),
    ]
    assert kinds(seen, "n2") == [
        (HappeningKind.VOTES, "n3", 4),
        (HappeningKind.LEADERLESS, "n1", 4),
        (HappeningKind.FOLLOWS, "n3", 4),
    ]
    assert kinds(seen, "n1") == [(HappeningKind.FOLLOWS, "n3", 4)]
    world.becomes("n2", role="candidate", term=5, voted_for="n2", leader=None, entrusted_term=5)
    seen = world.show_sights("n2")
    stood = [one for one in seen.sights[0].happenings if one.kind == HappeningKind.STANDS]
    assert [(one.term, one.detail) for one in stood] == [(5, HANDED_OVER)]


def test_what_is_known_is_not_told_again():
    world = World()
    world.becomes("n3", leader=None)
    world.becomes("n1", leader=None)
    seen = world.show_sights("n1")
    known = {f"{one.node}/{one.life}": one.happenings[-1].number for one in seen.sights if one.happenings}
    assert known
    assert all(not one.happenings for one in world.show_sights("n1", known).sights)


@pytest.mark.parametrize(
    ("change", "kind", "subject"),
    [
        ({"has_room": False}, HappeningKind.FULL, ""),
        ({"misfit": "an old copy"}, HappeningKind.MISFIT, ""),
        ({"configuration_index": 9}, HappeningKind.MEMBERS, ""),
        (
            {"peers": (PeerStatus(id="n1", reachable=True), PeerStatus(id="n3", reachable=False))},
            HappeningKind.LOSES,
            "n3",
        ),
    ],
)
def test_what_changes_has_happened(change, kind, subject):
    world = World()

    world.becomes("n2", **change)

    assert [one[:2] for one in kinds(world.show_sights("n2"), "n2")] == [(kind, subject)]


def test_what_a_leaderless_node_thinks_of_a_member_is_told():
    world = World()

    def status(state: MemberState) -> QuorumStatus:
        member = MemberStatus(id="n3", http="h", peer="p", state=state)
        peers = (PeerStatus(id="n3", reachable=True),)
        return QuorumStatus(
            node="n1",
            mode="quorum",
            role="replica",
            leader=None,
            revision=1,
            peers=peers,
            offers=(Consistency.EVENTUAL,),
            cluster_size=2,
            ring="r",
            vnodes=8,
            conflicts="lww",
            hints_pending=2,
            members=(member,),
        )

    world.statuses["n1"] = status(MemberState.JOINING)
    world.sights["n1"] = world.begun("n1", "2-b")
    world.statuses["n1"] = status(MemberState.SUSPECT)

    (own, *_) = world.sights["n1"].show_sights({}).sights

    assert [(one.kind, one.subject, one.detail) for one in own.happenings] == [("state", "n3", "suspect")]
    assert own.hints_pending == 2


def test_after_a_restart_a_node_is_heard_anew():
    world = World()
    world.becomes("n3", term=4)
    world.becomes("n3", has_room=False)
    first = world.show_sights("n1")
    world.sights["n3"] = world.begun("n3", "2-b")
    world.becomes("n3", has_room=True)

    known = {f"{one.node}/{one.life}": one.happenings[-1].number for one in first.sights if one.happenings}

    assert kinds(world.show_sights("n1", known), "n3") == [(HappeningKind.ROOMY, "", 0)]


def test_much_that_happened_is_kept_and_told_piece_by_piece():
    world = World()
    for turn in range(HAPPENINGS_MAX + 50):
        world.becomes("n3", has_room=bool(turn % 2))

    told, number = [], 0
    for _ in range(2 * HAPPENINGS_MAX // TOLD_MAX):
        (sight,) = [one for one in world.show_sights("n1", {"n3/1-a": number}).sights if one.node == "n3"]
        assert len(sight.happenings) <= TOLD_MAX
        told += [one.number for one in sight.happenings]
        number = told[-1]

    assert told == list(range(told[0], told[0] + HAPPENINGS_MAX))


def test_a_node_of_an_older_protocol_is_not_asked():
    world = World()
    world.protocols["n3"] = sightings.PROTOCOL - 1

    seen = world.show_sights("n1")

    assert [one.node for one in seen.sights] == ["n1", "n2"]
    assert all(peer != "n3" for _, peer, _ in world.sent)


def test_what_is_the_replicas_is_passed_on_and_what_means_nothing_costs_the_connection():
    world = World()

    world.sights["n1"].received("n2", b"\x93abc")
    world.sights["n1"].received("n2", sightings.MARK + b"\x93abc")
    world.sights["n1"].received("n2", sightings.MARK + bytes(sightings.SIGHT_BYTES_MAX))

    assert world.replicas["n1"].heard == [("n2", b"\x93abc")]
    assert world.closed == [("n1", "n2"), ("n1", "n2")]


def test_nobody_is_shown_in_anothers_name():
    world = World()
    sight = world.sights["n2"].show_sights({}).sights[0]

    world.cut = {"n1"}  # nothing else comes
    world.sights["n1"].received("n3", sightings.encode(SightTold(sight=sight)))

    assert [one.node for one in world.sights["n1"].show_sights({}).sights] == ["n1"]


def test_a_later_version_may_say_more_and_another_kind_of_happening():
    world = World()
    world.becomes("n2", has_room=False)
    sight = msgspec.to_builtins(world.sights["n2"].show_sights({}).sights[0])
    sight["more"] = {"x": 1}
    sight["happenings"][0]["kind"] = "levitates"

    payload = sightings.MARK + msgspec.msgpack.encode({"type": "sight", "sight": sight})
    shown = sightings.decode(payload)

    assert isinstance(shown, SightTold)
    assert shown.sight.happenings[0].kind == "levitates"
    assert sightings.decode(sightings.encode(AskSight(life="1-a", after=7))) == AskSight(life="1-a", after=7)


def sampled(*numbers: int) -> WorkSeen:
    samples = tuple([Sample(number=one, at_ms=one, kind="write", asked=(), done=True) for one in numbers])
    return WorkSeen(tally=WorkCounts(writes=max(numbers)), samples=samples)


def test_samples_are_asked_of_a_peer_once_and_told_to_each_who_asks_once():
    world = World()
    asked_after: list[int] = []

    def show_work(after: int) -> WorkSeen:
        asked_after.append(after)
        return sampled(*range(after + 1, after + 3))

    world.sights["n1"].attach(world.replicas["n1"], lambda: world.statuses["n1"], show_work)

    def seen_by_n2(known: int) -> list[int]:
        (sight,) = [one for one in world.show_sights("n2", {"n1/1-a/samples": known}).sights if one.node == "n1"]
        assert sight.work is not None
        return [one.number for one in sight.work.samples]

    assert seen_by_n2(0)[:2] == [1, 2]
    assert seen_by_n2(0)[:4] == [1, 2, 3, 4]
    known = seen_by_n2(4)
    assert known[0] == 5
    assert asked_after == list(range(0, 2 * len(asked_after), 2))
    for _ in range(SAMPLES_MAX):
        world.show_sights("n2")
    assert len(seen_by_n2(0)) == SAMPLES_MAX
