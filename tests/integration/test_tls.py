"""TLS by the recipe of ``docs/tls.rst``, on real nodes: its lines as they stand, and certificates that are renewed."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from raftkv import Client
from raftkv.instruments.local.nodes import wait_until
from raftkv.process.command import module
from tests.integration.processes import RealCluster

PAGE = Path(__file__).parents[2] / "docs" / "tls.rst"
NODES = ("n1", "n2", "n3")


def lines():
    """The lines that a reader of the page types."""
    return re.findall(r"^ +\$ (.*)$", PAGE.read_text(), re.MULTILINE)


def run(line, folder):
    return subprocess.run(["bash", "-ec", line], cwd=folder, check=True, capture_output=True, text=True).stdout


class SecuredCluster(RealCluster):
    """Each node has a folder of its own, as it would a machine, with what the page says lies there."""

    def __init__(self, home, authority):
        (section,) = re.findall(r"code-block:: toml\n\n((?:   .*\n|\n)+)", PAGE.read_text())
        super().__init__(home, sections=re.sub(r"^   ", "", section, flags=re.MULTILINE), scheme="https")
        self.authority = authority
        self.verify = str(authority / "ca.pem")
        for node in NODES:
            (home / node).mkdir()
            shutil.copy(home / "cluster.toml", home / node)
            shutil.copy(home / "secret", home / node)
            shutil.copy(authority / "ca.pem", home / node)
            self.install(node, node)

    def install(self, node, certificate):
        for end in ("pem", "key"):
            shutil.copy(self.authority / f"{certificate}.{end}", self.home / node / f"next.{end}")
            (self.home / node / f"next.{end}").rename(self.home / node / f"node.{end}")

    def command(self, node):
        return module("raftkv", "node", str(self.home / node / "cluster.toml"), "--id", node)

    def hang_up(self, node, saying):
        """SIGHUP, until the node has said so once more."""
        before = self.log(node).count(saying)
        self.processes[node].send_signal(signal.SIGHUP)
        wait_until(lambda: self.log(node).count(saying) > before, f"{node} to say: {saying}")

    def shown_at(self, node):
        """The certificate that a new connection is shown."""
        return ssl.get_server_certificate(("127.0.0.1", self.http[node]), ca_certs=self.verify)


@pytest.fixture
def authority(tmp_path):
    folder = tmp_path / "authority"
    folder.mkdir()
    for line in lines():
        run(line, folder)
    return folder


@pytest.fixture
def cluster(tmp_path, authority):
    with SecuredCluster(tmp_path, authority) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


def renewed(authority, name="n1"):
    """Another certificate of the same node, by the page's own lines."""
    for line in lines():
        if f"CN={name} " in line or line.startswith("for "):
            run(line, authority)
    return (authority / f"{name}.pem").read_text()


def test_the_recipe_makes_a_cluster_that_commands_and_clients_trust_by_its_file(cluster):
    file = str(cluster.home / "n1" / "cluster.toml")
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}

    def typed(*words):
        command = module("raftkv", "--config", file, *words)
        return subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False, timeout=30)

    assert typed("set", "k", "v").stdout == "OK\n"
    assert typed("get", "k").stdout == "v\n"
    assert Client([f"https://localhost:{cluster.http['n2']}"], tls_ca=cluster.verify).get("k") == b"v"
    assert all("peer_refused" not in cluster.log(node) for node in NODES)


def test_renewed_certificates_are_shown_from_sighup_on_and_no_connection_is_dropped(cluster, authority):
    host = ("127.0.0.1", cluster.http["n1"])
    trusting = ssl.create_default_context(cafile=cluster.verify)
    first_shown = cluster.shown_at("n1")
    with (
        trusting.wrap_socket(socket.create_connection(host, 10), server_hostname=host[0]) as kept,
        trusting.wrap_socket(socket.create_connection(host, 10), server_hostname=host[0]) as watching,
    ):
        watching.sendall(b"GET /watch?prefix=w HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert watching.recv(4096).startswith(b"HTTP/1.1 200 ")
        new = renewed(authority)
        cluster.install("n1", "n1")
        cluster.hang_up("n1", "read_anew")
        wait_until(lambda: cluster.shown_at("n1") == new, "the new certificate to be shown")

        kept.sendall(b"PUT /kv/w HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n1")
        assert kept.recv(4096).startswith(b"HTTP/1.1 201 ")
        seen = b""
        while b'"key":"w"' not in seen:
            piece = watching.recv(4096)
            assert piece
            seen += piece
    assert new != first_shown


def test_peers_show_and_trust_what_was_renewed(cluster, authority):
    """By the three steps of the page: trust both authorities, show certificates of the new one, trust it alone."""
    new = authority / "new"
    new.mkdir()
    for line in lines():
        run(line, new)
    both = (authority / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes()
    cluster.verify = str(authority / "both.pem")
    Path(cluster.verify).write_bytes(both)
    for trusted, shown in ((both, None), (both, new), ((new / "ca.pem").read_bytes(), None)):
        for node in NODES:
            (cluster.home / node / "ca.pem").write_bytes(trusted)
            if shown is not None:
                cluster.authority = shown
                cluster.install(node, node)
            cluster.hang_up(node, "read_anew")
    cluster.stop("n3")
    cluster.start("n3")
    cluster.wait_ready()

    assert cluster.put("n3", "k", "v").status_code == 201
    assert all("peer_refused" not in cluster.log(node) for node in NODES)


def test_a_broken_file_keeps_the_old_certificates_and_is_named_once(cluster):
    shown = cluster.shown_at("n1")
    (cluster.home / "n1" / "node.key").write_text("not a key")
    cluster.hang_up("n1", "the certificates stay as they are")

    (line,) = [line for line in cluster.log("n1").splitlines() if "the certificates stay as they are" in line]
    assert "node.key" in line
    assert cluster.shown_at("n1") == shown
    assert cluster.put("n1", "k", "v").status_code == 201


def test_a_peer_whose_certificate_names_another_node_is_no_peer(tmp_path, authority):
    """Who stole the certificate of one node, and the secret, cannot pass for another."""
    run(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=n3 -addext "
        "subjectAltName=DNS:elsewhere -keyout n3.key -out n3.csr; openssl x509 -req -in n3.csr -copy_extensions copy "
        "-CA ca.pem -CAkey ca.key -days 365 -out n3.pem",
        authority,
    )
    with SecuredCluster(tmp_path, authority) as cluster:
        cluster.start()
        cluster.wait_ready("n1", "n2")
        wait_until(lambda: "names elsewhere, and neither n3 nor 127.0.0.1" in cluster.log("n1"), "n3 to be refused")

        assert cluster.put("n1", "k", "v").status_code == 201
        assert not any(peer.reachable for peer in cluster.status("n1").peers if peer.id == "n3")
