"""The JSON gateway and real etcd, asked the same, request by request."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.keys import LOCK_KEYS
from tests.integration.etcd_oracle import Pair, encoded, etcd
from tests.integration.etcd_programs import key, span

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with etcd(tmp_path_factory.mktemp("etcd") / "data") as url:
        yield Pair(url)


SINGLE = [
    ("kv/range", b""),
    ("kv/range", b"{"),
    ("kv/range", b"[]"),
    ("kv/put", {"value": encoded("v")}),
    ("kv/put", {"key": "abc"}),
    ("kv/put", {"key": "a*bc"}),
    ("kv/put", {"key": 5}),
    ("kv/put", {**key("s/none"), "ignore_value": True}),
    ("kv/put", {**key("s/none"), "ignore_lease": True, "value": encoded("v")}),
    ("kv/put", {**key("s/none"), "ignore_value": True, "value": encoded("v")}),
    ("kv/put", {**key("s/none"), "ignore_lease": True, "lease": 3}),
    ("kv/put", {**key("s/none"), "lease": "77"}),
    ("kv/deleterange", {}),
    ("kv/txn", {}),
    ("kv/txn", {"success": [{}]}),
    ("kv/txn", {"compare": [{}]}),
    ("kv/txn", {"success": [{"request_put": {}}]}),
    ("kv/txn", {"success": [{"request_put": key("s/a")}, {"request_put": key("s/a")}]}),
    ("kv/txn", {"success": [{"request_put": key("s/a")}, {"request_delete_range": span("s/", "s0")}]}),
    ("kv/txn", {"success": [{"request_range": key("s/a")}] * 129}),
    ("kv/compaction", {"revision": 1 << 40}),
    ("lease/grant", {"TTL": "9000000001"}),
    ("lease/grant", {"TTL": 0, "ID": 51}),
    ("lease/grant", {"TTL": 60, "ID": 51}),
    ("lease/keepalive", {"ID": 99}),
    ("lease/timetolive", {"ID": 99}),
    ("lease/revoke", {"ID": 99}),
    ("kv/lease/revoke", {"ID": 51}),
    ("election/leader", {"name": encoded("s/e")}),
    ("election/proclaim", {}),
    ("election/resign", {}),
    ("lock/lock", {"name": encoded("s/l"), "lease": 99}),
    ("lock/unlock", {}),
    ("nowhere", {}),
]


OWN = LOCK_KEYS + b"deploy\0"
"""Of the clusters' own keys, which etcd has none of."""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("kv/range", key(OWN)),
        ("kv/range", span(b"\xff\xff", "\0")),
        ("kv/range", span(b"\xff\xffa", b"\xff\xffz")),
        ("kv/deleterange", {**key(OWN), "prev_kv": True}),
        ("kv/deleterange", span(b"\xff\xff", "\0")),
        (
            "kv/txn",
            {
                "compare": [{**key(OWN), "target": "CREATE", "result": "GREATER"}],
                "success": [{"request_range": key(OWN)}],
            },
        ),
        ("kv/txn", {"compare": [{**key(OWN), "target": "CREATE"}], "success": [{"request_delete_range": key(OWN)}]}),
        ("election/leader", {"name": encoded(b"\xff\xfflock")}),
    ],
)
def test_the_clusters_own_keys_are_not_there(pair: Pair, path: str, body: Any) -> None:
    pair.hold(OWN)

    pair.same(f"/v3/{path}", body)
    assert pair.holds(OWN)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("kv/put", key(OWN)),
        ("kv/txn", {"failure": [{"request_put": key(OWN)}]}),
        ("lock/lock", {"name": encoded(b"\xff\xffl"), "lease": 99}),
        ("lock/unlock", key(OWN)),
        ("election/resign", {"leader": {**key(OWN), "name": encoded("e")}}),
        ("election/proclaim", {"leader": {**key(OWN), "name": encoded("e")}}),
    ],
)
def test_a_key_of_the_clusters_own_is_refused_where_it_would_be_written(pair: Pair, path: str, body: Any) -> None:
    pair.hold(OWN)
    status, said = pair.ours(f"/v3/{path}", body)

    assert (status, said["code"]) == ((400, 3) if path.startswith("kv") else (500, 2))
    assert "ff ff" in said["message"]
    assert pair.holds(OWN)


@pytest.mark.parametrize(("path", "body"), SINGLE)
def test_one_request_has_the_same_answer(pair: Pair, path: str, body: Any) -> None:
    pair.same(f"/v3/{path}", body)


def test_a_lock_is_the_key_of_its_lease(pair: Pair) -> None:
    for number in (7, 10):
        pair.same("/v3/lease/grant", {"TTL": 600, "ID": number})
    held = pair.same("/v3/lock/lock", {"name": encoded("l"), "lease": 10})
    assert held["key"] == encoded("l/a")
    pair.same("/v3/lock/lock", {"name": encoded("l"), "lease": 10})
    pair.same("/v3/lock/unlock", held)
    pair.same("/v3/lock/unlock", held)
    pair.same("/v3/kv/range", span("l/", "l0"))


def test_an_election_is_won_proclaimed_and_resigned_alike(pair: Pair) -> None:
    pair.same("/v3/lease/grant", {"TTL": 600, "ID": 11})
    won = pair.same("/v3/election/campaign", {"name": encoded("e"), "lease": 11, "value": encoded("v")})
    pair.same("/v3/election/campaign", {"name": encoded("e"), "lease": 11, "value": encoded("w")})
    pair.same("/v3/election/leader", {"name": encoded("e")})
    pair.same("/v3/election/proclaim", {"leader": won["leader"], "value": encoded("x")})
    pair.same("/v3/election/proclaim", {"leader": {**won["leader"], "rev": "1"}, "value": encoded("y")})
    pair.same("/v3/election/resign", {"leader": won["leader"]})
    pair.same("/v3/election/resign", {"leader": won["leader"]})
    pair.same("/v3/election/leader", {"name": encoded("e")})


# -- what is no message, or almost none -------------------------------------------------------------------------------

NUMBERS = ["limit", "revision", "min_mod_revision", "maxCreateRevision"]
BYTES = ["range_end", "rangeEnd"]
NAMES = [*NUMBERS, *BYTES, "sort_order", "sortOrder", "serializable", "keysOnly", "unheard_of", "RANGE_END"]
MADE = [None, True, False, 0, 1, -1, 1.5, 1e30, 2**63 - 1, 2**63, -(2**63), 2**64, {}, {"a": 1}, "\u00e9"]
SPELLED = ["", "1", "-1", "1.0", "1e3", " 1 ", "0x1", "+1", "01", "--1", str(2**63 - 1), str(2**63), str(-(2**63))]
ENCODED = ["YQ==", "YQ", "YQ=", "Y Q==", "YQ==\n", "YQ=\n=", "a*bc", "_-__", "ASCEND", "ascend", "KEY"]
TEXTS = [
    *[
        b"null",
        b"true",
        b"1",
        b'"a"',
        b"[]",
        b"{",
        b"}",
        b"",
        b" \n",
        b'{"key"}',
        b'{"key":}',
        b'{"key":"YQ=="',
        b"{,}",
    ],
    *[b'{"key":"YQ==",}', b'{"key" "YQ=="}', b"{key:1}", b"{'key':1}", b'{"key":tru}', b'{"key":01}', b'{"key":-}'],
    *[b'{"key":"\\x"}', b'{"key":"a\nb"}', b'{"key":NaN}', b"\0", b"\xef\xbb\xbf{}", b'{"a":[1,]}', b'{"a":1 "b":2}'],
    *[b"{,}", b'{"key":"YQ==","key":"Yg=="}', b'  {"key":"YQ=="}\n', b'{"a":%b}' % (b"[" * 90 + b"]" * 90), b"[" * 200],
    *[b'{"a":%b}' % (b"[" * 20_000 + b"]" * 20_000), b'{"compare":' * 200],
]


def _code(said: Any) -> Any:
    """What a client goes by: of what is no JSON, or no value of its field, etcd and we speak in words of our own."""
    status, told = said
    is_ours = isinstance(told, dict) and told.get("message", "").startswith("etcdserver:")
    return (status, told["code"]) if status == 400 and not is_ours else said


@pytest.mark.parametrize("name", NAMES)
def test_any_value_of_a_field_is_taken_or_refused_alike(pair: Pair, name: str) -> None:
    for value in (*MADE, *SPELLED, *ENCODED):
        if name in ("sort_order", "sortOrder") and value == -1:
            continue  # etcd takes numbers that no order has
        theirs, ours = pair.ask("/v3/kv/range", {**key("hostile"), name: value})
        assert _code(ours) == _code(theirs), (name, value)


def test_what_is_no_json_is_refused_alike(pair: Pair) -> None:
    for text in TEXTS:
        theirs, ours = pair.ask("/v3/kv/range", text)
        assert _code(ours) == _code(theirs), text


@pytest.mark.parametrize("depth", [1, 7, 8])
def test_transactions_stand_in_each_other(pair: Pair, depth: int) -> None:
    body: Any = {}
    for _ in range(depth):
        body = {"success": [{"request_txn": body}]}
    theirs, ours = pair.ask("/v3/kv/txn", body)
    if depth < 8:  # eight of them at most here
        assert ours == theirs
    else:
        assert (ours[0], ours[1]["message"]) == (400, "etcdserver: too many operations in txn request")


@pytest.mark.parametrize("path", ["hash", "hashkv"])
def test_a_store_without_keys_has_a_hash_that_is_not_zero(path: str) -> None:
    status, told = Pair("").ours(f"/v3/maintenance/{path}", {})

    assert status == 200
    assert told.get("hash")
