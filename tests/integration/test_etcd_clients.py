"""Python's clients of etcd, unmodified, on the cluster that ``raftkv up`` starts, while its leaders are killed.

``tests/clients`` runs the suites that these and other clients are tested with by those who make them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aetcd", reason="aetcd is not installed; tox -e integration has it")
pytest.importorskip("etcd3gw", reason="etcd3gw is not installed; tox -e integration has it")
pytest.importorskip("tooz", reason="tooz is not installed; tox -e integration has it")

import aetcd
import etcd3gw
from tooz import coordination

from raftkv.instruments.local.nodes import wait_until
from tests.integration.etcd_clusters import EtcdCluster, RaftkvCluster

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "etcd.rst"
PATIENCE_S = 30.0
WRITES = 60
TTL_S = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftkvCluster]:
    with RaftkvCluster(tmp_path_factory.mktemp("clients")) as running:
        yield running


@contextlib.contextmanager
def leader_killed(cluster: EtcdCluster, begun: Callable[[], bool]) -> Iterator[str]:
    """Within, the leader is killed as soon as ``begun``; afterwards it is there again. A node that lives on."""
    leader = cluster.leader()
    other = next(node for node in cluster.sites if node != leader)

    def kill() -> None:
        wait_until(begun, "some writes")
        cluster.kill(leader)

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        yield other
    finally:
        killing.join(PATIENCE_S)
        assert not killing.is_alive()
        cluster.revive(leader)
        wait_until(lambda: cluster.ask(leader, "kv/range", {"key": "AA=="}) is not None, f"{leader} to serve again")


def tried(action: Callable[[], Any], *failures: type[Exception]) -> Any:
    """What ``action`` comes to, once it is no longer one of ``failures``, as a program that tries again has it."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except failures:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def test_etcd3gw_loses_nothing_that_was_acknowledged_when_the_leader_is_killed(cluster: RaftkvCluster) -> None:
    acknowledged: list[str] = []
    heard: list[bytes] = []
    with leader_killed(cluster, lambda: len(acknowledged) > WRITES // 3) as node:
        site = cluster.sites[node].http
        client = etcd3gw.client(host=site.host, port=site.port, timeout=10)
        lease = client.lease(TTL_S)
        client.put("gw/leased", "v", lease)
        lock, rival = client.lock("gw", TTL_S), client.lock("gw", TTL_S)
        assert lock.acquire()
        events, cancel = client.watch_prefix("gw/n/")
        listening = threading.Thread(target=lambda: heard.extend(event["kv"]["value"] for event in events))
        listening.start()
        for number in range(WRITES):
            name = f"{number:03}"
            tried(lambda name=name: client.put(f"gw/n/{name}", name), etcd3gw.exceptions.Etcd3Exception)
            acknowledged.append(name)
            time.sleep(0.02)

        written = [name.encode() for name in acknowledged]
        assert [value for value, _ in client.get_prefix("gw/n/", sort_order="ascend")] == written
        wait_until(lambda: set(written) <= set(heard), "all that was written to be heard of")
        cancel()
        listening.join(PATIENCE_S)
        assert list(dict.fromkeys(heard)) == written  # whoever tries again may write twice, but never out of turn
        assert lease.refresh() == TTL_S
        assert client.get("gw/leased") == [b"v"]
        assert lock.is_acquired()
        assert not rival.acquire()
        assert lock.release()
        assert rival.acquire()
        assert rival.release()
        assert client.replace("gw/n/000", "000", "w")
        assert not client.replace("gw/n/000", "000", "x")
        lease.revoke()
        assert client.get("gw/leased") == []


def test_aetcd_loses_nothing_that_was_acknowledged_when_the_leader_is_killed(cluster: RaftkvCluster) -> None:
    acknowledged: list[bytes] = []
    heard: list[bytes] = []

    async def again(action: Callable[[], Any]) -> Any:
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await action()
            except aetcd.ClientError:
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(0.1)

    async def listen(client: Any) -> None:
        async for event in await client.watch_prefix(b"aetcd/n/"):
            heard.append(event.kv.value)  # noqa: PERF401  each as it comes

    async def use(host: str, port: int) -> None:
        async with aetcd.Client(host, port, timeout=10) as client:
            lease = await client.lease(TTL_S)
            await client.put(b"aetcd/leased", b"v", lease=lease)
            lock = client.lock(b"aetcd/lock", TTL_S)
            assert await lock.acquire()
            listening = asyncio.ensure_future(listen(client))
            await client.put(b"aetcd/n/first", b"first")
            for number in range(WRITES):
                name = b"%03d" % number
                await again(lambda name=name: client.put(b"aetcd/n/" + name, name))
                acknowledged.append(name)
                await asyncio.sleep(0.02)

            found = await again(lambda: client.get_prefix(b"aetcd/n/0", sort_order="ascend"))
            assert [one.value for one in found] == acknowledged
            async with asyncio.timeout(PATIENCE_S):
                while not set(acknowledged) <= set(heard):
                    assert not listening.done()
                    await asyncio.sleep(0.05)
            listening.cancel()
            assert [name for name in dict.fromkeys(heard) if name != b"first"] == acknowledged
            assert await lock.is_acquired()
            assert not await client.lock(b"aetcd/lock", TTL_S).acquire(timeout=1)
            assert await lock.release()
            taken, _ = await client.transaction(
                compare=[client.transactions.value(b"aetcd/leased") == b"v"],
                success=[client.transactions.put(b"aetcd/leased", b"w", lease=lease)],
                failure=[],
            )
            assert taken
            assert await lease.keys() == [b"aetcd/leased"]
            await client.revoke_lease(lease.id)
            assert await client.get(b"aetcd/leased") is None

    with leader_killed(cluster, lambda: len(acknowledged) > WRITES // 3) as node:
        site = cluster.sites[node].http
        asyncio.run(use(site.host, site.port))


def test_tooz_keeps_its_groups_and_locks_when_the_leader_is_killed(cluster: RaftkvCluster) -> None:
    rounds = 0
    with leader_killed(cluster, lambda: rounds > 10) as node, contextlib.ExitStack() as started:
        url = f"etcd3+http://{cluster.sites[node].http}?timeout=20"
        one, other = (coordination.get_coordinator(url, name) for name in (b"one", b"other"))
        for coordinator in (one, other):
            coordinator.start()
            started.callback(coordinator.stop)
        one.create_group(b"crew").get()
        one.join_group(b"crew", b"captain").get()
        joined: list[bytes] = []
        one.watch_join_group(b"crew", lambda event: joined.append(event.member_id))
        held, wanted = one.get_lock(b"helm"), other.get_lock(b"helm")
        assert held.acquire()
        for _ in range(WRITES):
            assert tried(lambda: wanted.acquire(blocking=False), coordination.ToozError) is False
            for coordinator in (one, other):
                assert tried(coordinator.heartbeat, coordination.ToozError) is not None
            rounds += 1
            time.sleep(0.02)

        other.join_group(b"crew").get()
        one.run_watchers()
        assert joined == [b"other"]
        assert set(one.get_members(b"crew").get()) == {b"one", b"other"}
        assert one.get_member_capabilities(b"crew", b"one").get() == b"captain"
        assert held.release()
        assert wanted.acquire(blocking=False)
        assert wanted.release()
        other.leave_group(b"crew").get()
        one.leave_group(b"crew").get()
        one.delete_group(b"crew").get()


def programs() -> list[str]:
    """What the page shows of each client, in Python."""
    (section,) = re.findall(r"^Python\n------\n(.*?)^What there is\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", section)
    return [textwrap.dedent(block) for block in blocks]


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "[(b'10.0.0.1:80', {'key': b'services/web',"), (1, "b'on'"), (2, "{b'worker-1'}")],
    ids=["etcd3gw", "aetcd", "tooz"],
)
def test_what_the_page_shows_runs(cluster: RaftkvCluster, number: int, said: str) -> None:
    shown = programs()[number].replace("8001", str(cluster.sites["n1"].http.port))
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
    )

    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert done.stdout.splitlines()[-1] in ("True", "b'on'", "mine")
