"""The fourth reference system: its consistency tests on five slow nodes, with a leader and without, and its load."""

import json
import threading

import pytest

from raftkv.cli import exits
from raftkv.cli.main import run
from raftkv.instruments.lab.reference4.choices import CHOICES, NODES
from raftkv.instruments.lab.reference4.conditions import assert_in_force, establish
from raftkv.instruments.lab.reference4.runs import Settings, measure
from raftkv.instruments.load.plan import RATIOS
from raftkv.instruments.load.samples import RequestKind
from raftkv.instruments.local.nodes import ClusterError, wait_until
from tests.integration.processes import running

pytestmark = pytest.mark.integration

BY_NAME = {choice.name: choice for choice in CHOICES}
ALL_ONE = BY_NAME["leader-w5-r1"]
LEADERLESS = BY_NAME["leaderless-w5-r1"]
WITH_LEADER = [choice for choice in CHOICES if choice.mode == "raft"]


@pytest.fixture(scope="module")
def with_leader(tmp_path_factory):
    yield from established(tmp_path_factory.mktemp("raft"), ALL_ONE)


@pytest.fixture(scope="module")
def leaderless(tmp_path_factory):
    yield from established(tmp_path_factory.mktemp("quorum"), LEADERLESS)


def established(home, choice):
    with running(home, NODES, choice.sections, mode=choice.mode) as cluster:
        establish(cluster, choice)
        yield cluster


def write(cluster, node, key, value, w=NODES):
    answer = cluster.request("POST", node, f"/set?w={w}", json={"key": key, "value": value})

    assert answer.status_code == 201
    assert answer.json()["value"] == value


def read(cluster, node, key, path="/get", query="&r=1"):
    """The value that ``node`` answers, ``None`` for none."""
    answer = cluster.request("GET", node, f"{path}?key={key}{query}")

    assert answer.status_code in (200, 404)
    return answer.json().get("value")


def local(cluster, node, key):
    return read(cluster, node, key, "/local_read", "")


class Writing:
    """A write under way in a thread of its own."""

    def __init__(self, cluster, node, key, value):
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(cluster, node, key, value))

    def _write(self, *what):
        try:
            write(*what)
        finally:
            self._answered.set()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._thread.join()

    def reads_before_its_answer(self, read_once):
        """What ``read_once`` says again and again, as long as it says so before the write is answered."""
        found = []
        while True:
            value = read_once()
            if self._answered.is_set():
                return found
            found.append(value)


# --- leader and followers


def test_after_a_write_to_all_the_leader_shows_it(with_leader):
    leader = with_leader.leader()
    write(with_leader, leader, "at-leader", "v")

    assert read(with_leader, leader, "at-leader") == "v"


def test_after_a_write_to_all_every_follower_shows_it(with_leader):
    write(with_leader, with_leader.leader(), "at-followers", "v")

    assert {read(with_leader, node, "at-followers") for node in with_leader.followers()} == {"v"}


def test_a_write_through_a_follower_is_no_different(with_leader):
    follower, *others = with_leader.followers()
    write(with_leader, follower, "through-follower", "v")

    assert {read(with_leader, node, "through-follower") for node in (with_leader.leader(), *others)} == {"v"}


def test_in_the_window_of_a_write_a_follower_shows_the_old_value_and_afterwards_the_new_one(with_leader):
    leader, last = with_leader.leader(), with_leader.followers()[-1]
    write(with_leader, leader, "window", "old")
    with Writing(with_leader, leader, "window", "new") as writing:
        seen = writing.reads_before_its_answer(lambda: local(with_leader, last, "window"))

    assert seen[0] == "old"
    assert {local(with_leader, node, "window") for node in with_leader.nodes} == {"new"}


def test_a_write_to_the_leader_alone_leaves_followers_old_after_its_answer(with_leader):
    leader, last = with_leader.leader(), with_leader.followers()[-1]
    write(with_leader, leader, "leader-alone", "old")
    write(with_leader, leader, "leader-alone", "new", w=1)

    assert local(with_leader, last, "leader-alone") == "old"

    wait_until(lambda: local(with_leader, last, "leader-alone") == "new", "the follower to catch up")


# --- without a leader


def test_without_a_leader_other_nodes_are_old_during_a_write_and_new_after_its_answer(leaderless):
    coordinator, *others = leaderless.nodes
    write(leaderless, coordinator, "window", "old")

    assert {local(leaderless, node, "window") for node in leaderless.nodes} == {"old"}

    with Writing(leaderless, coordinator, "window", "new") as writing:
        seen = writing.reads_before_its_answer(lambda: [local(leaderless, node, "window") for node in others])

    assert "old" in seen[0]
    assert {local(leaderless, node, "window") for node in leaderless.nodes} == {"new"}


def test_without_a_leader_any_node_shows_what_any_other_acknowledged(leaderless):
    for writer in leaderless.nodes[:2]:
        write(leaderless, writer, "anywhere", f"from {writer}")

        assert {read(leaderless, node, "anywhere") for node in leaderless.nodes} == {f"from {writer}"}


# --- what the sixteen runs rest on


@pytest.mark.parametrize("choice", WITH_LEADER, ids=lambda choice: choice.name)
def test_a_choice_is_in_force_once_it_is_set_and_no_other_one(with_leader, choice):
    establish(with_leader, choice)
    assert_in_force(with_leader, choice)

    other = next(other for other in WITH_LEADER if other != choice)
    with pytest.raises(ClusterError, match=f"not \\({other.n}, {other.r}, {other.w}\\)"):
        assert_in_force(with_leader, other)


def test_without_a_leader_the_choice_is_in_force(leaderless):
    assert_in_force(leaderless, LEADERLESS)


def test_a_run_measures_both_kinds_of_operations_and_no_failures(with_leader):
    establish(with_leader, ALL_ONE)
    result = measure(with_leader, ALL_ONE, RATIOS[2], Settings(seconds=2, warm_up_s=0)).result

    assert result.latency[RequestKind.WRITE].p50_ms >= ALL_ONE.least_write_s * 1000
    assert result.latency[RequestKind.READ].count > 0
    assert result.errors == ()


def bench(cluster, tmp_path, *more):
    """The result of a short run."""
    file = tmp_path / "result.json"
    servers = ",".join(cluster.url(node, "") for node in cluster.nodes)
    plan = ("--seconds", "2", "--warm-up", "0", "--keys", "20", "--ratio", "10/90", "--distribution", "local-in-time")

    assert run(["bench", "--server", servers, *plan, *more, "--json", str(file)]) == exits.DONE
    return json.loads(file.read_text())


@pytest.mark.parametrize(("level", "is_stale"), [("linearizable", False), ("local", True)])
def test_the_load_tester_finds_stale_reads_where_they_are_and_nowhere_else(with_leader, tmp_path, level, is_stale):
    found = bench(with_leader, tmp_path, "--w", "majority", "--consistency", level)

    assert found["freshness"]["reads"] > 0
    assert (found["freshness"]["stale"] > 0) == is_stale
    assert found["errors"] == []
