"""Why a server cannot be reached: each reason in its own words, and at once where waiting cannot help."""

import contextlib
import errno
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from raftkv import Client, DefiniteError, IndefiniteError
from raftkv.cli import main
from raftkv.client.reach import Host, unopened
from raftkv.client.servers import REFUSED_ROUNDS_MAX
from tests.unit.fake_server import CUT, FakeServer, Told, problem, unused_url


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_server(authority):
    """Speaks https for 127.0.0.1."""
    with FakeServer(Told(200, b"v")) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        server._server.handle_error = lambda *_: None
        server.url = server.url.replace("http:", "https:")
        yield server


@pytest.fixture
def peer_port():
    """Takes connections and closes them at the first bytes that are none of a node's, as the port of peers does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        connection.recv(4)
                        connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join()


@pytest.fixture
def failure(client):
    def failure(kind, *servers, call="get", **choices):
        """What is raised, and that it came long before the deadline."""
        begun_s = time.monotonic()
        with client(*servers, timeout_s=30.0, **choices) as store, pytest.raises(kind) as failed:
            store.get("k") if call == "get" else store.set("k", b"v")
        assert time.monotonic() - begun_s < 15
        return failed.value.detail

    return failure


@pytest.fixture
def trusted(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_a_certificate_that_is_not_trusted_is_named_at_once_with_what_to_do(failure, tls_server):
    assert "not trusted" in failure(DefiniteError, tls_server.url)
    assert "--cacert FILE" in failure(DefiniteError, tls_server.url, call="set")


def test_who_is_trusted_comes_from_the_argument_or_the_environment(client, tls_server, trusted, monkeypatch):
    with client(tls_server.url, tls_ca=trusted) as store:
        assert store.get("k") == b"v"
    monkeypatch.setenv("RAFTKV_CACERT", trusted)
    with client(tls_server.url) as store:
        assert store.get("k") == b"v"


def test_the_command_line_trusts_what_the_configuration_names(tls_server, trusted, tmp_path, capfdbinary):
    address = tls_server.url.removeprefix("https://")
    config = tmp_path / "cluster.toml"
    node = f'[[node]]\nid = "n1"\nhttp = "{address}"\npeer = "127.0.0.1:9"\n'
    config.write_text(f'[http]\ntls_cert = "c.pem"\ntls_key = "k.pem"\ntls_ca = "ca.pem"\n{node}')

    assert main.run(["get", "k", "--config", str(config)]) == 0
    assert capfdbinary.readouterr().out == b"v\n"


def test_a_certificate_of_another_host_is_told_apart(failure, authority, trusted, tls_server):
    url = tls_server.url.replace("127.0.0.1", "localhost")

    assert "certificate of another host" in failure(DefiniteError, url, tls_ca=trusted)


@pytest.mark.parametrize(("code", "said"), [(9, "is not valid yet"), (10, "has expired")])
def test_a_certificate_out_of_its_time_is_no_matter_of_trust(code, said):
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code, error.verify_message = code, "certificate has expired"
    failed = unopened(error, Host("h", 1, is_tls=True), in_handshake=True)

    assert f"shows a certificate that {said}, if the clock here is right" in str(failed)
    assert failed.is_final


def test_a_certificate_that_has_expired_is_told_so(failure, authority, trusted, tls_server):
    late = datetime.now(UTC) - timedelta(days=1)
    issued = authority.issue_cert("127.0.0.1", not_after=late)
    issued.configure_cert(tls_server._server.socket.context)

    assert "has expired" in failure(DefiniteError, tls_server.url, tls_ca=trusted)


@pytest.mark.parametrize("call", ["get", "set"])
def test_plain_http_to_a_port_that_speaks_tls_is_named_at_once(failure, tls_server, call):
    detail = failure(DefiniteError, tls_server.url.replace("https:", "http:"), call=call)

    assert "speaks TLS: https://" in detail


@pytest.mark.parametrize("call", ["get", "set"])
def test_https_to_a_port_that_speaks_none_is_named_at_once(failure, serve, call):
    detail = failure(DefiniteError, serve(Told(200, b"v")).url.replace("http:", "https:"), call=call)

    assert "does not speak TLS: http://" in detail


def test_the_port_of_peers_is_recognised(failure, peer_port):
    assert "nodes use among themselves" in failure(DefiniteError, peer_port)
    assert "nodes use among themselves" in failure(IndefiniteError, peer_port, call="set")


def test_a_host_that_does_not_exist_is_told_from_one_that_refuses(failure, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    assert "there is no host 'nosuch'" in failure(DefiniteError, "http://nosuch:1")


def test_when_no_server_can_be_reached_each_is_named_with_its_reason(client, tls_server):
    refusing, other = unused_url(), unused_url()
    with client(refusing, tls_server.url, other, timeout_s=2.0) as store, pytest.raises(DefiniteError) as failed:
        store.get("k")
    detail = failed.value.detail

    assert detail.startswith("none of 3 servers can be reached: ")
    assert f"{refusing}, {other} each refuses connections: nothing listens there" in detail
    assert f"{tls_server.url} shows a certificate that is not trusted" in detail


class Clock:
    """The time that a client waits by: it passes while the client waits, and as it really does."""

    def __init__(self):
        self.waited = []
        self.then = {}

    def monotonic(self):
        return time.monotonic() + sum(self.waited)

    def sleep(self, wait_s):
        self.waited.append(wait_s)
        self.then.get(len(self.waited), lambda: None)()

    async def asleep(self, wait_s):
        self.sleep(wait_s)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("raftkv.client.exchange.time", clock)
    monkeypatch.setattr("raftkv.client.async_exchange.time", clock)
    monkeypatch.setattr("asyncio.sleep", clock.asleep)
    return clock


@pytest.mark.parametrize("call", ["get", "set"])
def test_where_nothing_listens_at_any_server_a_call_ends_after_a_few_quick_rounds(failure, clock, call):
    servers = [unused_url() for _ in range(3)]
    detail = failure(DefiniteError, *servers, call=call)

    assert detail == (
        f"none of 3 servers can be reached: {', '.join(servers)} each refuses connections: nothing listens there"
    )
    assert len(clock.waited) == REFUSED_ROUNDS_MAX - 1
    assert sum(clock.waited) < 2.0


def test_a_cluster_that_is_about_to_start_is_waited_for_where_asked(clock, serve, monkeypatch):
    server, connect = serve(Told(200, b"v")), socket.create_connection
    later = {2 * REFUSED_ROUNDS_MAX: lambda: monkeypatch.setattr(socket, "create_connection", started)}

    def started(_, limit_s):
        return connect(server._server.server_address, limit_s)

    clock.then = later
    with Client(unused_url(), timeout_s=30.0, await_start=True) as store:
        assert store.get("k") == b"v"
    assert len(clock.waited) == 2 * REFUSED_ROUNDS_MAX


def test_the_command_line_waits_for_a_cluster_only_when_told_to(clock, capfdbinary):
    assert main.run(["set", "k", "v", "--server", unused_url()]) == 3
    assert b"nothing listens there" in capfdbinary.readouterr().err
    assert len(clock.waited) == REFUSED_ROUNDS_MAX - 1

    clock.waited.clear()
    assert main.run(["--wait", "set", "k", "v", "--server", unused_url(), "--timeout", "30s"]) == 3
    assert b"nothing listens there" in capfdbinary.readouterr().err
    assert sum(clock.waited) > 25


def test_a_write_in_doubt_is_tried_until_the_deadline_though_nothing_listens_now(clock, serve, monkeypatch):
    def refuse(*_):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    clock.then = {1: lambda: monkeypatch.setattr(socket, "create_connection", refuse)}
    with Client(serve(Told(200, b"v"), CUT).url, timeout_s=30.0) as store:
        assert store.get("k") == b"v"
        with pytest.raises(IndefiniteError):
            store.set("k", b"v")
    assert sum(clock.waited) > 25


def test_a_server_that_was_only_cut_off_is_asked_again(client, serve):
    server = serve("cut", Told(200, b"v"))

    assert client(server.url, timeout_s=5.0).get("k") == b"v"


def test_an_unknown_route_is_an_error_and_never_a_missing_key(client, serve):
    unknown = problem(404, "unknown_route", "no")
    with client(serve(unknown).url) as store:
        for call in (store.get, store.get_record, store.delete):
            with pytest.raises(DefiniteError) as failed:
                call("k")
            assert failed.value.code == "unknown_route"


@pytest.mark.parametrize("timeout_s", [float("inf"), float("nan"), 1e-9, 0, -1, "5"])
def test_a_timeout_that_makes_no_sense_is_refused_when_the_client_is_made(client, timeout_s):
    with pytest.raises(ValueError, match="timeout_s"):
        client(timeout_s=timeout_s)


def test_what_a_caller_gives_is_refused_in_the_clients_own_words(client, serve):
    with client(serve(Told(200, b"v")).url) as store:
        with pytest.raises(TypeError, match="a key must be str or bytes, not int"):
            store.get(7)
        with pytest.raises(ValueError, match="acks: 'most'"):
            store.set("k", b"v", acks="most")
        with pytest.raises(ValueError, match="ttl"):
            store.set("k", b"v", ttl=-1)
        with pytest.raises(ValueError, match="Raftkv-Context"):
            store.set("k", b"v", context="seen\r\nIf-Match: *")


def test_more_acknowledgements_than_replicas_are_refused_by_the_clients_word_for_them(client, serve):
    answer = problem(400, "bad_request", "no")
    server = serve(answer._replace(body=answer.body.replace(b"it is bad_request", b"w: '9' is none of 1 to 3")))
    with client(server.url) as store, pytest.raises(DefiniteError, match=r"acks: '9'"):
        store.set("k", b"v", acks=9)
