"""Elections on a real cluster, while leaders are killed: whoever observes them, wherever, is told the same."""

from __future__ import annotations

import json
import threading
from itertools import cycle, pairwise
from typing import Any

import pytest
import requests

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration

PASSING = (409, 429, 503, 504)


def ask(cluster: RealCluster, method: str, path: str, **options: Any) -> Any:
    """Until some node says that it was done, or that it cannot be."""
    for node in cycle(cluster.nodes):
        try:
            answer = cluster.request(method, node, path, timeout=40, **options)
        except requests.RequestException:
            continue
        if answer.status_code not in PASSING:
            return answer.json()
    raise AssertionError


def leading(cluster: RealCluster) -> Any:
    """Who leads, or the problem where nobody does."""
    return ask(cluster, "GET", "/elections/job")


class Observing(threading.Thread):
    """Observes the election at one node, and goes on at the next when that fails, until "last" leads."""

    def __init__(self, cluster: RealCluster, place: int) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.nodes = cycle(cluster.nodes[place:] + cluster.nodes[:place])
        self.told: list[Any] = []
        self.through: int | None = None
        self.streams = 0

    @property
    def is_done(self) -> bool:
        return any(one["leader"] and one["leader"]["value"] == "last" for one in self.told)

    def run(self) -> None:
        for node in self.nodes:
            try:
                self.follow(node)
            except requests.RequestException:
                continue
            if self.is_done:
                return

    def follow(self, node: str) -> None:
        headers = {"Accept": "application/x-ndjson"}
        if self.through is not None:
            headers["Last-Event-ID"] = str(self.through)
        path = "/elections/job/observe?progress_s=0.2"
        with self.cluster.request("GET", node, path, headers=headers, stream=True, timeout=10) as answer:
            if answer.status_code != 200:
                return
            self.streams += 1
            for line in answer.iter_lines():
                if line:
                    message = json.loads(line)
                    self.through = message["revision"]
                    if "leader" in message:
                        self.told.append(message)
                if self.is_done:
                    return


def campaign(cluster: RealCluster, value: str, ttl: float) -> threading.Thread:
    """A candidate, who has its place once this returns."""
    lease = ask(cluster, "POST", "/leases", json={"ttl": ttl})["id"]
    body = {"lease": lease, "value": value, "wait": 60}
    thread = threading.Thread(
        target=ask, args=(cluster, "POST", "/elections/job/campaign"), kwargs={"json": body}, daemon=True
    )
    thread.start()
    wait_until(lambda: "job" in ask(cluster, "GET", f"/leases/{lease}")["elections"], "the candidate to have its place")
    return thread


def test_leaders_die_and_observers_at_all_nodes_are_told_the_same_in_the_same_order(tmp_path):
    with running(tmp_path) as cluster:
        observers = [Observing(cluster, place) for place in range(3)]
        for observer in observers:
            observer.start()
        wait_until(lambda: all(observer.told for observer in observers), "all to be told that nobody leads")
        for number, ttl in enumerate((600, 600, 3, 600, 600)):
            campaign(cluster, f"candidate {number}", ttl)
        for _ in range(3):
            leader = leading(cluster)
            said = {"token": leader["token"], "value": f"{leader['value']}, proclaimed"}
            ask(cluster, "POST", "/elections/job/proclaim", json=said)
            victim = cluster.leader()
            cluster.kill(victim)
            ask(cluster, "POST", "/elections/job/resign", json={"token": leader["token"]})
            wait_until(lambda gone=leader["token"]: leading(cluster).get("token") != gone, "another to lead")
            cluster.start(victim)
            cluster.wait_ready()
        campaign(cluster, "last", 600)
        while (leader := leading(cluster))["value"] != "last":
            ask(cluster, "POST", "/elections/job/resign", json={"token": leader["token"]})
        for observer in observers:
            observer.join(30)

        first, *others = [observer.told for observer in observers]
        assert first[0]["leader"] is None
        assert all(told[1:] == first[1:] for told in others)
        assert sum(observer.streams for observer in observers) > len(observers)
        leaders = [one["leader"] for one in first if one["leader"]]
        assert all(before["revision"] < after["revision"] for before, after in pairwise(first))
        assert all(before["token"] <= after["token"] for before, after in pairwise(leaders))
        values = [one["value"] for one in leaders]
        assert values[:3] == ["candidate 0", "candidate 0, proclaimed", "candidate 1"]
        assert values[-1] == "last"
