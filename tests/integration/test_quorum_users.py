"""Users of a leaderless cluster, on real nodes: the same at every one, and what a node that is cut off does."""

import shutil
import subprocess

import pytest
import requests

from raftkv import Client, Forbidden, Unauthenticated
from raftkv.instruments.local.nodes import free_ports, wait_until
from raftkv.process.command import module
from tests.integration.processes import RealCluster
from tests.integration.test_authentication import GOOD, HOST, PATHS, SMUGGLED, raw
from tests.integration.test_users import ALICE, ROOT, GuardedCluster

VALIDITY_S = 2.0
NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """All nodes have the file with root's password, and each tries to make the user."""
    sections = f"[quorum]\nrights_validity_s = {VALIDITY_S}\ngossip_s = 0.5\n"
    home = tmp_path_factory.mktemp("guarded")
    with GuardedCluster(home, sections, mode="quorum") as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.make_alice()
        yield cluster


def ask(cluster, method, node, path, auth=("root", ROOT), **options):
    return cluster.request(method, node, path, auth=auth, **options)


def bearing(token):
    def show(prepared):
        prepared.headers["Authorization"] = f"Bearer {token}"
        return prepared

    return show


def detail(answer, status, code):
    body = answer.json()
    assert (answer.status_code, body["code"], body["applied"]) == (status, code, "no"), body
    return body["detail"]


def test_commands_say_who_may_do_what(cluster):
    assert cluster.done("auth", "status").splitlines() == ["authentication: on", "user: root", "roles: root"]
    assert cluster.done("user", "list").split() == ["user", "roles", "alice", "team-a", "root", "root"]
    assert cluster.done("role", "show", "team-a").split() == ["may", "keys", "read,", "write", "a/*"]
    assert cluster.done("set", "a/k", "v", user="alice", password=ALICE) == "OK\n"
    refused = cluster.typed("set", "b/k", "v", user="alice", password=ALICE)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert cluster.typed("get", "a/k", user=None).returncode == 2


def test_one_root_was_made_and_whoever_logs_in_is_known_everywhere(cluster):
    for node in NODES:
        login = ask(cluster, "POST", node, "/auth/login", None, json={"user": "root", "password": ROOT}).json()
        for other in NODES:
            who = ask(cluster, "GET", other, "/auth", bearing(login["token"])).json()
            assert who == {"enabled": True, "user": "root", "roles": ["root"]}


def test_what_is_changed_at_one_node_holds_at_once_at_the_others(cluster):
    for number, node in enumerate(NODES):
        name, other, third = f"u{number}", NODES[number - 1], NODES[number - 2]
        user = {"password": "of no worth", "roles": ["team-a"]}
        assert ask(cluster, "PUT", node, f"/auth/users/{name}", json=user).status_code == 201
        who = (name, "of no worth")
        login = {"user": name, "password": who[1]}
        token = ask(cluster, "POST", other, "/auth/login", None, json=login).json()["token"]
        assert ask(cluster, "PUT", third, "/kv/a%2Fu", bearing(token), data=name).status_code in (200, 201)
        assert ask(cluster, "GET", other, "/kv/a%2Fu", who).text == name
        assert ask(cluster, "GET", node, "/local_read?key=a/u", who).status_code == 200
        assert detail(ask(cluster, "PUT", other, "/kv/b", who, data=b"x"), 403, "forbidden") == (
            f"{name} may not write the key 'b'"
        )
        assert detail(ask(cluster, "GET", third, "/kv?prefix=", who), 403, "forbidden")
        assert detail(ask(cluster, "POST", node, "/config", who, json={"r": 1}), 403, "forbidden")
        assert ask(cluster, "DELETE", third, f"/auth/users/{name}").status_code == 200
        for one in NODES:
            assert ask(cluster, "PUT", one, "/kv/a%2Fu", bearing(token), data=b"x").status_code in (401, 403)
            assert ask(cluster, "PUT", one, "/kv/a%2Fu", who, data=b"x").status_code in (401, 403)


def test_nobody_gets_past_the_door(cluster):
    for how, header in SMUGGLED.items():
        statuses, answer = raw(cluster, b"GET /auth/users HTTP/1.1\r\n" + HOST + header + b"\r\n", "n2")
        assert statuses, how
        assert set(statuses) <= {400, 401, 413, 431}, (how, answer)
    for method in ("GET", "PUT", "POST", "DELETE"):
        for path in (*PATHS, "/internal/write", "/cluster/members", "/backup", "/auth/enable", "/auth/disable"):
            request = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + b"Content-Length: 0\r\n\r\n"
            statuses, answer = raw(cluster, request, "n3")
            if path.partition("?")[0] not in ("/livez", "/metrics", "/docs"):
                assert set(statuses) <= {400, 401, 404, 405, 421, 501}, (method, path, answer)
    assert raw(cluster, b"GET /auth/users HTTP/1.1\r\n" + HOST + GOOD + b"\r\n\r\n")[0] == [401]  # another password


def test_one_replica_is_written_and_read_directly_by_operators_only(cluster):
    copy = {"key": "a/copy", "value": "v", "timestamp": 5, "node": "n1"}
    for who, status in ((None, 401), (("alice", ALICE), 403), (("root", ROOT), 200)):
        assert ask(cluster, "POST", "n1", "/internal/write", who, json=copy).status_code == status, who
        assert ask(cluster, "GET", "n1", "/internal/read?key=a/copy", who).status_code == status, who
    assert cluster.request("GET", "n1", "/internal/read?key=a/copy").status_code == 200


def test_of_several_that_give_a_user_roles_at_once_none_undoes_another(cluster):
    cluster.done("user", "add", "many", "-", said="of many roles\n")
    for number in range(3):
        cluster.done("role", "add", f"m{number}")
    commands = [
        subprocess.Popen(
            module("raftkv", "user", "grant", "many", f"m{number}"),
            env=cluster.environment(
                RAFTKV_SERVERS=cluster.url(NODES[number % 3], ""), RAFTKV_USER="root", RAFTKV_PASSWORD=ROOT
            ),
            stderr=subprocess.PIPE,
        )
        for number in range(3)
    ]
    ended = {number: (one.communicate(timeout=60)[1], one.returncode) for number, one in enumerate(commands)}
    granted = {f"m{number}" for number, (_, status) in ended.items() if status == 0}

    assert granted, ended
    assert granted <= set(ask(cluster, "GET", "n1", "/auth/users/many").json()["roles"])


def test_clients_and_the_proxy_ask_as_users(cluster):
    (port,) = free_ports(1)
    where = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        module("raftkv", "proxy", "--listen", f"127.0.0.1:{port}"),
        env=cluster.environment(RAFTKV_USER="alice", RAFTKV_PASSWORD=ALICE),
        stdout=subprocess.PIPE,
    ) as proxy:
        try:
            proxy.stdout.readline()
            wait_until(lambda: cluster.ask_at(where), "the proxy to know the nodes")
            for servers in (where, cluster.servers):
                with Client(servers, auth=("alice", ALICE)) as store:
                    store.set("a/client", b"v")
                    assert store.get("a/client") == b"v"
                    with pytest.raises(Forbidden):
                        store.set("b/client", b"v")
                with Client(servers) as nobody, pytest.raises(Unauthenticated):
                    nobody.get("a/client")
        finally:
            proxy.terminate()


def test_users_outlive_kill_9_and_a_disk_that_is_lost(cluster):
    cluster.kill("n2")
    shutil.rmtree(cluster.data_dir("n2"))
    user = {"roles": ["team-a"], "password": "made while n2 is away"}
    assert ask(cluster, "PUT", "n3", "/auth/users/meanwhile", json=user).status_code == 201
    cluster.start("n2")
    wait_until(lambda: cluster.is_ready("n2"), "n2 to be back")

    who = ("meanwhile", "made while n2 is away")
    assert ask(cluster, "PUT", "n2", "/kv/a%2Fback", who, data=b"v").status_code in (200, 201)
    assert ask(cluster, "PUT", "n2", "/kv/b", who, data=b"v").status_code == 403
    assert ask(cluster, "DELETE", "n2", "/auth/users/meanwhile").status_code == 200
    assert ask(cluster, "GET", "n1", "/kv/a%2Fback", who).status_code in (401, 403)


def test_a_node_that_is_alone_lets_nobody_in_after_a_while_and_says_why(cluster):
    alice = ("alice", ALICE)
    assert ask(cluster, "PUT", "n1", "/kv/a%2Falone", alice, data=b"v").status_code in (200, 201)
    cluster.pause("n2", "n3")
    try:
        said = "has not heard lately from a majority of the members what rights there are"

        def is_told():
            answer = ask(cluster, "PUT", "n1", "/kv/a%2Falone?w=1", alice, data=b"w")
            return answer.status_code == 503 and said in answer.json()["detail"] and answer.json()["applied"] == "no"

        wait_until(is_told, "the node to let nobody in")
        assert ask(cluster, "GET", "n1", "/kv/a%2Falone?r=1", alice).status_code == 503
        assert ask(cluster, "GET", "n1", "/kv/a%2Falone?consistency=local", alice).content in (b"v", b"w")
        status, body = cluster.ask("n1", "/readyz")
        assert status == 503, body
        change = ask(cluster, "DELETE", "n1", "/auth/users/alice", params={"timeout": 1})
        assert change.status_code == 503, change.text
    finally:
        cluster.resume("n2", "n3")
    cluster.wait_ready()
    assert ask(cluster, "PUT", "n1", "/kv/a%2Falone", alice, data=b"x").status_code == 200


def test_authentication_is_turned_on_and_off_while_a_cluster_runs(tmp_path):
    with RealCluster(tmp_path, mode="quorum") as cluster:
        cluster.start()
        cluster.wait_ready()
        refused = cluster.request("POST", "n1", "/auth/enable")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        root = {"password": ROOT, "roles": ["root"]}
        assert cluster.request("PUT", "n2", "/auth/users/root", json=root).status_code == 201
        assert ask(cluster, "PUT", "n1", "/kv/k", None, data=b"v").status_code == 201
        # Not before every node has met every other: who is not known to judge would let everybody in.
        wait_until(lambda: cluster.request("POST", "n3", "/auth/enable").status_code == 200, "it to be turned on")
        for node in NODES:
            wait_until(
                lambda node=node: requests.put(cluster.url(node, "/kv/k"), b"v", timeout=5).status_code == 401,
                "everybody to be asked who it is",
            )
            assert ask(cluster, "PUT", node, "/kv/k", data=b"v").status_code == 200
        assert ask(cluster, "POST", "n1", "/auth/disable").status_code == 200
        for node in NODES:
            wait_until(
                lambda node=node: requests.get(cluster.url(node, "/kv/k"), timeout=5).status_code == 200,
                "everybody to be let in",
            )
