"""``POST /backup``: a form says by a token in it who asks, and is judged as ``GET`` with that token in its head."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from raftkv.coordination.steps import Circumstances
from raftkv.core.proof import Prover
from raftkv.core.results import StateHeld
from raftkv.core.rights import Caller
from raftkv.http.bodies import FORM_BYTES_MAX
from raftkv.http.handlers import backup
from raftkv.http.handlers.handler import Conversation, begin
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse
from tests.unit.guarded_node import GuardedNode
from tests.unit.http_node import Answer, Node, is_problem

FORM = "application/x-www-form-urlencoded"
NO_TOKENS = ["", "token=", "tokens=x", "token", "%ff", "token=%ff", "&", "a=b&token=x", "token=x&token=x", "{}"]


def token(node: GuardedNode, name: str) -> str:
    return node.callers.tokens.make(Caller(name, node.solo.machine.rights.users[name].generation))


def post(node: Node, fields: str | dict[str, str], **headers: str) -> Answer:
    body = fields if isinstance(fields, str) else urlencode(fields)
    headers.setdefault("content_type", FORM)
    return node("POST", "/backup", body.encode(), **headers)


def told(answer: Answer) -> tuple[int, Any, str | None]:
    return answer.status, answer.json, answer.headers.get("www-authenticate")


@pytest.fixture
def guarded() -> GuardedNode:
    return GuardedNode()


def test_a_token_in_the_form_is_as_good_as_one_in_the_head(guarded: GuardedNode) -> None:
    by_head = guarded.by("root")("GET", "/backup")
    by_form = post(guarded.by(None), {"token": token(guarded, "root")})

    assert told(by_form) == told(by_head)
    assert by_form.json["code"] == "not_supported"  # the replica of this test has no process that writes its state
    assert [one.caller.user for one in guarded.solo.submitted] == ["root", "root"]
    with_charset = post(guarded, {"token": token(guarded, "root")}, content_type=f"{FORM}; charset=utf-8")
    assert told(with_charset) == told(by_head)


@pytest.mark.parametrize("name", ["alice", "expired", "strange", "gone", "control"])
def test_whoever_is_refused_with_it_in_the_head_is_refused_with_it_in_the_form(guarded: GuardedNode, name: str) -> None:
    if name == "expired":
        guarded.callers.tokens.ttl_ms = -1
    shown = {
        "alice": token(guarded, "alice"),
        "expired": token(guarded, "root"),
        "strange": "rkv1.x.y",
        "gone": guarded.callers.tokens.make(Caller("mallory", 1)),
        "control": "a\r\nb: c\0",
    }[name]
    by_head = guarded.by(None)("GET", "/backup", authorization=f"Bearer {shown}")
    by_form = post(guarded, {"token": shown})

    assert told(by_form) == told(by_head)
    assert by_form.status == (403 if name == "alice" else 401)
    assert guarded.solo.submitted == []


@pytest.mark.parametrize("fields", NO_TOKENS)
def test_a_form_without_a_good_token_is_nobody_s(guarded: GuardedNode, fields: str) -> None:
    answer = post(guarded.by(None), fields)

    assert is_problem(answer, 401, "unauthenticated", "this needs a user")


def test_the_access_log_is_told_who_had_the_backup(guarded: GuardedNode) -> None:
    heard: list[Any] = []
    guarded.application._hears = (heard.append,)
    post(guarded, {"token": token(guarded, "root")})

    assert [(one.method, one.route, one.user) for one in heard] == [("POST", "/backup", "root")]


def test_a_token_in_another_kind_of_body_is_none(guarded: GuardedNode) -> None:
    shown = token(guarded, "root")
    for content_type in ("text/plain", "application/json", "multipart/form-data"):
        assert post(guarded.by(None), {"token": shown}, content_type=content_type).status == 401
        answer = post(guarded.by("root"), "token=x", content_type=content_type)
        assert is_problem(answer, 415, "unsupported_media_type", FORM)


@pytest.mark.parametrize("fields", [*NO_TOKENS[2:], "token=x"])
def test_root_is_told_what_is_wrong_with_a_form(guarded: GuardedNode, fields: str) -> None:
    assert is_problem(post(guarded.by("root"), fields), 400, "bad_request")
    assert guarded.solo.submitted == []


def test_the_head_counts_and_a_form_may_say_the_same_again(guarded: GuardedNode) -> None:
    shown = token(guarded, "root")

    assert post(guarded.by("alice"), {"token": shown}).status == 403
    assert is_problem(post(guarded.by("root"), {"token": token(guarded, "alice")}), 400, "bad_request", "already")
    assert post(guarded, {"token": shown}, authorization=f"Bearer {shown}").json["code"] == "not_supported"
    assert post(guarded, "").json["code"] == "not_supported"


def test_the_token_in_the_form_of_any_other_request_is_nothing(guarded: GuardedNode) -> None:
    body = urlencode({"token": token(guarded, "root")}).encode()
    for method, target in (("POST", "/restore"), ("PUT", "/kv/k"), ("GET", "/backup"), ("POST", "/auth/disable")):
        assert guarded.by(None)(method, target, body, content_type=FORM).status == 401


def test_a_form_is_short(guarded: GuardedNode) -> None:
    long = {"token": "x" * FORM_BYTES_MAX}

    assert post(guarded.by(None), long).status == 413
    assert guarded("POST", "/backup", [urlencode(long).encode()], length=False, content_type=FORM).status == 413


def test_another_site_cannot_send_it(guarded: GuardedNode) -> None:
    fields = {"token": token(guarded, "root")}
    for headers in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "null"}):
        assert is_problem(post(guarded, fields, **headers), 403, "cross_site")
    own = {"origin": "http://127.0.0.1:8001", "sec_fetch_site": "same-origin"}
    assert post(guarded, fields, **own).json["code"] == "not_supported"


def test_without_authentication_it_takes_what_get_takes() -> None:
    node = Node()
    assert post(node, "").json["code"] == node("GET", "/backup").json["code"] == "not_supported"
    assert post(node, {"token": "of before it was switched off"}).json["code"] == "not_supported"

    node.client = "10.0.0.1"
    assert told(post(node, "")) == told(node("GET", "/backup"))
    assert is_problem(post(node, {"token": "x"}), 401, "unauthenticated", "cluster's secret")
    proof = Prover(b"key", "test", wall_ms=lambda: 0).authorization("POST", "/backup", b"")
    assert node("POST", "/backup", authorization=proof).json["code"] == "not_supported"


def test_a_browser_is_given_a_name_to_save_it_under() -> None:
    node = Node()
    request = HttpRequest(method="POST", path=b"/backup", headers={}, client="127.0.0.1")

    def answered(handler: Any) -> HttpResponse:
        begun = begin(handler, request, node.application._context)
        assert isinstance(begun, Conversation)
        plan = begun.plan(Circumstances(lambda: 0.0, lambda: False))
        next(plan)
        with pytest.raises(StopIteration) as end:
            plan.send(StateHeld(command=("module",)))
        assert isinstance(end.value.value.body, BodyStream)
        return end.value.value

    headers = dict(answered(backup.SAVE).headers)
    assert headers[b"content-disposition"] == b'attachment; filename="raftkv-1970-01-01T00-00-00.backup"'
    assert headers[b"content-type"] == b"application/octet-stream"
    assert b"content-disposition" not in dict(answered(backup.BACKUP).headers)
