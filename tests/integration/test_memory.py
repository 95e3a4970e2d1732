"""Nodes under a memory limit against the largest of every request; what they took, they must bear again.

Each answer is right, or a refusal that says that nothing was done, and then right when it is asked alone.
"""

import base64
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.integration.processes import RealCluster

pytestmark = pytest.mark.integration

LIMIT_BYTES = 700 << 20
"""For each process of a node: what it allocates itself; the mapped state is not in it."""

VALUE = b"\x01" * (1 << 20)
"""JSON writes each of these bytes with six characters, as many as it ever takes."""

THREADS = 6
TIMEOUT_S = 50
PATIENT = "[quorum]\nreplica_timeout_s = 10\n"
"""Nobody is given up because this machine is busy."""

LEVELS = {
    "raft": ("consistency=linearizable", "consistency=lease", "consistency=local"),
    "quorum": ("consistency=eventual", "consistency=local", "r=1", "r=3"),
}


def long_key(name):
    """As long as a key may be."""
    return name + "k" * (1024 - len(name))


LARGE = [long_key(f"large-{number:02}-") for number in range(12)]
HEADERS = {f"X-{number}": 4000 * "h" for number in range(15)}
"""Close to all that a request may have."""


class LimitedCluster(RealCluster):
    """Nodes that end when they allocate more than ``LIMIT_BYTES``."""

    def command(self, node):
        return ["prlimit", f"--data={LIMIT_BYTES}", "--", *super().command(node)]


def reads(mode):
    """What changes nothing: method, path, options, and what holds the answer to be right."""
    gets = {"operations": [{"op": "get", "key": LARGE[0]}] * 1_000}
    for level in LEVELS[mode]:
        yield "GET", f"/kv?{level}", {}, is_large_page
        yield "GET", f"/kv?keys_only=1&{level}", {"headers": HEADERS}, is_page_of_keys
        yield "GET", f"/kv/{LARGE[0]}?{level}", {"headers": {"Accept": "application/json"}}, is_record
        yield "GET", f"/get?key={LARGE[0]}&{level}", {"headers": HEADERS}, is_record
    if mode == "raft":  # several replicas can be read for one key only
        yield "GET", f"/get?key={LARGE[0]}&r=3", {"headers": HEADERS}, is_record
    yield "GET", f"/kv/{LARGE[0]}", {"headers": HEADERS}, lambda answer: answer.content == VALUE
    yield "GET", f"/get/{LARGE[0]}", {}, is_record
    yield "GET", f"/local_read?key={LARGE[0]}", {}, is_record
    yield "POST", "/batch", {"json": gets}, is_batch
    if mode == "quorum":
        yield "GET", f"/internal/read?key={LARGE[0]}", {}, is_record


def writes(mode, node):
    """What changes something. A key for each node: of leaderless writes that meet, the one that loses is in doubt."""
    key = partial("{}-{}".format, f"small-{node}")
    gets = [{"op": "get", "key": LARGE[0]}] * 999
    some = {"operations": [*gets, {"op": "put", "key": key("some"), "value": "v"}]}
    many = {
        "operations": [{"op": "put", "key": long_key(key(number)), "value": 1_900 * "v"} for number in range(1_000)]
    }
    plain = VALUE.replace(b"\x01", b"v").decode()
    large = {"operations": [{"op": "put", "key": long_key(key(number)), "value": plain} for number in range(2)]}
    coded = {"value": {"base64": base64.b64encode(VALUE).decode()}}
    yield "PUT", f"/kv/{long_key(key('put'))}", {"data": VALUE, "headers": HEADERS}, is_stored
    yield "POST", "/put", {"json": {"key": long_key(key("post")), **coded}}, is_stored
    yield "POST", "/set", {"json": {"key": long_key(key("set")), **coded}}, is_stored
    yield "POST", f"/set/{key('path')}/{7_000 * 'v'}", {}, is_stored
    yield "POST", "/batch", {"json": large}, is_batch
    yield "POST", "/batch", {"json": many}, is_batch
    yield "POST", "/batch", {"json": some}, is_batch
    yield "POST", "/cluster/repair", {}, is_repair
    if mode == "raft":
        once = {"Idempotency-Key": f"once-{node}"}
        yield "POST", "/batch", {"json": some, "headers": once}, is_batch
        yield "POST", "/batch?w=3", {"json": some, "headers": once}, is_batch
    else:
        yield "POST", "/internal/kv", {"json": {"key": long_key(key("here")), **coded}}, is_stored


def is_large_page(answer):
    if answer.status_code != 200:
        return False
    page = answer.json()
    keys = [item["key"] for item in page["items"]]
    rights = [item["value"].encode() == VALUE for item in page["items"]]
    return 0 < len(keys) < len(LARGE) and keys == LARGE[: len(keys)] and all(rights) and page["next"] is not None


def is_page_of_keys(answer):
    """Several keys: a page of the leaderless mode ends where the shortest of its replicas' pages does."""
    if answer.status_code != 200:
        return False
    keys = [item["key"] for item in answer.json()["items"]][: len(LARGE)]
    return keys == LARGE[: len(keys)] != []


def is_record(answer):
    return answer.status_code == 200 and answer.json()["value"].encode() == VALUE


def is_stored(answer):
    return answer.status_code in (200, 201)


def is_batch(answer):
    """Gets beyond the bound are withheld; whatever they are, writes are carried out."""
    statuses = {"get": {200, 413}, "put": {200, 201}}
    return answer.status_code == 200 and all(
        result["status"] in statuses[result["op"]] for result in answer.json()["results"]
    )


def is_repair(answer):
    """In raft mode only what differs is fetched anew, and here nothing does."""
    return answer.status_code == 200 or answer.json()["applied"] == "no"


def ask(cluster, node, request):
    """Is the answer right? If not, it is a refusal, and nothing was done; raises where it is neither."""
    method, path, options, is_right = request
    path = f"{path}{'&' if '?' in path else '?'}timeout={TIMEOUT_S}"
    answer = cluster.request(method, node, path, timeout=TIMEOUT_S + 15, **options)
    asked = (node, method, path[:20], path[-60:], answer.status_code, answer.content[:300])
    if answer.status_code in (429, 503):
        assert answer.json()["applied"] == "no", asked
        return False
    assert is_right(answer), asked
    return True


def besiege(cluster):
    """Several at a time: writes at two nodes, reads at one; what was refused for the while is asked again alone."""
    asked = [(node, request) for node in ("n1", "n2") for request in writes(cluster.mode, node)]
    asked += [("n1", request) for request in reads(cluster.mode)]
    with ThreadPoolExecutor(THREADS) as threads:
        answered = list(threads.map(lambda one: ask(cluster, *one), asked))
    for (node, request), is_answered in zip(asked, answered, strict=True):
        assert is_answered or ask(cluster, node, request), (node, request[:2])


def are_alive(cluster):
    return all(process.poll() is None for process in cluster.processes.values())


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_no_request_and_no_entry_of_the_log_ends_a_node_that_has_little_memory(tmp_path, mode):
    with LimitedCluster(tmp_path, mode=mode, sections=PATIENT) as cluster:
        cluster.start()
        cluster.wait_ready()
        for key in LARGE:
            assert cluster.put("n1", key, VALUE).status_code == 201
        besiege(cluster)

        assert are_alive(cluster)
        # The state is rebuilt from the log, so that every entry is applied once more.
        cluster.kill(*cluster.nodes)
        marks = list((cluster.home / "data").glob("*/state/*/BOOT"))
        assert len(marks) == (3 if mode == "raft" else 0)
        for mark in marks:
            mark.unlink()
        cluster.start()
        cluster.wait_ready()
        assert all(cluster.get(node, LARGE[0]).content == VALUE for node in cluster.nodes)
        assert are_alive(cluster)
