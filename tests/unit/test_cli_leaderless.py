"""The command line against a leaderless cluster: replicas, siblings, members, repair, and the table of the ring."""

import io
import re
import sys

import msgspec
import pytest

from raftkv.cli import main, ring
from tests.unit.fake_server import CUT, FakeServer, Told, json, problem
from tests.unit.statuses import STATUS, silent, surveyed

STORED = json({"key": "k", "version": 7, "revision": 7, "node": "n2"}, 201, {"Raftkv-Durability": "w=2"})
SIBLINGS = json(
    {
        "key": "k",
        "siblings": [
            {"value": "one", "version": 3, "revision": 3, "node": "n1"},
            {"value": "two", "version": 4, "revision": 4, "node": "n2"},
        ],
    },
    300,
    {"Raftkv-Context": "c2Vlbg"},
)
REPAIRED = {"peers": ["n2"], "unreachable": [], "ranges": 8, "differing": 2, "received": 3, "sent": 1}
LEADERLESS = json({**STATUS, "mode": "quorum"})


def member(node, state="up", hints=0, http="127.0.0.1:1"):
    return {
        "id": node,
        "http": http,
        "peer": "127.0.0.1:2",
        "reachable": state == "up",
        "state": state,
        "zone": "",
        "share": 0.25,
        "heard_ago_ms": 5,
        "hints": hints,
    }


def members(found):
    return json({"members": found, "leader": None})


def status(node, members, **changes):
    found = {
        **STATUS,
        "node": node,
        "mode": "quorum",
        "role": "replica",
        "n": 3,
        "r": 2,
        "w": 2,
        "ring": "abcd",
        "conflicts": "lww",
        "hints_pending": 4,
        "repaired_keys": 6,
        "transfer": None,
        "members": members,
    }
    return {**found, **changes}


def in_ring(node, members, **changes):
    return surveyed(**status(node, members, **changes))


@pytest.fixture
def run(capfdbinary, monkeypatch):
    def call(*arguments, answers=(STORED,)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        with FakeServer(*answers) as server:
            exit_status = main.run(["--server", server.url, "--timeout", "0.5", *arguments])
        out, err = capfdbinary.readouterr()
        assert err.count(b"\n") <= 1
        return exit_status, out.decode(), err.decode(), server

    return call


def test_replicas_reach_the_server(run):
    targets = [
        run("get", "k", "--r", "1", "--n", "2", "--strict", answers=[Told(200, b"v")])[3].asked[0].target,
        run("set", "k", "v", "--w", "3", "--n", "3", "--sloppy")[3].asked[0].target,
        run("delete", "k", "--w", "all", "--strict")[3].asked[0].target,
        run("get", "k", "--consistency", "eventual", answers=[Told(200, b"v")])[3].asked[0].target,
    ]

    assert [target.partition("?")[2].partition("&timeout")[0] for target in targets] == [
        "r=1&n=2&sloppy=0",
        "w=3&n=3&sloppy=1",
        "w=all&sloppy=0",
        "consistency=eventual",
    ]


STAMP = 1763712345000000


def version(value, *, node="n1", size=5, later=0):
    return {"revision": STAMP + later, "node": node, "value": value, "bytes": size}


def replica(node, *versions, part="replica", fate="holds", behind=False, hints=(), reason=None):
    return {
        "id": node,
        "part": part,
        "fate": fate,
        "behind": behind,
        "versions": list(versions),
        "versions_count": len(versions),
        "seen": {},
        "hints": [{"target": target, "revision": STAMP, "node": "n1"} for target in hints],
        "reason": reason,
    }


def on_ring(*nodes):
    return json({"key": "a/k", "turn": 0.25, "n": 3, "nodes": list(nodes)})


def test_what_each_replica_holds_is_a_table_of_80_columns(run):
    told = on_ring(
        replica("n1", version("worth\n", later=5), hints=["n4"]),
        replica("n2", version({"base64": "/w=="}, node="n2~f00"), behind=True),
        replica("n3", version(None, later=5), part="moving"),
        replica("n4", fate="lost"),
        replica("n5", fate="declined", reason="starting"),
        replica("n6", part="other", hints=["n4"]),
        replica("n7", part="other"),
        replica("n8", behind=True),
        replica("n9", version("one"), version("y" * 256, size=70_000, node="n9~1")),
    )
    exit_status, out, err, server = run("get", "a/k", "--replicas", answers=[told])

    assert (exit_status, err) == (0, "")
    assert server.asked[0].target.partition("?")[0] == "/cluster/ring/a%2Fk"
    assert [re.split(r"  +", line) for line in out.splitlines()] == [
        ["node", "holds", "state", "stamp", "keeps"],
        ["n1", r"worth\n", "newest", f"{STAMP + 5}@n1", "for n4"],
        ["n2", r"\xff", "behind", f"{STAMP}@n2", "-"],
        ["n3", "(deleted)", "newest, moving", f"{STAMP + 5}@n1", "-"],
        ["n4", "-", "not reached", "-", "-"],
        ["n5", "-", "starting", "-", "-"],
        ["n6", "nothing", "stands in", "-", "for n4"],
        ["n8", "nothing", "lacks it", "-", "-"],
        ["n9", "one", "2 values", f"{STAMP}@n1", "-"],
        ["", "yyyyyyyyy... 70000 bytes", f"{STAMP}@n9"],
    ]
    assert max(map(len, out.splitlines())) <= 80


def test_replicas_of_a_key_that_nobody_has_are_told_and_it_is_missing(run):
    told = on_ring(replica("n1"), replica("n2", version(None)))
    exit_status, out, err, _ = run("get", "k", "--replicas", answers=[told])

    assert (exit_status, err) == (1, "raftkv: no such key: k\n")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["n1", "nothing"], ["n2", "(deleted)"]]


def test_replicas_as_json_are_what_the_api_says(run):
    told = on_ring(replica("n1", version("v")))
    exit_status, out, _, _ = run("get", "k", "--replicas", "--json", answers=[told])

    assert exit_status == 0
    assert msgspec.json.decode(out) == msgspec.json.decode(told.body)


def test_with_a_leader_replicas_are_refused_in_one_sentence(run):
    refused = problem(400, "not_supported", "no")
    exit_status, out, err, _ = run("get", "k", "--replicas", answers=[refused])

    assert (exit_status, out) == (2, "")
    assert err.startswith("raftkv: it is not_supported")


@pytest.mark.parametrize("choice", [["--raw"], ["--r", "1"], ["--strict"], ["--revision", "3"]])
def test_replicas_exclude_other_choices(run, choice):
    exit_status, _, err, server = run("get", "k", "--replicas", *choice)

    assert (exit_status, server.asked) == (2, [])
    assert "--replicas" in err


def test_all_siblings_are_printed_and_none_is_taken_for_the_value(run):
    exit_status, out, err, _ = run("get", "k", answers=[SIBLINGS])

    assert (exit_status, out) == (1, "one\ntwo\n")
    assert "2 concurrent values; raftkv set k VALUE --context c2Vlbg replaces them" in err
    assert run("get", "k", "--raw", answers=[SIBLINGS])[:2] == (1, "")
    exit_status, out, _, _ = run("get", "k", "--json", answers=[SIBLINGS])
    assert exit_status == 1
    assert out.startswith('{"key":"k","siblings":[{"key":"k","value":"one"')
    assert out.endswith('"context":"c2Vlbg"}\n')


def test_a_context_resolves_them(run):
    for command in (["set", "k", "v"], ["delete", "k"]):
        server = run(*command, "--context", "c2Vlbg")[3]
        assert server.asked[0].headers["raftkv-context"] == "c2Vlbg"


@pytest.mark.parametrize(
    ("durability", "words"),
    [("leader", "the leader alone holds"), ("2", "2 replicas hold"), ("majority", ""), ("all", ""), ("w=1", "")],
)
@pytest.mark.parametrize("command", [["set", "k", "v", "--w", "1"], ["delete", "k", "--w", "1"]])
def test_ok_does_not_hide_that_a_write_may_be_lost(run, durability, words, command):
    answer = json({"revision": None}, 202, {"Raftkv-Durability": durability})
    exit_status, out, err, _ = run(*command, answers=[answer])

    assert (exit_status, out) == (0, "OK\n")
    assert err == (f"raftkv: {words} the write so far; it may be lost\n" if words else "")


def test_members_are_shown_and_changed(run):
    answer = json({"members": [member("n1"), member("n2", "down")], "leader": None})
    exit_status, out, _, _ = run("members", "list", answers=[answer])
    _, first, second = out.splitlines()

    assert exit_status == 0
    assert first.split()[:4] == ["n1", "up", "25.0%", "yes"]  # nobody has a zone
    assert second.split()[:4] == ["n2", "down", "25.0%", "no"]
    added = run("members", "add", "n4", "--http", "h:1", "--peer", "h:2", "--zone", "z", answers=[answer])[3]
    assert added.asked[0].body == b'{"id":"n4","http":"h:1","peer":"h:2","zone":"z"}'
    removed = run("members", "remove", "n2", "--json", answers=[answer])
    assert removed[3].asked[0].method == "DELETE"
    assert removed[1].startswith('{"members":[')


def test_of_a_cluster_with_a_leader_only_is_told_what_differs(run):
    one = {"id": "n1", "http": "h:1", "peer": "h:2", "reachable": None}
    out = run("members", "list", answers=[json({"members": [one], "leader": "n1"})])[1]

    assert [line.split() for line in out.splitlines()] == [
        ["node", "state", "http", "peer"],
        ["n1", "leader", "h:1", "h:2"],
    ]


def test_repair_is_asked_of_every_node_and_told(run):
    with FakeServer(json(REPAIRED)) as other, FakeServer(json({**REPAIRED, "unreachable": ["n3"]})) as third:
        found = [member("n1", http=other.url[7:]), member("n2", http=third.url[7:]), member("n9", "left")]
        exit_status, out, _, _ = run("repair", answers=[members(found), LEADERLESS])
        exit_status_of_one = run("repair", answers=[members(found[:1]), LEADERLESS])[0]

    assert (exit_status, exit_status_of_one) == (3, 0)
    assert out.splitlines() == [
        "n1: compared 8 ranges with n2: 2 differed, 3 versions received, 1 sent",
        "n2: compared 8 ranges with n2: 2 differed, 3 versions received, 1 sent; not reached: n3",
    ]


def test_a_node_that_cannot_be_asked_leaves_the_repair_unfinished(run):
    with FakeServer(CUT) as other:
        found = members([member("n1", http=other.url[7:])])
        exit_status, out, _, _ = run("repair", "--json", answers=[found, LEADERLESS])

    assert exit_status == 3
    assert out.startswith('{"nodes":{"n1":{"error":')


def test_a_cluster_that_needs_no_repair_says_so(run):
    refusal = problem(400, "not_supported", "no")
    with FakeServer(refusal) as other:
        assert (
            run(
                "repair",
                answers=[members([member("n1", http=other.url[7:])]), LEADERLESS],
            )[0]
            == 2
        )


def test_status_puts_together_what_nodes_say_of_each_other(run):
    views = [member("n1"), member("n2", "suspect", hints=3)]
    exit_status, out, _, _ = run("status", answers=[json(status("n1", views, transfer=None))])
    header, first, second, last = out.splitlines()

    assert exit_status == 0
    assert header.split() == list(ring.COLUMNS)
    assert first.split()[:8] == ["n1", "up", "25.0%", "0", "4", "-", "6", "0"]
    assert second.split()[:6] == ["n2", "suspect,", "no", "answer", "25.0%", "3"]
    assert last == "n=3 r=2 w=2, ring abcd, conflicts: lww"


def test_the_worst_that_anybody_thinks_of_a_silent_node_is_shown_and_debts_add_up():
    nodes = [
        in_ring("n1", [member("n1"), member("n3", "suspect", hints=2)]),
        in_ring("n2", [member("n2"), member("n3", "down", hints=5), member("n4", "left")]),
    ]
    rows = ring.table(nodes)

    assert [cells[0] for cells, _ in rows] == ["n1", "n2", "n3"]
    assert rows[2][0][1:4] == ("down, no answer", "25.0%", "7")


def test_a_node_that_nobody_misses_yet_is_not_called_up_when_it_does_not_answer():
    rows = ring.table([in_ring("n1", [member("n1"), member("n2")])])

    assert rows[1][0][:2] == ("n2", "no answer")


def test_a_node_that_nobody_counts_any_more_is_no_member():
    left = in_ring("n3", [member("n1")])
    rows = ring.table([in_ring("n1", [member("n1")]), left, silent("http://n4", "it cannot be reached")])

    assert [cells[:2] for cells, _ in rows] == [
        ("?", "no member, no answer"),
        ("n1", "up"),
        ("n3", "no member"),
    ]


def test_a_node_that_moves_data_shows_how_far_it_is():
    moving = {"ranges_done": 3, "ranges": 40, "keys": 9, "bytes": 3 << 20}
    ((cells, style),) = ring.table([in_ring("n1", [member("n1", "joining")], transfer=moving)])

    assert cells[1] == "joining"
    assert cells[5] == "3 of 40 ranges, 3.0 MiB"
    assert style == "yellow"


def test_nodes_that_see_different_rings_are_not_said_to_agree():
    nodes = [in_ring("n1", [member("n1")]), in_ring("n2", [member("n2")], ring="ef01", w=3)]

    assert ring.summary([node.status for node in nodes]) == (
        "n=3 r=2 w=2 or n=3 r=2 w=3, 2 different views of the ring, still spreading, conflicts: lww"
    )
