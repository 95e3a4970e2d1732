"""The routes about the cluster, what is no route, Flask beside the hot path, and what is refused of any request."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from raftkv.api.problems import TABLE
from raftkv.http.door.asgi import Application
from raftkv.http.routes import ROUTES
from tests.unit.http_node import Answer, Node, is_problem

pytestmark = pytest.mark.usefixtures("both_ways")


def test_what_is_plain_is_asked_plainly_where_it_is_to_be(node: Node) -> None:
    for _ in range(3):
        node("PUT", "/kv/a", b"1")

    assert node.plainly_answered == (2 if node.asks_plainly else 0)  # the first of a host is not known to be harmless


# -- the cluster


def test_status(node: Node) -> None:
    node("PUT", "/kv/a", b"v")

    status = node("GET", "/status").json

    assert {name: status[name] for name in ("node", "mode", "role", "leader", "term", "revision", "version")} == {
        "node": "n1",
        "mode": "raft",
        "role": "leader",
        "leader": "n1",
        "term": 1,
        "revision": 1,
        "version": "1",
    }
    assert status["commit_index"] == status["applied_index"] == 2  # the first entry lets history be kept
    assert status["offers"] == ["linearizable", "lease", "local"]
    assert status["peers"] == []


def test_members(node: Node) -> None:
    node.reachable_peers = 1

    answer = node("GET", "/cluster/members").json

    assert answer["leader"] == "n1"
    assert [(one["id"], one["reachable"]) for one in answer["members"]] == [("n1", True), ("n2", True), ("n3", False)]
    assert answer["members"][1]["http"] == "127.0.0.1:8002"


def test_readiness_says_why_not(node: Node) -> None:
    assert node("GET", "/readyz").json == {"status": "ready"}
    node.reachable_peers = 0
    assert is_problem(node("GET", "/readyz"), 503, "quorum_unreachable", "no quorum: 1 of 3")
    node.reachable_peers = 1
    node.solo.leader = None
    assert is_problem(node("GET", "/readyz"), 503, "no_leader", "no leader")
    node.replica_is_up = False
    assert is_problem(node("GET", "/readyz"), 503, "no_leader", "not running")
    assert node("GET", "/livez").status == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/cluster/members/n3"),
        ("POST", "/cluster/repair"),
        ("POST", "/restore"),
        ("POST", "/internal/write"),
        ("GET", "/internal/read?key=a"),
        ("POST", "/internal/kv"),
    ],
)
def test_what_is_not_built_is_refused_with_a_sentence(node: Node, method: str, target: str) -> None:
    answer = node(method, target)

    assert is_problem(answer, 400, "not_supported")
    assert len(answer.json["detail"]) > 20


@pytest.mark.parametrize("target", ["/", "/nothing", "/kv2", "/status/x", "/leases//keepalive", "/%FF", ""])
def test_unknown_paths(node: Node, target: str) -> None:
    assert is_problem(node("GET", target), 404, "unknown_route")


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/kv/a", "PUT"),
        ("PATCH", "/kv/a", "PUT"),
        ("PUT", "/kv", "GET"),
        ("GET", "/batch", "POST"),
        ("GET", "/put", "POST"),
        ("POST", "/get?key=a", "GET"),
        ("DELETE", "/status", "GET"),
        ("BREW", "/kv/a", "PUT"),
        ("GET", "/set/a/b", "POST"),
    ],
)
def test_wrong_methods(node: Node, method: str, target: str, allowed: str) -> None:
    answer = node(method, target)

    assert is_problem(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["allow"]


def test_absolute_request_targets(node: Node) -> None:
    node("PUT", "http://example.test/kv/a", b"v")

    assert node("GET", "/kv/a").body == b"v"


def test_a_defect_shows_the_client_nothing_and_costs_one_line(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: object) -> None:
        raise ZeroDivisionError("secret")

    for target in ("/kv/a", "/kv", "/status"):
        caplog.clear()
        node.submit = lambda request, deadline_s: fail(request)  # type: ignore[method-assign]
        answer = node("GET", target)

        assert is_problem(answer, 500, "internal_error")
        assert b"secret" not in answer.body
        assert len(caplog.records) == 1
        assert "\n" not in caplog.records[0].getMessage()


# -- Flask and the hot path


def test_flask_answers_hot_routes_alike(node: Node) -> None:
    """The hot path is a shortcut, never a second implementation: without it the answers are the same."""
    requests: list[tuple[str, str, Any]] = [
        ("PUT", "/kv/a//b/", b"v"),
        ("GET", "/kv/a//b/", b""),
        ("GET", "/kv/%2Fa%0A?consistency=local", b""),
        ("HEAD", "/kv/a//b/", b""),
        ("GET", "/kv/", b""),
        ("DELETE", "/kv/a//b/?w=all", b""),
        ("POST", "/put", {"key": "k", "value": "v"}),
        ("GET", "/get?key=k", b""),
        ("GET", "/get/key=k", b""),
        ("POST", "/set/k/a/b", b""),
        ("GET", "/local_read?key=k", b""),
        ("POST", "/batch", {"operations": [{"op": "get", "key": "k"}]}),
        ("DELETE", "/delete?key=k", b""),
    ]
    hot, cold = Node(), Node()
    cold.application._hot._exact.clear()
    cold.application._hot._below.clear()

    for method, target, body in requests:
        one, other = hot(method, target, body), cold(method, target, body)

        assert (one.status, one.body) == (other.status, other.body), target
        for headers in (one.headers, other.headers):
            headers.pop("raftkv-staleness-ms", None)
        assert one.headers == other.headers, target


def test_views_wait_side_by_side_on_one_thread() -> None:
    node = Node()
    node.solo.held = True

    async def run() -> list[Answer]:
        asked = [asyncio.create_task(node.ask("GET", "/kv")) for _ in range(200)]
        while len(node.solo.submitted) < 200:  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.01)
        node.solo.held = False
        node.solo.work(time.monotonic())
        return await asyncio.gather(*asked)

    assert {answer.status for answer in asyncio.run(run())} == {200}


def test_a_client_that_leaves_harms_nobody(node: Node) -> None:
    node.solo.held = True

    async def run() -> Answer:
        for target in ("/kv", "/kv/a"):
            leaving = asyncio.create_task(node.ask("GET", target))
            await asyncio.sleep(0.01)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        node.solo.held = False
        node.solo.work(time.monotonic())
        await asyncio.sleep(0.01)
        return await node.ask("GET", "/kv")

    assert asyncio.run(run()).status == 200


def test_lifespan_starts_and_stops() -> None:
    node = Node()
    events: list[str] = []

    async def start() -> None:
        events.append("start")

    application = Application(node, node.application._context, start=start, stop=lambda: events.append("stop"))
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        events.append(message["type"])

    asyncio.run(application({"type": "lifespan"}, receive, send))

    assert events == ["start", "lifespan.startup.complete", "stop", "lifespan.shutdown.complete"]


# -- what describes the rest


def test_every_route_is_described(node: Node) -> None:
    document = node("GET", "/openapi.json").json

    for route in ROUTES:
        assert document["paths"][route.name][route.method.lower()]["summary"]
    assert set(document["components"]["schemas"]) >= {"Batch", "KeyAndValue", "Problem", "PutOperation"}
    assert b"/kv/{key}" in node("GET", "/docs").body


def test_every_code_is_in_the_table() -> None:
    from raftkv.core.errors import Code

    assert set(TABLE) == set(Code)


def test_metrics_count_by_route(node: Node) -> None:
    node("PUT", "/kv/a", b"v")
    node("GET", "/kv/none")
    node("GET", "/nowhere")
    node("BREW", "/kv/a")

    text = node("GET", "/metrics").body.decode()

    assert 'raftkv_http_requests_total{code="201",method="PUT",route="/kv/{key}"} 1.0' in text
    assert 'raftkv_http_requests_total{code="404",method="GET",route="/kv/{key}"} 1.0' in text
    assert 'raftkv_http_requests_total{code="404",method="GET",route="(none)"} 1.0' in text
    assert 'method="(other)"' in text
    assert "raftkv_is_leader 1.0" in text
    assert "raftkv_revision 1.0" in text
    assert 'raftkv_http_request_duration_seconds_count{code="201",method="PUT",route="/kv/{key}"} 1.0' in text


def test_a_page_of_another_site_changes_nothing_and_curl_does(node: Node) -> None:
    page = {"origin": "https://evil.example", "sec_fetch_site": "cross-site"}

    assert is_problem(node("POST", "/set/k/v", **page), 403, "cross_site")
    assert is_problem(
        node("POST", "/put", b'{"key":"k","value":"v"}', content_type="text/plain", **page), 403, "cross_site"
    )
    assert is_problem(node("GET", "/kv/k", host="evil.example"), 421, "misdirected")
    assert is_problem(node("PUT", "/kv/k", b"v", host="x/y@z"), 400, "bad_request")
    assert node("GET", "/kv/k").status == 404
    assert node("POST", "/set/k/v").status == 201
    assert node("POST", "/put", {"key": "k", "value": "v"}, content_type="application/json").status == 200
    assert (
        node("POST", "/put", {"key": "k", "value": "v"}, content_type="application/x-www-form-urlencoded").status == 200
    )


@pytest.mark.parametrize(
    ("tags", "status"), [('"1"', 200), ('"8", "1"', 200), ("*", 200), ('"8"', 412), ('W/"1"', 412), ('W/"1", "9"', 412)]
)
def test_a_read_that_wants_another_version_is_refused(node: Node, tags: str, status: int) -> None:
    node("PUT", "/kv/a", b"v")
    answer = node("GET", "/kv/a", if_match=tags)

    assert answer.status == status
    if status == 412:
        assert is_problem(answer, 412, "precondition_failed", "'a'")


@pytest.mark.parametrize(
    ("target", "body", "named"),
    [
        ("/put", b'{"key":"a","value":"1","key":"b"}', "key"),
        ("/put", b'{"key":"a","value":"1","\\u006bey":"b"}', "key"),
        ("/put", b'{"key":"a","value":{"base64":"QQ==","base64":"QUE="}}', "base64"),
        ("/batch", b'{"operations":[{"op":"put","key":"a","value":"v","key":"b"}]}', "key"),
        ("/batch", b'{"operations":[],"operations":[{"op":"put","key":"a","value":"v"}]}', "operations"),
        ("/put", b'{"key":"a","key" :"b","value":"v"}', "key"),
        ("/put", b'{"key":"a","key"\n:"b","value":": v"}', "key"),
        ("/txn", b'{"success":[{"op":"put","key":":a","value":":v","value":"w"}]}', "value"),
        ("/txn", b'{"compare":[],"success":[],"compare":[]}', "compare"),
        ("/kv/a/increment", b'{"by":1,"by":1}', "by"),
    ],
)
def test_a_name_given_twice_is_refused_as_a_query_parameter_is(
    node: Node, target: str, body: bytes, named: str
) -> None:
    assert is_problem(node("POST", target, body), 400, "bad_request", f"{named!r} is given twice")
    assert node.solo.submitted == []


def test_values_that_look_like_names_are_values(node: Node) -> None:
    assert node("POST", "/put", {"key": "key", "value": 'the "key" and \\ "value"'}).status == 200
    assert node("GET", "/kv/key").body == b'the "key" and \\ "value"'


def test_little_is_repeated_of_what_a_stranger_sent(node: Node) -> None:
    answer = node("POST", "/put", {"key": "a", "value": "v", (1 << 20) * "x": 1})

    assert answer.status == 400
    assert len(answer.body) < 1000


def test_other_codings_and_expectations_are_refused_before_anything_is_done(node: Node) -> None:
    assert node("PUT", "/kv/a", [b"v"], length=False, transfer_encoding="gzip, chunked").status == 501
    assert is_problem(node("PUT", "/kv/a", b"v", expect="the-unexpected"), 417, "expectation_failed")
    assert node("GET", "/kv/a").status == 404
    assert node("PUT", "/kv/a", b"v", expect="100-Continue").status == 201
