"""Which key a request is about, and in which order nodes are asked for it."""

import msgspec
import pytest

from raftkv.http.messages import HttpRequest
from raftkv.proxy.routing import is_read, is_stream, key_of
from raftkv.proxy.view import order, read_view
from raftkv.quorum.membership.ring import Ring, position


def request(method, target, body=b""):
    path, _, query = target.partition("?")
    return HttpRequest(method=method, path=path.encode(), query=query.encode(), headers={}, body=body)


def told(members, **more):
    return msgspec.json.encode({"members": members, "leader": None, **more})


def member(node, **more):
    port = int(node[1:])
    return {
        "id": node,
        "http": f"127.0.0.1:{port}",
        "peer": "127.0.0.1:1",
        "reachable": True,
        "share": 0.1,
        "state": "up",
        **more,
    }


def ring_view(*nodes, changed=()):
    members = [member(node, **dict(changed).get(node, {})) for node in nodes]
    return read_view(told(members, ring=Ring(dict.fromkeys(nodes, ""), 100).digest, vnodes=100, n=2))


def ids(nodes):
    return [node.id for node in nodes]


@pytest.mark.parametrize(
    ("method", "target", "body", "key"),
    [
        ("GET", "/kv/a", b"", b"a"),
        ("PUT", "/kv/a%2Fb/c", b"v", b"a/b/c"),
        ("GET", "/kv/%FF", b"", b"\xff"),
        ("GET", "/get?key=a+b%20c", b"", b"a b c"),
        ("GET", "/get?r=1&key=a", b"", b"a"),
        ("GET", "/local_read?key=a", b"", b"a"),
        ("DELETE", "/delete?key=a", b"", b"a"),
        ("GET", "/get/a/b", b"", b"a/b"),
        ("GET", "/get/key=a", b"", b"a"),
        ("POST", "/set/a%2Fb/v/w", b"", b"a/b"),
        ("POST", "/set", b'{"key":"a","value":"v"}', b"a"),
        ("PUT", "/put", b'{"value":{"base64":""},"key":"a"}', b"a"),
        ("GET", "/kv?prefix=a", b"", None),
        ("GET", "/get", b"", None),
        ("POST", "/set", b"{", None),
        ("POST", "/set", b"\xff", None),
        ("POST", "/set", b'{"key":1}', None),
        ("POST", "/set", b'{"key":"\\ud800"}', None),
        ("POST", "/batch", b'{"key":"a"}', None),
        ("GET", "/status", b"", None),
    ],
)
def test_the_key_of_a_request(method, target, body, key):
    assert key_of(request(method, target, body)) == key


@pytest.mark.parametrize(("method", "reads"), [("GET", True), ("HEAD", True), ("PUT", False), ("POST", False)])
def test_what_only_reads(method, reads):
    assert is_read(request(method, "/kv/a")) is reads


def test_a_form_that_asks_for_a_backup_only_reads():
    assert is_read(request("POST", "/backup", b"token=x"))
    assert not is_read(request("POST", "/restore"))


@pytest.mark.parametrize(
    ("method", "target", "streams"),
    [
        ("GET", "/watch?prefix=a", True),
        ("GET", "/elections/a/observe", True),
        ("GET", "/elections/a%2Fb/observe?progress_s=1", True),
        ("HEAD", "/elections/a/observe", False),
        ("GET", "/elections/a", False),
        ("GET", "/kv/elections/observe", False),
        ("GET", "/status", False),
        ("GET", "/backup", True),
        ("POST", "/backup", True),
        ("HEAD", "/backup", False),
        ("POST", "/restore", False),
    ],
)
def test_what_may_have_no_end(method, target, streams):
    assert is_stream(request(method, target)) is streams


@pytest.mark.parametrize("key", [b"a", b"b", b"c", b"d", b"e"])
@pytest.mark.parametrize("reads", [True, False])
def test_with_a_ring_the_primaries_of_a_key_come_first_and_everybody_in_the_end(key, reads):
    nodes = ("n1", "n2", "n3", "n4", "n5")
    view = ring_view(*nodes)
    primaries = Ring(dict.fromkeys(nodes, ""), 100).preference(position(key), 2)

    for turn in range(5):
        found = ids(order(view, key, is_read=reads, turn=turn, avoided=()))
        assert found[:5] == list(primaries)[:5]
        assert sorted(found) == list(nodes)


def test_the_ring_is_the_one_that_the_nodes_have():
    view = ring_view("n1", "n2", "n3")

    assert view.is_agreed
    assert not read_view(told([member("n1")], ring="0000", vnodes=100, n=1)).is_agreed
    coming = read_view(told([member("n1")], ring=f"{Ring({'n1': ''}, 100).digest}+0000", vnodes=100, n=1))
    assert coming.is_agreed


def test_who_is_not_in_yet_or_has_left_is_not_there_at_all():
    changed = {"n3": {"share": 0.0, "state": "joining"}, "n4": {"share": 0.0, "state": "left"}}
    view = ring_view("n1", "n2", "n3", "n4", changed=changed)

    assert view.ring is not None
    assert list(view.ring.nodes) == ["n1", "n2"]
    assert ids(view.nodes) == ["n1", "n2"]


@pytest.mark.parametrize("state", ["suspect", "down"])
def test_who_is_away_or_failed_lately_comes_last(state):
    changed = {"n1": {"state": state}}
    view = ring_view("n1", "n2", "n3", changed=changed)

    for number in range(20):
        found = ids(order(view, b"%d" % number, is_read=False, turn=0, avoided={"n2"}))
        assert found[0] == "n3"


def test_with_a_leader_writes_go_to_it_and_reads_to_all_in_turn():
    members = [
        {"id": node, "http": f"127.0.0.1:{node[1:]}", "peer": "127.0.0.1:1", "reachable": True}
        for node in ("n1", "n2", "n3")
    ]
    view = read_view(msgspec.json.encode({"members": members, "leader": "n2"}))
    reads = {ids(order(view, b"a", is_read=True, turn=turn, avoided=()))[0] for turn in range(3)}
    writes = {ids(order(view, b"a", is_read=False, turn=turn, avoided=()))[0] for turn in range(3)}

    assert reads == {"n1", "n2", "n3"}
    assert writes == {"n2"}
    assert ids(order(view, b"a", is_read=False, turn=0, avoided={"n2"}))[-1] == "n2"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"members":[]}', told([member("n1") | {"http": "nowhere"}]), b'{"members":[{"id":"n1"}]}'],
)
def test_what_is_no_view_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        read_view(body)
