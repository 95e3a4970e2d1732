"""etcd's clients over TLS: what is agreed on by ALPN is spoken, and a certificate says who its client is."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from raftkv.etcd import messages, protobuf
from raftkv.etcd.grpc import frames
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import running
from tests.integration.test_authentication import ROOT, SECTION, ask, cluster_of
from tests.integration.test_etcdctl import Etcdctl

pytestmark = pytest.mark.integration

TLS = "[http]\ntls_cert = 'node.pem'\ntls_key = 'node.key'\ntls_client_ca = 'clients.pem'\n"
REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Secured:
    """A node that speaks TLS, and the authorities of its clients and its own."""

    def __init__(self, home: Path, sections: str) -> None:
        self.home = home
        self.servers, self.clients = trustme.CA(), trustme.CA()
        own = self.servers.issue_cert("127.0.0.1", "localhost")
        own.private_key_and_cert_chain_pem.write_to_path(str(home / "node.pem"))
        own.private_key_pem.write_to_path(str(home / "node.key"))
        (home / "node.key").chmod(0o600)
        self.servers.cert_pem.write_to_path(str(home / "ca.pem"))
        self.clients.cert_pem.write_to_path(str(home / "clients.pem"))
        self.cluster = cluster_of(home, sections + TLS, size=1, scheme="https")
        self.cluster.verify = str(home / "ca.pem")

    def certificate(self, name: str, authority: trustme.CA | None = None) -> tuple[str, str]:
        """The files of a certificate and its key."""
        issued = (authority or self.clients).issue_cert(f"{name}.example", common_name=name)
        issued.cert_chain_pems[0].write_to_path(str(self.home / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(self.home / f"{name}.key"))
        return str(self.home / f"{name}.pem"), str(self.home / f"{name}.key")

    def etcdctl(self, *more: str, trusted: str = "ca.pem") -> Etcdctl:
        return Etcdctl(self.cluster.sites, self.home, f"--cacert={self.home / trusted}", *more, scheme="https")

    def connected(self, *offers: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.home / "ca.pem"))
        if offers:
            context.set_alpn_protocols(offers)
        plain = socket.create_connection(("127.0.0.1", self.cluster.http["n1"]), 10)
        return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module", params=["", "workers = 0\n"], ids=["a front-end of its own", "one process"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("cluster"), "")
    secured.cluster.config.write_text(secured.cluster.config.read_text() + request.param)
    with secured.cluster as cluster:
        cluster.start()
        cluster.wait_ready()
        yield secured


@pytest.fixture
def with_users(tmp_path: Path) -> Iterator[Secured]:
    secured = Secured(tmp_path, SECTION)
    with secured.cluster as cluster:
        cluster.start()
        cluster.wait_ready()
        yield secured


def heard(client: ssl.SSLSocket, data: bytes) -> bytes:
    """The first of what comes back."""
    with client:
        client.sendall(data)
        return client.recv(9)


def is_frame(data: bytes) -> bool:
    """Is it the head of SETTINGS, with which a server of HTTP/2 begins?"""
    return data[3:9] == bytes([frames.SETTINGS, 0, 0, 0, 0, 0])


OFFERS = [
    (("h2",), "h2"),
    (("grpc-exp", "h2"), "h2"),
    (("h2", "http/1.1"), "http/1.1"),
    (("http/1.1", "h2"), "http/1.1"),
    (("http/1.1",), "http/1.1"),
    (("spdy/3",), None),
    ((), None),
]


@pytest.mark.parametrize(("offers", "chosen"), OFFERS)
def test_who_knows_both_is_spoken_to_as_browsers_are(secured: Secured, offers: tuple[str, ...], chosen: str) -> None:
    with secured.connected(*offers) as client:
        assert client.selected_alpn_protocol() == chosen


@pytest.mark.parametrize(
    ("offers", "said", "is_expected"),
    [
        (("h2",), frames.PREFACE, is_frame),
        (("h2",), b"", is_frame),
        ((), frames.PREFACE, is_frame),
        (("http/1.1",), frames.PREFACE, lambda told: told == b"HTTP/1.1 "),
        (("http/1.1",), REQUEST, lambda told: told == b"HTTP/1.1 "),
        ((), REQUEST, lambda told: told == b"HTTP/1.1 "),
    ],
)
def test_what_was_agreed_on_is_spoken(
    secured: Secured, offers: tuple[str, ...], said: bytes, is_expected: Callable[[bytes], bool]
) -> None:
    assert is_expected(heard(secured.connected(*offers), said))


def test_who_agreed_on_http2_and_says_something_else_is_told_why(secured: Secured) -> None:
    with secured.connected("h2") as client:
        client.sendall(REQUEST)
        told = b""
        while piece := client.recv(4096):
            told += piece

    assert told.endswith(b"the connection does not begin as one of HTTP/2")


def test_etcdctl_trusts_an_authority_and_no_other(secured: Secured) -> None:
    assert secured.etcdctl()("put", "k", "v") == "OK\n"
    assert secured.cluster.get("n1", "k").content == b"v"
    assert secured.etcdctl().json("member", "list")["members"][0]["clientURLs"] == [secured.cluster.url("n1", "")]
    assert "unknown authority" in secured.etcdctl("--dial-timeout=1s", trusted="clients.pem")("get", "k", fails=True)


def test_a_channel_of_grpcio_goes_on_after_the_certificates_were_read_anew(secured: Secured) -> None:
    authority = grpc.ssl_channel_credentials((secured.home / "ca.pem").read_bytes())
    request = protobuf.encode(messages.PutRequest(key=b"g", value=b"1"))

    def put(channel: grpc.Channel) -> None:
        channel.unary_unary("/etcdserverpb.KV/Put")(request, timeout=20, wait_for_ready=True)

    cluster = secured.cluster
    with grpc.secure_channel(f"localhost:{cluster.http['n1']}", authority) as first:
        put(first)
        cluster.processes["n1"].send_signal(signal.SIGHUP)
        wait_until(lambda: "read_anew" in cluster.log("n1"), "the node to hear of it")
        put(first)
        with grpc.secure_channel(f"localhost:{cluster.http['n1']}", authority) as second:
            put(second)


def test_a_certificate_is_a_user(with_users: Secured) -> None:
    cluster = with_users.cluster
    role = {"permissions": [{"access": "both", "prefix": "alice/"}]}
    assert ask(cluster, "PUT", "n1", "/auth/roles/alice", json=role).status_code == 201
    assert ask(cluster, "PUT", "n1", "/auth/users/alice", json={"roles": ["alice"]}).status_code == 201

    def shown(name: str, authority: trustme.CA | None = None) -> Etcdctl:
        cert, key = with_users.certificate(name, authority)
        return with_users.etcdctl(f"--cert={cert}", f"--key={key}", "--dial-timeout=1s")

    alice = shown("alice")
    assert alice("put", "alice/k", "v") == "OK\n"
    assert alice("get", "alice/k") == "alice/k\nv\n"
    assert "permission denied" in alice("put", "k", "v", fails=True)
    assert "permission denied" in shown("mallory")("get", "alice/k", fails=True)
    assert "user name is empty" in with_users.etcdctl()("get", "alice/k", fails=True)
    assert with_users.etcdctl(f"--user={':'.join(ROOT)}")("get", "alice/k") == "alice/k\nv\n"
    with_others = shown("bob", trustme.CA())
    assert "connection" in with_others("get", "alice/k", fails=True)


def test_calls_are_counted_and_told_with_their_codes(tmp_path: Path) -> None:
    with running(tmp_path, 1, "[log]\naccess = true\n") as cluster:
        with grpc.insecure_channel(f"127.0.0.1:{cluster.http['n1']}") as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put")
            put(protobuf.encode(messages.PutRequest(key=b"hidden", value=b"1")), timeout=20)
            for method, code in (("KV/Put", "INVALID_ARGUMENT"), ("KV/Nowhere", "UNIMPLEMENTED")):
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(f"/etcdserverpb.{method}")(b"", timeout=20)
                assert refused.value.code() == grpc.StatusCode[code]
        told = cluster.request("GET", "n1", "/metrics").text
        wait_until(lambda: cluster.log("n1").count("method=gRPC") == 3, "a line of each")
        lines = [line for line in cluster.log("n1").splitlines() if "method=gRPC" in line]

    for method, code in (("/etcdserverpb.KV/Put", 0), ("/etcdserverpb.KV/Put", 3), ("(none)", 12)):
        assert f'raftkv_grpc_calls_total{{code="{code}",method="{method}"}} 1.0' in told
    assert "route=/etcdserverpb.KV/Put status=0" in lines[0]
    assert not any("hidden" in line for line in lines)


def test_where_nobody_speaks_http2_it_is_not_offered(tmp_path: Path) -> None:
    secured = Secured(tmp_path, "[etcd]\nenabled = false\n")
    with secured.cluster as cluster:
        cluster.start()
        cluster.wait_ready()
        with secured.connected("h2") as both, secured.connected("h2", "http/1.1") as one:
            assert (both.selected_alpn_protocol(), one.selected_alpn_protocol()) == (None, "http/1.1")
            both.sendall(REQUEST)
            assert both.recv(12) == b"HTTP/1.1 200"
