"""The simulated network does what TCP between machines does, and nothing kinder."""

from __future__ import annotations

import random

import pytest

from raftkv.instruments.sim.network import Network
from raftkv.instruments.sim.schedule import Schedule

SILENCE_S = 1.0


class Ends:
    """Two machines that write down what they are told."""

    def __init__(self) -> None:
        self.told: dict[str, list[object]] = {"a": [], "b": []}
        self.away: set[str] = set()

    def is_working(self, name):
        return name not in self.away

    def link_up(self, name, peer):
        self.told[name].append("up")

    def link_down(self, name, peer):
        self.told[name].append("down")

    def received(self, name, peer, payload):
        self.told[name].append(payload)


@pytest.fixture
def ends():
    return Ends()


@pytest.fixture
def network(ends):
    schedule = Schedule()
    network = Network(
        schedule,
        ends,
        ("a", "b"),
        random=random.Random(1),
        latency_s=(0.001, 0.05),
        silence_s=SILENCE_S,
        redial_s=(0.001, 0.01),
    )
    network.started("a")
    network.started("b")
    schedule.run_to(0.5)
    assert network.is_up("a", "b")
    return network


def run(network, seconds):
    schedule = network._schedule
    schedule.run_to(schedule.now_s + seconds)


def test_messages_arrive_in_order_whatever_each_of_them_takes(network, ends):
    sent = [b"%d" % number for number in range(50)]
    for payload in sent:
        network.send("a", "b", payload)
    run(network, 1.0)

    assert ends.told["b"] == ["up", *sent]


def test_what_is_sent_into_a_short_cut_arrives_after_it(network, ends):
    network.cut([("a", "b")])
    network.send("a", "b", b"late")
    network.send("b", "a", b"at once")
    run(network, 0.5)
    before = list(ends.told["b"])
    network.heal()
    run(network, 0.5)

    assert before == ["up"]
    assert ends.told["b"] == ["up", b"late"]
    assert ends.told["a"] == ["up", b"at once"]


def test_the_end_that_hears_nothing_gives_up_and_the_other_learns_of_it(network, ends):
    network.cut([("a", "b")])
    run(network, SILENCE_S + 0.1)

    assert ends.told == {"a": ["up", "down"], "b": ["up", "down"]}
    assert not network.send("a", "b", b"lost")


def test_a_paused_end_reads_what_waited_from_a_connection_that_is_long_gone(network, ends):
    network.send("a", "b", b"old")
    ends.away.add("b")
    network.paused("b")
    run(network, SILENCE_S + 0.1)
    others = list(ends.told["a"])
    ends.away.clear()
    network.resumed("b")
    run(network, 0.5)

    assert others == ["up", "down"]
    assert ends.told["b"] == ["up", b"old", "down", "up"]


def test_a_machine_that_loses_its_power_tells_nobody(network, ends):
    ends.away.add("b")
    network.stopped("b", silently=True)
    run(network, SILENCE_S / 2)
    before = list(ends.told["a"])
    run(network, SILENCE_S)

    assert before == ["up"]
    assert ends.told["a"] == ["up", "down"]


def test_a_process_that_is_killed_is_noticed_and_what_it_had_sent_arrives(network, ends):
    network.send("b", "a", b"last words")
    ends.away.add("b")
    network.stopped("b", silently=False)
    run(network, SILENCE_S / 2)

    assert ends.told["a"] == ["up", b"last words", "down"]


def test_a_new_connection_supersedes_one_that_an_end_still_believes_in(network, ends):
    ends.away.add("b")
    network.stopped("b", silently=True)
    ends.away.clear()
    network.send("a", "b", b"to nobody")
    network.started("b")
    run(network, 0.5)
    network.send("a", "b", b"new")
    run(network, 0.5)

    assert ends.told["a"] == ["up", "down", "up"]
    assert ends.told["b"] == ["up", "up", b"new"]


def test_of_a_connection_that_breaks_a_first_part_arrives(network, ends):
    sent = [b"%d" % number for number in range(20)]
    for payload in sent:
        network.send("a", "b", payload)
    network.disconnect("a", "b")
    run(network, 0.5)
    arrived = [item for item in ends.told["b"] if isinstance(item, bytes)]

    assert arrived == sent[: len(arrived)]
    assert ends.told["b"] == ["up", *arrived, "down", "up"]


def do(network, ends, deed, pair, payload):
    source, target = pair
    match deed:
        case "send":
            network.send(source, target, payload)
        case "cut":
            network.cut([(source, target)])
        case "heal":
            network.heal()
        case "break":
            network.disconnect(source, target)
        case "close" if source not in ends.away:
            network.close(source, target)
        case "pause":
            ends.away.add(source)
            network.paused(source)
        case "go on" if source in ends.away:
            ends.away.discard(source)
            network.resumed(source)


@pytest.mark.parametrize("seed", range(20))
def test_each_end_is_told_of_connections_alternately_whatever_happens(seed, network, ends):
    dice = random.Random(seed)
    for number in range(300):
        pair = dice.choice([("a", "b"), ("b", "a")])
        deed = dice.choice(["send", "send", "send", "cut", "heal", "break", "close", "pause", "go on"])
        do(network, ends, deed, pair, b"%d" % number)
        run(network, dice.random() * 0.1)

    for told in ends.told.values():
        signals = [item for item in told if isinstance(item, str)]
        numbers = [int(item) for item in told if isinstance(item, bytes)]
        assert signals == ["up", "down"] * (len(signals) // 2) + ["up"] * (len(signals) % 2)
        assert numbers == sorted(set(numbers))
        assert len(signals) > 5
        assert numbers
