"""Transactions over several keys, and increments, while nodes are killed, suspended and cut off."""

import random
import threading
import time

import pytest

from raftkv.api import paths
from raftkv.api.answers import Counted, Listed, TransactionDone
from raftkv.api.bodies import Comparison, IncrementBody, PutOperation, TransactionBody
from raftkv.instruments.lab.faults import Kill, Partition, Pause
from raftkv.instruments.lab.lessons.plain_client import PlainClient
from raftkv.instruments.lab.nemesis import Nemesis
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites
from tests.integration.serial import Answered, contradictions

pytestmark = pytest.mark.integration

ACCOUNTS = [f"account/{number}" for number in range(4)]
CLIENTS = 6
FAULTS = [
    Kill(nodes=("leader",)),
    Pause(nodes=("leader",)),
    Partition(groups=(("leader",), ("rest",))),
    Kill(nodes=("all",)),
    Pause(nodes=("follower",)),
    Partition(groups=(("follower",), ("rest",))),
]


class Teller:
    """A client that moves money from one account to another, as it has read them, and counts as it goes."""

    def __init__(self, number, addresses, stopping):
        self.random = random.Random(number)
        self.client = PlainClient(self.random.sample(addresses, len(addresses)))
        self.stopping = stopping
        self.history = []
        self.failure = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.transfer() if self.random.random() < 0.7 else self.count()
                time.sleep(self.random.random() / 50)
        except Exception as error:  # noqa: BLE001  the test raises it
            self.failure = error

    def transfer(self):
        listed = self.client.document(Listed, "GET", f"{paths.KEYS}?prefix=account/")
        seen = {item.key: item.value for item in listed.items}
        giver, taker = self.random.sample(ACCOUNTS, 2)
        left = {giver: str(int(seen[giver]) - 1), taker: str(int(seen[taker]) + 1)}
        body = TransactionBody(
            compare=[Comparison(key=key, target="value", operand=seen[key]) for key in left],
            success=[PutOperation(key=key, value=value) for key, value in left.items()],
        )
        began_ns = time.monotonic_ns()
        done = self.client.document(TransactionDone, "POST", paths.TRANSACTION, body)
        found = {key: seen[key] for key in left}
        self.keep(began_ns, done.revision, found, left, failed=not done.succeeded)

    def count(self):
        began_ns = time.monotonic_ns()
        path = paths.filled(paths.INCREMENT, "counter")
        counted = self.client.document(Counted, "POST", path, IncrementBody())
        self.keep(began_ns, counted.revision, {"counter": str(counted.value - 1)}, {"counter": str(counted.value)})

    def keep(self, began_ns, revision, found, wrote, *, failed=False):
        self.history.append(
            Answered(
                invoked_ns=began_ns,
                returned_ns=time.monotonic_ns(),
                revision=revision,
                found=found,
                wrote=wrote,
                failed=failed,
            )
        )


def test_transactions_and_increments_are_as_if_one_after_another_whatever_happens_to_nodes(tmp_path):
    begin = dict.fromkeys(ACCOUNTS, "100") | {"counter": "0"}
    with LocalCluster(tmp_path, loopback_sites(3)) as cluster:
        cluster.start()
        cluster.wait_ready()
        addresses = [str(site.http) for site in cluster.sites.values()]
        stopping = threading.Event()
        for key, value in begin.items():
            assert PlainClient(addresses).ask("PUT", paths.filled(paths.KEY, key), value.encode()).status == 201
        tellers = [Teller(number, addresses, stopping) for number in range(CLIENTS)]
        with Nemesis(cluster, random=random.Random(1)) as nemesis:
            for fault in FAULTS:
                time.sleep(1.5)
                begun = nemesis.begin(fault)
                time.sleep(1.5)
                nemesis.end(begun)
        cluster.wait_ready()
        time.sleep(1)
        stopping.set()
        for teller in tellers:
            teller.thread.join()
        cluster.wait_level()
        copies = [cluster.copy(node) for node in cluster.nodes]

    assert [teller.failure for teller in tellers if teller.failure is not None] == []
    history = [one for teller in tellers for one in teller.history]
    end = {key.decode(): value.decode() for key, value in copies[0].items()}
    assert copies == [copies[0]] * 3
    assert sum(int(end[key]) for key in ACCOUNTS) == 100 * len(ACCOUNTS)
    assert contradictions(history, begin, end) == []
    assert sum(not one.failed for one in history) > 50
