"""``raftkv watch`` and ``raftkv lease``: what is asked of the cluster, what is printed, and how it ends."""

import signal
import subprocess
from datetime import UTC, datetime

import msgspec
import pytest

from raftkv.cli import main
from raftkv.process.command import module
from tests.unit.fake_server import CUT, HANG, Dripping, FakeServer, json, problem

HEADERS = {"Content-Type": "text/event-stream", "Raftkv-Node": "n1", "Raftkv-Revision": "4"}
PUT = {"type": "put", "key": "a\t", "value": "x\ny", "version": 1, "create_revision": 5, "revision": 5}
DELETE = {"type": "delete", "key": "b", "revision": 5, "expired": True}
BEFORE = {"value": {"base64": "/w=="}, "version": 1, "create_revision": 3, "revision": 3}


def event(revision, *changes):
    told = msgspec.json.encode({"revision": revision, "changes": changes}).decode()
    return f"id: {revision}\nevent: changes\ndata: {told}\n\n".encode()


def over(code="compacted", **members):
    """The end of a stream."""
    told = {"status": 410, "title": code, "detail": f"it is {code}", "code": code, "applied": "no", **members}
    return b"event: end\ndata: " + msgspec.json.encode(told) + b"\n\n"


FIVE = event(5, PUT, {**DELETE, "previous": BEFORE})
OVER = over(compacted_revision=9)


def stream(*pieces):
    return Dripping(pieces, headers=HEADERS)


@pytest.fixture
def run(capfd):
    def call(*arguments, answers):
        with FakeServer(*answers) as server:
            status = main.run(["--server", server.url, "--timeout", "0.5", *arguments])
        out, err = capfd.readouterr()
        return status, out, err, server.asked

    return call


# -- watch --------------------------------------------------------------------------------------------------------


def test_a_change_is_a_line_and_forgotten_history_ends_with_status_1_and_the_oldest_there_is(run):
    status, out, err, asked = run("watch", "a/", answers=[stream(FIVE, OVER)])

    assert (status, err) == (1, "raftkv: it is compacted\n")
    assert out == "5\tput\ta\\t\tx\\ny\n5\tdelete\tb\t\n"
    assert "prefix=a%2F" in asked[0].target


def test_times_begin_the_lines(run):
    told = event(5, PUT).replace(b'"revision":5,', b'"revision":5,"time_ms":1767225600123,', 1)
    out = run("watch", "--times", answers=[stream(told, event(6, PUT), OVER)])[1]
    first, *rest = out.splitlines()

    assert datetime.fromisoformat(first.partition("\t")[0]) == datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert {one.partition("\t")[0] for one in rest} == {"-"}


def test_what_was_there_before_is_a_column_more(run):
    out = run("watch", "--previous", answers=[stream(FIVE, OVER)])[1]

    assert out == "5\tput\ta\\t\tx\\ny\t\n5\tdelete\tb\t\t\\xff\n"


def test_all_choices_are_asked_for(run):
    asked = run("watch", "--key", "k", "--from", "3", "--previous", "--only", "put", answers=[stream(OVER)])[3]

    assert {"key=k", "from_revision=3", "previous=1", "only=put"} <= set(asked[0].target.partition("?")[2].split("&"))


def test_json_is_an_object_for_each_revision(run):
    out = run("watch", "--json", answers=[stream(FIVE, event(6, {**DELETE, "revision": 6}), OVER)])[1]
    first, second = map(msgspec.json.decode, out.splitlines())

    assert (first["revision"], second["revision"]) == (5, 6)
    assert [(one["key"], one["value"], one["previous"]) for one in first["changes"]] == [
        ("a\t", "x\ny", None),
        ("b", None, {"base64": "/w=="}),
    ]


def test_a_command_runs_for_each_revision_and_its_failure_ends_nothing(run):
    command = "cat; echo $RAFTKV_REVISION; test $RAFTKV_REVISION != 5"
    status, out, err, _ = run(
        "watch", "--exec", command, answers=[stream(FIVE, event(6, {**DELETE, "revision": 6}), OVER)]
    )

    assert status == 1
    assert [msgspec.json.decode(line) for line in out.splitlines()[1::2]] == [5, 6]
    assert [msgspec.json.decode(line)["revision"] for line in out.splitlines()[::2]] == [5, 6]
    assert err.splitlines()[0] == "raftkv: revision 5: the command ended with exit status 1"


def test_a_command_that_does_not_read_is_no_failure(run):
    assert run("watch", "--exec", "exit 0", answers=[stream(FIVE, OVER)])[2] == "raftkv: it is compacted\n"


def test_a_stream_that_breaks_off_goes_on(run):
    answers = [stream(FIVE, CUT), stream(event(7, {**DELETE, "revision": 7}), OVER)]
    out, asked = run("watch", answers=answers)[1::2]

    assert out.splitlines()[2:] == ["7\tdelete\tb\t"]
    assert asked[1].headers["last-event-id"] == "5"


@pytest.mark.parametrize(
    ("answer", "status"),
    [(problem(400, "not_supported", "no"), 2), (problem(410, "compacted", "no", compacted_revision=9), 1)],
)
def test_what_cannot_be_watched_is_one_line(run, answer, status):
    assert run("watch", answers=[answer])[:2] == (status, "")


def started(server):
    """A watch as a process of its own, that has printed what there is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it
    command = module("raftkv", "watch", "--server", server.url)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    assert process.stdout.readline() == b"5\tput\ta\\t\tx\\ny\n"
    return process


@pytest.mark.parametrize("by_signal", [True, False], ids=["interrupted", "left"])
def test_it_ends_well_when_it_is_interrupted_or_nobody_reads_it_though_nothing_changes(by_signal):
    with FakeServer(stream(FIVE, HANG)) as server:
        process = started(server)
        if by_signal:
            process.send_signal(signal.SIGINT)
        else:
            process.stdout.close()
        told = process.stderr.read()

        assert process.wait(timeout=30) == 0
        assert told == b""


# -- leases -------------------------------------------------------------------------------------------------------

SHOWN = {"id": 7, "ttl": 60.0, "left": 41.52, "key_count": 2, "keys": ["a\t"], "locks": ["job"], "elections": []}
GONE = problem(404, "lease_not_found", "no")


def test_a_lease_is_granted_and_its_number_printed(run):
    granted = json({"id": 7, "ttl": 300.0}, 201)
    status, out, _, asked = run("lease", "grant", "5m", "--id", "7", answers=[granted])

    assert (status, out) == (0, "7\n")
    assert msgspec.json.decode(asked[0].body) == {"ttl": 300.0, "id": 7}
    assert run("lease", "grant", "5m", "--json", answers=[granted])[1] == '{"id":7,"ttl":300.0}\n'
    assert run("lease", "grant", "5m", answers=[problem(409, "lease_exists", "no")])[0] == 1


def test_leases_are_kept_alive_together_and_what_is_gone_exits_1(run):
    kept = json({"kept": [{"id": 7, "ttl": 9.0}], "missing": []})
    some = json({"kept": [{"id": 7, "ttl": 9.0}], "missing": [8]})

    assert run("lease", "keepalive", "7", answers=[kept])[:3] == (0, "OK\n", "")
    assert run("lease", "keepalive", "7", "8", answers=[some])[:3] == (1, "", "raftkv: no such lease: 8\n")
    assert run("lease", "keepalive", "7", "8", "--json", answers=[some])[1] == '{"missing":[8]}\n'


def test_leases_are_listed(run):
    page = json({"leases": [{"id": 7, "ttl": 60.0, "left": 41.52, "key_count": 2}], "next": None, "revision": 9})

    assert [line.split() for line in run("lease", "list", answers=[page])[1].splitlines()] == [
        ["lease", "ttl", "left", "keys"],
        ["7", "60", "s", "41.5", "s", "2"],
    ]
    assert msgspec.json.decode(run("lease", "list", "--json", answers=[page])[1]) == {
        "id": 7,
        "ttl": 60.0,
        "left": 41.52,
        "key_count": 2,
    }


def test_a_lease_is_shown_with_what_goes_with_it(run):
    assert run("lease", "show", "7", answers=[json(SHOWN)])[:2] == (
        0,
        "ttl\t60 s\nleft\t41.5 s\nkey\ta\\t\nlock\tjob\n",
    )
    assert msgspec.json.decode(run("lease", "show", "7", "--json", answers=[json(SHOWN)])[1]) == SHOWN
    assert run("lease", "show", "7", answers=[GONE])[:3] == (1, "", "raftkv: no such lease: 7\n")


def test_a_lease_is_revoked_with_its_keys(run):
    done = json({"deleted": 2, "revision": 9})

    assert run("lease", "revoke", "7", answers=[done])[:2] == (0, "2\n")
    assert run("lease", "revoke", "7", "--json", answers=[done])[1] == '{"deleted":2}\n'
    assert run("lease", "revoke", "7", answers=[GONE])[:2] == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch", "p", "--key", "k"],
        ["watch", "--from", "0"],
        ["watch", "--only", "both"],
        ["lease", "grant"],
        ["lease", "grant", "soon"],
        ["lease", "grant", "5", "--id", "0"],
        ["lease", "keepalive"],
        ["lease", "keepalive", "x"],
        ["lease", "show", "9007199254740992"],
        ["lease", "revoke"],
    ],
)
def test_wrong_usage_is_one_line_and_asks_nobody(run, arguments):
    status, out, err, asked = run(*arguments, answers=[GONE])

    assert (status, out, asked) == (2, "", [])
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["grant", "5"], ["keepalive", "5"], ["list"], ["show", "5"], ["revoke", "5"]])
def test_a_leaderless_cluster_says_that_it_has_no_leases(run, arguments):
    refusal = problem(400, "not_supported", "no")

    assert run("lease", *arguments, answers=[refusal])[:3] == (2, "", "raftkv: it is not_supported\n")
