"""Every route and every kind of bad input, driven through the application in process, by both ways that it has."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from functools import partial
from typing import Any

import msgspec
import pytest

from raftkv.api.problems import TABLE
from raftkv.core.config import AuthSection, HttpSection, NodeSection
from raftkv.core.proof import Verifier
from raftkv.core.requests import Configure, Consistency, Read, Write
from raftkv.core.rights import Rights
from raftkv.formats.tokens import Tokens
from raftkv.frontend.remote import NOT_RUNNING
from raftkv.frontend.rights import KnownRights
from raftkv.http.door.admission import Admission
from raftkv.http.door.asgi import Application, feed_on_loop, onlookers_on_loop
from raftkv.http.door.callers import Callers
from raftkv.http.door.passwords import Passwords
from raftkv.http.door.plain import PlainRequest, read, written
from raftkv.http.door.streaming import CERTIFICATE_KEY
from raftkv.http.futures import settle
from raftkv.http.handlers.handler import Context
from raftkv.http.messages import HttpResponse
from raftkv.http.routes import ROUTES
from tests.contract.solo import SoloReplicator

LIMITS = HttpSection(max_value_bytes=1000, max_key_bytes=64, max_batch_operations=5, max_list_limit=3)
MEMBERS = tuple(
    NodeSection(id=f"n{number}", http=f"127.0.0.1:800{number}", peer=f"127.0.0.1:900{number}") for number in (1, 2, 3)
)


class Answer:
    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Node:
    """An application over a solo replicator that works a turn of the loop after each request.

    What is asked goes the general way, over ASGI. ``asks_plainly``: what the plain way takes goes that instead.
    """

    asks_plainly = False

    def __init__(self, limits: HttpSection = LIMITS, **solo: Any) -> None:
        self.solo = SoloReplicator(**solo)
        self.solo.cluster_size = 3
        self.replica_is_up = True
        self.now_s: float | None = None
        self.solo.level_at_s = time.monotonic()
        self.known = KnownRights(Rights())
        self.callers = Callers(
            self.known,
            Tokens(b"key", "test", wall_ms=lambda: time.time_ns() // 1_000_000, ttl_ms=60_000),
            Passwords(AuthSection(), monotonic_s=time.monotonic),
            freshen=self.freshen,
        )
        context = Context(
            node="n1",
            version="1",
            scheme="http",
            limits=limits,
            members=MEMBERS,
            status=self.status,
            silence=lambda: NOT_RUNNING.detail,
            subscribe=self.solo.subscribe,
            feed=feed_on_loop(self),
            onlookers=onlookers_on_loop(self),
            last_status=self.solo.status,
            monotonic_s=lambda: time.monotonic() if self.now_s is None else self.now_s,
            wall_s=lambda: 0.0,
            node_header=((b"raftkv-node", b"n1"),),
            admission=Admission(Verifier(b"key", "test", wall_ms=lambda: 0), is_open=True),
            callers=self.callers,
        )
        self.reachable_peers = 2
        self.client = "127.0.0.1"
        self.certificate = ""
        self.plainly_answered = 0
        self.application = Application(self, context)

    def status(self) -> Any:
        if not self.replica_is_up:
            return None
        status = self.solo.status()
        from raftkv.core.status import PeerStatus

        peers = tuple(
            PeerStatus(id=f"n{2 + position}", reachable=position < self.reachable_peers) for position in range(2)
        )
        return msgspec.structs.replace(status, peers=peers)

    async def freshen(self) -> None:
        """What is known of users is what the solo's machine says, as of each request."""
        self.known.learn(self.solo.machine.rights)

    def submit(self, request: Any, deadline_s: float) -> Any:
        pending = self.solo.submit(request, deadline_s)
        self._work()
        return pending

    def subscribe(self, hear: Any) -> Any:
        return self.solo.subscribe(hear)

    def _work(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self.solo.work(time.monotonic()))
        loop.call_later(0.06, lambda: self.solo.work(time.monotonic()))

    def work(self, now_s: float) -> float:
        return self.solo.work(now_s)

    def close(self) -> None:
        self.solo.close()

    async def ask(
        self, method: str, target: str, body: bytes | list[bytes] = b"", *, length: bool = True, **headers: str
    ) -> Answer:
        await self.freshen()
        path, _, query = target.partition("?")
        coding = headers.pop("transfer_encoding", "chunked")
        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        chunks = [body] if isinstance(body, bytes) else list(body)
        if body and length:
            pairs.append((b"content-length", str(sum(map(len, chunks))).encode()))
        elif body:
            pairs.append((b"transfer-encoding", coding.encode()))
        if "host" not in headers:
            pairs.append((b"host", b"127.0.0.1:8001"))
        if self.asks_plainly and HALF not in chunks:
            answer = await self._asked_plainly(method, target, pairs, b"".join(chunks))
            if answer is not None:
                return answer
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": pairs,
            "client": (self.client, 50_000),
            "extensions": {CERTIFICATE_KEY: self.certificate} if self.certificate else {},
        }
        sent: list[Any] = []

        async def receive() -> Any:
            if chunks:
                chunk = chunks.pop(0)
                if chunk is HALF:
                    return {"type": "http.disconnect"}
                return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application({**scope}, receive, send)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        return Answer(sent[0]["status"], sent[0]["headers"], sent[1]["body"])

    async def _asked_plainly(
        self, method: str, target: str, pairs: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer | None:
        """The answer to what is plain, is written as it is written to the wire, and is taken."""
        lines = [f"{method} {target} HTTP/1.1".encode(), *[b"%b: %b" % pair for pair in pairs]]
        request = read(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        if not isinstance(request, PlainRequest) or not self.application.answer(
            request, self.client, self.certificate, partial(settle, answered)
        ):
            return None
        self.plainly_answered += 1
        head, found = written(await answered, method, b"\r\n")
        fields = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2]]
        return Answer(int(head.split()[1]), [(name, value) for name, value in fields], found)

    def __call__(self, method: str, target: str, body: Any = b"", **more: Any) -> Answer:
        if not isinstance(body, bytes | list):
            body = json.dumps(body).encode()
        return asyncio.run(self.ask(method, target, body, **more))


HALF = b"<the client went away>"


@pytest.fixture
def node() -> Node:
    return Node()


pytestmark = pytest.mark.usefixtures("both_ways")


def test_what_is_plain_is_asked_plainly_where_it_is_to_be(node: Node) -> None:
    for _ in range(3):
        node("PUT", "/kv/a", b"1")

    assert node.plainly_answered == (2 if node.asks_plainly else 0)  # the first of a host is not known to be harmless


def is_problem(answer: Answer, status: int, code: str, *words: str) -> bool:
    body = answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, body["code"], body["status"]) == (status, code, status), body
    if code != "internal_error":  # which is in doubt where the method is not that of a read
        assert body["applied"] == ("unknown" if code == "outcome_unknown" else "no")
    assert body["title"]
    for word in words:
        assert word in body["detail"], body["detail"]
    return True


# -- the resource -------------------------------------------------------------------------------------------------


def test_put_creates_then_replaces(node: Node) -> None:
    first = node("PUT", "/kv/a", b"1")
    second = node("PUT", "/kv/a", b"2")

    assert (first.status, first.json) == (201, {"key": "a", "version": 1, "revision": 1})
    assert (second.status, second.json) == (200, {"key": "a", "version": 2, "revision": 2})
    assert second.headers["etag"] == '"2"'
    assert second.headers["raftkv-durability"] == "majority"
    assert second.headers["content-type"] == "application/json"


def test_get_gives_the_bytes_and_says_what_they_are(node: Node) -> None:
    node("PUT", "/kv/a", b"\x00\xff")

    answer = node("GET", "/kv/a")

    assert (answer.status, answer.body) == (200, b"\x00\xff")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "2"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["raftkv-node"] == "n1"
    assert answer.headers["raftkv-consistency"] == "linearizable"
    assert answer.headers["raftkv-revision"] == "1"
    assert "raftkv-staleness-ms" not in answer.headers


@pytest.mark.parametrize(("value", "shown"), [(b"text", "text"), (b"", ""), (b"\xff", {"base64": "/w=="})])
def test_get_as_json(node: Node, value: bytes, shown: Any) -> None:
    node("PUT", "/kv/a", value)

    answer = node("GET", "/kv/a", accept="application/json")

    assert answer.json == {"key": "a", "value": shown, "version": 1, "revision": 1, "create_revision": 1}


def test_head_has_the_length_of_the_value_and_no_body(node: Node) -> None:
    node("PUT", "/kv/a", b"12345")

    answer = node("HEAD", "/kv/a")

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")


def test_missing_keys_are_not_found(node: Node) -> None:
    assert is_problem(node("GET", "/kv/none"), 404, "not_found", "none")
    assert is_problem(node("DELETE", "/kv/none"), 404, "not_found", "none")
    assert node("HEAD", "/kv/none").status == 404
    assert node("GET", "/kv/none").headers["raftkv-consistency"] == "linearizable"


def test_delete(node: Node) -> None:
    node("PUT", "/kv/a", b"1")

    answer = node("DELETE", "/kv/a")

    assert (answer.status, answer.json) == (200, {"deleted": 1, "revision": 2})
    assert node("GET", "/kv/a").status == 404


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/b", "a%2Fb"), ("a//b", "a%2f%2Fb"), ("/a", "%2Fa"), ("a/", "a%2F"), ("%C3%A9", "%c3%a9"), ("..", "%2E%2E")],
)
def test_two_spellings_are_one_key(node: Node, one: str, other: str) -> None:
    node("PUT", f"/kv/{one}", b"here")

    assert node("GET", f"/kv/{other}").body == b"here"


@pytest.mark.parametrize(
    ("method", "target", "key"),
    [
        ("PUT", "/%6Bv/a", "a"),
        ("PUT", "/k%76/a%2Fb", "a/b"),
        ("PUT", "//kv/a", "a"),
        ("PUT", "///kv//a", "/a"),
        ("PUT", "/kv/%7E%41%2d%5f", "~A-_"),
        ("POST", "/s%65t/a/v", "a"),
        ("PUT", "http://h:1/%6bv/a", "a"),
    ],
)
def test_however_a_route_is_spelled_the_key_is_the_same(node: Node, method: str, target: str, key: str) -> None:
    assert node(method, target, b"v").json["key"] == key
    assert [item["key"] for item in node("GET", "/kv").json["items"]] == [key]


@pytest.mark.parametrize(
    "target", ["/kv%2Fa", "/%2Fkv/a", "/set%2Fa/b", "/get%2fa", "/status%2F", "/status%00", "/%kv/a"]
)
def test_what_is_percent_encoded_for_a_reason_is_no_route(node: Node, target: str) -> None:
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert is_problem(node(method, target, b"v"), 404, "unknown_route", "no such resource")
    assert node("GET", "/kv").json["items"] == []


def test_a_key_may_hold_anything(node: Node) -> None:
    for escaped in ("%00", "%0A", "%20", "+", "%3F", "%25", "%F0%9F%98%80", "%C3", "%FF", "%FF%FE%FF"):
        assert node("PUT", f"/kv/{escaped}", b"x").status == 201
        assert node("GET", f"/kv/{escaped}").body == b"x"

    keys = [item["key"] for item in node("GET", "/kv?limit=3").json["items"]]
    assert keys == ["\0", "\n", " "]


def base64_of(key: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(key).decode()}


def test_a_key_that_is_no_text_is_base64_in_json_and_comes_where_its_bytes_do(node: Node) -> None:
    stored = node("PUT", "/kv/b%FFc", b"x")
    for escaped in ("b", "b%C3%A9", "b%FFd", "b%FF", "c"):
        node("PUT", f"/kv/{escaped}", b"x")
    first = node("GET", "/kv?keys_only=1&start=b").json
    second = node("GET", "/kv?keys_only=1&start=b%FFc").json
    below = node("GET", "/kv?prefix=b%FF").json
    between = node("GET", "/kv?start=b%FF&end=b%FFd").json
    found = node("GET", "/kv/b%FFc", accept="application/json").json
    missing = node("GET", "/kv/b%FE")
    failed = node("PUT", "/kv/b%FFc", b"y", if_none_match="*")

    assert stored.json["key"] == found["key"] == base64_of(b"b\xffc")
    assert [one["key"] for one in first["items"]] == ["b", "b\u00e9", base64_of(b"b\xff")]
    assert first["next"] == base64_of(b"b\xffc")
    assert [one["key"] for one in second["items"]] == [base64_of(b"b\xffc"), base64_of(b"b\xffd"), "c"]
    assert [one["key"] for one in below["items"]] == [base64_of(b"b\xff" + end) for end in (b"", b"c", b"d")]
    assert [one["key"] for one in between["items"]] == [base64_of(b"b\xff"), base64_of(b"b\xffc")]
    assert is_problem(missing, 404, "not_found", r"'b\xfe'")
    assert is_problem(failed, 412, "precondition_failed", r"'b\xffc'")
    assert node("DELETE", "/kv?prefix=b%FF").json["deleted"] == 3


def test_operations_name_keys_that_are_no_text(node: Node) -> None:
    key, other = base64_of(b"\xffk"), base64_of(b"\xffl")
    operations = [{"op": "put", "key": key, "value": "1"}, {"op": "increment", "key": other}, {"op": "get", "key": key}]
    batch = node("POST", "/batch", {"operations": operations}).json
    done = node(
        "POST",
        "/txn",
        {
            "compare": [
                {"key": key, "target": "value", "with": "1"},
                {"prefix": base64_of(b"\xff"), "target": "exists", "with": True},
            ],
            "success": [
                {"op": "list", "start": base64_of(b"\xff"), "end": other},
                {"op": "delete_prefix", "prefix": base64_of(b"\xff")},
            ],
        },
    ).json

    assert [one["key"] for one in batch["results"]] == [key, other, key]
    assert [one["status"] for one in batch["results"]] == [201, 201, 200]
    assert done["succeeded"]
    assert [one["key"] for one in done["results"][0]["items"]] == [key]
    assert done["results"][1]["deleted"] == 2


def test_a_key_that_expiry_would_take_for_a_lease_expires_with_one_alone(node: Node) -> None:
    refused = node("PUT", "/kv/%FFk?ttl=5", b"x")
    node("PUT", "/kv/%FFk", b"x")
    touched = node("POST", "/kv/%FFk/touch", {"ttl": 5})
    lease = node("POST", "/leases", {"ttl": 60}).json["id"]
    node("PUT", f"/kv/%FFk?lease={lease}", b"y")

    assert is_problem(refused, 400, "bad_request", "lease")
    assert is_problem(touched, 400, "bad_request", "lease")
    assert node("POST", "/kv/%FFk/touch", {"ttl": None}).status == 200
    node("PUT", f"/kv/%FFk?lease={lease}", b"y")
    assert node("GET", f"/leases/{lease}").json["keys"] == [base64_of(b"\xffk")]
    assert node("PUT", "/kv/%FEk?ttl=5", b"x").status == 201


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_bad_keys(node: Node, method: str) -> None:
    for target, status, code in [
        ("/kv/", 400, "bad_request"),
        ("/kv/%FF%FF", 400, "bad_request"),
        ("/kv/%FF%FFauth/enabled", 400, "bad_request"),
        ("/kv/%zz", 400, "bad_request"),
        ("/kv/%", 400, "bad_request"),
        ("/kv/" + 65 * "k", 414, "key_too_large"),
        ("/kv/" + 22 * "%E2%82%AC", 414, "key_too_large"),
    ]:
        answer = node(method, target)
        assert answer.status == status, target
        assert method == "HEAD" or is_problem(answer, status, code, "key")
    assert node("PUT", "/kv/" + 64 * "k").status == 201


def test_a_limit_above_the_servers_own_is_no_mistake_and_next_leads_on(node: Node) -> None:
    for key in "abcd":
        node("PUT", f"/kv/{key}", b"v")
    page = node("GET", "/kv?limit=500").json

    assert [item["key"] for item in page["items"]] == ["a", "b", "c"]
    assert page["next"] == "d"


def test_a_value_may_be_as_large_as_the_limit_and_no_larger(node: Node) -> None:
    assert node("PUT", "/kv/a", 1000 * b"v").status == 201
    assert is_problem(node("PUT", "/kv/b", 1001 * b"v"), 413, "value_too_large", "1000")
    assert is_problem(node("PUT", "/kv/b", [999 * b"v", b"vv"], length=False), 413, "value_too_large", "1000")
    assert node("PUT", "/kv/b", 1001 * b"v").headers["connection"] == "close"
    assert node("GET", "/kv/b").status == 404


def test_a_half_sent_body_has_no_effect(node: Node) -> None:
    answer = node("PUT", "/kv/a", [b"half", HALF])

    assert is_problem(answer, 400, "bad_request", "did not arrive")
    assert node.solo.submitted == []


# -- preconditions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "absent", "present"),
    [
        ({}, 201, 200),
        ({"if_match": '"1"'}, 412, 200),
        ({"if_match": 'W/"1"'}, 412, 412),
        ({"if_match": 'W/"7", "1"'}, 412, 200),
        ({"if_match": "1"}, 412, 200),
        ({"if_match": '"9"'}, 412, 412),
        ({"if_match": "*"}, 412, 200),
        ({"if_match": '"0"'}, 201, 412),
        ({"if_match": '"9", "1"'}, 412, 200),
        ({"if_match": '"9", W/"1", "8"'}, 412, 412),
        ({"if_match": '"0", "1"'}, 201, 200),
        ({"if_match": '"1","1"'}, 412, 200),
        ({"if_none_match": "*"}, 201, 412),
    ],
)
def test_preconditions_of_put(headers: dict[str, str], absent: int, present: int) -> None:
    node = Node()
    assert node("PUT", "/kv/a", b"v", **headers).status == absent

    node = Node()
    node("PUT", "/kv/a", b"v")
    answer = node("PUT", "/kv/a", b"w", **headers)
    assert answer.status == present
    if present == 412:
        assert is_problem(answer, 412, "precondition_failed", "'a'")
        assert answer.json["revision"] == 1
        assert answer.headers["etag"] == '"1"'


def test_preconditions_of_delete(node: Node) -> None:
    node("PUT", "/kv/a", b"v")

    assert is_problem(node("DELETE", "/kv/a", if_match='"7"'), 412, "precondition_failed")
    assert is_problem(node("DELETE", "/kv/none", if_match="*"), 412, "precondition_failed", "does not exist")
    assert is_problem(node("DELETE", "/kv/a", if_match='"7", "8"'), 412, "precondition_failed")
    assert node("DELETE", "/kv/a", if_match='"7", "1"').status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"if_match": '"a"'},
        {"if_match": ""},
        {"if_match": '"1", 2@n1'},
        {"if_match": '"1", *'},
        {"if_match": ", ".join(f'"{revision}"' for revision in range(1, 66))},
        {"if_match": '"-1"'},
        {"if_match": '"99999999999999999999"'},
        {"if_none_match": '"1"'},
        {"if_match": '"1"', "if_none_match": "*"},
        {"idempotency_key": ""},
        {"idempotency_key": 256 * "k"},
        {"idempotency_key": "with space"},
        {"idempotency_key": "é"},
    ],
)
def test_bad_headers_of_writes(node: Node, headers: dict[str, str]) -> None:
    assert is_problem(node("PUT", "/kv/a", b"v", **headers), 400, "bad_request")
    assert node.solo.submitted == []


def test_a_reader_that_has_the_value_already_is_told_so(node: Node) -> None:
    node("PUT", "/kv/a", b"v")

    for tag in ('"1"', 'W/"1"', '"8", "1"', "*"):
        answer = node("GET", "/kv/a", if_none_match=tag)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", '"1"')
    assert node("GET", "/kv/a", if_none_match='"2"').status == 200


def test_a_retry_with_an_idempotency_key_returns_the_first_outcome(node: Node) -> None:
    first = node("PUT", "/kv/a", b"v", idempotency_key="once")
    again = node("PUT", "/kv/a", b"v", idempotency_key="once")
    other = node("PUT", "/kv/a", b"w", idempotency_key="once")

    assert (first.status, first.json) == (again.status, again.json)
    assert is_problem(other, 400, "bad_request", "Idempotency-Key")
    assert node("GET", "/kv/a").body == b"v"


# -- parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "word"),
    [
        ("GET", "/kv/a?consistancy=local", "consistancy"),
        ("GET", "/kv/a?consistency=strong", "strong"),
        ("GET", "/kv/a?consistency=", "consistency"),
        ("GET", "/kv/a?consistency=local&consistency=local", "twice"),
        ("GET", "/kv/a?w=1", "'w'"),
        ("GET", "/kv/a?timeout=0", "timeout"),
        ("GET", "/kv/a?timeout=61", "timeout"),
        ("GET", "/cluster/members?timeout=61", "timeout"),
        ("GET", "/kv/a?timeout=nan", "timeout"),
        ("GET", "/kv/a?timeout=1_0", "timeout"),
        ("GET", "/kv/a?timeout=x", "timeout"),
        ("GET", "/kv/a?%FF=1", "UTF-8"),
        ("GET", "/kv/a?consistency=%zz", "percent"),
        ("PUT", "/kv/a?ttl=0", "ttl"),
        ("PUT", "/kv/a?ttl=-1", "up to 315360000"),
        ("PUT", "/kv/a?ttl=inf", "ttl"),
        ("PUT", "/kv/a?ttl=", "ttl"),
        ("PUT", "/kv/a?w=0", "w:"),
        ("PUT", "/kv/a?w=4", "1 to 3"),
        ("PUT", "/kv/a?w=most", "w:"),
        ("PUT", "/kv/a?redirect=perhaps", "redirect"),
        ("PUT", "/kv/a?consistency=local", "consistency"),
        ("DELETE", "/kv/a?ttl=1", "ttl"),
        ("GET", "/kv?limit=0", "limit"),
        ("GET", "/kv?limit=1000000000", "1 to 999999999"),
        ("GET", "/kv?limit=x", "limit"),
        ("GET", "/kv?limit=1&limit=2", "twice"),
        ("GET", "/kv?end=", "end"),
        ("GET", "/kv?keys_only=maybe", "keys_only"),
        ("GET", "/kv?prefx=a", "prefx"),
        ("POST", "/batch?ttl=1", "ttl"),
        ("GET", "/get", "key"),
        ("GET", "/get?key=", "key"),
        ("GET", "/local_read", "key"),
        ("GET", "/local_read?key=a&consistency=local", "consistency"),
        ("DELETE", "/delete", "key"),
        ("GET", "/get?key=a&key=b", "twice"),
        ("GET", "/get/", "key"),
        ("POST", "/set/k", "/set/{key}/{value}"),
        ("POST", "/set//v", "key"),
        ("GET", "/status?x=1", "x"),
        ("GET", "/health?x=1", "x"),
    ],
)
def test_bad_parameters_are_named(node: Node, method: str, target: str, word: str) -> None:
    answer = node(method, target, b'{"operations":[]}' if target.startswith("/batch") else b"")

    assert is_problem(answer, 400, "bad_request", word)
    assert node.solo.submitted == []


@pytest.mark.parametrize("target", ["/kv/a?r=1", "/get?key=a&r=2", "/kv?r=1"])
def test_parameters_of_quorum_mode_are_refused_with_a_sentence(node: Node, target: str) -> None:
    assert is_problem(node("GET", target), 400, "not_supported", "consistency")


def test_an_unoffered_consistency_is_refused() -> None:
    node = Node(offers=(Consistency.LINEARIZABLE,))

    assert is_problem(node("GET", "/kv/a?consistency=lease"), 400, "not_supported", "lease", "linearizable")
    assert node.solo.submitted == []


def test_a_local_read_says_how_stale_it_may_be(node: Node) -> None:
    node("PUT", "/kv/a", b"v")
    node.solo.level_at_s = time.monotonic() - 5

    stale = node("GET", "/kv/a?consistency=local")
    node.solo.level_at_s = None
    unknown = node("GET", "/local_read?key=a")

    assert stale.headers["raftkv-consistency"] == "local"
    assert 5000 <= int(stale.headers["raftkv-staleness-ms"]) < 6000
    assert unknown.headers["raftkv-staleness-ms"] == "unknown"


def test_an_age_is_never_rounded_down(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node("PUT", "/kv/a", b"v")
    monkeypatch.setattr(node, "now_s", 100.0)
    node.solo.level_at_s = 99.9999

    assert node("GET", "/kv/a?consistency=local").headers["raftkv-staleness-ms"] == "1"


def test_every_json_read_says_how_long_a_key_has_left(node: Node) -> None:
    node("PUT", "/kv/a?ttl=100", b"v")
    node("PUT", "/kv/b", b"v")
    record = node("GET", "/kv/a", accept="application/json").json
    first, second = node("GET", "/kv?keys_only=1").json["items"]
    batch = {"operations": [{"op": "get", "key": "a"}]}
    (found,) = node("POST", "/batch", msgspec.json.encode(batch)).json["results"]

    assert 0 < record["ttl_left"] == found["ttl_left"] == first["ttl_left"]
    assert "ttl_left" not in second


def test_ttl_goes_into_the_write(node: Node) -> None:
    node("PUT", "/kv/a?ttl=1.5", b"v")
    node("PUT", "/kv/b?ttl=0.0001", b"v")

    writes = [request for request in node.solo.submitted if isinstance(request, Write)]
    assert [write.operations[0].ttl_ms for write in writes] == [1500, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(("text", "acks"), [("leader", 1), ("majority", 2), ("all", 3), ("1", 1), ("2", 2), ("3", 3)])
def test_w_becomes_acknowledgements(node: Node, text: str, acks: int) -> None:
    answer = node("PUT", f"/kv/a?w={text}", b"v")

    assert isinstance(node.solo.submitted[0], Write)
    assert node.solo.submitted[0].acks == acks
    assert answer.headers["raftkv-durability"] == ("all" if acks == 3 else "majority")


@pytest.mark.parametrize(
    ("method", "target", "body", "expected"),
    [
        ("PUT", "/kv/a?w=1", b"v", (202, {"key": "a", "version": None, "revision": None})),
        ("DELETE", "/kv/a?w=1", b"", (202, {"deleted": None, "revision": None})),
        ("POST", "/batch?w=1", {"operations": [{"op": "get", "key": "a"}]}, (202, {"results": None, "revision": None})),
        (
            "POST",
            "/put?w=1",
            {"key": "a", "value": "v"},
            (200, {"result": "ok", "acks": 1, "key": "a", "version": None}),
        ),
        (
            "POST",
            "/set?w=1",
            {"key": "a", "value": "v"},
            (201, {"key": "a", "value": "v", "version": None, "status": "created"}),
        ),
        ("DELETE", "/delete?key=a&w=1", b"", (202, {"deleted": None, "key": "a", "revision": None})),
    ],
)
def test_a_write_that_only_the_leader_has_says_so(
    node: Node, method: str, target: str, body: Any, expected: Any
) -> None:
    from raftkv.core.results import Written

    node.solo._carry_out = lambda request: Written(  # type: ignore[method-assign]
        results=(), revision=0, acks=1, committed=False
    )

    answer = node(method, target, body, **({} if isinstance(body, bytes) else {"content_type": "application/json"}))

    assert (answer.status, answer.json) == expected
    assert answer.headers["raftkv-durability"] == "leader"


def test_redirect_sends_a_writer_to_the_leader(node: Node) -> None:
    node.solo.leader = "n2"

    answer = node("PUT", "/kv/a%2Fb?redirect=1&w=all", b"v")

    assert answer.status == 307
    assert answer.headers["location"] == "http://127.0.0.1:8002/kv/a%2Fb?redirect=1&w=all"
    assert node.solo.submitted == []


def test_the_leader_does_not_redirect(node: Node) -> None:
    assert node("PUT", "/kv/a?redirect=1", b"v").status == 201


def test_the_timeout_is_the_deadline(node: Node) -> None:
    node.solo.held = True

    write = node("PUT", "/kv/a?timeout=0.05", b"v")
    read = node("GET", "/kv/a?timeout=0.05")

    assert is_problem(write, 504, "outcome_unknown")
    assert is_problem(read, 503, "quorum_unreachable")
    assert read.headers["retry-after"] == "1"


def test_no_leader_is_told_with_a_hint_when_to_retry(node: Node) -> None:
    node.solo.leader = None

    answer = node("PUT", "/kv/a", b"v")

    assert is_problem(answer, 503, "no_leader")
    assert answer.headers["retry-after"] == "1"


def test_overload_is_told_with_a_hint_when_to_retry() -> None:
    node = Node(max_pending=0)

    answer = node("GET", "/kv/a")

    assert is_problem(answer, 429, "overloaded")
    assert answer.headers["retry-after"] == "1"


# -- lists --------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other(node: Node) -> None:
    for key in ("b/1", "b/2", "b/3", "b/4", "a", "c"):
        node("PUT", f"/kv/{key}", key.encode())

    first = node("GET", "/kv?prefix=b/")
    second = node("GET", f"/kv?prefix=b/&start={first.json['next']}")

    assert [item["key"] for item in first.json["items"]] == ["b/1", "b/2", "b/3"]
    assert first.json["next"] == "b/4"
    assert first.json["revision"] == 6
    assert first.json["items"][0] == {
        "key": "b/1",
        "value": "b/1",
        "version": 1,
        "revision": 1,
        "create_revision": 1,
    }
    assert ([item["key"] for item in second.json["items"]], second.json["next"]) == (["b/4"], None)


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", ["a", "b", "c"]),
        ("start=b", ["b", "c", "d"]),
        ("end=b", ["a"]),
        ("start=b&end=d", ["b", "c"]),
        ("start=d&end=b", []),
        ("prefix=x", []),
        ("prefix=b&start=a", ["b"]),
        ("prefix=b&end=a", []),
        ("limit=1", ["a"]),
        ("limit=2&start=c&keys_only=0", ["c", "d"]),
    ],
)
def test_ranges(node: Node, query: str, keys: list[str]) -> None:
    for key in "abcd":
        node("PUT", f"/kv/{key}", b"v")

    assert [item["key"] for item in node("GET", f"/kv?{query}").json["items"]] == keys


@pytest.mark.parametrize("query", ["keys_only=1", "keys_only", "keys_only=true"])
def test_keys_only(node: Node, query: str) -> None:
    node("PUT", "/kv/a", b"v")

    answer = node("GET", f"/kv?{query}")

    assert answer.json["items"] == [{"key": "a", "version": 1, "revision": 1, "create_revision": 1}]
    assert answer.headers["raftkv-consistency"] == "linearizable"


# -- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_answers_each_operation(node: Node) -> None:
    node("PUT", "/kv/old", b"\xff")
    operations = [
        {"op": "put", "key": "new", "value": "v", "ttl": 60},
        {"op": "put", "key": "new", "value": {"base64": "/w=="}, "if_revision": 9},
        {"op": "get", "key": "old"},
        {"op": "delete", "key": "old", "if_revision": 1},
        {"op": "delete", "key": "none"},
    ]

    answer = node("POST", "/batch", {"operations": operations}, content_type="application/json; charset=utf-8")

    assert answer.status == 200
    assert answer.json == {
        "results": [
            {"op": "put", "key": "new", "status": 201, "version": 1, "revision": 2},
            {"op": "put", "key": "new", "status": 412, "code": "precondition_failed", "revision": 2},
            {
                "op": "get",
                "key": "old",
                "status": 200,
                "value": {"base64": "/w=="},
                "version": 1,
                "revision": 1,
                "create_revision": 1,
            },
            {"op": "delete", "key": "old", "status": 200, "deleted": 1, "revision": 2},
            {"op": "delete", "key": "none", "status": 404, "code": "not_found"},
        ],
        "revision": 2,
    }


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (100_000 * b"[", "body"),
        ({}, "operations"),
        ({"operations": []}, "operations"),
        ({"operations": 6 * [{"op": "get", "key": "a"}]}, "1 to 5"),
        ({"operations": [{"key": "a"}]}, "op"),
        ({"operations": [{"op": "rename", "key": "a"}]}, "rename"),
        ({"operations": [{"op": "get"}]}, "key"),
        ({"operations": [{"op": "get", "key": 1}]}, "operations[0].key"),
        ({"operations": [{"op": "get", "key": ""}]}, "operations[0].key"),
        ({"operations": [{"op": "get", "key": "a", "valu": 1}]}, "valu"),
        ({"operations": [{"op": "put", "key": "a"}]}, "value"),
        ({"operations": [{"op": "put", "key": "a", "value": 1}]}, "value"),
        ({"operations": [{"op": "put", "key": "a", "value": {"base64": "!"}}]}, "base64"),
        ({"operations": [{"op": "put", "key": "a", "value": "v", "ttl": 0}]}, "ttl"),
        ({"operations": [{"op": "put", "key": "a", "value": "v", "if_revision": -1}]}, "if_revision"),
        ({"operations": [{"op": "put", "key": "a", "value": "v", "if_revision": "1"}]}, "if_revision"),
        (b'{"operations": [{"op": "get", "key": "\\ud800"}]}', ""),
        ({"operations": [], "more": 1}, "more"),
    ],
)
def test_bad_batches(node: Node, body: Any, word: str) -> None:
    assert is_problem(node("POST", "/batch", body, content_type="application/json"), 400, "bad_request", word)
    assert node.solo.submitted == []


def test_sizes_in_a_batch(node: Node) -> None:
    large_value = {"operations": [{"op": "put", "key": "a", "value": 1001 * "v"}]}
    large_key = {"operations": [{"op": "get", "key": 65 * "k"}]}

    assert is_problem(node("POST", "/batch", large_value), 413, "value_too_large")
    assert is_problem(node("POST", "/batch", large_key), 414, "key_too_large", "operations[0].key")
    assert is_problem(node("POST", "/batch", (3 << 20) * b" "), 413, "value_too_large")


def test_only_json_is_taken(node: Node) -> None:
    batch = {"operations": [{"op": "get", "key": "a"}]}

    assert node("POST", "/batch", batch).status == 200
    assert node("POST", "/batch", batch, content_type="application/vnd.x+json").status == 200
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        answer = node("POST", "/batch", batch, content_type=content_type)
        assert is_problem(answer, 415, "unsupported_media_type", content_type)


# -- the reference systems ----------------------------------------------------------------------------------------

FORM = {"content_type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("headers", [{"content_type": "application/json"}, {}, FORM])
def test_reference_put(node: Node, method: str, headers: dict[str, str]) -> None:
    answer = node(method, "/put", {"key": "k", "value": "v"}, **headers)

    assert (answer.status, answer.json) == (200, {"result": "ok", "acks": 0, "key": "k", "version": 1})
    assert node("GET", "/kv/k").body == b"v"


@pytest.mark.parametrize("target", ["/get?key=a/b", "/get?key=a%2Fb", "/get/a/b", "/get/a%2Fb", "/get/key=a/b"])
def test_reference_get(node: Node, target: str) -> None:
    node("PUT", "/kv/a/b", b"v")

    answer = node("GET", target)

    assert (answer.status, answer.json) == (200, {"key": "a/b", "value": "v", "version": 1, "timestamp": 1})
    assert answer.headers["raftkv-consistency"] == "linearizable"


def test_reference_get_at_another_level_and_of_nothing(node: Node) -> None:
    assert node("GET", "/get?key=none&consistency=lease").headers["raftkv-consistency"] == "lease"
    assert is_problem(node("GET", "/get?key=none"), 404, "not_found")
    assert node("GET", "/get/none").json["detail"] == "there is no key 'none'"
    assert is_problem(node("GET", "/local_read?key=none"), 404, "not_found", "there is no key 'none' on this node")
    assert is_problem(node("DELETE", "/delete?key=none"), 404, "not_found")


def test_reference_local_read(node: Node) -> None:
    node("PUT", "/kv/k", b"\xff")

    answer = node("GET", "/local_read?key=k")

    assert (answer.status, answer.json) == (
        200,
        {"key": "k", "value": {"base64": "/w=="}, "version": 1, "timestamp": 1},
    )
    assert isinstance(node.solo.submitted[-1], Read)
    assert node.solo.submitted[-1].consistency is Consistency.LOCAL


def test_reference_delete(node: Node) -> None:
    node("PUT", "/kv/k", b"v")

    answer = node("DELETE", "/delete?key=k")

    assert (answer.status, answer.json) == (200, {"deleted": 1, "key": "k", "revision": 2})


@pytest.mark.parametrize(
    ("target", "key", "value"),
    [
        ("/set/k/v", "k", "v"),
        ("/set/a%2Fb/c/d", "a/b", "c/d"),
        ("/set/k/", "k", ""),
        ("/set/k/%FF", "k", {"base64": "/w=="}),
    ],
)
def test_reference_set_in_the_path(node: Node, target: str, key: str, value: Any) -> None:
    answer = node("POST", target)

    assert (answer.status, answer.json) == (201, {"key": key, "value": value, "version": 1, "status": "created"})


def test_reference_set(node: Node) -> None:
    node("POST", "/set", {"key": "k", "value": ""})
    answer = node("POST", "/set", {"key": "k", "value": {"base64": "/w=="}}, **FORM)

    expected = {"key": "k", "value": {"base64": "/w=="}, "version": 2, "status": "created"}
    assert (answer.status, answer.json) == (201, expected)


@pytest.mark.parametrize("target", ["/put", "/set"])
@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        ({"key": "k"}, 400, "value"),
        ({"value": "v"}, 400, "key"),
        ({"key": "", "value": "v"}, 400, "key"),
        ({"key": 1, "value": "v"}, 400, "key"),
        ({"key": "k", "value": 1}, 400, "value"),
        ({"key": "k", "value": None}, 400, "value"),
        ({"key": "k", "value": {"base64": 1}}, 400, "value.base64"),
        ({"key": "k", "value": "v", "tll": 1}, 400, "tll"),
        ({"key": 65 * "k", "value": "v"}, 414, "key"),
        ({"key": "k", "value": 1001 * "v"}, 413, "value"),
    ],
)
def test_reference_writes_with_bad_bodies(node: Node, target: str, body: Any, status: int, word: str) -> None:
    answer = node("POST", target, body, content_type="application/json")

    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert word in answer.json["detail"]
    assert node.solo.submitted == []


def test_a_form_is_no_json(node: Node) -> None:
    assert is_problem(node("POST", "/set", b"key=k&value=v", **FORM), 415, "unsupported_media_type")
    assert is_problem(node("POST", "/set", b'{"key":', **FORM), 400, "bad_request", "JSON")


def test_reference_health_and_config(node: Node) -> None:
    told = {"status": "healthy", "time": "1970-01-01T00:00:00.000+00:00"}
    assert node("GET", "/health").json == {**told, "health": "true", "reason": ""}
    node.reachable_peers = 0
    assert node("GET", "/health").json == {**told, "health": "false", "reason": "no quorum: 1 of 3"}
    assert node("GET", "/config").json == {"n": 3, "r": 2, "w": 2}
    assert is_problem(node("POST", "/config", {"n": 3}), 400, "not_supported")
    assert node.solo.submitted[-1] == Configure(n=3)


# -- the cluster --------------------------------------------------------------------------------------------------


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


# -- Flask and the hot path ---------------------------------------------------------------------------------------


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


# -- what describes the rest --------------------------------------------------------------------------------------


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
