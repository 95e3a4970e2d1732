"""Patroni, unmodified, with two PostgreSQL servers, on raftkv and on real etcd: what it does when something is gone.

Each scene is timed; ``tox -e patroni`` prints the table of both. A failover takes what Patroni's ``ttl`` says, so the
whole takes some minutes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("patroni", reason="Patroni is not installed; tox -e patroni has it")
pytest.importorskip("psycopg", reason="psycopg is not installed; tox -e patroni has it")

from raftkv.instruments.local.nodes import wait_until
from tests.integration.etcd_clusters import EtcdCluster, RaftkvCluster, RealEtcd
from tests.integration.managed_postgres import CHANGE_S, PAIR, SCOPE, Pair, Watching, Writing, shown, why_unavailable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

QUIET_S = 20.0
SETTLE_S = 5.0
"""Some rounds of Patroni's loop."""


class Scenes:
    """How long each scene took, and the longest that rows were not acknowledged meanwhile."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.writing: Writing | None = None

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        took_s = time.monotonic() - began_s
        gap = f"{self.writing.gap_s(began_s):6.1f}" if self.writing is not None else ""
        self.note(f"{name:48} {took_s:6.1f} {gap}")

    def note(self, text: str) -> None:
        """Say it now, to whoever waits."""
        print(f"{self._store:24} {text}", flush=True)  # noqa: T201  it is what the control is for


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, which pytest's own are not.

    Who has installed Patroni wants this run: what it lacks beyond that is no reason to pass over it.
    """
    reason = why_unavailable()
    assert reason is None, reason
    path = Path(tempfile.mkdtemp(prefix="patroni-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


STORES = [
    pytest.param(RaftkvCluster, id="raftkv"),
    pytest.param(RealEtcd, id="etcd", marks=pytest.mark.soak),
]


@pytest.fixture(params=STORES)
def store_kind(request: pytest.FixtureRequest) -> type[EtcdCluster]:
    """raftkv, and real etcd beside it where that is asked for."""
    return request.param


def test_one_primary_at_a_time_and_no_acknowledged_row_lost(
    store_kind: type[EtcdCluster], tmp_path: Path, home: Path
) -> None:
    scene = Scenes(store_kind.__name__)
    with store_kind(tmp_path) as store, Pair(home, {"hosts": store.hosts}) as pair:
        with proven(scene, pair) as writing:
            some_of_the_store_is_killed(scene, store, pair, writing)
            an_operator_is_at_work(scene, pair, writing)
            primaries_are_killed(scene, store, pair, writing)
            most_of_the_store_is_killed(scene, store, pair, writing)
        before_s, theirs_s = store.cpu_s(), pair.patroni_cpu_s()
        time.sleep(QUIET_S)
        scene.note(
            f"nothing happens: processor time of the store {(store.cpu_s() - before_s) / QUIET_S:.1%},"
            f" of Patroni {(pair.patroni_cpu_s() - theirs_s) / QUIET_S:.1%}"
        )


def test_over_tls_as_a_user_whose_tokens_do_not_last(store_kind: type[EtcdCluster], tmp_path: Path, home: Path) -> None:
    scene = Scenes(f"{store_kind.__name__}, TLS, users")
    with store_kind(tmp_path, secured=True) as store:
        section = shown()[1]["etcd3"]
        store.let_in(section["username"], section["password"], b"/service/")
        shutil.copy(store.authority, home)
        section |= {"hosts": store.hosts, "cacert": str(home / store.authority.name)}
        with Pair(home, section) as pair, proven(scene, pair) as writing:
            writing.wait_row()
            with scene("the leader of the store is killed, and revived"):
                killed_and_revived(store, pair, writing, store.leader())
            with scene("a is killed: b takes over"):
                pair.crash("a")
                pair.wait_primary("b")
                writing.wait_row()
            with scene("a rejoins"):
                pair.start("a")
                pair.wait_pair("b")
            with scene("switchover to a"):
                pair.switch_over("b", "a")
                pair.wait_primary("a")
                writing.wait_row()
            logs = [pair.log(name) for name in PAIR]
        for log in logs:
            scene.note(f"tokens that were refused: {log.count('Invalid auth token')}")

    assert all("Invalid auth token" in log for log in logs)


@contextlib.contextmanager
def proven(scene: Scenes, pair: Pair) -> Iterator[Writing]:
    """A program that writes into both, once they are there; then nothing of it is lost, and there was one primary."""
    with Watching(pair) as watching:
        with scene("bootstrap of the first server"):
            pair.start("a")
            pair.wait_primary("a")
        with scene("the second follows"):
            pair.start("b")
            pair.wait_pair("a")
        with Writing(pair) as writing:
            scene.writing = writing
            yield writing
        pair.wait_pair(wait_until(pair.primary, "a primary"))

    assert watching.overlaps == []
    assert watching.looks > 100
    assert len(writing.acknowledged) > 100
    wait_until(lambda: not any(writing.lost(name) for name in PAIR), "both servers to have every acknowledged row")


def some_of_the_store_is_killed(scene: Scenes, store: EtcdCluster, pair: Pair, writing: Writing) -> None:
    writing.wait_row()
    leader = store.leader()
    follower = next(node for node in store.sites if node != leader)
    with scene("a follower of the store is killed, and revived"):
        killed_and_revived(store, pair, writing, follower)
    with scene("the leader of the store is killed, and revived"):
        killed_and_revived(store, pair, writing, store.leader())


def an_operator_is_at_work(scene: Scenes, pair: Pair, writing: Writing) -> None:
    with scene("switchover to b"):
        pair.switch_over("a", "b")
        pair.wait_primary("b")
        writing.wait_row()
    with scene("a follows"):
        pair.wait_pair("b")
    with scene("patronictl: list, edit-config, pause, resume"):
        assert {"Leader", "Sync Standby"} <= {one["Role"] for one in json.loads(pair.control("list", "-f", "json"))}
        pair.control("edit-config", "--force", "--set", "postgresql.parameters.work_mem=5MB")
        wait_until(lambda: pair.setting("a", "work_mem") == "5MB", "the setting to reach a", CHANGE_S)
        pair.control("pause", "--wait")
        pair.control("resume", "--wait")
    with scene("patronictl: reinit of a"):
        pair.control("reinit", SCOPE, "a", "--force", "--wait")
        pair.wait_pair("b")


def primaries_are_killed(scene: Scenes, store: EtcdCluster, pair: Pair, writing: Writing) -> None:
    with scene("b is killed: a takes over"):
        pair.crash("b")
        pair.wait_primary("a")
        writing.wait_row()
    with scene("b rejoins"):
        pair.start("b")
        pair.wait_pair("a")
    with scene("a and the store's leader are killed: b takes over"):
        leader = store.leader()
        store.kill(leader)
        pair.crash("a")
        pair.wait_primary("b")
        writing.wait_row()
    with scene("both rejoin"):
        store.revive(leader)
        pair.start("a")
        pair.wait_pair("b")
    with scene("patronictl: failover to a, history"):
        pair.control("failover", SCOPE, "--candidate", "a", "--force")
        pair.wait_primary("a")
        pair.wait_pair("a")
        assert len(json.loads(pair.control("history", "-f", "json"))) == 4


def most_of_the_store_is_killed(scene: Scenes, store: EtcdCluster, pair: Pair, writing: Writing) -> None:
    with scene("most of the store is killed: nobody is primary"):
        gone = list(store.sites)[:2]
        store.kill(*gone)
        wait_until(lambda: pair.primary() is None, "the primary to step down", CHANGE_S)
    with scene("the store is back: rows are taken"):
        store.revive(*gone)
        writing.wait_row()


def killed_and_revived(store: EtcdCluster, pair: Pair, writing: Writing, node: str) -> None:
    """Of which PostgreSQL notices nothing."""
    before = pair.state("a")["timeline"]
    store.kill(node)
    store.leader()
    time.sleep(SETTLE_S)
    writing.wait_row()
    store.revive(node)
    time.sleep(SETTLE_S)

    assert (pair.primary(), pair.state("a")["timeline"]) == ("a", before)
