"""Backups that a running cluster makes of itself: by one node at a time, while it is written to, and after kill -9."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from raftkv.backup.keeping import made_s_in
from raftkv.core.errors import StartupError
from raftkv.instruments.local.nodes import wait_until
from raftkv.instruments.local.processes import descendants, send
from raftkv.process.command import module
from raftkv.storage.backups.reading import verify
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration


def held(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*") if made_s_in(path.name, "test") is not None)


def metrics(cluster: RealCluster, node: str) -> dict[str, float]:
    lines = cluster.request("GET", node, "/metrics").text.splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("raftkv_backup_"))
    return {name.removeprefix("raftkv_backup_"): float(number) for name, number in found.items()}


def maker(cluster: RealCluster, node: str) -> int:
    """The process that makes the backups of ``node``."""
    for pid in descendants(cluster.processes[node].pid):
        if b"raftkv.backup.scheduled" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise LookupError(node)


def test_the_leader_makes_them_and_who_follows_it_goes_on_where_it_ended(tmp_path):
    backups = tmp_path / "backups"
    with running(tmp_path, sections="[backup]\ninterval_s = 1.0\nkeep = 2\n") as cluster:
        assert cluster.put("n1", "k", b"v").status_code == 201
        leader = cluster.leader()
        wait_until(lambda: len(held(backups)) == 2 and verify(held(backups)[0]).revision >= 1, "two backups")
        assert {verify(path).nodes for path in held(backups)} == {(leader,)}
        found = wait_until(
            lambda: "last_duration_seconds" in (told := metrics(cluster, leader)) and told, "its numbers"
        )
        assert found["interval_seconds"] == 1.0
        assert found["failures_total"] == 0
        assert found["last_success_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
        assert found["last_size_bytes"] == held(backups)[-1].stat().st_size
        status = cluster.request("GET", leader, "/status").json()
        assert status["backup_interval_s"] == 1
        assert status["backup_age_s"] < 60

        cluster.kill(leader)
        new = wait_until(lambda: (now := cluster.leader_now()) != leader and now, "another leader")
        wait_until(lambda: {path.name.endswith(f"-{new}.backup") for path in held(backups)} == {True}, "its backups")
        assert len(held(backups)) <= 3


def test_without_a_leader_one_node_gathers_them_of_all(tmp_path):
    backups = tmp_path / "backups"
    with running(tmp_path, sections="[backup]\ninterval_s = 1.0\nkeep = 2\n", mode="quorum") as cluster:
        assert cluster.put("n2", "k", b"v").status_code in (200, 201)

        def newest():
            """Of all nodes and with the key; a node that is not known to be up yet is left out of the first ones."""
            path = held(backups)[-1]
            made = verify(path)
            return made.nodes == ("n1", "n2", "n3") and made.tables.get("data") == 1 and path

        wait_until(lambda: held(backups) and newest(), "a backup of all nodes with the key")
        assert {path.name.endswith("-n1.backup") for path in held(backups)} == {True}


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_with_users_they_are_made_all_the_same_and_users_are_in_them(tmp_path, mode):
    backups, alice = tmp_path / "backups", ("alice", "correct horse battery")
    (tmp_path / "root").write_text("the first password of all")
    (tmp_path / "root").chmod(0o600)
    sections = "[auth]\nenabled = true\nroot_password_file = 'root'\n[backup]\ninterval_s = 1.0\nkeep = 2\n"
    with running(tmp_path, 3, sections, mode=mode) as cluster:

        def asked(method: str, path: str, auth=("root", "the first password of all"), **options) -> int:
            return cluster.request(method, "n1", path, auth=auth, **options).status_code

        role = {"permissions": [{"access": "both", "prefix": "a/"}]}
        assert asked("PUT", "/auth/roles/a", json=role) == 201
        assert asked("PUT", "/auth/users/alice", json={"password": alice[1], "roles": ["a"]}) == 201
        assert asked("PUT", "/kv/a%2Fk", auth=alice, data=b"v") in (200, 201)
        known = set(held(backups))
        wait_until(lambda: len(set(held(backups)) - known) >= 2, "two backups that began later")
        cluster.kill(*cluster.nodes)
        for node in cluster.nodes:
            shutil.rmtree(cluster.data_dir(node))
        command = module("raftkv", "restore", str(held(backups)[-1]), "--config", str(cluster.config))
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        (tmp_path / "root").write_text("another password, which is of no use")
        cluster.start()
        cluster.wait_ready()

        wait_until(lambda: asked("GET", "/kv/a%2Fk", auth=alice) == 200, "alice to be known")
        assert asked("GET", "/kv/b", auth=alice) == 403
        assert asked("GET", "/auth/users") == 200
        assert asked("GET", "/auth/users", auth=("root", "another password, which is of no use")) == 401


def test_into_a_bucket_they_go_whole_and_the_log_has_no_credentials(tmp_path, monkeypatch):
    moto_server, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    secret = "a-key-that-must-not-be-told"
    for name, value in {"ACCESS_KEY_ID": "who", "SECRET_ACCESS_KEY": secret, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    bucket = boto3.session.Session().resource("s3", endpoint_url=endpoint).Bucket("backups")

    def objects():
        return sorted(one.key for one in bucket.objects.all())

    section = (
        f"[backup]\ninterval_s = 1.0\nkeep = 2\ns3_bucket = 'backups'\ns3_prefix = 'a/'\ns3_endpoint = '{endpoint}'\n"
    )
    try:
        with running(tmp_path, 1, section) as cluster:
            wait_until(lambda: "NoSuchBucket" in cluster.log("n1"), "the missing bucket to be told of")
            bucket.create()
            assert cluster.put("n1", "k", os.urandom(100_000)).status_code == 201
            first = wait_until(objects, "a backup")[0]
            wait_until(lambda: first not in objects() and len(objects()) == 2, "the first to be removed")
            assert held(tmp_path / "backups") == []
            bucket.download_file(objects()[-1], str(tmp_path / "fetched"))
            assert verify(tmp_path / "fetched").tables["keys"] == 1
            assert metrics(cluster, "n1")["last_size_bytes"] > 100_000
            assert secret not in cluster.log("n1")
            assert "Traceback" not in cluster.log("n1")
    finally:
        server.stop()


def test_kill_9_in_the_middle_leaves_nothing_that_looks_like_a_backup(tmp_path):
    """Of the process that makes it, of the node alone, and of all at once, as when a machine loses power."""
    backups = tmp_path / "backups"
    section = "[backup]\ninterval_s = 1.0\nkeep = 100\nbytes_per_s = 3000000\n"
    with running(tmp_path, 1, section) as cluster:
        for number in range(12):
            assert cluster.put("n1", f"k{number}", os.urandom(900_000)).status_code == 201

        ended: list[Path] = []

        def under_way() -> Path | None:
            drafts = [path for path in backups.glob(".*.tmp/draft") if path not in ended]
            return next((path for path in drafts if path.stat().st_size > 2_000_000), None)

        def until_the_middle() -> list[Path]:
            draft = wait_until(under_way, "a backup under way", 60)
            ended.append(draft)
            with pytest.raises(StartupError):
                verify(draft)
            return held(backups)

        before = until_the_middle()
        os.kill(maker(cluster, "n1"), signal.SIGKILL)
        wait_until(lambda: metrics(cluster, "n1")["failures_total"] == 1, "the failure to be counted")
        assert cluster.put("n1", "later", b"v").status_code == 201, "the node goes on without it"

        before = until_the_middle()
        cluster.kill("n1")
        assert list(backups.glob(".*")) == [], "it cleans up when its node is gone"
        assert held(backups) == before
        cluster.start()
        cluster.wait_ready()

        before = until_the_middle()
        send(signal.SIGKILL, descendants(cluster.processes["n1"].pid))
        cluster.kill("n1")
        (left,) = backups.glob(".*.tmp/draft")
        with pytest.raises(StartupError):
            verify(left)
        assert held(backups) == before
        cluster.start()
        cluster.wait_ready()

        wait_until(lambda: len(held(backups)) > len(before), "a backup", 60)
        assert verify(held(backups)[-1]).tables["keys"] == 13
        assert not left.exists(), "what was left over is removed by who comes next"
        pid = maker(cluster, "n1")
        assert cluster.stop("n1") == 0
        assert not Path(f"/proc/{pid}").exists()
        assert list(backups.glob(".*")) == []


def test_a_directory_that_is_none_any_more_is_told_of_and_hinders_nobody(tmp_path):
    with running(tmp_path, 1, "[backup]\ninterval_s = 1.0\n") as cluster:
        wait_until(lambda: held(tmp_path / "backups"), "a backup")
        (tmp_path / "backups").rename(tmp_path / "elsewhere")
        (tmp_path / "backups").touch()

        wait_until(lambda: metrics(cluster, "n1")["failures_total"] >= 2, "failures")
        assert cluster.put("n1", "k", b"v").status_code == 201
        (line, *_) = [line for line in cluster.log("n1").splitlines() if "backup failed" in line]
        assert f"{tmp_path / 'backups'}: not a directory" in line
        assert "Traceback" not in cluster.log("n1")

        (tmp_path / "backups").unlink()
        wait_until(lambda: held(tmp_path / "backups"), "a backup again")
