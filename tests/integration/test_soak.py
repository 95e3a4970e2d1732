"""Long trials of every kind of fault: ``tox -e faults``.

Each disturbs its cluster for ``RAFTKV_FAULTS_S`` seconds (60), with choices drawn from ``RAFTKV_FAULTS_SEED`` (1). What
is asserted of all of them stands in ``trial.py``.
"""

import pytest

from raftkv.instruments.lab import checker, disks, namespaces
from raftkv.instruments.lab.faults import (
    Delay,
    FullDisk,
    Kill,
    Loss,
    Mute,
    Partition,
    Pause,
    SlowClock,
    Throttle,
    WallClock,
)
from raftkv.instruments.lab.history import Outcome
from raftkv.instruments.lab.script import Workload
from raftkv.instruments.local.nodes import wait_until
from tests.integration.trial import SEED, SOAK_S, judge, perform, run_trial

pytestmark = [pytest.mark.soak, pytest.mark.timeout(int(2 * SOAK_S) + 240)]

needs_namespaces = pytest.mark.skipif(
    namespaces.why_unavailable() is not None, reason=namespaces.why_unavailable() or ""
)
needs_mounts = pytest.mark.skipif(disks.why_unavailable() is not None, reason=disks.why_unavailable() or "")

BUSY_SNAPSHOTS = "[raft]\nsnapshot_entries = 20\ntrailing_entries = 5\nsegment_bytes = 65536\n"
SMALL_DISKS = (
    "[raft]\nsegment_bytes = 262144\nsnapshot_entries = 2000\ntrailing_entries = 100\ndisk_reserve_bytes = 4194304\n"
)

KILLS = [
    Kill(nodes=("leader",)),
    Kill(nodes=("follower",)),
    Kill(nodes=("leader", "follower")),
    Kill(nodes=("followers",)),
    Kill(nodes=("all",)),
]
PAUSES = [
    Pause(nodes=("leader",)),
    Pause(nodes=("leader",), part="replica"),
    Pause(nodes=("leader",), part="frontend"),
    Pause(nodes=("follower",)),
    Pause(nodes=("minority",)),
    Pause(nodes=("leader", "follower")),
    Pause(nodes=("all",)),
]
PARTITIONS_OF_FIVE = [
    Partition(groups=(("leader",), ("rest",))),
    Partition(groups=(("minority",), ("rest",))),
    Partition(groups=(("leader", "follower"), ("rest",))),
    Partition(groups=(("n1", "n2", "n3"), ("n3", "n4", "n5"))),
    Partition(groups=(("n1", "n2"), ("n2", "n3"), ("n3", "n4"), ("n4", "n5"), ("n5", "n1"))),
    Partition(groups=(("n1",), ("n2",), ("n3",), ("n4",), ("n5",))),
    Mute(senders=("leader",), receivers=("rest",)),
    Mute(senders=("followers",), receivers=("leader",)),
    Mute(senders=("leader",), receivers=("follower",)),
    Mute(senders=("minority",), receivers=("rest",)),
]
LEASE_READS = Workload(seed=SEED, clients=40, query="consistency=lease")


def storm(*faults):
    return lambda stage: stage.storm(list(faults), SOAK_S)


def test_kill_9_again_and_again(tmp_path):
    run_trial(tmp_path, "kill -9", storm(*KILLS))


def test_kill_9_while_snapshots_are_made_and_the_log_is_compacted_all_the_time(tmp_path):
    broken_off = []

    def disturb(stage):
        for _ in range(max(30, int(SOAK_S / 2))):
            kill = stage.nemesis.begin(Kill(nodes=("any",)))
            broken_off.extend(stage.cluster.data_dir(kill.nodes[0]).glob("snapshots/*.tmp"))
            stage.nemesis.end(kill)
            stage.progress(stage.random.randrange(5, 60))

    workload = Workload(seed=SEED, clients=40, value_bytes=2000)
    run_trial(tmp_path, "kill -9 during snapshots", disturb, sections=BUSY_SNAPSHOTS, workload=workload)

    assert broken_off, "no kill hit a snapshot that was being made"


def test_kill_9_of_all_at_once_under_load(tmp_path):
    def disturb(stage):
        for _ in range(max(3, int(SOAK_S / 6))):
            stage.strike(Kill(nodes=("all",)), for_s=0.0)
            stage.progress(stage.random.randrange(20, 200))

    run_trial(tmp_path, "kill -9 of all", disturb)


def test_nodes_stopped_for_longer_than_an_election(tmp_path):
    run_trial(tmp_path, "SIGSTOP", storm(*PAUSES))


def test_lease_reads_while_nodes_are_killed_stopped_and_cut_off(tmp_path):
    partition = Partition(groups=(("leader",), ("rest",)))
    run_trial(tmp_path, "lease reads", storm(*KILLS, *PAUSES, partition), workload=LEASE_READS)


def test_partitions_made_at_the_links(tmp_path):
    run_trial(tmp_path, "partitions at the links", storm(*PARTITIONS_OF_FIVE), size=5)


@needs_namespaces
def test_partitions_of_network_namespaces(tmp_path):
    run_trial(tmp_path, "partitions of namespaces", storm(*PARTITIONS_OF_FIVE), size=5, in_namespaces=True)


def test_slow_links(tmp_path):
    slow = [
        Delay(nodes=("leader",), delay_s=0.3),
        Delay(nodes=("all",), delay_s=0.1),
        Delay(nodes=("follower",), delay_s=2.0),
        Delay(nodes=("leader",), delay_s=2.0),
    ]
    run_trial(tmp_path, "slow links", storm(*slow), size=5)


@needs_namespaces
def test_networks_that_lose_packets(tmp_path):
    losses = [
        Loss(nodes=("leader",), share=0.3),
        Loss(nodes=("all",), share=0.2),
        Loss(nodes=("followers",), share=0.5),
    ]
    run_trial(tmp_path, "lost packets", storm(*losses), in_namespaces=True)


@needs_namespaces
def test_links_of_little_bandwidth_while_nodes_need_snapshots(tmp_path):
    faults = [
        Throttle(nodes=("leader",), bytes_per_s=50_000),
        Throttle(nodes=("all",), bytes_per_s=100_000),
        Kill(nodes=("follower",)),
    ]
    run_trial(tmp_path, "little bandwidth", storm(*faults), in_namespaces=True, sections=BUSY_SNAPSHOTS)


def test_wall_clocks_that_jump(tmp_path):
    jumps = [
        WallClock(nodes=("leader",), offset_s=7200.0),
        WallClock(nodes=("leader",), offset_s=-7200.0),
        WallClock(nodes=("followers",), offset_s=86400.0),
        WallClock(nodes=("all",), offset_s=-86400.0),
        Kill(nodes=("leader",)),
    ]
    run_trial(tmp_path, "wall clocks jump", storm(*jumps))


def test_monotonic_clocks_that_run_slow(tmp_path):
    slow = [
        SlowClock(nodes=("leader",), rate=0.1),
        SlowClock(nodes=("followers",), rate=0.3),
        SlowClock(nodes=("all",), rate=0.5),
        Partition(groups=(("leader",), ("rest",))),
    ]
    run_trial(tmp_path, "slow clocks", storm(*slow))


@needs_namespaces
def test_monotonic_clocks_that_are_days_apart(tmp_path):
    days_s = {"n1": 1_000_000, "n2": 2_000, "n3": 50_000_000}
    under = {node: ("unshare", "-T", "--monotonic", str(offset_s)) for node, offset_s in days_s.items()}
    faults = storm(Kill(nodes=("leader",)), Partition(groups=(("leader",), ("rest",))), Pause(nodes=("leader",)))
    run_trial(tmp_path, "clocks days apart", faults, under=under, workload=LEASE_READS)


@needs_mounts
def test_disks_with_less_room_than_the_reserve(tmp_path):
    def disturb(stage):
        for places in [("leader",), ("follower",), ("all",)] * max(1, int(SOAK_S / 5)):
            fault = stage.nemesis.begin(FullDisk(nodes=places, leave_bytes=2 << 20))
            if places == ("all",):
                refused = stage.clients.counts()[Outcome.FAILED]
                wait_until(lambda least=refused + 20: stage.clients.counts()[Outcome.FAILED] > least, "refusals")
            stage.progress(20)  # reads, at least, go on
            stage.nemesis.end(fault)
            stage.progress(100)

    run_trial(tmp_path, "disks below the reserve", disturb, sections=SMALL_DISKS, disk_bytes=32 << 20)


@needs_mounts
def test_disks_without_any_room(tmp_path):
    faults = [
        FullDisk(nodes=("leader",)),
        FullDisk(nodes=("follower",)),
        FullDisk(nodes=("all",)),
        Kill(nodes=("leader",)),
    ]
    run_trial(tmp_path, "full disks", storm(*faults), sections=SMALL_DISKS, disk_bytes=32 << 20, may_die=True)


def test_everything_at_once(tmp_path):
    faults = [*KILLS, *PAUSES, *PARTITIONS_OF_FIVE, Delay(nodes=("all",), delay_s=0.1)]
    faults += [WallClock(nodes=("leader",), offset_s=3600.0), FullDisk(nodes=("leader",))]
    run_trial(tmp_path, "everything", storm(*faults), size=5, sections=BUSY_SNAPSHOTS)


def test_local_reads_behind_a_partition_are_found_to_be_stale(tmp_path):
    """The instrument itself: what must not pass does not pass."""

    def disturb(stage):
        stage.strike(Partition(groups=(("leader",), ("rest",))), for_s=6.0)

    workload = Workload(seed=SEED, clients=20, query="consistency=local")
    trial = perform(tmp_path, "local reads", disturb, workload=workload)

    assert isinstance(judge(trial), checker.NotLinearizable)


def test_lease_reads_are_stale_when_clocks_drift_beyond_their_bound(tmp_path):
    """What ``consistency=lease`` assumes is needed: a clock that runs at a hundredth of its rate breaks it."""

    def disturb(stage):
        slow = stage.nemesis.begin(SlowClock(nodes=("leader",), rate=0.01))
        stage.strike(Partition(groups=(slow.nodes, ("rest",))), for_s=8.0)

    trial = perform(tmp_path, "lease reads beyond the bound", disturb, workload=LEASE_READS)

    assert isinstance(judge(trial), checker.NotLinearizable)
