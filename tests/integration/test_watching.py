"""Watches of a real cluster while its nodes, front-ends and watchers come to harm: judged by what was acknowledged."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import pytest
import requests

from raftkv import Client
from raftkv.instruments.lab.lessons.plain_client import PlainClient
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, workers
from tests.integration.test_proxy import proxy_for

pytestmark = pytest.mark.integration

SNAPSHOTS = "[raft]\nsnapshot_entries = 40\ntrailing_entries = 5\n"
SILENCE_S = 8
JSON = (("Content-Type", "application/json"),)


class Watcher(threading.Thread):
    """Reads ``/watch`` from whichever of ``urls`` it can, each time after the last event that it has had."""

    def __init__(self, *urls: str) -> None:
        super().__init__(daemon=True)
        self.urls = itertools.cycle(urls)
        self.seen = 0
        self.told: list[tuple[int, list[dict]]] = []
        self.connections = 0
        self.ends: list[str] = []
        self.until: int | None = None

    def run(self) -> None:
        while self.until is None or self.seen < self.until:
            try:
                self.read(next(self.urls))
            except requests.RequestException:
                time.sleep(0.05)

    def read(self, url: str) -> None:
        headers = {"Last-Event-ID": str(self.seen)}
        with requests.get(f"{url}/watch?prefix=", headers=headers, stream=True, timeout=SILENCE_S) as response:
            if response.status_code != 200:
                assert response.status_code == 503, response.text
                return
            self.connections += 1
            rest = b""
            for chunk in response.iter_content(chunk_size=None):
                *events, rest = (rest + chunk).split(b"\n\n")
                for event in events:
                    self.hear(event.decode())
                if self.until is not None and self.seen >= self.until:
                    return

    def hear(self, event: str) -> None:
        fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
        if fields.get("event") == "end":
            self.ends.append(fields["data"])
        if "id" not in fields:
            return
        told = json.loads(fields["data"])
        assert told["revision"] == int(fields["id"])
        if fields["event"] == "changes":
            self.told.append((told["revision"], told["changes"]))
        self.seen = told["revision"]


class ClientWatcher(threading.Thread):
    """The same by the Python client."""

    def __init__(self, addresses: list[str]) -> None:
        super().__init__(daemon=True)
        self.watch = Client(addresses, timeout_s=30).watch(prefix="", from_revision=1)
        self.told: list[tuple[int, list[tuple[str, str, str | None]]]] = []

    def run(self) -> None:
        for one in self.watch.revisions():
            changes = [(each.type, each.key, each.value and each.value.decode()) for each in one.changes]
            self.told.append((one.revision, changes))


class Writer(threading.Thread):
    """Changes keys of its own in every way there is; ``acknowledged`` are what it knows to be at which revision."""

    def __init__(self, number: int, addresses: list[str], stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(number)
        self.client = PlainClient(self.random.sample(addresses, len(addresses)))
        self.stopping = stopping
        self.own = f"w{number}/"
        self.keys: set[str] = set()
        self.acknowledged: dict[int, set[tuple[str, str, str | None]]] = {}
        self.mortal: set[str] = set()
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            for number in itertools.count():
                if self.stopping.is_set():
                    break
                kinds = [self.put, self.put, self.put, self.delete, self.transact, self.transact]
                self.random.choice([*kinds, self.delete_all, self.put_with_a_lease])(str(number))
                time.sleep(self.random.random() / 50)
        except Exception as error:  # noqa: BLE001  the test raises it
            self.failure = error

    def ask(self, method: str, target: str, body: bytes = b"", **more: object) -> dict:
        answer = self.client.ask(method, target, body, **more)
        assert answer.status in (200, 201), answer.body
        return json.loads(answer.body)

    def keep(self, revision: int, *changes: tuple[str, str, str | None]) -> None:
        assert revision not in self.acknowledged
        self.acknowledged[revision] = set(changes)
        for kind, key, _ in changes:
            (self.keys.add if kind == "put" else self.keys.discard)(key)

    def put(self, value: str) -> None:
        key = f"{self.own}{self.random.randrange(20)}"
        self.keep(self.ask("PUT", f"/kv/{key}", value.encode())["revision"], ("put", key, value))

    def delete(self, _value: str) -> None:
        if self.keys:
            key = self.random.choice(sorted(self.keys))
            self.keep(self.ask("DELETE", f"/kv/{key}")["revision"], ("delete", key, None))

    def transact(self, value: str) -> None:
        put = [f"{self.own}{place}" for place in self.random.sample(range(20), 3)]
        deleted = sorted(self.keys - set(put))[:2]
        operations = [{"op": "put", "key": key, "value": value} for key in put]
        operations += [{"op": "delete", "key": key} for key in deleted]
        done = self.ask("POST", "/txn", json.dumps({"success": operations}).encode(), headers=JSON)
        self.keep(done["revision"], *[("put", key, value) for key in put], *[("delete", key, None) for key in deleted])

    def delete_all(self, _value: str) -> None:
        if self.keys:
            done = self.ask("DELETE", f"/kv?prefix={self.own}")
            assert done["deleted"] == len(self.keys)
            self.keep(done["revision"], *[("delete", key, None) for key in self.keys])

    def put_with_a_lease(self, value: str) -> None:
        lease = self.ask("POST", "/leases", b'{"ttl": 5}', headers=JSON)["id"]
        key = f"mortal/{self.own}{value}"
        done = self.ask("PUT", f"/kv/{key}?lease={lease}", value.encode())
        self.acknowledged[done["revision"]] = {("put", key, value)}
        self.mortal.add(key)


def plain(changes: list[dict]) -> list[tuple[str, str, str | None]]:
    return [(one["type"], one["key"], one.get("value")) for one in changes]


def shown(cluster: RealCluster, node: str, revision: int) -> dict[str, tuple[str, int]]:
    """The store as it stood then, as ``node`` says."""
    found, start = {}, ""
    while start is not None:
        page = cluster.request("GET", node, f"/kv?revision={revision}&start={start}").json()
        found |= {one["key"]: (one["value"], one["revision"]) for one in page["items"]}
        start = page["next"]
    return found


def count(writers: list[Writer]) -> int:
    return sum(len(writer.acknowledged) for writer in writers)


def any_failure(writers: list[Writer]) -> list[Exception]:
    return [writer.failure for writer in writers if writer.failure is not None]


History = list[tuple[int, list[dict]]]


def holds_what_was_acknowledged(history: History, writers: list[Writer]) -> None:
    told = {revision: plain(changes) for revision, changes in history}
    for writer in writers:
        for revision, changes in writer.acknowledged.items():
            assert set(told[revision]) == changes
            assert len(told[revision]) == len(changes)


def is_how_the_store_stood(history: History, cluster: RealCluster) -> None:
    """At some revisions, each asked of one node."""
    store: dict[str, tuple[str, int]] = {}
    asked = {*random.Random(1).sample(range(1, len(history)), 20), len(history)}
    for revision, changes in history:
        for kind, key, value in plain(changes):
            store.pop(key, None)
            if kind == "put":
                assert value is not None
                store[key] = (value, revision)
        if revision in asked:
            assert shown(cluster, cluster.nodes[revision % 3], revision) == store


def harm(cluster: RealCluster, go_on: Callable[[int], None]) -> None:
    """All kinds, one after the other; ``go_on`` waits until so much more was acknowledged."""
    victim, _ = cluster.followers()
    cluster.kill(victim)
    go_on(120)
    cluster.start(victim)  # what it lacks is in no log any more
    cluster.wait_ready(victim)
    for worker in workers(cluster, victim):
        os.kill(worker, signal.SIGKILL)
    leader = cluster.leader()
    cluster.pause(leader)
    go_on(15)
    cluster.resume(leader)
    cluster.wait_ready()
    leader = cluster.leader()
    cluster.kill(leader)
    go_on(15)
    cluster.start(leader)
    cluster.wait_ready()
    victim, _ = cluster.followers()
    cluster.pause(victim)
    go_on(15)
    cluster.kill(victim)  # without a chance to close anything
    cluster.start(victim)
    cluster.wait_ready()


def test_every_watcher_is_told_the_store_s_history_whatever_happens_to_nodes(tmp_path):
    with RealCluster(tmp_path, sections=SNAPSHOTS) as cluster:
        cluster.start()
        cluster.wait_ready()
        addresses = [str(site.http) for site in cluster.sites.values()]
        with proxy_for(cluster) as proxy:
            urls = [cluster.url(node, "") for node in cluster.nodes]
            watchers = [Watcher(*urls[place:], *urls[:place]) for place in range(3)] + [Watcher(proxy)]
            client_watcher = ClientWatcher(addresses)
            stopping = threading.Event()
            writers = [Writer(number, addresses, stopping) for number in range(3)]
            for thread in (*watchers, client_watcher, *writers):
                thread.start()

            wait_until(lambda: all(watcher.connections for watcher in watchers), "all to listen", 60)

            def go_on(more: int) -> None:
                enough = more + count(writers)
                wait_until(lambda: any_failure(writers) or count(writers) >= enough, "writes to go on", 60)
                assert not any_failure(writers)

            harm(cluster, go_on)
            stopping.set()
            for writer in writers:
                writer.join()
            assert not any_failure(writers)
            mortal = set().union(*(writer.mortal for writer in writers))
            wait_until(lambda: not cluster.request("GET", "n1", "/kv?prefix=mortal/").json()["items"], "leases to end")
            cluster.wait_level()
            newest = cluster.status("n1").revision
            late = Watcher(cluster.url("n2", ""))
            late.start()
            for watcher in (*watchers, late):
                watcher.until = newest
            for watcher in (*watchers, late):
                watcher.join(60)
            wait_until(lambda: client_watcher.told[-1][0] == newest, "the client to have been told all")
            client_watcher.watch.close()
            client_watcher.join(30)

            history = late.told
            assert [revision for revision, _ in history] == list(range(1, newest + 1))
            for watcher in watchers:
                assert watcher.ends == []
                assert watcher.told == history
            assert client_watcher.told == [(revision, plain(changes)) for revision, changes in history]
            holds_what_was_acknowledged(history, writers)
            is_how_the_store_stood(history, cluster)
            expired = [one["key"] for _, changes in history for one in changes if one.get("expired")]
            assert sorted(expired) == sorted(mortal) != []
    assert sum(watcher.connections for watcher in watchers) > len(watchers)
