"""What a real node shows of all to whoever looks: an election under SIGSTOP, a node that is gone, and who may look."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from raftkv.api import paths
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration

LIMIT_S = 30.0


class Looking:
    """Somebody who looks at ``node``: the last sight of each, and all that has happened."""

    def __init__(self, cluster: RealCluster, node: str) -> None:
        self._response = requests.get(
            cluster.url(node, paths.LIVE), headers={"Accept": "application/x-ndjson"}, stream=True, timeout=10
        )
        assert self._response.status_code == 200
        self._lines = self._response.iter_lines()
        self.sights: dict[str, Any] = {}
        self.happened: dict[tuple[str, str, int], dict[str, Any]] = {}

    def until(self, is_seen: Callable[[], bool]) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not is_seen():
            assert time.monotonic() < end_s, (self.sights, list(self.happened.values()))
            line = next(self._lines)
            for sight in json.loads(line).get("sights", ()) if line else ():
                self.sights[sight["node"]] = sight
                for one in sight.get("happenings", ()):
                    self.happened[sight["node"], sight["life"], one["number"]] = one

    def kinds(self, node: str, term: int) -> set[str]:
        return {one["kind"] for (who, *_), one in self.happened.items() if who == node and one.get("term") == term}

    def close(self) -> None:
        self._response.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with running(tmp_path_factory.mktemp("live")) as cluster:
        yield cluster


def test_an_election_is_seen_from_a_node_that_lost_its_leader(cluster: RealCluster) -> None:
    leader = cluster.leader()
    watched = next(node for node in cluster.sites if node != leader)
    looking = Looking(cluster, watched)
    looking.until(lambda: len(looking.sights) == 3)
    before = looking.sights[leader]
    assert before["role"] == "leader"
    assert {peer["match_index"] for peer in before["peers"]} == {before["last_index"]}
    cluster.processes[leader].send_signal(signal.SIGSTOP)
    try:
        looking.until(
            lambda: any(
                "leads" in looking.kinds(node, sight.get("term", 0))
                for node, sight in looking.sights.items()
                if node != leader and sight.get("term", 0) > before["term"]
            )
        )
        looking.until(lambda: looking.sights[leader]["heard_ago_ms"] > 1500)
        new = next(one["leader"] for node, one in looking.sights.items() if node != leader and one.get("leader"))
        term = looking.sights[new]["term"]
        assert "stands" in looking.kinds(new, term)
        other = next(node for node in cluster.sites if node not in (leader, new))
        looking.until(lambda: "votes" in looking.kinds(other, term))
        assert looking.sights[other]["voted_for"] == new
    finally:
        cluster.processes[leader].send_signal(signal.SIGCONT)
    looking.until(lambda: looking.sights[leader].get("leader") not in (None, leader))
    late = Looking(cluster, watched)
    late.until(lambda: "leads" in late.kinds(new, term))
    late.close()
    looking.close()


def test_a_node_that_is_killed_is_seen_as_it_was_and_its_next_life_as_another(cluster: RealCluster) -> None:
    leader = cluster.leader()
    killed, watched = (node for node in cluster.sites if node != leader)
    looking = Looking(cluster, watched)
    looking.until(lambda: killed in looking.sights)
    life = looking.sights[killed]["life"]
    cluster.kill(killed)
    looking.until(lambda: looking.sights[killed].get("heard_ago_ms", 0) > 1000)
    looking.until(lambda: not next(p for p in looking.sights[watched]["peers"] if p["id"] == killed).get("reachable"))
    cluster.start(killed)
    looking.until(lambda: looking.sights[killed]["life"] != life)
    looking.close()


def test_with_authentication_only_users_look(tmp_path: Path) -> None:
    password = tmp_path / "root.password"
    password.write_text("a long password")
    password.chmod(0o600)
    sections = "[auth]\nenabled = true\nroot_password_file = 'root.password'\n"
    with running(tmp_path, size=1, sections=sections) as cluster:
        url = cluster.url("n1", paths.LIVE)

        assert requests.get(url, timeout=10).status_code == 401
        with requests.get(url, auth=("root", "a long password"), stream=True, timeout=10) as told:
            assert told.headers["content-type"] == "text/event-stream"
            assert next(told.iter_lines()) == b"event: sights"
