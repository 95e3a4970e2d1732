"""Keys from a real etcd by ``raftkv import``, and back into one by etcd's own ``make-mirror``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from raftkv import Client
from raftkv.instruments.local.nodes import wait_until
from raftkv.process.command import module
from tests.integration.etcd_oracle import encoded, etcd, program
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration

LARGE = "x" * 1_000_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """A real etcd; its URL."""
    with etcd(tmp_path / "etcd") as url:
        yield url


def put(url: str, key: str | bytes, value: str | bytes, **more: object) -> None:
    body = {"key": encoded(key), "value": encoded(value), **more}
    requests.post(f"{url}/v3/kv/put", json=body, timeout=10).raise_for_status()


def imported(cluster: RealCluster, url: str, *words: str) -> tuple[int, str, str]:
    """Exit status, and what was said."""
    command = module("raftkv", "import", "--from-etcd", url, "--server", cluster.url("n1", ""), *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_keys_come_over_at_one_revision_and_a_second_time_changes_nothing(cluster: RealCluster, source: str) -> None:
    for number in range(1200):
        put(source, f"many/{number:04}", f"value {number}")
    for number in range(9):
        put(source, f"large/{number}", LARGE)
    put(source, "bytes", b"\0\xff")
    put(source, "empty", "")
    cluster.put("n1", "many/0007", "another")
    cluster.put("n1", "other", "is left alone")

    dry = imported(cluster, source, "--dry-run", "--prefix", "many/")
    assert dry == (0, "1200 keys of revision 1212: 1199 would be new, 1 would be overwritten, 0 equal\n", "")
    assert cluster.get("n2", "many/0008").status_code == 404
    assert imported(cluster, source) == (0, "1211 keys of revision 1212: 1210 new, 1 overwritten, 0 equal\n", "")
    assert cluster.get("n2", "many/0007").text == "value 7"
    assert cluster.get("n2", "large/8").text == LARGE
    assert cluster.get("n2", "bytes").content == b"\0\xff"
    assert (cluster.get("n2", "empty").status_code, cluster.get("n2", "empty").content) == (200, b"")
    assert cluster.get("n2", "other").text == "is left alone"
    revision = cluster.status("n1").revision
    assert imported(cluster, source) == (0, "1211 keys of revision 1212: 0 new, 0 overwritten, 1211 equal\n", "")
    assert cluster.status("n1").revision == revision
    found = json.loads(imported(cluster, source, "--json", "--prefix", "large/")[1])
    assert (found["unchanged"], found["revision"]) == (9, 1212)


def test_a_key_with_a_lease_is_given_the_time_that_is_left_and_no_name_is_left_out_silently(
    cluster: RealCluster, source: str
) -> None:
    granted = requests.post(f"{source}/v3/lease/grant", json={"TTL": "600"}, timeout=10).json()
    put(source, "session", "here", lease=granted["ID"])
    put(source, b"\xff\xfe", "no text")
    put(source, b"\xff\xff", "the cluster's own")
    put(source, b"\xffk", "here", lease=granted["ID"])
    put(source, "plain", "1")
    status, said, complaint = imported(cluster, source)

    assert status == 1
    assert said.splitlines()[1:] == ["1 with a lease, of which only the time that is left is kept", "2 left out"]
    assert complaint.splitlines() == [
        "raftkv: left out, since it begins with ff, and has a lease: \\xffk",
        "raftkv: left out, since it begins with ff ff: \\xff\\xff",
    ]
    assert cluster.get("n1", "%FF%FE").text == "no text"
    with Client([cluster.url("n1", "")]) as client:
        session, plain = client.get_record("session"), client.get_record("plain")
    assert session is not None
    assert plain is not None
    assert session.ttl_left is not None
    assert 500 < session.ttl_left <= 600
    assert plain.ttl_left is None


def test_a_source_that_asks_who_it_is_is_told(cluster: RealCluster, source: str) -> None:
    put(source, "guarded", "1")
    for path, body in (
        ("user/add", {"name": "root", "password": "correct horse"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("enable", {}),
    ):
        requests.post(f"{source}/v3/auth/{path}", json=body, timeout=10).raise_for_status()

    refused = imported(cluster, source)
    assert (refused[0], "user name is empty" in refused[2]) == (3, True)
    wrong = imported(cluster, source, "--from-user", "root:wrong password")
    assert (wrong[0], "authentication failed" in wrong[2]) == (3, True)
    assert imported(cluster, source, "--from-user", "root:correct horse")[0] == 0
    assert cluster.get("n1", "guarded").text == "1"


def test_what_cannot_be_read_is_said_in_one_line(cluster: RealCluster) -> None:
    for url in ("127.0.0.1:1", f"127.0.0.1:{cluster.peer['n1']}"):
        status, said, complaint = imported(cluster, url)
        assert (status, said, complaint.count("\n")) == (3, "", 1)


def test_another_raftkv_is_a_source_too(cluster: RealCluster, tmp_path: Path) -> None:
    with running(tmp_path, size=1) as other:
        other.put("n1", "of-the-other", b"1")
        assert imported(cluster, other.url("n1", ""))[0] == 0
    assert cluster.get("n1", "of-the-other").text == "1"


def test_etcds_own_mirror_takes_everything_out_again(cluster: RealCluster, source: str) -> None:
    """What is there, and what changes from then on."""
    cluster.put("n1", "out/a", "1")
    command = [program("etcdctl"), f"--endpoints={cluster.url('n1', '')}", "make-mirror", "--prefix", "out/", source]
    mirror = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def found() -> dict[str, str]:
        asked = {"key": encoded("out/"), "range_end": encoded("out0")}
        kvs = requests.post(f"{source}/v3/kv/range", json=asked, timeout=10).json().get("kvs", [])
        return {one["key"]: one["value"] for one in kvs}

    try:
        wait_until(lambda: encoded("out/a") in found(), "what was there")
        cluster.put("n2", "out/b", "2")
        wait_until(lambda: found() == {encoded("out/a"): encoded("1"), encoded("out/b"): encoded("2")}, "what is new")
        cluster.request("DELETE", "n3", "/kv/out/a")
        wait_until(lambda: found() == {encoded("out/b"): encoded("2")}, "what was deleted to be gone")
    finally:
        mirror.terminate()
        mirror.wait(10)
