"""Transactions, counters, lives, ranges and the past on the command line: what is asked and printed, how it ends."""

import io
import sys

import msgspec
import pytest

from raftkv.cli import main
from tests.unit.fake_server import FakeServer, Told, json, problem

COUNTED = json({"key": "n", "value": 7, "version": 2, "revision": 9})
TOUCHED = json({"key": "k", "revision": 9, "ttl_left": 5.0})
RECORD = {"key": "k", "value": "v", "version": 1, "revision": 7, "create_revision": 7}
LEADERLESS = problem(400, "not_supported", "no")


@pytest.fixture
def run(capfdbinary, monkeypatch):
    def call(*arguments, answers, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with FakeServer(*answers) as server:
            status = main.run(["--server", server.url, "--timeout", "0.5", *arguments])
        out, err = capfdbinary.readouterr()
        assert err.count(b"\n") <= 1, err
        return status, out.decode(), err.decode(), server.asked

    return call


def test_an_increment_prints_the_sum(run):
    assert run("increment", "n", answers=[COUNTED])[:3] == (0, "7\n", "")
    assert run("increment", "n", "--json", answers=[COUNTED])[1] == '{"key":"n","value":7}\n'


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["n"], {}),
        (["n", "5"], {"by": 5}),
        (["n", "-5", "--min", "-9"], {"by": -5, "min": -9}),
        (["--max", "3", "n"], {"max": 3}),
    ],
)
def test_an_increment_takes_negative_numbers_and_bounds(run, arguments, body):
    asked = run("increment", *arguments, answers=[COUNTED])[3]

    assert asked[0].target.startswith("/kv/n/increment?")
    assert msgspec.json.decode(asked[0].body) == body


@pytest.mark.parametrize("code", ["not_an_integer", "out_of_bounds"])
def test_what_cannot_be_counted_exits_1(run, code):
    assert run("increment", "n", answers=[problem(409, code, "no")])[:3] == (1, "", f"raftkv: it is {code}\n")


def test_a_touch_lets_a_key_live_on_for_a_time_or_for_ever(run):
    status, out, _, asked = run("touch", "k", "5m", answers=[TOUCHED])

    assert (status, out) == (0, "OK\n")
    assert msgspec.json.decode(asked[0].body) == {"ttl": 300.0}
    assert msgspec.json.decode(run("touch", "k", "never", answers=[TOUCHED])[3][0].body) == {"ttl": None}
    assert run("touch", "k", "2h", "--json", answers=[TOUCHED])[1] == '{"key":"k","ttl":7200.0}\n'
    assert run("touch", "k", "9", answers=[problem(404, "not_found", "no")])[:3] == (1, "", "raftkv: no such key: k\n")


def test_compaction(run):
    done = json({"compacted_revision": 9})

    assert run("compact", "9", answers=[done])[:2] == (0, "OK\n")
    assert run("compact", "9", "--json", answers=[done])[1] == '{"compacted_revision":9}\n'
    assert run("compact", "9", answers=[problem(410, "compacted", "no", compacted_revision=12)])[0] == 1


def test_the_past_is_read(run):
    get = run("get", "k", "--revision", "7", answers=[Told(200, b"v")])
    listed = run("list", "k", "--revision", "7", answers=[json({"items": [RECORD], "next": None, "revision": 9})])

    assert get[:2] == (0, "v\n")
    assert "revision=7" in get[3][0].target
    assert listed[:2] == (0, "k\n")
    assert "revision=7" in listed[3][0].target
    assert run("get", "k", "--revision", "1", answers=[problem(410, "compacted", "no")])[0] == 1


def test_a_key_is_set_with_a_lease(run):
    stored = json({"key": "k", "version": 1, "revision": 7}, 201)

    assert "lease=12" in run("set", "k", "v", "--lease", "12", answers=[stored])[3][0].target
    assert run("set", "k", "v", "--lease", "9", answers=[problem(404, "lease_not_found", "no")])[0] == 1


def test_all_of_a_prefix_is_deleted_and_counted(run):
    done = json({"deleted": 3, "revision": 9})
    status, out, _, asked = run("delete", "--prefix", "a/", answers=[done])

    assert (status, out) == (0, "3\n")
    assert (asked[0].method, asked[0].target.partition("&")[0]) == ("DELETE", "/kv?prefix=a%2F")
    assert run("delete", "--prefix", "a/", "--json", answers=[done])[1] == '{"prefix":"a/","deleted":3}\n'


@pytest.mark.parametrize(
    "arguments",
    [
        ["delete"],
        ["delete", "k", "--prefix", "k"],
        ["delete", "--prefix", "k", "--if-revision", "1"],
        ["delete", "--prefix", "k", "--w", "all"],
        ["delete", "--prefix", "k", "--context", "x"],
        ["delete", "--prefix", ""],
        ["set", "k", "v", "--ttl", "5", "--lease", "5"],
        ["increment", "n", "x"],
        ["increment", "n", "--by", "3"],
        ["touch", "k", "forever"],
        ["touch", "k", "0"],
        ["compact", "x"],
        ["compact"],
        ["get", "k", "--revision", "0"],
        ["txn", "/nonexistent.json"],
        ["txn", "/"],
    ],
)
def test_wrong_usage_is_one_line_and_asks_nobody(run, arguments):
    status, out, err, asked = run(*arguments, answers=[LEADERLESS])

    assert (status, out, asked) == (2, "", [])
    assert err


WITHIN = [{"op": "get", "key": "e", "status": 404, "code": "not_found"}]
DONE = {
    "succeeded": True,
    "revision": 12,
    "results": [
        {"op": "put", "key": "a", "status": 201, "version": 1, "revision": 12},
        {"op": "delete", "key": "b\n", "status": 404, "code": "not_found"},
        {"op": "get", "key": "c", "status": 200, "value": "x\ty", "version": 1, "revision": 3, "create_revision": 3},
        {"op": "get", "key": "d", "status": 200, "value": {"base64": "/w=="}, "version": 1, "revision": 3},
        {"op": "list", "status": 200, "items": [RECORD, {**RECORD, "key": "l"}], "next": None},
        {"op": "delete_prefix", "status": 200, "deleted": 2, "revision": 12},
        {"op": "increment", "key": "n", "status": 200, "value": 0, "version": 2, "revision": 12},
        {"op": "touch", "key": "t", "status": 200, "revision": 4},
        {"op": "txn", "status": 200, "succeeded": False, "results": WITHIN},
    ],
}


def test_a_transaction_is_sent_as_it_is_written_and_told_in_lines(run, tmp_path):
    path = tmp_path / "move.json"
    path.write_bytes(b'{"success": [{"op": "get",\n "key": "a"}]}')
    status, out, err, asked = run("txn", str(path), answers=[json(DONE)])

    assert (status, err) == (0, "")
    assert (asked[0].target.partition("?")[0], asked[0].body) == ("/txn", path.read_bytes())
    assert asked[0].headers["idempotency-key"]
    assert out.splitlines() == [
        "put\ta\tOK",
        "delete\tb\\n\tnot found",
        "get\tc\tx\\ty",
        "get\td\t\\xff",
        "list\tk\tv",
        "list\tl\tv",
        "delete_prefix\t\t2 deleted",
        "increment\tn\t0",
        "touch\tt\tOK",
        "txn\t\tfailed",
        "get\te\tnot found",
    ]


def test_a_transaction_comes_from_standard_input_and_is_told_in_json(run):
    status, out, _, asked = run("txn", "-", "--json", answers=[json(DONE)], stdin=b"{}")

    assert (status, asked[0].body) == (0, b"{}")
    assert msgspec.json.decode(out) == DONE


def test_the_other_branch_exits_1(run):
    failed = {"succeeded": False, "revision": 12, "results": DONE["results"][:1]}
    status, out, err, _ = run("txn", "-", answers=[json(failed)], stdin=b"{}")

    assert (status, out) == (1, "put\ta\tOK\n")
    assert err == "raftkv: what is compared does not hold at revision 12\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (problem(409, "out_of_bounds", "no"), 1),
        (problem(404, "lease_not_found", "no"), 1),
        (problem(400, "bad_request", "no"), 2),
        (problem(504, "outcome_unknown", "unknown"), 4),
        (json({"hello": "world"}), 4),
    ],
)
def test_a_transaction_that_is_not_done_or_in_doubt(run, answer, status):
    assert run("txn", "-", answers=[answer], stdin=b"{}")[:2] == (status, "")


@pytest.mark.parametrize(
    "command",
    [
        ["increment", "n"],
        ["touch", "k", "5"],
        ["compact", "5"],
        ["txn", "-"],
        ["delete", "--prefix", "k"],
        ["get", "k", "--revision", "5"],
        ["list", "--revision", "5"],
        ["set", "k", "v", "--lease", "5"],
    ],
)
def test_a_leaderless_cluster_says_in_a_sentence_what_it_cannot_do(run, command):
    assert run(*command, answers=[LEADERLESS], stdin=b"{}")[:3] == (2, "", "raftkv: it is not_supported\n")
