"""Locks on a real cluster, while processes are killed: judged from outside, by who was in and with which token."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest
import requests

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running, workers

pytestmark = pytest.mark.integration

CONTENDERS = 20


class Guarded:
    """What the lock guards: it notes who is in, and refuses tokens that are no greater than all before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside: set[int] = set()
        self.tokens: list[int] = []
        self.faults: list[str] = []

    def enter(self, token: int) -> None:
        with self._lock:
            if self.inside:
                self.faults.append(f"{token} came in while {self.inside} were")
            if self.tokens and token <= self.tokens[-1]:
                self.faults.append(f"{token} came after {self.tokens[-1]}")
            self.inside.add(token)
            self.tokens.append(token)

    def leave(self, token: int) -> None:
        with self._lock:
            self.inside.remove(token)


class Contending(threading.Thread):
    """A client that holds the lock once; whatever fails is asked of the next node, with the same lease."""

    def __init__(self, cluster: RealCluster, guarded: Guarded, number: int) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.guarded = guarded
        self.number = number
        self.turns = 0

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        """Until somebody answers that it was done, or that it cannot be."""
        while True:
            node = self.cluster.nodes[(self.number + self.turns) % len(self.cluster.nodes)]
            self.turns += 1
            try:
                answer = self.cluster.request(method, node, path, timeout=40, **options)
            except requests.RequestException:
                continue
            if answer.status_code not in (409, 429, 503, 504):
                return answer

    def run(self) -> None:
        lease = self.ask("POST", "/leases", json={"ttl": 600}).json()["id"]
        token = self.ask("POST", "/locks/job", json={"lease": lease, "wait": 30}).json()["token"]
        self.guarded.enter(token)
        self.guarded.leave(token)
        self.ask("DELETE", f"/locks/job?token={token}")


def shown(cluster: RealCluster, node: str, name: str = "job") -> dict:
    answer = cluster.request("GET", node, f"/locks/{name}")
    return answer.json() if answer.status_code == 200 else {"holders": [], "waiting": []}


def test_the_leader_dies_while_many_wait_and_each_has_its_turn_alone(tmp_path):
    with running(tmp_path) as cluster:
        first = cluster.request("POST", "n1", "/locks/job", json={"ttl": 600}).json()["token"]
        guarded = Guarded()
        threads = [Contending(cluster, guarded, number) for number in range(CONTENDERS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(shown(cluster, "n1")["waiting"]) == CONTENDERS, "all to wait")

        leader = cluster.leader()
        cluster.kill(leader)
        (other, *_) = [node for node in cluster.nodes if node != leader]
        cluster.wait_ready(other)
        assert cluster.request("DELETE", other, f"/locks/job?token={first}").status_code == 200
        wait_until(lambda: len(guarded.tokens) >= 5, "some to have had their turn")
        second = cluster.leader()
        cluster.start(leader)
        cluster.wait_ready(leader)
        cluster.kill(second)
        for thread in threads:
            thread.join(60)

        assert not any(thread.is_alive() for thread in threads)
        assert guarded.faults == []
        assert len(guarded.tokens) == CONTENDERS
        assert shown(cluster, leader)["holders"] == []


def waiting_socket(cluster: RealCluster, node: str) -> socket.socket:
    """A client that waits for the lock, with an hour's lease that is its own."""
    client = socket.create_connection(("127.0.0.1", cluster.http[node]))
    body = b'{"ttl": 3600, "wait": 3600}'
    head = b"POST /locks/job HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    client.sendall(head + body)
    return client


def test_a_client_that_is_gone_does_not_keep_its_place(tmp_path):
    with running(tmp_path) as cluster:
        cluster.request("POST", "n1", "/locks/job", json={"ttl": 600})
        clients = [waiting_socket(cluster, node) for node in cluster.nodes]
        wait_until(lambda: len(shown(cluster, "n1")["waiting"]) == 3, "all to wait")

        for client in clients:
            client.close()

        wait_until(lambda: not shown(cluster, "n1")["waiting"], "those who left to be taken back")
        assert len(shown(cluster, "n1")["holders"]) == 1


def test_who_waited_at_a_front_end_that_died_stays_until_its_lease_ends(tmp_path):
    with running(tmp_path) as cluster:
        held = cluster.request("POST", "n1", "/locks/job", json={"ttl": 600}).json()
        lease = cluster.request("POST", "n1", "/leases", json={"ttl": 3}).json()["id"]
        answers: list[object] = []

        def wait(node: str, chosen: dict) -> None:
            try:
                answers.append(cluster.request("POST", node, "/locks/job", json=chosen, timeout=60).json())
            except requests.RequestException as error:
                answers.append(error)

        first = threading.Thread(target=wait, args=("n2", {"lease": lease, "wait": 60}), daemon=True)
        first.start()
        wait_until(lambda: len(shown(cluster, "n1")["waiting"]) == 1, "the first to wait")
        second = threading.Thread(target=wait, args=("n3", {"ttl": 600, "wait": 60}), daemon=True)
        second.start()
        wait_until(lambda: len(shown(cluster, "n1")["waiting"]) == 2, "the second to wait")

        for worker in workers(cluster, "n2"):
            os.kill(worker, signal.SIGKILL)
        first.join(30)
        assert isinstance(answers[0], requests.RequestException)
        cluster.request("DELETE", "n1", f"/locks/job?token={held['token']}")
        second.join(30)

        assert isinstance(answers[1], dict)
        assert answers[1]["token"] > held["token"]
