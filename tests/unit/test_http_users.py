"""Users, roles, who asks and what streams tell him, while authentication is on: over the ASGI application."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from raftkv.core.proof import Prover
from raftkv.core.requests import Put, Write
from raftkv.core.rights import CLUSTER, NOBODY, Caller
from raftkv.formats.rights import encode_user, user_key
from raftkv.http.door import passwords
from raftkv.http.handlers import following, watching
from raftkv.http.handlers.handler import Conversation, begin
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse
from raftkv.http.routes import ROUTES
from tests.unit.guarded_node import ALICE_PASSWORD, ROOT_PASSWORD, GuardedNode, basic, filled
from tests.unit.http_node import Node, is_problem

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> GuardedNode:
    monkeypatch.setattr(passwords, "FAILURE_S", 0.01)
    return GuardedNode()


# -- who asks


def test_a_password_a_token_and_a_certificate_say_who_asks(node: GuardedNode) -> None:
    by_password = node("GET", "/auth", authorization=basic("alice", ALICE_PASSWORD))
    assert by_password.json == {"enabled": True, "user": "alice", "roles": ["app"]}

    told = node("POST", "/auth/login", {"user": "alice", "password": ALICE_PASSWORD})
    assert (told.status, told.json["user"], told.json["expires_in"]) == (200, "alice", 60.0)
    assert told.headers["cache-control"] == "no-store"
    assert node("GET", "/auth", authorization=f"bearer  {told.json['token']}").json["user"] == "alice"

    node.certificate = "alice"
    assert node("GET", "/auth").json["user"] == "alice"
    assert node("GET", "/auth", authorization=basic("root", ROOT_PASSWORD)).json["user"] == "root"
    node.certificate = "mallory"
    assert is_problem(node("GET", "/auth"), 401, "unauthenticated", "certificate is 'mallory'")


@pytest.mark.parametrize(
    ("name", "password"), [("alice", "wrong"), ("alice", ""), ("mallory", ALICE_PASSWORD), ("", ""), ("\0cluster", "")]
)
def test_a_wrong_password_is_no_other_than_an_unknown_user(node: GuardedNode, name: str, password: str) -> None:
    for answer in (
        node("GET", "/kv/a%2Fk", authorization=basic(name, password)),
        node("POST", "/auth/login", {"user": name, "password": password}),
    ):
        assert is_problem(answer, 401, "unauthenticated", "there is no such user, or the password is another")
        assert "www-authenticate" in answer.headers


def test_two_of_them_are_none(node: GuardedNode) -> None:
    right = basic("root", ROOT_PASSWORD)
    for shown in (f"{right}, {right}", f"Bearer x, {right}", f"{right} {right}", f"{right}\x00", right.encode().hex()):
        assert node("GET", "/kv/k", authorization=shown).status == 401


def test_a_token_is_worth_nothing_once_the_password_is_another_or_the_user_made_anew(node: GuardedNode) -> None:
    node.by("alice")
    assert node("GET", "/kv/a%2Fk").status == 404
    old = node.shown
    node.by("root")("POST", "/auth/users/alice/password", {"password": "another one"})
    node.shown = old
    assert is_problem(node("GET", "/kv/a%2Fk"), 401, "unauthenticated", "has another password since; log in again")

    node.by("alice")
    old = node.shown
    node.by("root")("DELETE", "/auth/users/alice")
    node.by("root")("PUT", "/auth/users/alice", {"password": "another one", "roles": ["root"]})
    node.shown = old
    assert node("GET", "/kv/a%2Fk").status == 401


def test_an_expired_token_and_a_strange_one_are_told_apart(node: GuardedNode) -> None:
    node.callers.tokens.ttl_ms = -1
    answer = node.by("root")("GET", "/kv/k")
    assert is_problem(answer, 401, "unauthenticated", "it has expired; log in again")
    assert is_problem(
        node("GET", "/kv/k", authorization="Bearer x"), 401, "unauthenticated", "no token of this cluster"
    )


def test_the_proof_of_the_secret_is_as_good_as_root_and_nothing_like_it_is(node: GuardedNode) -> None:
    def proof(key: bytes, method: str, target: str) -> str:
        return Prover(key, "test", wall_ms=lambda: 0).authorization(method, target, b"")

    good = proof(b"key", "GET", "/auth/users")
    assert node("GET", "/auth/users", authorization=good).status == 200
    assert is_problem(node("GET", "/auth/users", authorization=good), 401, "unauthenticated", "used before")
    assert is_problem(node("GET", "/auth/roles", authorization=proof(b"key", "GET", "/auth/users")), 403, "forbidden")
    assert is_problem(node("GET", "/kv/k", authorization=proof(b"other", "GET", "/kv/k")), 403, "forbidden")
    assert node("GET", "/kv/k", authorization=proof(b"key", "GET", "/kv/k")).status == 404
    assert is_problem(node("GET", "/kv/k", authorization="Raftkv"), 401, "unauthenticated")
    assert is_problem(node("POST", "/cluster/members", authorization="Raftkv open"), 401, "unauthenticated", "no proof")


def test_without_authentication_nobody_is_asked_and_users_are_the_operators_affair() -> None:
    node = Node()
    assert node("PUT", "/kv/k", b"v", authorization="Basic !").status == 201
    assert node.solo.submitted[-1].caller is None
    assert node("GET", "/auth").json == {"enabled": False, "user": None, "roles": []}
    assert is_problem(node("POST", "/auth/login", {"user": "a", "password": "b"}), 400, "not_supported", "is off")
    node.client = "10.0.0.1"
    for route in ROUTES:
        if route.path.startswith("/auth") and route.path not in ("/auth", "/auth/login"):
            assert is_problem(node(route.method, filled(route.path), b"{}"), 401, "unauthenticated", "cluster's secret")


def test_requests_carry_who_asks_and_reads_of_nobody_say_so(node: GuardedNode) -> None:
    node.by("alice")("PUT", "/kv/a%2Fk", b"v")
    assert node.solo.submitted[-1].caller.user == "alice"
    node("GET", "/kv/a%2Fk")
    assert node.solo.submitted[-1].caller.user == "alice"
    node("POST", "/locks/a%2Fk", {"ttl": 5})
    assert {one.caller.user for one in node.solo.submitted} == {"alice"}

    plain = Node()
    plain("GET", "/kv/k")
    assert plain.solo.submitted[-1].caller == NOBODY
    plain("GET", "/locks/k")
    assert plain.solo.submitted[-1].caller == NOBODY


def test_a_node_that_has_read_nothing_yet_or_whose_file_demands_more_serves_nobody(node: GuardedNode) -> None:
    node.solo.machine._judge.rights, before = None, node.solo.machine.rights  # type: ignore[assignment]
    node.known.current = None
    assert is_problem(node.by(None)("GET", "/kv/k"), 503, "no_leader", "has not read yet who may ask it")
    assert node("GET", "/livez").status == 200
    node.solo.machine._judge.rights = before

    plain = Node()
    plain.callers.is_demanded = True
    for method, target in (("GET", "/kv/k"), ("PUT", "/kv/k"), ("GET", "/status"), ("POST", "/auth/enable")):
        assert is_problem(plain(method, target), 503, "no_leader", "there is no root user yet: nobody has made")
    assert is_problem(plain("GET", "/readyz"), 503, "no_leader", "authentication is on, but there is no root user yet")
    assert is_problem(
        plain("POST", "/auth/login", {"user": "a", "password": "b"}), 503, "no_leader", "no root user yet"
    )
    assert plain.solo.submitted == []


# -- users and roles


def test_rights_are_in_force_at_once_and_gone_at_once(node: GuardedNode) -> None:
    assert node.may("alice", "PUT", "/kv/b", b"v") == 403
    grant = {"access": "read", "key": "b"}
    assert node.by("root")("POST", "/auth/roles/app/permissions", grant).json["permissions"][1] == grant
    assert node.may("alice", "GET", "/kv/b") == 404
    assert node.may("alice", "PUT", "/kv/b", b"v") == 403
    assert node.may("alice", "GET", "/kv/bb") == 403
    assert node.may("root", "DELETE", "/auth/roles/app/permissions?access=read&key=b") == 200
    assert node.may("alice", "GET", "/kv/b") == 403
    assert node.may("root", "DELETE", "/auth/roles/app/permissions?access=read&key=b") == 404

    assert node.may("root", "DELETE", "/auth/users/alice/roles/app") == 200
    assert node.may("alice", "GET", "/kv/a%2Fk") == 403
    assert node.may("root", "PUT", "/auth/users/alice/roles/app") == 200
    assert node.may("alice", "GET", "/kv/a%2Fk") == 404
    assert node.may("root", "DELETE", "/auth/roles/app") == 200
    assert node.may("alice", "GET", "/kv/a%2Fk") == 403
    node.by("root")("PUT", "/auth/roles/app", {"permissions": [{"access": "both", "prefix": ""}]})
    assert node.may("alice", "GET", "/kv/a%2Fk") == 403  # who had the role has none of that name now


def test_permissions_are_told_as_they_were_said(node: GuardedNode) -> None:
    said = [
        {"access": "read", "key": "k"},
        {"access": "write", "prefix": "p/"},
        {"access": "both", "start": "s", "end": "t/"},
        {"access": "read", "start": "u"},
        {"access": "write", "prefix": ""},
    ]
    node.by("root")("PUT", "/auth/roles/many", {"permissions": said})

    assert node("GET", "/auth/roles/many").json == {"name": "many", "permissions": said}
    assert [role["name"] for role in node("GET", "/auth/roles").json["roles"]] == ["app", "many"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"access": "read"}, "it takes one of key, prefix"),
        ({"access": "read", "key": "a", "prefix": "b"}, "it takes one of key, prefix"),
        ({"access": "all", "key": "a"}, "access"),
        ({"access": "read", "key": ""}, "must not be empty"),
        ({"access": "read", "prefix": "a", "end": "b"}, "only start takes it"),
        ({"access": "read", "start": "b", "end": "b"}, "it must come after start"),
        ({"access": "read", "prefix": "a" * 65}, "more than the limit of 64"),
    ],
)
def test_a_permission_that_means_nothing_is_refused(node: GuardedNode, body: Any, reason: str) -> None:
    answer = node.by("root")("POST", "/auth/roles/app/permissions", json.dumps(body).encode())

    assert answer.json["status"] in (400, 414)
    assert reason in answer.json["detail"]


def test_a_user_changes_its_own_password_with_the_old_one_and_nobody_elses(node: GuardedNode) -> None:
    where, new = "/auth/users/alice/password", "down the hole"
    node.by("alice")
    assert is_problem(node("POST", where, {"password": new}), 403, "forbidden", "old: it is not the password")
    assert is_problem(node("POST", where, {"password": new, "old": "wrong"}), 403, "forbidden", "old:")
    assert is_problem(
        node("POST", "/auth/users/root/password", {"password": new, "old": ROOT_PASSWORD}), 403, "forbidden"
    )
    assert is_problem(
        node("POST", where, {"password": "short", "old": ALICE_PASSWORD}), 400, "bad_request", "8 at least"
    )
    assert node("POST", where, {"password": new, "old": ALICE_PASSWORD}).json == {"name": "alice", "roles": ["app"]}
    assert node("GET", "/kv/a%2Fk").status == 401
    assert node.by("alice")("GET", "/kv/a%2Fk").status == 404
    node.shown = None
    assert node("POST", "/auth/login", {"user": "alice", "password": new}).status == 200
    assert node("POST", "/auth/login", {"user": "alice", "password": ALICE_PASSWORD}).status == 401


def test_a_user_sees_itself_and_its_roles_and_no_others(node: GuardedNode) -> None:
    assert node.may("alice", "GET", "/auth/users/alice") == 200
    assert node.may("alice", "GET", "/auth/roles/app") == 200
    assert node.may("alice", "GET", "/auth/users/root") == 403
    assert node.may("alice", "GET", "/auth/users/nobody") == 403
    assert node.may("root", "GET", "/auth/users/nobody") == 404


def test_the_last_root_stays(node: GuardedNode) -> None:
    for method, target, body in (
        ("DELETE", "/auth/users/root", b""),
        ("DELETE", "/auth/users/root/roles/root", b""),
        ("PUT", "/auth/users/root", {"roles": []}),
    ):
        assert is_problem(
            node.by("root")(method, target, body), 403, "forbidden", "root is the last user with the role"
        )
    assert node.may("root", "PUT", "/auth/users/alice/roles/root") == 200
    assert node.may("root", "DELETE", "/auth/users/root/roles/root") == 200
    assert node.may("alice", "PUT", "/kv/anything", b"v") == 201
    assert node.may("root", "GET", "/auth/users") == 403
    assert node.may("alice", "DELETE", "/auth/users/alice") == 403
    assert node.may("alice", "DELETE", "/auth/users/root") == 200
    for method in ("PUT", "DELETE", "GET"):
        answer = node.by("alice")(method, "/auth/roles/root", {} if method == "PUT" else b"")
        assert is_problem(answer, 403, "forbidden", "built in")


def test_authentication_is_not_turned_on_without_a_root_nor_off_against_the_file(node: GuardedNode) -> None:
    plain = Node()
    plain("PUT", "/auth/users/bob", {"password": "long enough"})
    assert is_problem(plain("POST", "/auth/enable"), 403, "forbidden", "there is no user with the role root")

    node.callers.is_demanded = True
    assert is_problem(node.by("root")("POST", "/auth/disable"), 403, "forbidden", "this node's configuration says")
    node.callers.is_demanded = False
    assert node.may("alice", "POST", "/auth/disable") == 403
    assert node.may("root", "POST", "/auth/disable") == 200
    assert node.by(None)("PUT", "/kv/k", b"v").status == 201


@pytest.mark.parametrize(
    ("method", "target", "body", "refusal"),
    [
        ("PUT", "/auth/users/a:b", {}, (400, "has a colon")),
        ("PUT", "/auth/users/a%00b", {}, (400, "1 to 64 characters")),
        ("PUT", "/auth/users/" + "x" * 65, {}, (400, "1 to 64 characters")),
        ("PUT", "/auth/users/%ff", {}, (400, "not valid UTF-8")),
        ("PUT", "/auth/users/x", {"roles": ["none"]}, (404, "there is no role 'none'")),
        ("PUT", "/auth/users/x", {"password": "aaaaaaaaaa"}, (400, "only one character")),
        ("PUT", "/auth/users/x/roles/app", b"", (404, "there is no user 'x'")),
        ("PUT", "/auth/users/alice/roles/none", b"", (404, "there is no role 'none'")),
        ("DELETE", "/auth/users/alice/roles/root", b"", (404, "alice does not have the role 'root'")),
        ("DELETE", "/auth/users/x", b"", (404, "there is no user 'x'")),
        ("POST", "/auth/users/x/password", {"password": "long enough"}, (404, "there is no user 'x'")),
        ("POST", "/auth/roles/x/permissions", {"access": "read", "key": "k"}, (404, "there is no role 'x'")),
        ("DELETE", "/auth/roles/x", b"", (404, "there is no role 'x'")),
        ("DELETE", "/auth/roles/app/permissions", b"", (400, "access: missing")),
        ("DELETE", "/auth/roles/app/permissions?access=x", b"", (400, "none of read, write, both")),
        ("POST", "/auth/users/alice", b"", (405, "not allowed")),
        ("GET", "/auth/users/alice/roles", b"", (404, "no such resource")),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    node: GuardedNode, method: str, target: str, body: Any, refusal: tuple[int, str]
) -> None:
    answer = node.by("root")(method, target, body)

    assert answer.status == refusal[0], answer.body
    assert refusal[1] in answer.json["detail"]


def test_names_are_whole_segments_whatever_they_hold(node: GuardedNode) -> None:
    assert node.may("root", "PUT", "/auth/users/roles%2Fa%20b", {"password": "long enough"}) == 201
    assert node.may("root", "PUT", "/auth/users/roles%2Fa%20b/roles/app") == 200
    assert {"name": "roles/a b", "roles": ["app"]} in node("GET", "/auth/users").json["users"]


def test_of_two_who_change_users_at_once_neither_undoes_the_other(node: GuardedNode) -> None:
    submit, told = node.submit, []

    def meanwhile(request: Any, deadline_s: float) -> Any:
        """Before the first transaction another one is carried out: alice is root now, and root is not."""
        if hasattr(request, "operations") and not told:
            told.append(request)
            users = node.solo.machine.rights.users

            for name, roles in (("alice", ("app", "root")), ("root", ())):
                changed = msgspec.structs.replace(users[name], roles=roles)
                put = Put(key=user_key(name), value=encode_user(changed))
                node.solo.submit(Write(operations=(put,), caller=CLUSTER), deadline_s)
        return submit(request, deadline_s)

    node.submit = meanwhile  # type: ignore[method-assign]

    answer = node.by("root")("PUT", "/auth/users/alice", {"roles": ["app"]})

    assert answer.status == 403  # it was root no more when this came to be judged
    assert node.solo.machine.rights.users["alice"].roles == ("app", "root")


# -- streams


@pytest.mark.parametrize("query", ["", "?prefix=b", "?key=b", "?start=a/&end=b", "?prefix=a", "?key=b&from_revision=1"])
def test_a_watch_needs_the_right_to_all_that_it_watches(walked: GuardedNode, query: str) -> None:
    assert is_problem(walked.by("alice")("GET", f"/watch{query}"), 403, "forbidden", "alice may not read")


@pytest.mark.parametrize("waits", [True, False])
def test_a_watch_ends_before_anything_is_told_that_came_after_the_right_to_it(node: GuardedNode, waits: bool) -> None:
    async def scenario() -> None:
        alice, headers = Caller("alice", 2), {b"accept": b"application/x-ndjson"}
        request = HttpRequest(method="GET", path=b"/watch", query=b"prefix=a/", headers=headers, caller=alice)
        conversation = begin(watching.WATCH, request, node.application._context)
        assert isinstance(conversation, Conversation)
        response = await node.application.conversations.carry(conversation, None, alice)
        assert isinstance(response.body, BodyStream)
        async with aclosing(response.body.chunks) as chunks:
            waiting = asyncio.ensure_future(anext(chunks))
            await node.by("alice").ask("PUT", "/kv/a%2F1", b"told")
            assert b"told" in await asyncio.wait_for(waiting, 5)
            if waits:
                waiting = asyncio.ensure_future(anext(chunks))
                await asyncio.sleep(0)
            node.by("root")
            assert (await node.ask("DELETE", "/auth/users/alice/roles/app")).status == 200
            assert (await node.ask("PUT", "/kv/a%2F2", b"hidden")).status == 201
            end = json.loads(await asyncio.wait_for(waiting if waits else anext(chunks), 5))
            assert (end["code"], end["applied"]) == ("forbidden", "no")
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
        assert node.known._listeners == {}
        assert node.application._context.feed.listener_count == 0

    asyncio.run(scenario())


def test_a_status_that_is_followed_ends_with_its_user(node: GuardedNode) -> None:
    async def scenario() -> None:
        headers = {b"accept": b"application/x-ndjson"}
        request = HttpRequest(method="GET", path=b"/status", headers=headers, caller=Caller("alice", 2))
        response = begin(following.STATUS, request, node.application._context)
        assert isinstance(response, HttpResponse)
        assert isinstance(response.body, BodyStream)
        async with aclosing(response.body.chunks) as chunks:
            assert json.loads(await asyncio.wait_for(anext(chunks), 5))["node"] == "n1"
            waiting = asyncio.ensure_future(anext(chunks))
            assert (await node.by("root").ask("DELETE", "/auth/users/alice")).status == 200
            assert json.loads(await asyncio.wait_for(waiting, 5))["code"] == "forbidden"

    asyncio.run(scenario())


def test_who_lets_authentication_be_on_where_it_is_already_changes_nothing(node: GuardedNode) -> None:
    before = node.by("root")("PUT", "/kv/k", b"v").json["revision"]
    assert node("POST", "/auth/enable").json == {"enabled": True, "user": None, "roles": []}
    assert node("PUT", "/kv/k", b"v").json["revision"] == before + 1
