"""The proxy in front of servers that behave, misbehave, and are not there."""

import asyncio
import json as json_
import time

import pytest

from raftkv.client.reach import UnopenedError
from raftkv.core.config import parse_address
from raftkv.core.errors import StartupError
from raftkv.http import parameters
from raftkv.proxy import application
from raftkv.proxy.application import ProxyApplication
from raftkv.proxy.cluster import AVOID_S, REASON_CHARACTERS_MAX, STALE_S, Cluster
from raftkv.proxy.server import seeds_of
from raftkv.proxy.view import ClusterView, Node
from tests.unit.fake_server import CUT, HANG, Told, json, problem, unused_url

FINE = Told(200, b"v", {"Raftkv-Node": "n1", "ETag": '"7"', "Content-Type": "text/x"})
NO_QUORUM = problem(503, "quorum_unreachable", "no")
UNKNOWN = problem(504, "outcome_unknown", "unknown")


def member(node, http, **more):
    return {"id": node, "http": http, "peer": "127.0.0.1:1", "reachable": True, **more}


MEMBERS = json({"members": [member("n1", "127.0.0.1:1")], "leader": "n1"})


class Clock:
    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead_s


class Proxy:
    """The application over ``servers``, which are asked in that order whatever the key."""

    def __init__(self, *servers, timeout_s=5.0):
        self.clock = Clock()
        addresses = [parse_address(getattr(one, "url", one).removeprefix("http://")) for one in servers]
        self.cluster = Cluster(addresses, tls=None, monotonic_s=self.clock)
        nodes = tuple(Node(id=f"n{place + 1}", http=address) for place, address in enumerate(addresses))
        self.cluster.view = ClusterView(nodes=nodes)
        self.cluster.candidates = lambda key, *, is_read: nodes
        self.application = ProxyApplication(self.cluster, timeout_s=timeout_s, version="1", monotonic_s=self.clock)

    def __call__(self, method, target, body=b"", **headers):
        return asyncio.run(self.ask(method, target, body, **headers))

    async def ask(self, method, target, body=b"", **headers):
        path, _, query = target.partition("?")
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if body:
            pairs.append((b"content-length", str(len(body)).encode()))
        if "host" not in headers:
            pairs.append((b"host", b"localhost:8000"))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": pairs,
        }
        sent = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            sent.append(message)

        await self.application(scope, receive, send)
        start, content = sent
        return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content["body"]


def code_of(body):
    found = json_.loads(body)
    return found["code"], found["applied"]


# -- what is passed on --------------------------------------------------------------------------------------------


def test_a_request_and_its_answer_pass_unchanged(serve):
    server = serve(FINE)
    status, headers, body = Proxy(server)(
        "PUT",
        "/kv/a%2Fb?w=2",
        b"\x00\xff",
        if_match='"7"',
        idempotency_key="once",
        authorization="Bearer x",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        tracestate="vendor=1",
    )
    asked = server.asked[0]

    assert (status, body, headers["raftkv-node"], headers["etag"]) == (200, b"v", "n1", '"7"')
    assert headers["content-type"] == "text/x"
    assert (asked.method, asked.target, asked.body) == ("PUT", "/kv/a%2Fb?w=2", b"\x00\xff")
    assert asked.headers["if-match"] == '"7"'
    assert asked.headers["idempotency-key"] == "once"
    assert asked.headers["authorization"] == "Bearer x"
    assert asked.headers["traceparent"].startswith("00-4bf92f35")
    assert asked.headers["tracestate"] == "vendor=1"


def test_what_belongs_to_one_connection_does_not_pass(serve):
    server = serve(Told(200, b"", {"Keep-Alive": "5", "Upgrade": "x", "Via": "1.0 them"}))
    _, headers, _ = Proxy(server)(
        "GET", "/kv/a", connection="x-mine, close", x_mine="1", te="trailers", host="localhost:80", via="1.0 before"
    )
    asked = server.asked[0].headers

    assert not {"keep-alive", "upgrade", "server", "date"} & headers.keys()
    assert headers["via"] == "1.1 raftkv-proxy"
    assert not {"connection", "x-mine", "te"} & asked.keys()
    assert asked["host"] == server.url.removeprefix("http://")
    assert asked["via"] == "1.0 before, 1.1 raftkv-proxy"


def test_a_page_of_another_site_reaches_no_node_and_a_page_of_the_proxy_s_own_does(serve):
    server = serve(FINE)
    ask = Proxy(server)
    own = {"origin": "http://localhost:8000", "referer": "http://localhost:8000/ui", "sec-fetch-site": "same-origin"}

    status, _, body = ask("POST", "/set/k/v", origin="http://evil.example", sec_fetch_site="cross-site")
    assert (status, code_of(body)) == (403, ("cross_site", "no"))
    status, _, body = ask("GET", "/kv/k", host="evil.example")
    assert (status, code_of(body)) == (421, ("misdirected", "no"))
    assert server.asked == []
    assert ask("POST", "/set/k/v", **own)[0] == 200
    assert not own.keys() & server.asked[0].headers.keys()  # the node would hold them against its own address


def test_a_head_keeps_the_length_of_what_it_does_not_carry(serve):
    status, headers, body = Proxy(serve(Told(200, b"12345")))("HEAD", "/kv/a")

    assert (status, headers["content-length"], body) == (200, "5", b"")


@pytest.mark.parametrize(
    "answer", [problem(412, "precondition_failed", "no"), problem(429, "overloaded", "no"), UNKNOWN]
)
def test_what_a_node_says_of_a_write_is_the_answer(serve, answer):
    other = serve(FINE)
    status, _, body = Proxy(serve(answer), other)("PUT", "/kv/a", b"v")

    assert (status, body) == (answer.status, answer.body)
    assert other.asked == []


# -- who else is asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [CUT, NO_QUORUM, UNKNOWN, problem(500, "internal_error", "unknown")])
def test_a_read_is_asked_of_the_next_node(serve, answer):
    first, second = serve(answer), serve(FINE)

    assert Proxy(first, second)("GET", "/kv/a")[0] == 200
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_a_read_of_a_node_that_hangs_is_asked_of_the_next_before_its_time_is_up(serve):
    assert Proxy(serve(HANG), serve(FINE), timeout_s=0.5)("GET", "/kv/a")[0] == 200


@pytest.mark.parametrize("first", [None, NO_QUORUM])
def test_a_write_is_given_to_the_next_node_when_it_was_definitely_not_applied(serve, first):
    one = unused_url() if first is None else serve(first)
    second = serve(FINE)

    assert Proxy(one, second)("PUT", "/kv/a", b"v")[0] == 200
    assert second.asked[0].body == b"v"


@pytest.mark.parametrize("first", [CUT, HANG, Told(503, b"nothing said"), problem(503, "x", "unknown")])
def test_a_write_that_may_have_been_applied_is_given_to_nobody_else(serve, first):
    second = serve(FINE)
    status, _, body = Proxy(serve(first), second, timeout_s=0.3)("PUT", "/kv/a", b"v")

    assert status in (503, 504)
    assert status == 503 or code_of(body) == ("outcome_unknown", "unknown")
    assert second.asked == []


def test_the_first_failure_in_words_is_the_answer_when_nobody_can_do_better(serve):
    full = problem(503, "disk_full", "no")
    for method in ("GET", "PUT"):
        status, _, body = Proxy(unused_url(), serve(NO_QUORUM), serve(full))(method, "/kv/a")
        assert (status, body) == (503, NO_QUORUM.body)


def test_with_nobody_there_nothing_was_applied():
    for method in ("GET", "PUT"):
        status, headers, body = Proxy(unused_url(), unused_url())(method, "/kv/a")
        assert (status, code_of(body)) == (503, ("quorum_unreachable", "no"))
        assert headers["retry-after"]


def detail_of(body):
    return json_.loads(body)["detail"]


def test_why_no_node_answers_is_said_and_logged_and_forgotten_when_one_does(serve, caplog):
    lost = serve(CUT)
    proxy = Proxy(lost, unused_url(), unused_url())
    details = [detail_of(proxy("GET", "/kv/a")[2]) for _ in range(3)]

    assert details[0] == (
        "none of the 3 nodes behind this proxy answers: n1 took a request and gave no answer (closed the "
        "connection before it had answered); n2, n3 each refuses connections: nothing listens there"
    )
    assert details[1:] == details[:1] * 2
    assert len(caplog.messages) == 3  # whoever fails again and again is not logged each time
    lost.answers = [FINE]
    proxy("GET", "/kv/a")
    assert proxy.cluster.silence == "n2, n3 each refuses connections: nothing listens there"


def test_why_no_node_answers_is_said_within_bounds():
    proxy = Proxy(*[f"http://nowhere-{number}.invalid:80" for number in range(50)])
    for node in proxy.cluster.view.nodes:
        proxy.cluster.failed(node, UnopenedError(f"reason of {node.id} " * 3))

    assert proxy.cluster.silence.startswith("n1 reason of n1")
    assert len(proxy.cluster.silence) <= REASON_CHARACTERS_MAX


@pytest.mark.parametrize("query", ["timeout=0.1", "a=b&timeout=%30.1&c", "timeou%74=0.1"])
def test_a_timeout_is_read_as_nodes_read_it(query):
    assert parameters.timeout_of(query.encode()) == 0.1


@pytest.mark.parametrize(
    "query", ["", "r=1", "timeout=61", "timeout=0", "timeout=soon", "timeout=1_0", "a=%zz&timeout=1"]
)
def test_what_nodes_refuse_of_a_timeout_is_left_to_them(query):
    assert parameters.timeout_of(query.encode()) is None


def test_a_request_says_how_long_it_may_take(serve, monkeypatch):
    monkeypatch.setattr("raftkv.proxy.forwarding.GRACE_S", 0.1)
    proxy = Proxy(serve(HANG), timeout_s=60.0)

    assert code_of(proxy("PUT", "/kv/a?timeout=0.1", b"v")[2]) == ("outcome_unknown", "unknown")


def test_who_failed_is_avoided_for_a_while_or_until_it_answers():
    proxy = Proxy(unused_url())
    proxy("GET", "/kv/a")

    assert proxy.cluster.avoided() == {"n1"}
    proxy.clock.ahead_s = AVOID_S
    assert proxy.cluster.avoided() == set()


# -- what is not passed on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/internal/read?key=a", "/internal/write", "//internal/kv", "/%69nternal/kv"])
def test_one_replica_is_not_asked_through_a_proxy(serve, target):
    server = serve(FINE)
    status, _, body = Proxy(server)("POST", target)

    assert (status, code_of(body)) == (403, ("forbidden", "no"))
    assert server.asked == []


def test_its_own_life_and_metrics_are_its_own(serve):
    server = serve(FINE)
    proxy = Proxy(server)

    assert proxy("GET", "/livez")[2] == b'{"status":"alive"}\n'
    assert proxy("GET", "/metrics")[0] == 404
    assert server.asked == []


def test_more_than_it_can_carry_is_turned_away(monkeypatch, serve):
    monkeypatch.setattr(application, "MAX_WAITING", 0)

    assert code_of(Proxy(serve(FINE))("GET", "/kv/a")[2]) == ("overloaded", "no")


def test_a_body_beyond_all_bounds_is_refused(monkeypatch, serve):
    monkeypatch.setattr(application, "BODY_BYTES_MAX", 10)

    assert Proxy(serve(FINE))("PUT", "/kv/a", b"x" * 11)[0] == 413


# -- what it knows ------------------------------------------------------------------------------------------------


def refreshing(servers, times=1):
    addresses = [parse_address(getattr(one, "url", one).removeprefix("http://")) for one in servers]
    clock = Clock()
    cluster = Cluster(addresses, tls=None, monotonic_s=clock)

    async def run():
        return [await cluster.refresh() for _ in range(times)]

    return cluster, asyncio.run(run()), clock


@pytest.mark.parametrize("answer", [Told(200, b"{"), Told(404, b""), CUT])
def test_the_view_comes_from_whoever_tells_it(serve, answer):
    cluster, learned, clock = refreshing([unused_url(), serve(answer), serve(MEMBERS)])

    assert learned == [True]
    assert [node.id for node in cluster.view.nodes] == ["n1"]
    assert cluster.view.leader == "n1"
    assert cluster.is_fresh
    clock.ahead_s = STALE_S
    assert not cluster.is_fresh


def test_when_no_member_answers_the_seeds_are_asked_again(serve):
    """The members that were told of are not there any more; the seed is, and tells of others."""
    gone = unused_url().removeprefix("http://")
    first = json({"members": [member("n8", gone)], "leader": None})
    cluster, learned, _ = refreshing([serve(first, MEMBERS)], times=2)

    assert learned == [True, True]
    assert [node.id for node in cluster.view.nodes] == ["n1"]


def test_no_answer_takes_the_seeds_away(serve):
    """A member that was let in to capture the proxy tells of itself alone; the seed is asked all the same."""
    captor = serve(json({"members": [member("n9", "127.0.0.1:9")], "leader": "n9"}))
    at = captor.url.removeprefix("http://")
    captured = json({"members": [member("n9", at)], "leader": "n9"})
    cluster, learned, _ = refreshing([serve(captured, MEMBERS)], times=3)

    assert learned == [True, True, True]
    assert [node.id for node in cluster.view.nodes] == ["n1"]
    assert captor.asked == []


@pytest.mark.parametrize("state", ["joining", "leaving", "suspect", "down"])
def test_only_members_that_are_up_are_believed(serve, state):
    other = serve(MEMBERS)
    at = other.url.removeprefix("http://")
    first = json({"members": [member("n8", at, state=state), member("n7", "127.0.0.1:9", state="up")], "leader": None})
    cluster, learned, _ = refreshing([serve(first, CUT)], times=2)

    assert learned == [True, False]
    assert other.asked == []
    assert state != "joining" or [node.id for node in cluster.view.nodes] == ["n7"]


def test_with_nobody_to_tell_the_seeds_are_all_there_is():
    cluster, learned, _ = refreshing([unused_url(), unused_url()])

    assert learned == [False]
    assert len(cluster.view.nodes) == 2
    assert cluster.learned_ago_s is None


def test_its_status_names_the_nodes_and_how_keys_are_placed(serve):
    proxy = Proxy(serve(FINE), unused_url())
    asyncio.run(proxy.cluster.refresh())
    status = json_.loads(proxy("GET", "/status")[2])

    assert (status["role"], status["ready"], status["ring"]) == ("proxy", False, None)
    assert status["reason"] == (
        "no node behind this proxy answers: n1 answers as no node does (its members: JSON is malformed: invalid "
        "character (byte 0)); n2 refuses connections: nothing listens there"
    )
    assert [peer["id"] for peer in status["peers"]] == ["n1", "n2"]


def test_it_learns_when_it_starts_and_stops_asking_when_it_ends(serve):
    server = serve(MEMBERS)
    proxy = Proxy(server)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    async def run():
        await proxy.application({"type": "lifespan"}, receive, send)
        await asyncio.sleep(0)
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(run()) == []
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert proxy.cluster.view.leader == "n1"


def test_servers_that_cannot_be_a_cluster_are_refused():
    assert [str(seed) for seed in seeds_of(["http://h:1", "http://[::1]"])] == ["h:1", "[::1]:80"]
    with pytest.raises(StartupError, match="no path"):
        seeds_of(["http://h:1/x"])
    with pytest.raises(StartupError, match="http or https"):
        seeds_of(["http://h:1", "https://h:2"])


# -- reads are never in doubt, and a repair takes its time --------------------------------------------------------

GETS = b'{"operations":[{"op":"get","key":"a"},{"op":"get","key":"b"}]}'


def test_a_batch_of_reads_is_a_read(serve):
    assert Proxy(serve(CUT), serve(FINE))("POST", "/batch", GETS)[0] == 200


def test_a_read_that_all_nodes_are_in_doubt_about_is_refused(serve):
    for method, target, body in (("GET", "/kv/a", b""), ("POST", "/batch", GETS)):
        status, _, found = Proxy(serve(UNKNOWN), serve(CUT))(method, target, body)

        assert (status, code_of(found)) == (503, ("quorum_unreachable", "no"))


def test_a_repair_may_take_as_long_as_a_node_lets_it():
    proxy, limits = Proxy(unused_url(), timeout_s=0.4), []

    async def noted(address, request, limit_s):
        limits.append(limit_s)
        raise UnopenedError("nobody is there")

    proxy.application._forwarder._ask = noted
    for target in ("/cluster/repair", "/cluster/repair?timeout=3", "/batch"):
        proxy("POST", target)

    assert limits == [pytest.approx(60.5, abs=0.1), pytest.approx(3.5, abs=0.1), pytest.approx(0.9, abs=0.1)]


@pytest.mark.parametrize(
    ("target", "body", "limit_s"),
    [
        ("/locks/l", b'{"ttl": 5, "wait": 30}', 31.3),
        ("/elections/a/b/campaign?timeout=1", b'{"wait": 2.5}', 5.0),
        ("/locks/l", b'{"ttl": 5}', 0.9),
        ("/locks/l", b'{"wait": 3601}', 0.9),
        ("/elections/e/resign", b'{"wait": 30}', 0.9),
    ],
)
def test_who_waits_for_a_lock_may_wait_as_long_as_it_says(target, body, limit_s):
    proxy, limits = Proxy(unused_url(), timeout_s=0.4), []

    async def noted(address, request, limit_s):
        limits.append(limit_s)
        raise UnopenedError("nobody is there")

    proxy.application._forwarder._ask = noted
    proxy("POST", target, body)

    assert limits == [pytest.approx(limit_s, abs=0.1)]
