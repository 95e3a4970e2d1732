"""Faults in words."""

import typing

import pytest

from raftkv.instruments.lab import faults
from raftkv.instruments.lab.fault_wording import in_words

CASES = [
    (faults.Kill(nodes=("n1", "n2")), "kill -9 n1 n2"),
    (faults.Destroy(nodes=("n1",)), "disk of n1 lost"),
    (faults.Pause(nodes=("n1",)), "pause n1"),
    (faults.Partition(groups=(("n1",), ("n2", "n3"))), "partition n1 | n2 n3"),
    (faults.Mute(senders=("n1",), receivers=("n2",)), "n2 cannot hear n1"),
    (faults.Delay(nodes=("n1",), delay_s=0.15), "150 ms to and from n1"),
    (faults.Throttle(nodes=("n1",), bytes_per_s=5000), "n1 sends 5 kB/s"),
    (faults.Loss(nodes=("n1",), share=0.1), "10% of packets to n1 lost"),
    (faults.WallClock(nodes=("n1",), offset_s=-20.0), "clock of n1 20 s behind"),
    (faults.WallClock(nodes=("n1",), offset_s=20.0), "clock of n1 20 s ahead"),
    (faults.SlowClock(nodes=("n1",), rate=0.1), "clock of n1 at 10% of its speed"),
    (faults.FullDisk(nodes=("n1",)), "disk of n1 full"),
]


@pytest.mark.parametrize(("fault", "words"), CASES)
def test_a_fault_has_words_as_short_as_a_label(fault, words):
    assert in_words(fault) == words


def test_every_kind_of_fault_has_words():
    assert {type(fault) for fault, _ in CASES} == set(typing.get_args(faults.AnyFault))
