"""The JSON gateway and real etcd, asked the same: requests one by one, and random programs of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.integration.etcd_oracle import Pair, encoded, etcd

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with etcd(tmp_path_factory.mktemp("etcd") / "data") as url:
        yield Pair(url)


def key(text: str) -> dict[str, str]:
    return {"key": encoded(text)}


def span(first: str, end: str) -> dict[str, str]:
    return {"key": encoded(first), "range_end": encoded(end)}


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


# -- random programs --------------------------------------------------------------------------------------------------

KEYS = some.sampled_from(["a", "a/1", "a/2", "b", "b/", "c"])
ENDS = some.sampled_from(["", "a0", "b", "b0", "z", "\0"])
LEASES = some.sampled_from([0, 0, 7, 21, 22])
FLAG = some.booleans()
NUMBER = some.integers(-1, 12)


@some.composite
def ranges(draw: Any) -> dict[str, Any]:
    asked = {**span(draw(KEYS), draw(ENDS)), "serializable": draw(FLAG), "revision": draw(some.just(0) | NUMBER)}
    asked |= {"limit": draw(some.integers(-1, 3)), "keys_only": draw(FLAG), "count_only": draw(FLAG)}
    asked["sort_order"] = draw(some.sampled_from(["NONE", "ASCEND", "DESCEND", 1]))
    bound = draw(some.sampled_from(["", "min_mod_revision", "max_mod_revision", "min_create_revision"]))
    if bound:
        asked[bound] = draw(NUMBER)
    return asked


@some.composite
def puts(draw: Any) -> dict[str, Any]:
    asked = {**key(draw(KEYS)), "value": encoded(draw(some.sampled_from(["", "1", "2"]))), "prev_kv": draw(FLAG)}
    asked |= {"lease": draw(LEASES)}
    if draw(some.integers(0, 4)) == 0:
        # etcd looks for the lease first alone and for the key first in a transaction: not both are missing here.
        asked |= {"ignore_value": True, "value": "", "lease": 0}
    if draw(some.integers(0, 4)) == 0:
        asked |= {"ignore_lease": True, "lease": 0}
    return asked


@some.composite
def deletions(draw: Any) -> dict[str, Any]:
    return {**span(draw(KEYS), draw(ENDS)), "prev_kv": draw(FLAG)}


@some.composite
def comparisons(draw: Any) -> dict[str, Any]:
    target, field = draw(
        some.sampled_from(
            [
                ("VERSION", "version"),
                ("CREATE", "create_revision"),
                ("MOD", "mod_revision"),
                ("VALUE", "value"),
                ("LEASE", "lease"),
            ]
        )
    )
    asked = span(draw(KEYS), draw(some.just("") | ENDS))
    operand = encoded(draw(some.sampled_from(["", "1", "2"]))) if field == "value" else draw(NUMBER)
    result = draw(some.sampled_from(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]))
    return {**asked, "target": target, "result": result, field: operand}


def operations(depth: int) -> Any:
    kinds = [
        ranges().map(lambda one: {"request_range": one}),
        puts().map(lambda one: {"request_put": one}),
        deletions().map(lambda one: {"request_delete_range": one}),
    ]
    if depth:
        kinds.append(transactions(depth - 1).map(lambda one: {"request_txn": one}))
    return some.one_of(kinds)


def transactions(depth: int = 1) -> Any:
    return some.fixed_dictionaries(
        {
            "compare": some.lists(comparisons(), max_size=2),
            "success": some.lists(operations(depth), max_size=3),
            "failure": some.lists(operations(depth), max_size=2),
        }
    )


REQUESTS = some.one_of(
    ranges().map(lambda body: ("/v3/kv/range", body)),
    puts().map(lambda body: ("/v3/kv/put", body)),
    deletions().map(lambda body: ("/v3/kv/deleterange", body)),
    transactions().map(lambda body: ("/v3/kv/txn", body)),
    LEASES.map(lambda lease: ("/v3/lease/grant", {"TTL": 600, "ID": lease or 23})),
    LEASES.map(lambda lease: ("/v3/lease/revoke", {"ID": lease})),
    # To forget nothing (0, 1) is a change to etcd, which refuses it the second time, and none here.
    some.integers(2, 30).map(lambda revision: ("/v3/kv/compaction", {"revision": revision})),
)


EXAMPLES = int(os.environ.get("RAFTKV_ETCD_EXAMPLES", "12"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=some.lists(REQUESTS, min_size=10, max_size=40))
def test_random_programs_have_the_same_answers(program: Any) -> None:
    """Each from the very beginning of both."""
    with tempfile.TemporaryDirectory() as directory, etcd(Path(directory) / "data") as url:
        pair = Pair(url)
        for path, body in program:
            pair.same(path, body)
