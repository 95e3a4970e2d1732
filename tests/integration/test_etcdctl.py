"""etcdctl of etcd 3.5, unmodified, against a cluster of real nodes, one of which is killed under it."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from raftkv.etcd import messages, protobuf
from raftkv.instruments.local.nodes import Site, loopback_sites, wait_until
from raftkv.process.command import module
from tests.integration.etcd_oracle import program
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration


class Etcdctl:
    """The program, which knows all nodes at ``sites`` and is always told ``more``."""

    def __init__(self, sites: Mapping[str, Site], directory: Path, *more: str, scheme: str = "http") -> None:
        self.sites = sites
        self._scheme = scheme
        self._more = more
        self._directory = directory
        self._path = program("etcdctl")

    def endpoints(self, *nodes: str) -> str:
        return ",".join(f"{self._scheme}://{self.sites[node].http}" for node in nodes or self.sites)

    def command(self, *words: str, at: tuple[str, ...] = ()) -> list[str]:
        return [self._path, f"--endpoints={self.endpoints(*at)}", *self._more, *words]

    def __call__(self, *words: str, at: tuple[str, ...] = (), said: str = "", fails: bool = False) -> str:
        done = subprocess.run(
            self.command(*words, at=at),
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self._directory,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def json(self, *words: str, **more: Any) -> Any:
        return json.loads(self(*words, "-w", "json", **more))

    def begun(self, *words: str, at: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words, at=at), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def etcdctl(cluster: RealCluster, tmp_path: Path) -> Etcdctl:
    return Etcdctl(cluster.sites, tmp_path)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Etcdctl]:
    """Of a cluster without a secret, whose operators are who asks from this machine."""
    sites = {site.id: site for site in loopback_sites(3)}
    told = ['[cluster]\ndata_dir = "data"\n']
    told += [f'[[node]]\nid = "{one.id}"\nhttp = "{one.http}"\npeer = "{one.peer}"\n' for one in sites.values()]
    (tmp_path / "cluster.toml").write_text("".join(told))
    up = subprocess.Popen(
        module("raftkv", "up", "cluster.toml"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = Etcdctl(sites, tmp_path)
        wait_until(
            lambda: (
                subprocess.run(found.command("endpoint", "health"), capture_output=True, check=False).returncode == 0
            ),
            "all to answer",
        )
        yield found
    finally:
        up.terminate()
        up.wait(30)


def test_keys(etcdctl: Etcdctl) -> None:
    for name, value in (("keys/a", "1"), ("keys/b", "2"), ("keys/b", "3")):
        assert etcdctl("put", name, value) == "OK\n"

    assert etcdctl("get", "keys/a") == "keys/a\n1\n"
    assert etcdctl("get", "--prefix", "keys/", "--print-value-only", "--order=DESCEND") == "3\n1\n"
    assert etcdctl("put", "keys/a", "4", "--prev-kv") == "OK\nkeys/a\n1\n"
    found = etcdctl.json("get", "--prefix", "keys/", "--limit", "1")
    assert (found["count"], found["more"], len(found["kvs"])) == (2, True, 1)
    older = str(found["header"]["revision"] - 1)
    assert etcdctl("get", "keys/a", "--rev", older, "--print-value-only") == "1\n"
    assert etcdctl("del", "--prefix", "keys/", "--prev-kv").splitlines()[0] == "2"
    assert "required revision is a future revision" in etcdctl("get", "keys/a", "--rev", "99999", fails=True)


def test_transactions(etcdctl: Etcdctl) -> None:
    said = 'create("txn") = "0"\n\nput txn 1\nget txn\n\nget txn\n\n'

    assert etcdctl("txn", said=said) == "SUCCESS\n\nOK\n\ntxn\n1\n"
    assert etcdctl("txn", said=said) == "FAILURE\n\ntxn\n1\n"


def test_watches_go_on_while_a_node_is_killed(etcdctl: Etcdctl, cluster: RealCluster) -> None:
    watching = etcdctl.begun("watch", "--prefix", "watched/")
    time.sleep(1)
    etcdctl("put", "watched/1", "before")
    cluster.kill("n1")
    wait_until(lambda: cluster.leader_now() in ("n2", "n3"), "another leader")
    etcdctl("put", "watched/2", "meanwhile", at=("n2", "n3"))
    cluster.start("n1")
    etcdctl("put", "watched/3", "after", at=("n2", "n3"))
    assert watching.stdout is not None
    told = [watching.stdout.readline().strip() for _ in range(9)]
    watching.terminate()
    watching.wait(10)

    assert told == ["PUT", "watched/1", "before", "PUT", "watched/2", "meanwhile", "PUT", "watched/3", "after"]
    cluster.wait_ready()


def test_leases(etcdctl: Etcdctl) -> None:
    granted = etcdctl.json("lease", "grant", "600")["ID"]
    lease = f"{granted:x}"
    etcdctl("put", "leased", "v", f"--lease={lease}")

    shown = etcdctl.json("lease", "timetolive", lease, "--keys")
    assert (shown["granted-ttl"], len(shown["keys"])) == (600, 1)
    assert "keepalived with TTL(600)" in etcdctl("lease", "keep-alive", "--once", lease)
    assert f"{granted:016x}" in etcdctl("lease", "list")
    etcdctl("lease", "revoke", lease)
    assert etcdctl("get", "leased") == ""
    assert "requested lease not found" in etcdctl("lease", "revoke", lease, fails=True)


def test_a_lock_is_held_by_one_and_goes_to_the_next(etcdctl: Etcdctl) -> None:
    first, second = etcdctl.begun("lock", "mutex"), None
    try:
        assert first.stdout is not None
        held = first.stdout.readline().strip()
        second = etcdctl.begun("lock", "mutex")
        wait_until(lambda: len(etcdctl("get", "--prefix", "mutex/", "--keys-only").split()) == 2, "both to contend")
        first.terminate()
        assert second.stdout is not None
        assert held.startswith("mutex/")
        assert second.stdout.readline().strip() not in ("", held)
    finally:
        for one in (first, second):
            if one is not None:
                one.terminate()
                one.wait(10)


def test_an_election_has_one_leader_whom_others_observe(etcdctl: Etcdctl) -> None:
    leading = etcdctl.begun("elect", "office", "me")
    assert leading.stdout is not None
    held = leading.stdout.readline().strip()
    observing = etcdctl.begun("elect", "-l", "office")
    assert observing.stdout is not None
    told = [observing.stdout.readline().strip() for _ in range(2)]
    for one in (observing, leading):
        one.terminate()
        one.wait(10)

    assert told == [held, "me"]


def test_operators_see_and_move_what_there_is(operator: Etcdctl) -> None:
    etcdctl = operator
    members = etcdctl.json("member", "list")["members"]
    assert {member["name"] for member in members} == {"n1", "n2", "n3"}
    statuses = etcdctl.json("endpoint", "status")
    assert {one["Status"]["version"] for one in statuses} == {"3.5.21"}
    leader = statuses[0]["Status"]["leader"]
    other = next(member["ID"] for member in members if member["ID"] != leader)
    etcdctl("move-leader", f"{other:x}")
    wait_until(lambda: etcdctl.json("endpoint", "status")[0]["Status"]["leader"] == other, "all to know who leads")
    hashes = {line.split(", ")[1] for line in etcdctl("endpoint", "hashkv").splitlines()}
    assert len(hashes) == 1
    assert etcdctl("alarm", "list") == ""
    assert "Finished defragmenting" in etcdctl("defrag")
    for value in ("u", "v"):
        etcdctl("put", "something", value)
    revision = etcdctl.json("get", "nothing")["header"]["revision"]
    assert "compacted revision" in etcdctl("compaction", str(revision))
    assert "has been compacted" in etcdctl("compaction", str(revision), fails=True)
    assert "has been compacted" in etcdctl("get", "something", f"--rev={revision - 1}", fails=True)
    assert etcdctl("get", "something", f"--rev={revision}") == "something\nv\n"
    watching = etcdctl.begun("watch", "something", f"--rev={revision}")  # where clients go on that were told of it
    assert watching.stdout is not None
    told = [watching.stdout.readline().strip() for _ in range(3)]
    watching.terminate()
    watching.wait(10)
    assert told == ["PUT", "something", "v"]
    assert "is healthy" in etcdctl("endpoint", "health", at=("n2",))


def test_who_shows_no_proof_of_the_secret_is_no_operator(etcdctl: Etcdctl) -> None:
    assert "permission denied" in etcdctl("defrag", at=("n1",), fails=True)
    assert "permission denied" in etcdctl("move-leader", "1", fails=True)


def test_a_member_that_was_removed_is_added_again(operator: Etcdctl) -> None:
    etcdctl = operator
    members = {one["name"]: one for one in etcdctl.json("member", "list")["members"]}
    (peer,) = members["n3"]["peerURLs"]
    assert "Peer URLs already exists" in etcdctl("member", "add", "n3", f"--peer-urls={peer}", fails=True)
    assert "no node with that peer address" in etcdctl("member", "add", "n4", "--peer-urls=http://a:1", fails=True)
    etcdctl("member", "remove", f"{members['n3']['ID']:x}", at=("n1",))
    assert {one["name"] for one in etcdctl.json("member", "list", at=("n1",))["members"]} == {"n1", "n2"}
    etcdctl("member", "add", "n3", "--learner", f"--peer-urls={peer}", at=("n1",))

    (learner,) = [one for one in etcdctl.json("member", "list", at=("n1",))["members"] if one.get("isLearner")]
    assert (learner["name"], learner["peerURLs"]) == ("n3", [peer])


def test_what_is_checked_by_load_writes_keys_of_random_bytes(cluster: RealCluster, etcdctl: Etcdctl) -> None:
    """All of it takes a minute, and what it says of a node's speed is that of this machine."""
    checking = etcdctl.begun("check", "perf")

    def are_bytes() -> list[str]:
        items = cluster.request("GET", "n1", "/kv?prefix=/etcdctl-check-perf/&limit=200").json()["items"]
        return [one["key"]["base64"] for one in items if not isinstance(one["key"], str)]

    try:
        found = wait_until(lambda: (keys := are_bytes()) and len(keys) > 100 and keys, "keys of bytes")
    finally:
        checking.kill()
        checking.communicate()
    etcdctl("del", "--prefix", "/etcdctl-check-perf/")

    assert found == sorted(found, key=base64.b64decode)


def test_memory_is_told_as_etcd_tells_it(etcdctl: Etcdctl) -> None:
    assert "PASS: Approximate system memory used" in etcdctl("check", "datascale", "--auto-compact")


def test_a_snapshot_is_a_backup(operator: Etcdctl, tmp_path: Path) -> None:
    etcdctl = operator
    etcdctl("put", "saved", "v")
    path = tmp_path / "snapshot.db"
    etcdctl("snapshot", "save", str(path), at=("n1",))

    from raftkv.storage.backups.reading import verify

    assert verify(path).rows > 0
    assert path.stat().st_size % 512 == 32


def test_grpc_refuses_in_the_words_of_etcd(etcdctl: Etcdctl) -> None:
    address = str(etcdctl.sites["n1"].http)
    with grpc.insecure_channel(address) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put")
        nowhere = channel.unary_unary("/etcdserverpb.KV/Nowhere")
        with pytest.raises(grpc.RpcError) as empty:
            put(protobuf.encode(messages.PutRequest()), timeout=10)
        with pytest.raises(grpc.RpcError) as unknown:
            nowhere(b"", timeout=10)
        with pytest.raises(grpc.RpcError) as garbled:
            put(b"\xff\xff", timeout=10)
        with pytest.raises(grpc.RpcError) as unasked:
            list(channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")(b"\xff\xff", timeout=10))

    assert (empty.value.code(), empty.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "etcdserver: key is not provided",
    )
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert garbled.value.code() == unasked.value.code() == grpc.StatusCode.INTERNAL
