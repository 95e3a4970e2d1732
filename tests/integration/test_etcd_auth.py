"""The Auth service and real etcd, asked the same: users and roles, and what a user may while authentication is on."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from raftkv.core.rights import NOBODY as NO_CALLER
from raftkv.core.rights import Caller
from raftkv.etcd.gateway import WATCH, Gateway
from raftkv.http.handlers.handler import Conversation, begin
from raftkv.http.messages import BodyStream, HttpRequest
from tests.integration.etcd_oracle import Pair, Tokens, encoded, etcd
from tests.unit.guarded_node import GuardedNode

pytestmark = pytest.mark.integration

NOBODY: Tokens = ("", "")
ROOT_PASSWORD = "correct horse"
ALICE_PASSWORD = "in wonderland"
REVISIONS = ("revision", "authRevision", "create_revision", "mod_revision")
"""Users and roles are keys here, so that a change of them takes a revision."""


def comparable(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: comparable(value) for name, value in found.items() if name not in REVISIONS}
    return [comparable(one) for one in found] if isinstance(found, list | tuple) else found


def same(pair: Pair, path: str, body: Any, tokens: Tokens = NOBODY) -> Any:
    theirs, ours = pair.ask(f"/v3/{path}", body, tokens)
    assert comparable(ours) == comparable(theirs), (path, body)
    return ours


def refused(found: Any) -> tuple[int, str]:
    status, told = found
    return status, told.get("message", "")


def logged_in(pair: Pair, name: str, password: str) -> Tokens:
    answers = pair.ask("/v3/auth/authenticate", {"name": name, "password": password})
    assert [status for status, _ in answers] == [200, 200]
    theirs, ours = (told["token"] for _, told in answers)
    return theirs, ours


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Authentication is off, and there is nobody."""
    with tempfile.TemporaryDirectory() as directory, etcd(Path(directory) / "data") as url:
        yield Pair(url)


A_KEYS = {"permType": "READWRITE", "key": encoded("a/"), "range_end": encoded("a0")}
FOUNDED = [
    ("auth/user/add", {"name": "root", "password": ROOT_PASSWORD}),
    ("auth/role/add", {"name": "root"}),
    ("auth/user/grant", {"user": "root", "role": "root"}),
    ("auth/role/add", {"name": "app"}),
    ("auth/role/grant", {"name": "app", "perm": A_KEYS}),
    ("auth/role/add", {"name": "other"}),
    ("auth/user/add", {"name": "alice", "password": ALICE_PASSWORD}),
    ("auth/user/add", {"name": "carl", "options": {"no_password": True}}),
    ("auth/user/grant", {"user": "alice", "role": "app"}),
    ("kv/put", {"key": encoded("o"), "value": encoded("of others")}),
    ("lease/grant", {"TTL": 600, "ID": 6}),
    ("kv/put", {"key": encoded("o/leased"), "lease": 6}),
    ("lease/grant", {"TTL": 600, "ID": 7}),
    ("auth/enable", {}),
]


class Guarded:
    """Both, with authentication on: ``root``, and ``alice``, who may do everything to what begins with a/."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        for path, body in FOUNDED:
            assert same(pair, path, body)[0] == 200
        self.tokens = {
            "nobody": NOBODY,
            "bad": ("none", "none"),
            "root": logged_in(pair, "root", ROOT_PASSWORD),
            "alice": logged_in(pair, "alice", ALICE_PASSWORD),
        }

    def same(self, user: str, path: str, body: Any) -> Any:
        return same(self.pair, path, body, self.tokens[user])

    def ask(self, user: str, path: str, body: Any) -> tuple[Any, Any]:
        return self.pair.ask(f"/v3/{path}", body, self.tokens[user])


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with tempfile.TemporaryDirectory() as directory, etcd(Path(directory) / "data") as url:
        yield Guarded(Pair(url))


# -- while it is off --------------------------------------------------------------------------------------------------

OFF = [
    ("auth/status", {}, ""),
    ("auth/enable", {}, "etcdserver: root user does not exist"),
    ("auth/disable", {}, ""),
    ("auth/authenticate", {"name": "root", "password": "x"}, "etcdserver: authentication is not enabled"),
    ("auth/user/list", {}, ""),
    ("auth/user/add", {}, "etcdserver: user name is empty"),
    ("auth/user/add", {"name": "root", "password": ROOT_PASSWORD}, ""),
    ("auth/user/add", {"name": "root", "password": ROOT_PASSWORD}, "etcdserver: user name already exists"),
    ("auth/enable", {}, "etcdserver: root user does not have root role"),
    ("auth/user/add", {"name": "certified", "options": {"no_password": True}}, ""),
    ("auth/user/add", {"name": "brief", "password": ROOT_PASSWORD}, ""),
    ("auth/user/get", {"name": "root"}, ""),
    ("auth/user/get", {}, "etcdserver: user name not found"),
    ("auth/user/delete", {"name": "nobody"}, "etcdserver: user name not found"),
    ("auth/user/delete", {"name": "brief"}, ""),
    ("auth/user/list", {}, ""),
    ("auth/user/changepw", {"name": "nobody", "password": ROOT_PASSWORD}, "etcdserver: user name not found"),
    ("auth/user/changepw", {"name": "root", "password": ROOT_PASSWORD}, ""),
    ("auth/user/grant", {}, "etcdserver: user name not found"),
    ("auth/user/grant", {"user": "root", "role": "none"}, "etcdserver: role name not found"),
    ("auth/user/revoke", {"name": "nobody", "role": "r"}, "etcdserver: user name not found"),
    ("auth/user/revoke", {"name": "root", "role": "r"}, "etcdserver: role is not granted to the user"),
    ("auth/role/add", {}, "etcdserver: role name is empty"),
    ("auth/role/get", {"role": "r"}, "etcdserver: role name not found"),
    ("auth/role/delete", {"role": "r"}, "etcdserver: role name not found"),
    ("auth/role/grant", {}, "etcdserver: permission not given"),
    ("auth/role/grant", {"name": "r"}, "etcdserver: permission not given"),
    ("auth/role/grant", {"name": "r", "perm": {"key": encoded("a")}}, "etcdserver: role name not found"),
    ("auth/role/revoke", {"role": "r", "key": encoded("a")}, "etcdserver: role name not found"),
    ("auth/role/add", {"name": "root"}, ""),
    ("auth/role/add", {"name": "r"}, ""),
    ("auth/role/add", {"name": "r"}, "etcdserver: role name already exists"),
    ("auth/role/get", {"role": "root"}, ""),
    ("auth/role/revoke", {"role": "r", "key": encoded("a")}, "etcdserver: permission is not granted to the role"),
    ("auth/role/grant", {"name": "r", "perm": {"permType": "WRITE", "key": encoded("z")}}, ""),
    ("auth/role/grant", {"name": "r", "perm": A_KEYS}, ""),
    ("auth/role/grant", {"name": "r", "perm": {**A_KEYS, "permType": "READ"}}, ""),
    ("auth/role/grant", {"name": "r", "perm": {"key": encoded("m"), "range_end": encoded("\0")}}, ""),
    ("auth/role/grant", {"name": "r", "perm": {"permType": 2, "key": "AA==", "range_end": "AA=="}}, ""),
    ("auth/role/get", {"role": "r"}, ""),
    ("auth/role/revoke", {"role": "r", "key": encoded("a/")}, "etcdserver: permission is not granted to the role"),
    ("auth/role/revoke", {"role": "r", "key": encoded("a/"), "range_end": encoded("a0")}, ""),
    ("auth/role/revoke", {"role": "r", "key": "AA==", "range_end": "AA=="}, ""),
    ("auth/role/get", {"role": "r"}, ""),
    ("auth/user/grant", {"user": "root", "role": "root"}, ""),
    ("auth/user/grant", {"user": "root", "role": "root"}, ""),
    ("auth/role/list", {}, ""),
    ("auth/user/grant", {"user": "root", "role": "r"}, ""),
    ("auth/user/get", {"name": "root"}, ""),
    ("auth/role/delete", {"role": "r"}, ""),
    ("auth/user/get", {"name": "root"}, ""),
    ("auth/user/revoke", {"name": "root", "role": "root"}, ""),
    ("auth/user/get", {"name": "root"}, ""),
    ("auth/user/grant", {"user": "root", "role": "root"}, ""),
    ("auth/role/delete", {"role": "root"}, ""),
    ("auth/user/get", {"name": "root"}, ""),
    ("auth/role/list", {}, ""),
    ("auth/enable", {}, "etcdserver: root user does not have root role"),
]


def test_users_and_roles_are_changed_with_the_same_answers(pair: Pair) -> None:
    for path, body, message in OFF:
        found = same(pair, path, body)
        assert refused(found)[1] == message, (path, body)


TAKEN_BY_ETCD = [
    ("auth/user/add", {"name": "ann", "password": "short"}, "etcdserver: password: it has 5 characters"),
    ("auth/user/add", {"name": "bob"}, "etcdserver: password: it has 0 characters"),
    ("auth/user/add", {"name": "eve", "hashedPassword": encoded("x")}, "etcdserver: hashedPassword is not taken"),
    ("auth/user/add", {"name": "a:b", "password": ROOT_PASSWORD}, "etcdserver: name: has a colon"),
    ("auth/user/add", {"name": "a\nb", "password": ROOT_PASSWORD}, "etcdserver: name: must be 1 to 64"),
    ("auth/role/add", {"name": "n" * 65}, "etcdserver: name: must be 1 to 64"),
    ("auth/role/grant", {"name": "root", "perm": A_KEYS}, "etcdserver: invalid auth management"),
    ("auth/role/grant", {"name": "r", "perm": {}}, "etcdserver: invalid auth management"),
    (
        "auth/role/grant",
        {"name": "r", "perm": {"key": encoded("b"), "range_end": encoded("a")}},
        "etcdserver: invalid auth management",
    ),
    ("auth/role/grant", {"name": "r", "perm": {"permType": 5, "key": encoded("b")}}, "etcdserver: permType is"),
]


def test_what_only_etcd_takes_is_refused_in_a_sentence(pair: Pair) -> None:
    for name in ("root", "r"):
        same(pair, "auth/role/add", {"name": name})
    for path, body, message in TAKEN_BY_ETCD:
        theirs, ours = pair.ask(f"/v3/{path}", body)
        assert theirs[0] == 200, (path, body)
        assert (ours[0], refused(ours)[1][: len(message)]) == (400, message)


def test_the_role_root_may_be_made_any_number_of_times(guarded: Guarded) -> None:
    theirs, ours = guarded.ask("root", "auth/role/add", {"name": "root"})

    assert refused(theirs) == (400, "etcdserver: role name already exists")
    assert ours[0] == 200


# -- while it is on ---------------------------------------------------------------------------------------------------

ONE_KEY = {"key": encoded("a/k")}
OTHERS = {"key": encoded("o")}
WIDER = {"key": encoded("a"), "range_end": encoded("b")}
ALIKE: list[tuple[str, Any]] = [
    ("auth/enable", {}),
    ("auth/status", {}),
    ("auth/user/list", {}),
    ("auth/user/add", {}),
    ("auth/user/get", {"name": "alice"}),
    ("auth/user/get", {"name": "root"}),
    ("auth/user/get", {"name": "none"}),
    ("auth/user/delete", {"name": "root"}),
    ("auth/user/revoke", {"name": "root", "role": "root"}),
    ("auth/role/list", {}),
    ("auth/role/add", {}),
    ("auth/role/get", {"role": "app"}),
    ("auth/role/get", {"role": "other"}),
    ("auth/role/get", {"role": "none"}),
    ("auth/role/delete", {"role": "root"}),
    ("auth/role/grant", {}),
    ("auth/authenticate", {"name": "alice", "password": "not hers"}),
    ("auth/authenticate", {"name": "none", "password": "x"}),
    ("auth/authenticate", {}),
    ("kv/put", {**ONE_KEY, "value": encoded("v")}),
    ("kv/put", {**ONE_KEY, "value": encoded("v"), "prev_kv": True}),
    ("kv/put", OTHERS),
    ("kv/range", ONE_KEY),
    ("kv/range", OTHERS),
    ("kv/range", WIDER),
    ("kv/range", {"key": encoded("a/"), "range_end": encoded("a0")}),
    ("kv/range", {**OTHERS, "serializable": True}),
    ("kv/range", {**ONE_KEY, "revision": 1}),
    ("kv/range", {**WIDER, "revision": 1}),
    ("kv/deleterange", OTHERS),
    ("kv/deleterange", {"key": encoded("a/none")}),
    ("kv/deleterange", WIDER),
    ("kv/txn", {"success": [{"request_put": OTHERS}]}),
    ("kv/txn", {"failure": [{"request_range": OTHERS}]}),
    ("kv/txn", {"success": [{"request_range": ONE_KEY}], "failure": [{"request_delete_range": ONE_KEY}]}),
    ("kv/txn", {"compare": [{**OTHERS, "target": "VERSION", "version": 0}]}),
    ("kv/txn", {"compare": [{**ONE_KEY, "target": "VERSION", "version": 0}]}),
    ("kv/put", {**ONE_KEY, "lease": 6}),
    ("kv/put", {**ONE_KEY, "lease": 99}),
    ("cluster/member/remove", {"ID": 5}),
    ("cluster/member/promote", {"ID": 5}),
    ("kv/range", {"key": "a"}),
]


@pytest.mark.parametrize("user", ["nobody", "bad", "alice", "root"])
@pytest.mark.parametrize(("path", "body"), ALIKE)
def test_who_may_do_what_is_the_same(guarded: Guarded, user: str, path: str, body: Any) -> None:
    if user == "root" and ("lease" in body or body == OTHERS):
        pytest.skip("it would change what others find")
    guarded.same(user, path, body)


LEASED = [("lease/grant", {"TTL": 600, "ID": 6}), ("lease/revoke", {"ID": 6}), ("lease/revoke", {"ID": 99})]
LEASED += [("lease/keepalive", {"ID": 7}), ("lease/leases", {})]


@pytest.mark.parametrize(("path", "body"), LEASED)
def test_a_lease_is_everybodys_but_for_its_keys(guarded: Guarded, path: str, body: Any) -> None:
    guarded.same("alice", path, body)


LOCKED = [
    ("lock/lock", {"name": encoded("o"), "lease": 7}),
    ("lock/unlock", {"key": encoded("o/1")}),
    ("election/leader", {"name": encoded("o")}),
    ("election/leader", {"name": encoded("a/e")}),
]


@pytest.mark.parametrize(("path", "body"), LOCKED)
def test_a_lock_is_judged_by_its_keys(guarded: Guarded, path: str, body: Any) -> None:
    guarded.same("alice", path, body)


WITHOUT_A_TOKEN = [("lease/grant", {"TTL": 60}), ("lease/leases", {}), ("kv/txn", {}), ("maintenance/status", {})]


@pytest.mark.parametrize(("path", "body"), WITHOUT_A_TOKEN)
def test_who_is_nobody_may_do_nothing_here_that_etcd_lets_anybody_do(guarded: Guarded, path: str, body: Any) -> None:
    theirs, ours = guarded.ask("nobody", path, body)

    assert theirs[0] == 200
    assert refused(ours) == (400, "etcdserver: user name is empty")


def test_members_are_told_to_whoever_has_not_logged_in_yet(guarded: Guarded) -> None:
    theirs, ours = guarded.ask("nobody", "cluster/member/list", {})

    assert theirs[0] == ours[0] == 200
    assert ours[1]["members"]


def test_a_word_before_the_token_is_passed_over_here(guarded: Guarded) -> None:
    bearer: Tokens = tuple(f"Bearer {token}" for token in guarded.tokens["alice"])  # type: ignore[assignment]
    theirs, ours = guarded.pair.ask("/v3/kv/range", ONE_KEY, bearer)

    assert theirs[0] == 401
    assert ours[0] == 200


def test_a_user_without_a_password_does_not_log_in(guarded: Guarded) -> None:
    theirs, ours = guarded.ask("nobody", "auth/authenticate", {"name": "carl", "password": ""})

    assert theirs[0] == 500
    assert refused(ours) == (400, "etcdserver: authentication failed, invalid user ID or password")


def test_the_revision_of_rights_grows_with_each_change_and_with_nothing_else(guarded: Guarded) -> None:
    def revision() -> int:
        _, (status, told) = guarded.ask("root", "auth/status", {})
        assert (status, told["enabled"]) == (200, True)
        return int(told["authRevision"])

    revisions = [revision()]
    for path, body in [
        ("auth/user/add", {"name": "eve", "password": ALICE_PASSWORD}),
        ("auth/user/grant", {"user": "eve", "role": "app"}),
        ("auth/user/delete", {"name": "eve"}),
    ]:
        guarded.same("root", path, body)
        guarded.same("alice", "kv/put", ONE_KEY)
        revisions.append(revision())
    guarded.same("alice", "kv/put", ONE_KEY)

    assert revisions == sorted(set(revisions))
    assert revision() == revisions[-1]


def test_a_token_ends_with_its_password_and_its_user() -> None:
    with tempfile.TemporaryDirectory() as directory, etcd(Path(directory) / "data") as url:
        guarded = Guarded(Pair(url))
        new = {"name": "alice", "password": "down the hole"}
        guarded.same("root", "auth/user/changepw", new)
        assert guarded.same("alice", "kv/range", ONE_KEY)[0] == 401
        guarded.same("nobody", "auth/authenticate", {"name": "alice", "password": ALICE_PASSWORD})
        guarded.tokens["alice"] = logged_in(guarded.pair, **new)
        assert guarded.same("alice", "kv/range", ONE_KEY)[0] == 200
        guarded.same("root", "auth/user/revoke", {"name": "alice", "role": "app"})
        assert guarded.same("alice", "kv/range", ONE_KEY)[0] == 403
        guarded.same("root", "auth/user/delete", {"name": "alice"})
        assert guarded.same("alice", "kv/range", ONE_KEY)[0] == 401
        guarded.same("root", "auth/disable", {})
        for path, body in (("auth/status", {}), ("kv/range", OTHERS), ("auth/user/delete", {"name": "root"})):
            assert guarded.same("nobody", path, body)[0] == 200
        theirs, ours = guarded.ask("bad", "kv/range", OTHERS)
        assert (theirs[0], ours[0]) == (401, 200)  # here a token is not looked at where there are none


# -- watches ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watched(node: GuardedNode, user: str, create: Any) -> AsyncIterator[Any]:
    """What is told of a watch, line by line."""
    handler = next(route.handler for route in Gateway("3.5.1").routes if route.path == WATCH)
    generation = node.solo.machine.rights.users[user].generation
    headers = {b"authorization": node.callers.tokens.make(Caller(user, generation)).encode()}
    body = json.dumps({"create_request": create}).encode()
    request = HttpRequest(method="POST", path=WATCH.encode(), headers=headers, body=body)
    conversation = begin(handler, request, node.application._context)
    assert isinstance(conversation, Conversation)
    response = await node.application.conversations.carry(conversation, None, NO_CALLER)
    assert response.status == 200, response.body
    assert isinstance(response.body, BodyStream)
    async with aclosing(response.body.chunks) as chunks:

        async def told() -> Any:
            return json.loads(await asyncio.wait_for(anext(chunks), 5))["result"]

        yield told


def test_a_watch_of_other_keys_is_refused_in_the_same_words(guarded: Guarded) -> None:
    headers = {"authorization": guarded.tokens["alice"][0]}
    asked = {"create_request": OTHERS}
    with requests.post(guarded.pair.url + WATCH, json=asked, headers=headers, stream=True, timeout=10) as response:
        theirs = json.loads(next(response.iter_lines()))["result"]

    async def scenario() -> None:
        async with watched(GuardedNode(), "alice", OTHERS) as told:
            ours = await told()

        assert {**ours, "header": None, "watch_id": None} == {**theirs, "header": None, "watch_id": None}
        assert ours["watch_id"] == "-1"  # as etcd has it since 3.5.9

    asyncio.run(scenario())


@pytest.mark.parametrize("user", ["alice", "root"])
def test_a_watch_of_keys_that_one_may_read_tells_of_them(user: str) -> None:
    async def scenario() -> None:
        node = GuardedNode()
        async with watched(node, user, {**ONE_KEY, "start_revision": "1"}) as told:
            assert (await told())["created"]
            await node.by("root").ask("PUT", "/kv/a%2Fk", b"v")
            assert (await told())["events"][0]["kv"]["key"] == encoded("a/k")

    asyncio.run(scenario())


def test_a_watch_ends_with_the_right_to_it() -> None:
    async def scenario() -> None:
        node = GuardedNode()
        async with watched(node, "alice", ONE_KEY) as told:
            assert (await told())["created"]
            waiting = asyncio.ensure_future(told())
            await asyncio.sleep(0)
            assert (await node.by("root").ask("DELETE", "/auth/users/alice/roles/app")).status == 200
            assert (await node.ask("PUT", "/kv/a%2Fk", b"hidden")).status == 201
            end = await waiting
        assert (end["canceled"], "events" in end) == (True, False)
        assert end["cancel_reason"] == "rpc error: code = PermissionDenied desc = etcdserver: permission denied"

    asyncio.run(scenario())
