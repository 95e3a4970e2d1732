"""Leases by number, of both clients: what a server is asked, and what becomes of its answers."""

import msgspec
import pytest

from raftkv import DefiniteError, IndefiniteError, LeaseInfo
from raftkv.client import lease_plans
from tests.unit.fake_server import CUT, json, problem

GRANTED = json({"id": 7, "ttl": 60.0}, status=201)
GONE = problem(404, "lease_not_found", "no")


def shown(number, **more):
    return {"id": number, "ttl": 60.0, "left": 41.5, "key_count": 1, **more}


def asked(server):
    return [(one.method, one.target.partition("?")[0], one.body) for one in server.asked]


def test_a_lease_is_granted_once_however_often_it_is_sent(client, serve):
    server = serve(CUT, GRANTED)

    assert client(server).leases.grant(60, number=7) == 7
    assert asked(server) == [("POST", "/leases", b'{"ttl":60,"id":7}')] * 2
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), True])
def test_a_life_that_makes_no_sense_is_not_asked_for(client, serve, ttl):
    server = serve(GRANTED)

    with pytest.raises(ValueError, match="ttl"):
        client(server).leases.grant(ttl)
    assert server.asked == []


def test_leases_are_kept_alive_together_and_those_that_are_gone_are_told(client, serve, monkeypatch):
    monkeypatch.setattr(lease_plans, "KEPT_AT_ONCE", 2)
    server = serve(CUT, json({"kept": [{"id": 1, "ttl": 9.0}], "missing": [2]}), json({"kept": [], "missing": [3]}))
    store = client(server)

    assert store.leases.keep_alive([1, LeaseInfo(id=2, ttl=9.0, left=1.0, key_count=0), 3]) == (2, 3)
    assert [msgspec.json.decode(body) for _, _, body in asked(server)] == [{"ids": [1, 2]}] * 2 + [{"ids": [3]}]
    assert {one.target.partition("?")[0] for one in server.asked} == {"/leases/keepalive"}
    assert store.leases.keep_alive([]) == ()
    assert len(server.asked) == 3


def test_a_lease_is_found_with_what_goes_with_it_or_not_at_all(client, serve):
    server = serve(json(shown(7, keys=["k"], locks=["job"], elections=[])), GONE)
    store = client(server)

    assert store.leases.find(7) == LeaseInfo(id=7, ttl=60.0, left=41.5, key_count=1, keys=("k",), locks=("job",))
    assert store.leases.find(7) is None
    assert {one[:2] for one in asked(server)} == {("GET", "/leases/7")}


def test_all_leases_are_listed_page_by_page(client, serve):
    pages = [{"leases": [shown(1), shown(5)], "next": 6, "revision": 9}, {"leases": [shown(8)], "next": None}]
    server = serve(json(pages[0]), json({**pages[1], "revision": 9}))

    assert [one.id for one in client(server).leases.list()] == [1, 5, 8]
    assert ["start_lease=6" in one.target for one in server.asked] == [False, True]


def test_a_lease_is_revoked_once(client, serve):
    store = client(serve(json({"deleted": 3, "revision": 9}), GONE))

    assert store.leases.revoke(7) == 3
    with pytest.raises(DefiniteError) as failed:
        store.leases.revoke(7)
    assert failed.value.code == "lease_not_found"


def test_an_answer_of_somebody_else_leaves_what_was_asked_in_doubt(client, serve):
    store = client(serve(json({"hello": "world"})))

    with pytest.raises(IndefiniteError):
        store.leases.grant(5)
    with pytest.raises(DefiniteError) as failed:
        store.leases.find(5)
    assert failed.value.code == "bad_answer"
