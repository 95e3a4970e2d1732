"""Users, roles and credentials on real nodes, as people and programs have them: commands, clients, the proxy, bench."""

import asyncio
import json
import os
import pty
import subprocess
import time

import pytest
import requests

from raftkv import AsyncClient, Client, Forbidden, Unauthenticated
from raftkv.instruments.local.nodes import free_ports, wait_until
from raftkv.process.command import module
from tests.integration.processes import RealCluster, running

ROOT = "the first password of all"
ALICE = "correct horse battery"
SECTIONS = '[auth]\nenabled = true\nroot_password_file = "root"\n'


class GuardedCluster(RealCluster):
    """Authentication is on from the start; ``typed`` runs a command as root, or as ``user``."""

    def __init__(self, home, sections="", **kind):
        (home / "root").write_text(ROOT + "\n")
        (home / "root").chmod(0o600)
        super().__init__(home, sections=SECTIONS + sections, **kind)

    @property
    def servers(self):
        return [self.url(node, "") for node in self.nodes]

    def environment(self, **more):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}
        return {**clean, "RAFTKV_SERVERS": ",".join(self.servers), **more}

    def typed(self, *words, user="root", password=ROOT, said="", **more):
        who = {} if user is None else {"RAFTKV_USER": user, "RAFTKV_PASSWORD": password}
        return subprocess.run(
            module("raftkv", *words),
            input=said,
            capture_output=True,
            text=True,
            env=self.environment(**who, **more),
            check=False,
            timeout=60,
            start_new_session=True,  # no terminal to ask at
        )

    def done(self, *words, **more):
        ended = self.typed(*words, **more)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def ask_at(self, server):
        """Is ``server`` ready?"""
        try:
            return requests.get(f"{server}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def make_alice(self):
        """A user who may read and write what begins with a/."""
        self.done("role", "add", "team-a")
        self.done("role", "grant", "team-a", "both", "--prefix", "a/")
        self.done("user", "add", "alice", "-", "--role", "team-a", said=ALICE + "\n")

    def client(self, **more):
        return Client(self.servers, **{"auth": ("alice", ALICE), **more})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with GuardedCluster(tmp_path_factory.mktemp("guarded")) as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.make_alice()
        yield cluster


def test_commands_say_who_may_do_what(cluster):
    assert cluster.done("auth", "status").splitlines() == ["authentication: on", "user: root", "roles: root"]
    assert cluster.done("user", "list").split() == ["user", "roles", "alice", "team-a", "root", "root"]
    assert cluster.done("role", "show", "team-a").split() == ["may", "keys", "read,", "write", "a/*"]
    assert cluster.done("user", "show", "alice") == "team-a\n"


def test_a_user_reads_and_writes_what_its_role_allows_and_nothing_else(cluster):
    assert cluster.done("set", "a/k", "v", user="alice", password=ALICE) == "OK\n"
    refused = cluster.typed("set", "b/k", "v", user="alice", password=ALICE)

    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    with cluster.client() as store:
        assert store.get("a/k") == b"v"
        for forbidden in (lambda: store.set("b/k", b"v"), lambda: store.get("b/k"), lambda: list(store.list("b"))):
            with pytest.raises(Forbidden):
                forbidden()
        with pytest.raises(Forbidden):
            next(iter(store.watch(prefix="b/")))


def test_who_says_nothing_or_the_wrong_thing_is_refused_in_one_line_that_shows_no_password(cluster):
    nobody = cluster.typed("get", "a/k", user=None)
    wrong = cluster.typed("get", "a/k", user="alice", password="no such password")
    unknown = cluster.typed("get", "a/k", user="mallory", password="no such password")

    for ended in (nobody, wrong, unknown):
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert "no such password" not in ended.stderr
    assert wrong.stderr == unknown.stderr
    with pytest.raises(Unauthenticated):
        cluster.client(auth="rkv1.AAAAAAAAAAAAAAAA." + "A" * 43).get("a/k")
    assert not any(ALICE in cluster.log(node) or "no such password" in cluster.log(node) for node in cluster.nodes)


def test_a_token_stands_for_the_user_until_its_password_changes(cluster):
    cluster.done("user", "add", "bob", "-", "--role", "team-a", said="bob's first one\n")
    token = cluster.done("login", user="bob", password="bob's first one").strip()
    assert cluster.done("set", "a/bob", "1", user=None, RAFTKV_TOKEN=token) == "OK\n"
    with cluster.client(auth=("bob", "bob's first one")) as store:
        store.set("a/bob", b"2")
        cluster.done("user", "passwd", "bob", "-", user="bob", password="bob's first one", said="bob's second one\n")
        with pytest.raises(Unauthenticated):
            store.set("a/bob", b"3")
    late = cluster.typed("get", "a/bob", user=None, RAFTKV_TOKEN=token)

    assert late.returncode == 2
    assert token not in late.stderr
    assert cluster.client(auth=("bob", "bob's second one")).get("a/bob") == b"2"
    cluster.done("user", "delete", "bob")
    assert (
        "no such user" in cluster.typed("user", "show", "bob").stderr
        or cluster.typed("user", "show", "bob").returncode == 1
    )


def test_a_right_that_is_taken_away_ends_a_watch_and_every_later_write(cluster):
    cluster.done("role", "add", "passing")
    cluster.done("role", "grant", "passing", "both", "--key", "p")
    cluster.done("user", "add", "carol", "-", "--role", "passing", said="carol's own password\n")
    with cluster.client(auth=("carol", "carol's own password")) as store:
        seen = iter(store.watch("p", from_revision=store.set("p", b"1")))
        assert next(seen).value == b"1"
        cluster.done("role", "revoke", "passing", "both", "--key", "p")
        with pytest.raises(Forbidden):
            store.set("p", b"2")
        with pytest.raises(Forbidden):
            next(seen)


def test_asyncio_locks_and_status_work_as_a_user(cluster):
    async def play():
        async with AsyncClient(cluster.servers, auth=("alice", ALICE)) as store:
            async with store.lock("a/lock", ttl=5) as lock:
                await store.set("a/locked", str(lock.token))
            return await store.get("a/locked")

    assert asyncio.run(play())
    shown = cluster.typed("status", user="alice", password=ALICE)
    assert shown.returncode == 0, shown.stderr
    assert "leader" in shown.stdout
    assert cluster.done("lock", "a/lock", "--", "echo", "held", user="alice", password=ALICE) == "held\n"


def test_bench_asks_as_a_user(cluster, tmp_path):
    cluster.done("role", "grant", "team-a", "both", "--prefix", "bench-")
    result = tmp_path / "result.json"
    words = ("--seconds", "1", "--warm-up", "0", "--keys", "20", "--clients", "4", "--json", str(result))
    cluster.done("bench", *words, user="alice", password=ALICE)

    assert not json.loads(result.read_bytes())["errors"]


def test_a_proxy_passes_on_who_asks_and_asks_as_a_user_of_its_own(cluster):
    (port,) = free_ports(1)
    where = f"http://127.0.0.1:{port}"
    command = module("raftkv", "proxy", "--listen", f"127.0.0.1:{port}")
    environment = cluster.environment(RAFTKV_USER="alice", RAFTKV_PASSWORD=ALICE)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as proxy:
        try:
            proxy.stdout.readline()
            wait_until(lambda: cluster.ask_at(where), "the proxy to know the nodes")
            with Client(where, auth=("alice", ALICE)) as store:
                store.set("a/proxied", b"v")
                assert store.get("a/proxied") == b"v"
                with pytest.raises(Forbidden):
                    store.set("b/proxied", b"v")
            with Client(where) as nobody, pytest.raises(Unauthenticated):
                nobody.get("a/proxied")
        finally:
            proxy.terminate()
    assert ALICE not in str(command)


def test_a_password_is_asked_for_at_the_terminal_without_an_echo(cluster):
    """Twice where it is new; what was typed is shown nowhere."""
    words = ("user", "add", "dave", "--user", "root")
    main, terminal = pty.openpty()
    with subprocess.Popen(
        module("raftkv", *words),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=cluster.environment(),
        preexec_fn=lambda: _own_terminal(),  # noqa: PLW0108, PLW1509
    ) as command:
        os.close(terminal)
        shown = b""
        for prompt, typed in (
            (b"password of root: ", ROOT),
            (b"password of dave: ", "dave's own password"),
            (b"the same again: ", "dave's own password"),
        ):
            deadline_s = time.monotonic() + 30
            while not shown.endswith(prompt):
                assert time.monotonic() < deadline_s, shown
                shown += os.read(main, 1024)
            os.write(main, typed.encode() + b"\n")
        try:
            while piece := os.read(main, 1024):
                shown += piece
        except OSError:
            pass  # how a terminal tells that nobody has it open any more
        assert command.wait(30) == 0, shown
    os.close(main)

    assert shown.rstrip().endswith(b"OK")
    assert ROOT.encode() not in shown
    assert b"dave's own password" not in shown
    assert cluster.done("user", "show", "dave") == ""


def _own_terminal():
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def test_status_answers_by_the_secret_where_authentication_is_on(cluster):
    """What it shows of its nodes it asks by the cluster's secret."""
    file = str(cluster.config)
    found = cluster.typed("status", "--config", file, "--json", user=None)

    assert found.returncode == 0, found.stderr


def test_a_cluster_that_asks_nobody_serves_whoever_has_credentials(tmp_path):
    with running(tmp_path, size=1) as cluster, Client(cluster.url("n1", ""), auth=("alice", ALICE)) as store:
        store.set("k", b"v")

        assert store.get("k") == b"v"
