"""What each route asks of whoever asks it, while authentication is on."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.api import paths
from raftkv.http.door import passwords
from raftkv.http.needs import Needs
from raftkv.http.routes import PAGES, ROUTES
from tests.unit.guarded_node import ANONYMOUS, GuardedNode, filled
from tests.unit.http_node import is_problem

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> GuardedNode:
    monkeypatch.setattr(passwords, "FAILURE_S", 0.01)
    return GuardedNode()


EVERY_ROUTE = [(route.method, filled(route.path), route) for route in ROUTES]


def test_what_anybody_may_ask_is_the_documented_list(node: GuardedNode) -> None:
    open_routes = {route.path for route in ROUTES if route.handler.needs is Needs.NOTHING}

    assert open_routes | set(PAGES) == ANONYMOUS
    assert {path.encode() for path in ANONYMOUS} == node.application._anonymous_paths


@pytest.mark.parametrize(("method", "target", "route"), EVERY_ROUTE)
def test_every_other_route_needs_a_user(walked: GuardedNode, method: str, target: str, route: Any) -> None:
    walked.solo.submitted.clear()
    answer = walked.by(None)(method, target, b"{}")

    if route.path in ANONYMOUS:
        assert answer.status != 401
        return
    assert is_problem(answer, 401, "unauthenticated", "this needs a user")
    assert walked.solo.submitted == []


@pytest.mark.parametrize("authorization", ["Basic !", "Bearer x.y.z", "Digest x", "Raftkv 1 2", "Basic " + "A" * 8000])
@pytest.mark.parametrize(("method", "target", "route"), EVERY_ROUTE)
def test_what_says_nothing_good_lets_nobody_in(
    walked: GuardedNode, method: str, target: str, route: Any, authorization: str
) -> None:
    walked.solo.submitted.clear()
    answer = walked.by(None)(method, target, b"{}", authorization=authorization)

    assert answer.status != 500
    if route.path not in ANONYMOUS:
        assert answer.status == 401
        assert walked.solo.submitted == []


BODIES: dict[tuple[str, str], Any] = {
    ("POST", paths.BATCH): {"operations": [{"op": "put", "key": "other", "value": "v"}]},
    ("POST", paths.TRANSACTION): {"success": [{"op": "put", "key": "other", "value": "v"}]},
    ("POST", paths.SET): {"key": "other", "value": "v"},
    ("POST", paths.PUT): {"key": "other", "value": "v"},
    ("PUT", paths.PUT): {"key": "other", "value": "v"},
    ("POST", paths.TOUCH): {"ttl": 5},
    ("POST", paths.LOCK): {"ttl": 5},
    ("POST", paths.CAMPAIGN): {"ttl": 5},
    ("POST", paths.PROCLAIM): {"token": 1, "value": "v"},
    ("POST", paths.RESIGN): {"token": 1},
    ("POST", paths.COMPACT): {"revision": 1},
    ("POST", paths.CONFIG): {"r": 1},
    ("POST", paths.MEMBERS): {"id": "n4", "http": "127.0.0.1:8004", "peer": "127.0.0.1:9004"},
    ("PUT", paths.USER): {"password": "long enough"},
    ("POST", paths.USER_SETS): {"password": "long enough"},
    ("PUT", paths.ROLE): {},
    ("POST", paths.ROLE_PERMISSIONS): {"access": "read", "prefix": ""},
}

QUERIES = {
    ("GET", paths.GET): "?key=other",
    ("GET", paths.LOCAL_READ): "?key=other",
    ("DELETE", paths.DELETE): "?key=other",
    ("DELETE", paths.KEYS): "?prefix=other",
    ("DELETE", paths.LOCK): "?token=1",
    ("DELETE", paths.ROLE_PERMISSIONS): "?access=read&prefix=",
}

OF_EVERY_USER = {
    ("GET", paths.STATUS),
    ("GET", paths.MEMBERS),
    ("GET", paths.CONFIG),
    ("GET", paths.AUTH),
    ("GET", paths.LEASES),
    ("GET", paths.LEASE),
    ("DELETE", paths.LEASE),
    ("POST", paths.LEASES),
    ("POST", paths.KEEPALIVE),
    ("POST", paths.KEEPALIVES),
}
"""What lies in no keys. A lease is judged by its keys, and this one does not exist."""

OF_A_RING = {("GET", paths.RING), ("GET", paths.RING_KEY)}
"""What there is not where there is a leader; ``tests/simulation/test_quorum_rights.py`` asks where there is none."""


# What every user may look at without an end is not waited for here: ``tests/integration/test_live.py`` looks.
@pytest.mark.parametrize(("method", "target", "route"), [one for one in EVERY_ROUTE if one[1] != paths.LIVE])
def test_whoever_has_no_right_to_it_is_refused(walked: GuardedNode, method: str, target: str, route: Any) -> None:
    which = method, route.path
    before = walked.solo.machine.revision

    answer = walked.by("alice")(method, target + QUERIES.get(which, ""), BODIES.get(which, b""))

    if route.path in ANONYMOUS or which in OF_EVERY_USER:
        assert answer.status not in (401, 403)
    elif not route.answers or which in OF_A_RING:
        assert answer.status in (400, 403)
    else:
        assert is_problem(answer, 403, "forbidden"), answer.body
        assert walked.solo.machine.revision == before


@pytest.mark.parametrize(("method", "target", "route"), EVERY_ROUTE)
def test_root_is_refused_nothing(node: GuardedNode, method: str, target: str, route: Any) -> None:
    which = method, route.path
    if route.endless:
        return  # test_a_watch_ends tries that
    answer = node.by("root")(method, target + QUERIES.get(which, ""), BODIES.get(which, b""))

    assert answer.status not in (401, 403), answer.body


def test_the_description_says_what_each_route_needs(walked: GuardedNode) -> None:
    document = walked.by(None)("GET", "/openapi.json").json

    assert {} in document["security"]
    assert {name for one in document["security"] for name in one} == set(document["components"]["securitySchemes"])
    anonymous = {
        path for path, methods in document["paths"].items() for told in methods.values() if told.get("security") == []
    }
    assert anonymous == ANONYMOUS
    assert "role root" in document["paths"]["/compact"]["post"]["description"]
