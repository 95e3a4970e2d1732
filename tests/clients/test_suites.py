"""What passes on real etcd passes on raftkv: the suites of clients, on both, while nodes of raftkv's are killed.

``tox -e etcd-clients`` prints how many tests passed where. It gets the clients from their registries, and takes about
ten minutes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.kills import a_follower_but_n1, killed_again_and_again
from tests.clients.suites import SUITES, Outcomes, Suite
from tests.integration.etcd_clusters import RaftkvCluster, RealEtcd

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]


def on_etcd(suite: Suite, prepared: Path, home: Path) -> Outcomes:
    with RealEtcd(home, secured=suite.is_secured) as cluster:
        return suite.run(prepared, cluster)


def on_raftkv(suite: Suite, prepared: Path, home: Path) -> tuple[Outcomes, int]:
    with RaftkvCluster(home, secured=suite.is_secured) as cluster:
        if not suite.bears_kills:
            return suite.run(prepared, cluster), 0
        with killed_again_and_again(cluster, a_follower_but_n1) as killed:
            return suite.run(prepared, cluster), len(killed)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_what_passes_on_etcd_passes_on_raftkv(suite: Suite, tmp_path: Path) -> None:
    prepared, etcd, raftkv = (tmp_path / name for name in ("prepared", "etcd", "raftkv"))
    for folder in (prepared, etcd, raftkv):
        folder.mkdir()
    reason = suite.prepare(prepared)
    if reason:
        pytest.skip(f"{suite.name} cannot be had: {reason}")
    with ThreadPoolExecutor(2) as pool:
        there = pool.submit(on_etcd, suite, prepared, etcd)
        here = pool.submit(on_raftkv, suite, prepared, raftkv)
    theirs, (ours, kills) = there.result(), here.result()
    passed = {name for name, has_passed in theirs.items() if has_passed}
    lacking = {name for name in passed if not ours.get(name)}
    print(  # noqa: T201  it is what the run is for
        f"\n{suite.name:16} etcd {len(passed)}/{len(theirs)}, raftkv {sum(ours.values())}/{len(ours)}, "
        f"{kills} kills; on etcd alone: {sorted(lacking)}; on neither: {sorted(set(theirs) - passed)}",
        flush=True,
    )

    assert passed
    assert lacking <= set(suite.differing)
    assert not any(ours.get(name) for name in suite.differing), "what no longer differs is to be taken from the list"
