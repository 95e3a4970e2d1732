"""What faults mean: which places they name, who hears whom, what nodes are told; and when a plan's faults happen."""

import threading
import typing
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.experiment import Orders
from raftkv.instruments.lab import faults
from raftkv.instruments.lab.faults import (
    AnyFault,
    Delay,
    Destroy,
    FullDisk,
    Kill,
    LostDisk,
    Mute,
    Partition,
    Pause,
    SlowClock,
    WallClock,
    blocked,
    is_resolved,
    orders,
    resolve,
)
from raftkv.instruments.lab.nemesis import Nemesis, Planned, play

FIVE = ["n1", "n2", "n3", "n4", "n5"]


def resolved(fault, leader="n2", seed=1):
    return resolve(fault, FIVE, leader, Random(seed))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (("n3", "n1"), {"n3", "n1"}),
        (("leader",), {"n2"}),
        (("followers",), {"n1", "n3", "n4", "n5"}),
        (("all",), set(FIVE)),
        (("all", "leader"), set(FIVE)),
    ],
)
def test_places_become_nodes(places, expected):
    found = resolved(Kill(nodes=places)).nodes

    assert set(found) == expected
    assert len(found) == len(expected)


@given(seed=st.integers(0, 1000))
def test_places_left_to_chance_are_of_the_kind_that_was_asked_for(seed):
    assert resolved(Kill(nodes=("follower",)), seed=seed).nodes[0] in {"n1", "n3", "n4", "n5"}
    assert len(resolved(Kill(nodes=("leader", "follower", "follower")), seed=seed).nodes) == 3
    assert len(resolved(Kill(nodes=("minority",)), seed=seed).nodes) == 2
    assert len(resolved(Kill(nodes=("majority",)), seed=seed).nodes) == 3


def test_a_place_that_is_neither_node_nor_word_is_refused():
    with pytest.raises(ValueError, match="n9"):
        resolved(Kill(nodes=("n9",)))


@given(seed=st.integers(0, 1000))
def test_the_rest_is_whoever_is_in_no_other_group(seed):
    first, rest = resolved(Partition(groups=(("leader", "follower"), ("rest",))), seed=seed).groups

    assert len(first) == 2
    assert sorted(first + rest) == FIVE


def test_a_partition_parts_all_who_share_no_group():
    cut = blocked([Partition(groups=(("n1", "n2"), ("n3", "n4", "n5")))], FIVE)

    assert ("n1", "n3") in cut
    assert ("n3", "n1") in cut
    assert ("n1", "n2") not in cut
    assert len(cut) == 2 * 2 * 3


def test_a_node_in_two_groups_is_a_bridge():
    cut = blocked([Partition(groups=(("n1", "n2", "n3"), ("n3", "n4", "n5")))], FIVE)

    assert not [pair for pair in cut if "n3" in pair]
    assert ("n1", "n4") in cut


def test_a_node_in_no_group_hears_nobody():
    cut = blocked([Partition(groups=(("n1", "n2", "n3", "n4"),))], FIVE)

    assert cut == {(a, b) for a in FIVE for b in FIVE if a != b and "n5" in (a, b)}


def test_a_mute_node_still_hears():
    assert blocked([Mute(senders=("n1",), receivers=("n1", "n2"))], FIVE) == {("n1", "n2")}


def test_faults_at_the_same_time_add_up():
    faults = [
        Partition(groups=(("n1",), ("n2", "n3", "n4", "n5"))),
        Delay(nodes=("n2",), delay_s=0.5),
        Delay(nodes=("n3",), delay_s=1.0),
        WallClock(nodes=("n2",), offset_s=10.0),
        WallClock(nodes=("n2", "n3"), offset_s=-3.0),
        SlowClock(nodes=("n2",), rate=0.5),
    ]

    told = orders("n2", FIVE, faults, links=True)
    by_peer = {order.peer: order.fault for order in told.links}

    assert by_peer["n1"].drop
    assert not by_peer["n3"].drop
    assert (by_peer["n3"].delay_s, by_peer["n4"].delay_s) == (1.0, 0.5)
    assert (told.wall_offset_s, told.clock_rate) == (7.0, 0.5)
    assert not [order for order in orders("n2", FIVE, faults, links=False).links if order.fault.drop]


def test_each_message_is_dropped_at_one_end_only():
    fault = Mute(senders=("n1",), receivers=("n2",))

    assert [order.peer for order in orders("n2", FIVE, [fault], links=True).links] == ["n1"]
    assert orders("n1", FIVE, [fault], links=True) == Orders()


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "partition", "groups": [["leader"], ["rest"]]}',
        '{"kind": "pause", "nodes": ["n1"], "part": "replica"}',
        '{"kind": "full_disk", "nodes": ["all"]}',
    ],
)
def test_faults_are_read_from_scenario_files_by_their_kind(text):
    assert msgspec.to_builtins(msgspec.json.decode(text, type=AnyFault))["kind"] in text


class StandIn:
    """A cluster without processes that writes down what is done to it."""

    def __init__(self):
        self.nodes = ["n1", "n2", "n3"]
        self.processes = dict.fromkeys(self.nodes)
        self.done = []
        self.dying = {}

    def leader_now(self):
        return "n1"

    def kill(self, *nodes):
        self.done.append(("kill", *nodes))
        for node in nodes:
            del self.processes[node]

    def start(self, *nodes):
        self.done.append(("start", *nodes))
        self.processes |= dict.fromkeys(nodes)

    def pause(self, *nodes, part):
        self.done.append(("pause", *nodes))

    def resume(self, *nodes):
        self.done.append(("resume", *nodes))

    def ended(self):
        found, self.dying = self.dying, {}
        for node in found:
            del self.processes[node]
        return found

    def order(self, node, orders):
        self.done.append(("order", node, orders))


@pytest.fixture
def stand_in():
    return StandIn()


@pytest.fixture
def nemesis(stand_in):
    return Nemesis(stand_in, random=Random(1))


def test_a_fault_that_outlasts_a_restart_meets_the_node_again(stand_in, nemesis):
    nemesis.begin(WallClock(nodes=("n1",), offset_s=5.0))
    kill = nemesis.begin(Kill(nodes=("n1",)))
    nemesis.end(kill)

    told = ("order", "n1", Orders(wall_offset_s=5.0))
    assert stand_in.done == [told, ("kill", "n1"), ("start", "n1"), told]


def test_a_node_is_told_once_it_is_no_longer_paused(stand_in, nemesis):
    pause = nemesis.begin(Pause(nodes=("n1",)))
    nemesis.begin(WallClock(nodes=("n1",), offset_s=5.0))
    nemesis.end(pause)

    assert stand_in.done == [("pause", "n1"), ("resume", "n1"), ("order", "n1", Orders(wall_offset_s=5.0))]


def test_two_faults_on_one_node_end_when_both_have_ended(stand_in, nemesis):
    first = nemesis.begin(Pause(nodes=("n1", "n2")))
    second = nemesis.begin(Pause(nodes=("n2", "n3")))
    nemesis.end(first)
    nemesis.end(second)

    assert stand_in.done[2:] == [("resume", "n1"), ("resume", "n2", "n3")]


def test_healing_ends_everything_and_starts_who_died_but_remembers_it(stand_in, nemesis):
    with nemesis:
        nemesis.begin(Kill(nodes=("n2",)))
        nemesis.begin(FullDisk(nodes=("n3",)))
        stand_in.dying = {"n3": 2}

    assert sorted(stand_in.processes) == ["n1", "n2", "n3"]
    assert nemesis.deaths == [("n3", 2)]
    assert [event.what for event in nemesis.events] == ["begin", "begin", "end", "end"]


def test_a_node_whose_disk_is_lost_never_comes_back(stand_in, nemesis, tmp_path):
    stand_in.data_dir = lambda node: tmp_path / node
    (tmp_path / "n2").mkdir()
    with nemesis:
        nemesis.begin(Destroy(nodes=("n2",)))

    assert sorted(stand_in.processes) == ["n1", "n3"]
    assert not (tmp_path / "n2").exists()
    assert nemesis.destroyed == {"n2"}


def test_a_node_whose_disk_is_emptied_starts_again_without_its_data_when_that_ends(stand_in, nemesis, tmp_path):
    stand_in.data_dir = lambda node: tmp_path / node
    (tmp_path / "n2").mkdir()
    with nemesis:
        emptied = nemesis.begin(LostDisk(nodes=("n2",)))
        assert not (tmp_path / "n2").exists()
        assert sorted(stand_in.processes) == ["n1", "n3"]
        nemesis.revive()
        assert sorted(stand_in.processes) == ["n1", "n3"]
        nemesis.end(emptied)
        assert sorted(stand_in.processes) == ["n1", "n2", "n3"]

    assert nemesis.destroyed == set()


def test_a_fault_can_hit_the_same_places_as_the_one_before(stand_in, nemesis):
    first = nemesis.begin(Partition(groups=(("follower",), ("rest",))))
    second = nemesis.begin(Pause(nodes=("same",)))

    assert second.nodes == first.groups[0]
    assert stand_in.done[-1] == ("pause", *first.groups[0])


def test_whoever_observes_is_told_of_every_event(stand_in):
    seen = []
    nemesis = Nemesis(stand_in, random=Random(1), observe=seen.append)
    with nemesis:
        nemesis.begin(Kill(nodes=("n1",)))

    assert [event.what for event in seen] == ["begin", "end"]
    assert seen == nemesis.events


def test_a_plan_happens_in_its_order_and_is_healed(stand_in, nemesis):
    plan = [
        Planned(at_s=0.02, for_s=0.02, fault=Pause(nodes=("n1",))),
        Planned(at_s=0.0, for_s=0.03, fault=Kill(nodes=("n2",))),
    ]
    play(nemesis, plan, threading.Event())

    assert stand_in.done == [("kill", "n2"), ("pause", "n1"), ("start", "n2"), ("resume", "n1")]


def test_a_plan_that_is_broken_off_is_healed(stand_in, nemesis):
    stopping = threading.Event()
    stopping.set()
    play(nemesis, [Planned(at_s=3600.0, for_s=1.0, fault=Kill(nodes=("n2",)))], stopping)

    assert stand_in.done == []


# --- words

WORDS = [
    (faults.Kill(nodes=("n1", "n2")), "kill -9 n1 n2"),
    (faults.Destroy(nodes=("n1",)), "disk of n1 lost"),
    (faults.LostDisk(nodes=("n1",)), "disk of n1 emptied"),
    (faults.Pause(nodes=("n1",)), "pause n1"),
    (faults.Partition(groups=(("n1",), ("n2", "n3"))), "partition n1 | n2 n3"),
    (faults.Mute(senders=("n1",), receivers=("n2",)), "n2 cannot hear n1"),
    (faults.Delay(nodes=("n1",), delay_s=0.15), "150 ms to and from n1"),
    (faults.Delay(nodes=("n1",), peers=("n2",), delay_s=0.15), "150 ms between n1 and n2"),
    (faults.Throttle(nodes=("n1",), bytes_per_s=5000), "n1 sends 5 kB/s"),
    (faults.Loss(nodes=("n1",), share=0.1), "10% of packets to n1 lost"),
    (faults.WallClock(nodes=("n1",), offset_s=-20.0), "clock of n1 20 s behind"),
    (faults.WallClock(nodes=("n1",), offset_s=20.0), "clock of n1 20 s ahead"),
    (faults.SlowClock(nodes=("n1",), rate=0.1), "clock of n1 at 10% of its speed"),
    (faults.FullDisk(nodes=("n1",)), "disk of n1 full"),
]


@pytest.mark.parametrize(("fault", "words"), WORDS)
def test_a_fault_has_words_as_short_as_a_label(fault, words):
    assert fault.words == words


def test_every_kind_of_fault_has_words():
    assert {type(fault) for fault, _ in WORDS} == set(typing.get_args(faults.AnyFault))


def test_a_delay_between_two_touches_no_other_link():
    slow = [resolved(Delay(nodes=("leader",), peers=("n4",), delay_s=0.2))]
    told = {
        node: [(each.peer, each.fault.delay_s) for each in orders(node, FIVE, slow, links=True).links] for node in FIVE
    }

    assert told == {"n1": [], "n2": [("n4", 0.2)], "n3": [], "n4": [("n2", 0.2)], "n5": []}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Kill(nodes=("n1",)), True),
        (Kill(nodes=("leader",)), False),
        (Delay(nodes=("n1",), peers=("same",), delay_s=1), False),
        (Delay(nodes=("n1",), peers=("n2",), delay_s=1), True),
        (Partition(groups=(("n1",), ("rest",))), False),
        (Partition(groups=(("n1",), ("n2", "n3"))), True),
        (Mute(senders=("n1",), receivers=("any",)), False),
    ],
)
def test_who_leads_matters_only_to_a_fault_that_names_no_nodes(fault, expected):
    assert is_resolved(fault, FIVE) is expected
