"""Authentication on real nodes: the lines of ``docs/authentication.rst`` as they stand, and attacks on the door."""

import base64
import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
import trustme

from raftkv import Client, Unauthenticated
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster

PAGE = Path(__file__).parents[2] / "docs" / "authentication.rst"
SECTION = "[auth]\nenabled = true\nroot_password_file = 'root.password'\n"
ROOT = ("root", "correct horse battery")


def typed():
    """The lines that a reader of the page types, each with the lines that it shows for an answer."""
    blocks = re.findall(r"code-block:: console\n\n((?:   .*\n)+)", PAGE.read_text())
    return [
        (line, shown.replace("\n   ", "\n").strip())
        for block in blocks
        for line, shown in re.findall(r"^   \$ (.*)\n((?:   (?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def cluster_of(home, sections=SECTION, **more):
    cluster = RealCluster(home, sections=sections, **more)
    (home / "root.password").write_text(ROOT[1])
    (home / "root.password").chmod(0o600)
    return cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with cluster_of(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


def ask(cluster, method, node, path, auth=ROOT, **options):
    return cluster.request(method, node, path, auth=auth, **options)


def let_be(cluster, name, password):
    """A user who may read and write what begins with its name; how it shows who it is."""
    role = {"permissions": [{"access": "both", "prefix": f"{name}/"}]}
    assert ask(cluster, "PUT", "n1", f"/auth/roles/{name}", json=role).status_code == 201
    user = {"password": password, "roles": [name]}
    assert ask(cluster, "PUT", "n2", f"/auth/users/{name}", json=user).status_code == 201
    return name, password


def bearing(token):
    def show(prepared):
        prepared.headers["Authorization"] = f"Bearer {token}"
        return prepared

    return show


def test_the_page_says_what_happens(tmp_path):
    with cluster_of(tmp_path) as cluster:
        (tmp_path / "root.password").unlink()
        url = cluster.url("n1", "")
        (made, _), *rest = typed()
        subprocess.run(["bash", "-ec", made], cwd=tmp_path, check=True)
        cluster.start()
        cluster.wait_ready()
        script = "\n".join(f"{line}; echo; echo '<<>>'" for line, _ in rest)
        script = script.replace("http://127.0.0.1:8001", url).replace("curl ", "curl -s ")
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True, capture_output=True, text=True)

    *answers, end = done.stdout.split("<<>>\n")
    assert end == ""
    for (line, shown), told in zip(rest, answers, strict=True):
        assert told.strip() == shown, line


def test_what_anybody_may_ask_is_said_on_the_page():
    (section,) = re.findall(r"What anybody may ask\n-+\n\n(.*?)\n\n", PAGE.read_text(), re.DOTALL)
    named = set(re.findall(r"(/[a-z./]+)", section.split("Nothing else")[0]))

    from tests.unit.guarded_node import ANONYMOUS

    assert named == ANONYMOUS


def test_rights_are_the_same_at_every_node_and_outlive_it(cluster):
    bob = let_be(cluster, "bob", "builder of things")
    token = ask(cluster, "POST", "n3", "/auth/login", None, json={"user": "bob", "password": bob[1]}).json()["token"]
    for node in cluster.nodes:
        assert ask(cluster, "PUT", node, "/kv/bob%2Fk", bearing(token), data=b"v").status_code in (200, 201)
        assert ask(cluster, "GET", node, "/kv/bob%2Fk", bob).content == b"v"
        assert ask(cluster, "GET", node, "/kv/bob%2Fk?consistency=local", bob).content == b"v"
        assert ask(cluster, "PUT", node, "/kv/k", bob, data=b"v").status_code == 403
        assert ask(cluster, "GET", node, "/kv/k", bob).status_code == 403
        assert ask(cluster, "GET", node, "/kv/bob%2Fk", None).status_code == 401

    follower = cluster.followers()[0]
    cluster.kill(follower)
    cluster.start(follower)
    cluster.wait_ready()
    assert ask(cluster, "GET", follower, "/kv/bob%2Fk", bob).content == b"v"
    assert ask(cluster, "GET", follower, "/kv/k", bob).status_code == 403

    assert ask(cluster, "DELETE", "n1", "/auth/users/bob").status_code == 200
    for node in cluster.nodes:
        assert ask(cluster, "GET", node, "/kv/bob%2Fk", bob).status_code in (401, 403)
        assert ask(cluster, "PUT", node, "/kv/bob%2Fk", bearing(token), data=b"x").status_code in (401, 403)


def raw(cluster, request, node="n1"):
    """The status of what a client of no manners sends, and all of the answer."""
    with socket.create_connection(("127.0.0.1", cluster.http[node]), 10) as line:
        line.settimeout(10)
        line.sendall(request)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := line.recv(65536):
            answer += piece
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", answer)], answer


GOOD = b"Authorization: Basic " + base64.b64encode(":".join(ROOT).encode())
HOST = b"Host: 127.0.0.1\r\n"
SMUGGLED = {
    "two headers, the good one first": GOOD + b"\r\nAuthorization: Basic eDp5\r\n",
    "two headers, the good one last": b"Authorization: Basic eDp5\r\n" + GOOD + b"\r\n",
    "the same header twice": (GOOD + b"\r\n") * 2,
    "folded": GOOD[:30] + b"\r\n " + GOOD[30:] + b"\r\n",
    "a bare line feed": b"X: y\n" + GOOD + b"\r\n",
    "a bare carriage return": b"X: y\r" + GOOD + b"\r\n",
    "a space before the colon": GOOD.replace(b":", b" :", 1) + b"\r\n",
    "an underscore": GOOD.replace(b"Authorization", b"Authori_zation") + b"\r\n",
    "of a proxy": b"Proxy-" + GOOD + b"\r\n",
    "huge": b"Authorization: Basic " + b"A" * 70_000 + b"\r\n",
    "a NUL": GOOD + b"\x00\r\n",
    "in the trailer": b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + GOOD + b"\r\n",
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_no_header_that_is_not_plainly_one_lets_anybody_in(cluster, how):
    statuses, answer = raw(cluster, b"GET /auth/users HTTP/1.1\r\n" + HOST + SMUGGLED[how] + b"\r\n")

    assert statuses
    assert set(statuses) <= {400, 401, 413, 431}, answer
    assert b'"users"' not in answer
    assert raw(cluster, b"GET /auth/users HTTP/1.1\r\n" + HOST + GOOD + b"\r\n\r\n")[0] == [200]


PATHS = [
    "/kv/a",
    "//kv/a",
    "/kv//a",
    "/kv/a%2Fb",
    "/kv/%61",
    "/KV/a",
    "/kv/a/",
    "/kv/../livez",
    "/livez/../kv/a",
    "/livez%2F..%2Fkv%2Fa",
    "/livez/kv/a",
    "/livez;/kv/a",
    "/livez?/kv/a",
    "/%6civez/../kv/a",
    "http://x/kv/a",
    "/kv/a?x=/livez",
    "/livez/",
    "/auth/login/",
    "/auth/login/../users",
    "/auth//users",
    "/auth/users%2Froot",
    "/metrics/../status",
    "/docs/../status",
    "*",
    "/kv",
    "/.",
    "/",
    "/put",
    "/get?key=a",
    "/get/a",
    "/get/key=a",
    "/set/a/b",
    "/local_read?key=a",
    "/delete?key=a",
    "/internal/read?key=a",
    "/internal/kv",
    "/config",
    "/locks",
    "/locks/a",
    "/elections/a",
    "/elections/a/observe",
    "/watch",
    "/leases",
    "/status",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "POST", "DELETE", "PATCH", "TRACE", "get"])
def test_no_spelling_of_a_path_and_no_method_leads_past_the_door(cluster, method):
    for path in PATHS:
        request = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + b"Content-Length: 0\r\n\r\n"
        statuses, answer = raw(cluster, request)
        if path.partition("?")[0] in ("/livez", "/metrics", "/docs"):
            assert set(statuses) <= {200, 204, 400, 405, 501}, (path, answer)
        else:
            assert set(statuses) <= {400, 401, 404, 405, 421, 501}, (path, answer)
            assert statuses != [404] or b"unknown_route" in answer or method == "HEAD", (path, answer)


def test_both_branches_and_every_comparison_are_judged_and_idempotency_keys_are_ones_own(cluster):
    eve = let_be(cluster, "eve", "dropping in")
    assert ask(cluster, "PUT", "n1", "/kv/secret", data=b"42", headers={"Idempotency-Key": "mine"}).status_code == 201
    mine, other = {"op": "put", "key": "eve/k", "value": "v"}, {"op": "get", "key": "secret"}
    for body in (
        {"success": [mine], "failure": [other]},
        {"failure": [{"op": "put", "key": "secret", "value": "v"}]},
        {"compare": [{"key": "secret", "target": "value", "op": "==", "with": "42"}], "success": [mine]},
        {"compare": [{"prefix": "", "target": "version", "op": ">", "with": 0}]},
        {"success": [{"op": "txn", "failure": [{"op": "txn", "success": [other]}]}]},
        {"success": [{"op": "list", "prefix": "eve"}]},
        {"success": [{"op": "list", "start": "eve/"}]},
        {"success": [{"op": "delete_prefix", "prefix": "eve"}]},
    ):
        answer = ask(cluster, "POST", "n2", "/txn", eve, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), body
    for operations in ([mine, other], [other], [{"op": "put", "key": "secret", "value": "v"}, mine]):
        assert ask(cluster, "POST", "n2", "/batch", eve, json={"operations": operations}).status_code == 403, operations
    assert ask(cluster, "GET", "n3", "/kv/eve%2Fk").status_code == 404

    again = {"Idempotency-Key": "mine"}
    assert ask(cluster, "PUT", "n1", "/kv/secret", eve, data=b"42", headers=again).status_code == 403
    assert ask(cluster, "PUT", "n1", "/kv/eve%2Fk", eve, data=b"of eve", headers=again).status_code == 201

    for query in ("key=secret", "prefix=secret&from_revision=1"):
        assert ask(cluster, "GET", "n2", f"/watch?{query}", eve).status_code == 403, query
    for query in ("prefix=eve", "start=eve/", "", "start=eve/&end=eve0a", "end=eve/k"):
        assert ask(cluster, "GET", "n2", f"/watch?{query}", eve).status_code == 403, query
        assert ask(cluster, "GET", "n2", f"/kv?{query}", eve).status_code == 403, query
    assert ask(cluster, "GET", "n2", "/kv/secret?revision=1", eve).status_code == 403
    assert ask(cluster, "POST", "n2", "/locks/secret", eve, json={"ttl": 5}).status_code == 403
    held = ask(cluster, "POST", "n1", "/locks/eve%2Fl", json={"ttl": 30}).json()
    assert ask(cluster, "GET", "n2", "/locks/eve%2Fl", eve).json()["holders"][0]["token"] == held["token"]
    attached = ask(cluster, "PUT", "n1", f"/kv/secret?lease={held['lease']}", data=b"43")
    assert attached.status_code == 200
    for method in ("GET", "DELETE"):
        assert ask(cluster, method, "n2", f"/leases/{held['lease']}", eve).status_code == 403


def test_a_change_of_rights_ends_a_watch_on_another_node(cluster):
    will, accepted = let_be(cluster, "w", "of the watch"), {"Accept": "application/x-ndjson"}
    with ask(cluster, "GET", "n3", "/watch?prefix=w/", will, stream=True, headers=accepted) as watch:
        lines = watch.iter_lines()
        ask(cluster, "PUT", "n2", "/kv/w%2F1", will, data=b"told")
        assert json.loads(next(line for line in lines if line))["changes"][0]["key"] == "w/1"
        ask(cluster, "DELETE", "n1", "/auth/users/w/roles/w")
        ask(cluster, "PUT", "n1", "/kv/w%2F2", data=b"hidden")
        rest = [json.loads(line) for line in lines if line]
    assert [one.get("code") for one in rest if "changes" in one or "code" in one] == ["forbidden"]


def test_the_log_knows_no_password(cluster):
    assert ask(cluster, "GET", "n1", "/kv/k", ("root", "Tr0ub4dor&3")).status_code == 401
    wait_until(lambda: "a wrong password for 'root'" in cluster.log("n1"), "the log to say so")

    for node in cluster.nodes:
        assert "Tr0ub4dor" not in cluster.log(node)
        assert ROOT[1] not in cluster.log(node)


def test_without_a_password_nobody_is_served_and_the_page_of_readiness_says_why(tmp_path):
    with RealCluster(tmp_path, 1, sections="[auth]\nenabled = true\n") as cluster:
        cluster.start()
        said = "there is no root user yet: name auth.root_password_file, or set RAFTKV_ROOT_PASSWORD"
        wait_until(lambda: said in (cluster.ask("n1", "/readyz") or (0, b""))[1].decode(), "the node to say why")
        assert ask(cluster, "GET", "n1", "/kv/k", None).status_code == 503
        assert ask(cluster, "PUT", "n1", "/kv/k", None, data=b"v").status_code == 503
        # Who has the secret makes a root user by hand, and the leader goes on by itself.
        user = {"password": "made by hand", "roles": ["root"]}
        assert cluster.request("PUT", "n1", "/auth/users/root", json=user).status_code == 201
        wait_until(lambda: (cluster.ask("n1", "/readyz") or (0, b""))[0] == 200, "the node to be ready")
        assert ask(cluster, "PUT", "n1", "/kv/k", ("root", "made by hand"), data=b"v").status_code == 201


def test_a_certificate_of_the_named_authority_is_a_user(tmp_path):
    servers, clients, others = trustme.CA(), trustme.CA(), trustme.CA()
    own = servers.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "node.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "node.key"))
    (tmp_path / "node.key").chmod(0o600)
    servers.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    tls = "[http]\ntls_cert = 'node.pem'\ntls_key = 'node.key'\ntls_client_ca = 'clients.pem'\n"
    with cluster_of(tmp_path, SECTION + tls, size=1, scheme="https") as cluster:
        cluster.verify = str(tmp_path / "ca.pem")
        cluster.start()
        cluster.wait_ready()
        assert ask(cluster, "PUT", "n1", "/auth/users/alice", json={"roles": ["root"]}).status_code == 201

        def shown(authority, name):
            certificate = authority.issue_cert(f"{name}.example", common_name=name)
            path = tmp_path / f"{name}.pem"
            certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
            return ask(cluster, "GET", "n1", "/auth", lambda r: r, cert=str(path))

        assert shown(clients, "alice").json() == {"enabled": True, "user": "alice", "roles": ["root"]}
        assert shown(clients, "mallory").status_code == 401
        authority, node = str(tmp_path / "ca.pem"), cluster.url("n1", "")
        with Client([node], cert=str(tmp_path / "alice.pem"), tls_ca=authority) as store:
            store["k"] = "of alice"
            assert store["k"] == b"of alice"
        with (
            Client([node], cert=str(tmp_path / "mallory.pem"), tls_ca=authority) as store,
            pytest.raises(Unauthenticated),
        ):
            store.get("k")
        with pytest.raises(Exception, match=r"(?i)ssl|tls|reset|aborted|eof"):
            shown(others, "alice")
        assert ask(cluster, "GET", "n1", "/auth", None).status_code == 401
        assert ask(cluster, "GET", "n1", "/auth").json()["user"] == "root"
        without = ask(cluster, "POST", "n1", "/auth/login", None, json={"user": "alice", "password": ""})
        assert without.status_code == 401
