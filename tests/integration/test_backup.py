"""The drill: a cluster is backed up under load and destroyed, and another is made of the backup."""

import shutil
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

from raftkv.client import Client
from raftkv.core.errors import RaftkvError
from raftkv.process.command import module
from raftkv.storage.backups.reading import CorruptBackup, verify
from tests.integration.processes import RealCluster

pytestmark = pytest.mark.integration


class Load:
    """A writer that notes what was acknowledged."""

    def __init__(self, cluster: RealCluster, name: str) -> None:
        self.acknowledged: dict[str, int] = {}
        self._stopped = threading.Event()
        self._client = Client([f"http://127.0.0.1:{port}" for port in cluster.http.values()], timeout_s=20)
        self._name = name
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            key = f"{self._name}/{number:06d}"
            try:
                self.acknowledged[key] = self._client.set(key, str(number) * 100)
            except RaftkvError:
                continue


def client_of(cluster: RealCluster) -> Client:
    servers = [f"http://127.0.0.1:{port}" for port in cluster.http.values()]
    return Client(servers, timeout_s=20, secret_file=cluster.config.parent / "secret", cluster="test")


def raftkv(cluster: RealCluster, *arguments: str) -> tuple[int, str]:
    command = module("raftkv", *arguments, "--config", str(cluster.config))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def lock(cluster: RealCluster, name: str, body: dict[str, float]) -> int:
    answer = cluster.request("POST", "n1", f"/locks/{name}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["token"]


def destroy(cluster: RealCluster) -> None:
    cluster.kill(*cluster.nodes)
    for node in cluster.nodes:
        shutil.rmtree(cluster.data_dir(node))


def test_with_a_leader_all_that_was_acknowledged_before_is_there_again(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with RealCluster(tmp_path) as cluster:
        cluster.start()
        cluster.wait_ready()
        with client_of(cluster) as client:
            lease = client.leases.grant(600)
            client.set("leased", "1", lease=lease)
            token = lock(cluster, "held", {"lease": lease})
            with Load(cluster, "load") as load:
                while len(load.acknowledged) < 300:
                    threading.Event().wait(0.05)
                before = dict(load.acknowledged)
                status, said = raftkv(cluster, "backup", str(file))
        assert status == 0, said
        manifest = verify(file)
        assert manifest.revision >= max(before.values())

        destroy(cluster)
        status, said = raftkv(cluster, "restore", str(file))
        assert status == 0, said
        cluster.start()
        cluster.wait_ready()

        with client_of(cluster) as client:
            found = {record.key: record for record in client.list("load/")}
            assert {key: found[key].revision for key in before} == before
            assert client.set("later", "1") > manifest.revision
            assert 0 < client.leases.find(lease).left <= 600
            assert client.get("leased") == b"1"
            assert lock(cluster, "other", {"ttl": 30}) > token
            assert cluster.request("POST", "n1", "/locks/held", json={"ttl": 30, "wait": 0}).status_code == 409
        cluster.wait_level()
        copies = {tuple(sorted(cluster.copy(node).items())) for node in cluster.nodes}
        assert len(copies) == 1


def test_a_reader_that_leaves_and_a_worker_that_dies_leave_no_backup(tmp_path: Path) -> None:
    with RealCluster(tmp_path, 1) as cluster:
        cluster.start()
        cluster.wait_ready()
        with client_of(cluster) as client:
            for number in range(20):
                client.set(f"l{number}", "v" * 900_000)
            pieces = client.backup()
            begun = [next(iter(pieces))]
            cluster.kill("n1")
            with pytest.raises(RaftkvError):
                begun += pieces
        (tmp_path / "part").write_bytes(b"".join(begun))

        with pytest.raises(CorruptBackup):
            verify(tmp_path / "part")


def test_nothing_is_restored_over_data(tmp_path: Path) -> None:
    with RealCluster(tmp_path, 1) as cluster:
        cluster.start()
        cluster.wait_ready()
        assert raftkv(cluster, "backup", str(tmp_path / "backup"))[0] == 0

        status, said = raftkv(cluster, "restore", str(tmp_path / "backup"))

        assert status == 2
        assert "nothing is restored over data" in said
        assert cluster.is_ready("n1")


def test_without_one_each_acknowledged_write_is_in_what_is_gathered_though_a_node_is_away(tmp_path: Path) -> None:
    """Two are away at the time of the last writes, so fallbacks keep some; then one of them alone is missing."""
    file, sections = tmp_path / "backup", "[quorum]\nn = 3\nr = 2\nw = 2\n"
    with RealCluster(tmp_path, 5, sections, mode="quorum") as cluster:
        cluster.start()
        cluster.wait_ready()
        acknowledged: dict[str, bytes] = {}
        with client_of(cluster) as client:

            def write(first: int) -> None:
                for number in range(first, first + 60):
                    client.set(f"k{number}", f"v{number}")
                    acknowledged[f"k{number}"] = f"v{number}".encode()

            write(0)
            client.delete("k7")
            del acknowledged["k7"]
            cluster.kill("n4", "n5")
            write(60)
            cluster.start("n4")
            cluster.wait_ready("n4")
        status, said = raftkv(cluster, "backup", str(file), "--timeout", "30")
        assert status == 0, said
        manifest = verify(file)
        assert manifest.nodes == ("n1", "n2", "n3", "n4")
        cluster.kill("n3")
        refused, said = raftkv(cluster, "backup", str(tmp_path / "less"), "--timeout", "30")
        assert refused == 3, said
        assert "2 of 5 nodes cannot be backed up" in said
        assert not (tmp_path / "less").exists()

    (tmp_path / "new").mkdir()
    with RealCluster(tmp_path / "new", 4, sections, mode="quorum") as cluster:
        status, said = raftkv(cluster, "restore", str(file))
        assert status == 0, said
        cluster.start()
        cluster.wait_ready()
        with client_of(cluster) as client:
            assert {key: client.get(key) for key in acknowledged} == acknowledged
            assert client.get("k7", None) is None
            assert client.set("k1", "later") > manifest.revision
            assert client.get("k1") == b"later"
