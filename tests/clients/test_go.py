"""Go: what etcd's own tests of its client find on real etcd they find on raftkv, and what the client promises holds
while nodes are killed.

``tox -e etcd-clients`` prints how many tests passed where. It needs Debian's ``golang-go`` and
``golang-etcd-server-dev``, and takes most of an hour: each test has a cluster of its own.
"""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.go_suites import PACKAGES, Package, built, compiled, lacking, listed, outcomes
from tests.clients.kills import killed_again_and_again, leader_and_follower
from tests.integration.etcd_clusters import EtcdCluster, RaftkvCluster, RealEtcd

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]

WEATHER_S = 60
END_S = 600.0


def etcd(home: Path, size: int) -> EtcdCluster:
    return RealEtcd(home, size=size)


def raftkv(home: Path, size: int) -> EtcdCluster:
    return RaftkvCluster(home, size=size)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_what_passes_on_etcd_passes_on_raftkv(package: Package, tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("built", "etcd", "raftkv", "again")]
    for home in homes:
        home.mkdir()
    program = compiled(package, homes[0])
    names = listed(program, package, etcd, homes[0])
    with ThreadPoolExecutor(2) as pool:
        there = pool.submit(outcomes, program, names, etcd, homes[1])
        here = pool.submit(outcomes, program, names, raftkv, homes[2])
    (theirs, _), (ours, kills) = there.result(), here.result()
    passed = {name for name, has_passed in theirs.items() if has_passed}
    # Once more by themselves: many give up after seconds, which nodes that start may take where others do so too.
    again, more = outcomes(program, sorted(passed - {name for name in ours if ours[name]}), raftkv, homes[3])
    ours = {**ours, **again}
    alone, neither = {name for name in passed if not ours.get(name)}, set(theirs) - passed
    print(  # noqa: T201  it is what the run is for
        f"\n{package.name:20} etcd {len(passed)}/{len(theirs)}, raftkv {sum(ours.values())}/{len(ours)}, "
        f"{kills + more} kills; on etcd alone: {sorted(alone)}; not on etcd: {sorted(neither)}",
        flush=True,
    )

    assert passed
    assert alone <= set(package.differing)


@pytest.mark.parametrize("begin", [etcd, raftkv], ids=lambda begin: begin.__name__)
def test_what_the_client_promises_holds_while_leaders_and_followers_are_killed(begin, tmp_path: Path) -> None:
    program = built("weather", tmp_path)
    home = tmp_path / "cluster"
    home.mkdir()
    with begin(home, 3) as cluster:
        said = (home / "said").open("wb")
        with (
            said,
            subprocess.Popen([program, str(WEATHER_S), *cluster.hosts], stdout=subprocess.PIPE, stderr=said) as weather,
        ):
            try:
                with killed_again_and_again(cluster, leader_and_follower) as killed, ThreadPoolExecutor(1) as pool:
                    writing = pool.submit(weather.stdout.readline)
                    assert writing.result(END_S) == b"over\n"
                told = weather.communicate(timeout=END_S)[0]
            finally:
                weather.kill()
    found = json.loads(told)
    print(f"\n{begin.__name__}: {killed} killed; {found}", flush=True)  # noqa: T201  it is what the run is for

    assert len(killed) > 1
    assert not found["broken"]
