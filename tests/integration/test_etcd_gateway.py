"""The JSON gateway and real etcd, asked the same, request by request."""

from __future__ import annotations

from typing import Any

import pytest

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
