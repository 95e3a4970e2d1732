"""The three distributions draw what they promise, and the same again from the same seed."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from raftkv.instruments.load.keys import LocalInTime, Uniform, Zipfian, keys
from raftkv.instruments.load.plan import Distribution, LoadPlan

DRAWS = 20_000


@pytest.mark.parametrize("distribution", Distribution)
def test_every_key_is_one_of_those_there_are_and_a_seed_draws_the_same_again(distribution):
    plan = LoadPlan(keys=7, distribution=distribution)
    drawn = []
    for _ in range(2):
        random, chosen = Random(5), keys(plan)
        drawn.append([])
        for _ in range(500):
            key = chosen.write(random)
            chosen.written(key)
            drawn[-1] += [key, chosen.read(random)]

    assert set(drawn[0]) == set(range(7))
    assert drawn[0] == drawn[1]


def test_uniform_keys_are_equally_likely():
    random, chosen = Random(1), Uniform(10)
    counts = Counter(chosen.read(random) for _ in range(DRAWS))

    assert all(0.9 < count / (DRAWS / 10) < 1.1 for count in counts.values())


@pytest.mark.parametrize("exponent", [0.99, 1.5])
def test_zipfian_keys_fall_off_with_the_exponent(exponent):
    random, chosen = Random(1), Zipfian(100, exponent)
    counts = Counter(chosen.read(random) for _ in range(DRAWS))

    assert counts[0] / counts[1] == pytest.approx(2**exponent, rel=0.1)
    assert all(earlier > later for earlier, later in pairwise(counts[key] for key in range(4)))


def test_a_read_local_in_time_asks_mostly_for_the_key_that_was_written_last():
    random, chosen = Random(1), LocalInTime(1_000_000)
    for key in range(50):
        chosen.written(key)
    counts = Counter(chosen.read(random) for _ in range(DRAWS))

    assert max(counts, key=counts.__getitem__) == 49
    assert 7 < sum((49 - key) * count for key, count in counts.items()) / DRAWS < 9


def test_before_anything_was_written_a_read_local_in_time_asks_for_any_key():
    random, chosen = Random(1), LocalInTime(10)

    assert {chosen.read(random) for _ in range(200)} == set(range(10))
