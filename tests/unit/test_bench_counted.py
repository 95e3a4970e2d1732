"""What requests cost is counted, not timed: no layer costs more instructions than was recorded, none encodes once more.

``python -m bench.counted`` shows all counts. A change that is worth what it costs records its own, and says so.
"""

import msgspec
import pytest

from bench import counted, rounds
from bench.counting import ENCODINGS, HASHES, Counting
from raftkv.http.door import plain, worker
from raftkv.quorum.coordination.coordination import Coordination
from raftkv.raft.engine.internals import Core

LOOPS_OF_200_US = 4000
"""What an ordinary machine of the year 2020 does of an empty loop in so long, or fewer."""


@pytest.fixture(scope="module")
def now():
    return rounds.count()


def test_no_layer_costs_more_than_was_recorded(now):
    lines = counted.over(now, counted.recorded())

    assert not lines, "\n".join(
        [
            "a request costs more than was recorded, which no load of this machine explains:",
            *lines,
            "python -m bench.counted shows all of it, python -m bench.profile what real nodes spend where",
            "if it is worth it: python -m bench.counted --record, and a commit message that says why",
        ]
    )


def test_what_was_recorded_is_what_is_counted(now):
    assert counted.recorded().keys() == now.keys()
    for what, limit in counted.recorded().items():
        for layer in limit.layers:
            assert now[what].layers.get(layer, 0) > 0.5 * limit.layers[layer] - 0.1, f"{what}, {layer}: record anew"


def test_the_same_is_counted_every_time(now):
    again = rounds.count()

    for what, one in now.items():
        assert again[what].calls == one.calls
        for layer, cost in one.layers.items():
            assert again[what].layers[layer] == pytest.approx(cost, rel=0.06, abs=0.01), (what, layer)


def busy():
    for _ in range(LOOPS_OF_200_US):
        pass


def slowed(monkeypatch, owner, name):
    """Let ``owner`` be 200 us slower in this."""
    original = getattr(owner, name)

    def slow(*arguments, **more):
        busy()
        return original(*arguments, **more)

    monkeypatch.setattr(owner, name, slow)


@pytest.mark.parametrize(
    ("owner", "name", "what", "layer"),
    [
        (plain, "read", "front, local get", "door"),
        (worker.Protocol, "write", "front, put", "door"),
        (Core, "tick", "raft, put", "turn"),
        (Coordination, "read", "quorum, get", "quorum"),
    ],
)
def test_what_makes_a_layer_slower_by_200_us_is_told(monkeypatch, owner, name, what, layer):
    slowed(monkeypatch, owner, name)

    lines = counted.over(rounds.count(what.partition(",")[0]), counted.recorded())
    assert any(line.startswith(f"{what}: layer {layer} costs") for line in lines), lines


def test_one_more_encoding_of_a_put_is_told(monkeypatch):
    original = worker.Protocol.write

    def write(self, response, method):
        if method == "PUT":
            msgspec.json.decode(response.body)
        original(self, response, method)

    monkeypatch.setattr(worker.Protocol, "write", write)

    lines = counted.over(rounds.count("front"), counted.recorded())
    assert any(line.startswith("front, put: 4.2 encodings") for line in lines), lines


def test_only_what_runs_for_raftkv_is_counted():
    counting = Counting()
    with counting.on():
        busy()
        plain.read(b"GET /kv/k HTTP/1.1\r\nHost: x\r\n\r\n")

    assert set(counting.instructions) == {"door"}
    assert counting.per(1).calls == {ENCODINGS: 0, HASHES: 0}
