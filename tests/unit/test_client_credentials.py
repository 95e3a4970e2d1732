"""Who a client asks as: it logs in when a server wants to know, once, again before a token ends, and nowhere else."""

import os
import pickle

import msgspec
import pytest
import trustme

from raftkv import Forbidden, IndefiniteError, Unauthenticated
from raftkv.client.credentials import RENEWED_AT, Credentials
from raftkv.client.reach import Host, trusting
from raftkv.client.steps import AskWhole, Wait
from raftkv.core.errors import DefiniteError, UsageError
from tests.unit.fake_server import CUT, Dripping, Told, heard, json, problem

PASSWORD = "correct horse battery"
VALUE = Told(200, b"v")
WHO = problem(401, "unauthenticated", "no")


def given(token, expires_in=900.0):
    return json({"token": token, "user": "alice", "expires_in": expires_in})


def shown(server):
    return [(one.method, one.target.partition("?")[0], one.headers.get("authorization")) for one in server.asked]


GET = ("GET", "/kv/k")
LOGIN = ("POST", "/auth/login", None)


def test_a_cluster_that_asks_nobody_never_sees_who_it_is(client, serve):
    server = serve(VALUE)
    client(server, auth=("alice", PASSWORD)).get("k")

    assert shown(server) == [(*GET, None)]


def test_it_logs_in_when_it_is_asked_and_shows_the_token_from_then_on(client, serve):
    server = serve(WHO, given("one"), VALUE)
    store = client(server, auth=("alice", PASSWORD))
    for _ in range(3):
        assert store.get("k") == b"v"

    assert shown(server) == [(*GET, None), LOGIN] + 3 * [(*GET, "Bearer one")]
    assert msgspec.json.decode(server.asked[1].body) == {"user": "alice", "password": PASSWORD}


def test_a_token_is_shown_from_the_start_and_its_refusal_is_told(client, serve):
    server = serve(VALUE, WHO)
    store = client(server, auth="one")
    assert store.get("k") == b"v"
    with pytest.raises(Unauthenticated) as failed:
        store.get("k")

    assert shown(server) == 2 * [(*GET, "Bearer one")]
    assert failed.value.code == "unauthenticated"


def test_a_token_that_is_refused_is_replaced_once(client, serve):
    server = serve(WHO, given("one"), VALUE, WHO, given("two"), WHO)
    store = client(server, auth=("alice", PASSWORD))
    assert store.get("k") == b"v"
    with pytest.raises(Unauthenticated):
        store.set("k", b"w")

    assert [who for *_, who in shown(server)] == [None, None, "Bearer one", "Bearer one", None, "Bearer two"]


def test_a_wrong_password_is_told_and_not_tried_again(client, serve):
    server = serve(WHO, problem(401, "unauthenticated", "no", detail="the password is another"))
    with pytest.raises(Unauthenticated, match="the password is another"):
        client(server, auth=("alice", PASSWORD)).set("k", b"v")

    assert len(server.asked) == 2


def test_what_may_not_be_done_is_told_by_its_type(client, serve):
    with pytest.raises(Forbidden) as failed:
        client(serve(problem(403, "forbidden", "no")), auth="one").set("k", b"v")

    assert isinstance(failed.value, DefiniteError)


def test_a_write_in_doubt_stays_so_though_its_repeat_is_forbidden(client, serve):
    with pytest.raises(IndefiniteError):
        client(serve(CUT, VALUE), serve(problem(403, "forbidden", "no")), auth="one").set("k", b"v")


def test_a_login_that_no_server_answers_leaves_the_write_undone(client, serve):
    with pytest.raises(DefiniteError, match="closed the connection"):
        client(serve(WHO, CUT), auth=("alice", PASSWORD), retry=False).set("k", b"v")


def test_streams_ask_as_somebody_too(client, serve):
    status = {"node": "n1", "mode": "raft", "role": "leader", "leader": "n1", "ready": True, "version": "1"}
    counts = dict.fromkeys(("term", "commit_index", "applied_index", "revision"), 1)
    line = msgspec.json.encode({**status, **counts, "peers": []})
    stream = Dripping([line + b"\n"], headers={"Content-Type": "application/x-ndjson"})
    server = serve(WHO, given("one"), stream)
    first = next(iter(client(server, auth=("alice", PASSWORD)).follow()))

    assert first["node"] == "n1"
    assert [who for *_, who in shown(server)] == [None, None, "Bearer one"]


def test_a_stream_that_ends_as_forbidden_says_so(client, serve):
    end = b'event: end\ndata: {"code":"forbidden","detail":"no more","applied":"no"}\n\n'
    server = serve(Dripping([end], headers={"Content-Type": "text/event-stream", "Raftkv-Revision": "1"}))
    with pytest.raises(Forbidden, match="no more"):
        next(iter(client(server, auth="one").watch("k")))


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_a_token_is_replaced_shortly_before_it_ends_and_kept_when_that_fails(client, serve, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("raftkv.client.exchange.time.monotonic", clock)
    monkeypatch.setattr("raftkv.client.async_exchange.time.monotonic", clock)
    server = serve(WHO, given("one", 100.0), VALUE, WHO, VALUE, given("two", 100.0), VALUE)
    store = client(server, auth=("alice", PASSWORD))
    store.get("k")
    clock.now_s = 100.0 * RENEWED_AT + 1
    store.get("k")
    assert shown(server)[3:] == [LOGIN, (*GET, "Bearer one")]
    clock.now_s += 6
    store.get("k")

    assert shown(server)[5:] == [LOGIN, (*GET, "Bearer two")]


def test_calls_that_are_asked_at_the_same_time_log_in_once():
    credentials, clock, host = Credentials(user="alice", password=PASSWORD), Clock(), Host("h", 1)
    first, second = (credentials.renew(host, "", 5.0, clock) for _ in range(2))
    assert isinstance(next(first), AskWhole)
    for _ in range(3):
        assert isinstance(next(second), Wait)
    with pytest.raises(StopIteration) as ended:
        first.send(heard(200, given("one").body))
    assert ended.value.value is None
    with pytest.raises(StopIteration):
        next(second)

    assert credentials.token == "one"


def test_who_waits_for_the_login_of_another_that_is_given_up_logs_in_itself():
    credentials, clock, host = Credentials(user="alice", password=PASSWORD), Clock(), Host("h", 1)
    first, second = (credentials.renew(host, "", 5.0, clock) for _ in range(2))
    next(first)
    assert isinstance(next(second), Wait)
    first.close()

    assert isinstance(next(second), AskWhole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_login_under_way_in_the_parent_is_not_waited_for_in_a_child(monkeypatch):
    credentials, clock = Credentials(user="alice", password=PASSWORD), Clock()
    under_way = credentials.renew(Host("h", 1), "", 5.0, clock)
    next(under_way)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    plan = credentials.renew(Host("h", 1), "", 5.0, clock)

    assert next(plan).method == "POST"


def test_what_was_given_stands_in_no_text(client, serve, monkeypatch):
    store = client(serve(WHO, WHO), auth=("alice", PASSWORD))
    with pytest.raises(Unauthenticated) as failed:
        store.get("k")
    credentials = Credentials(user="alice", password=PASSWORD, token="tok3n")

    for text in (repr(store), str(failed.value), repr(failed.value), repr(credentials), str(credentials)):
        assert PASSWORD not in text
        assert "tok3n" not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(credentials)
    with pytest.raises(UsageError) as refused:
        Credentials(token="tok3n\r\nX: y")
    assert "tok3n" not in str(refused.value)
    with pytest.raises(UsageError) as refused:
        client("http://alice:s3cret@127.0.0.1:1")
    assert "auth=(name, password)" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("wrong", ["", ("alice",), ("alice", ""), ("", "x"), ("a", "b", "c"), ("alice", None), b"x", 7])
def test_what_cannot_be_credentials_is_refused_when_the_client_is_made(client, wrong):
    with pytest.raises(UsageError, match="auth"):
        client("http://127.0.0.1:1", auth=wrong)


def test_the_environment_says_who_asks_unless_the_caller_does(client, serve, monkeypatch):
    monkeypatch.setenv("RAFTKV_TOKEN", "one")
    server = serve(VALUE)
    client(server).get("k")
    client(server, auth="two").get("k")
    monkeypatch.delenv("RAFTKV_TOKEN")
    monkeypatch.setenv("RAFTKV_USER", "alice")
    with pytest.raises(UsageError, match="RAFTKV_PASSWORD"):
        client(server)
    monkeypatch.setenv("RAFTKV_PASSWORD", PASSWORD)
    client(serve(WHO, given("three"), VALUE)).get("k")

    assert [who for *_, who in shown(server)] == ["Bearer one", "Bearer two"]


def test_a_redirect_is_not_followed_and_so_nothing_is_shown_elsewhere(client, serve):
    elsewhere = serve(VALUE)
    server = serve(Told(307, b"", {"Location": f"{elsewhere.url}/kv/k"}))
    with pytest.raises(DefiniteError):
        client(server, auth="one", retry=False).get("k")

    assert elsewhere.asked == []


def test_a_certificate_is_read_when_the_client_is_made_and_what_is_none_is_named(client, tmp_path):
    issued = trustme.CA().issue_cert("alice")
    cert, key = tmp_path / "alice.pem", tmp_path / "alice.key"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)

    assert trusting(None, (str(cert), str(key))) is not None
    for wrong in ((str(cert), str(cert)), str(tmp_path / "none.pem")):
        with pytest.raises(UsageError, match="no certificate with its key"):
            client("https://127.0.0.1:1", cert=wrong)
