"""The command line against a server that answers as told: output, exit statuses, and one line for every failure."""

import io
import os
import socket
import subprocess
import sys

import msgspec
import pytest

from raftkv.cli import exits, main
from raftkv.core.errors import Code
from raftkv.launch import config_file
from raftkv.process.command import module
from tests.unit.fake_server import CUT, Dripping, FakeServer, Told, json, problem, unused_url
from tests.unit.statuses import STATUS

STORED = json({"key": "k", "version": 1, "revision": 7}, 201)
MISSING = problem(404, "not_found", "no")
RECORD = {"key": "k", "value": "v", "version": 1, "revision": 7, "create_revision": 7}
PAGE = json({"items": [], "next": None, "revision": 9}, headers={"Raftkv-Staleness-Ms": "4"})


@pytest.fixture
def run(capfdbinary, monkeypatch):
    """Run a command against a server that gives the answers; returns status, output, error output and the server."""

    def call(*arguments, answers=(STORED,), stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with FakeServer(*answers) as server:
            status = main.run(["--server", server.url, "--timeout", "0.5", *arguments])
        out, err = capfdbinary.readouterr()
        assert err.count(b"\n") <= 1, err
        return status, out, err.decode(), server

    return call


def test_set_prints_ok_and_get_the_bare_value(run):
    assert run("set", "mykey", "myvalue")[:3] == (0, b"OK\n", "")
    assert run("get", "mykey", answers=[Told(200, b"myvalue")])[:3] == (0, b"myvalue\n", "")
    assert run("get", "mykey", "--raw", answers=[Told(200, b"\x00\xff")])[:3] == (0, b"\x00\xff", "")


def test_a_dash_reads_standard_input_byte_for_byte(run):
    _, _, _, server = run("set", "k", "-", stdin=b"\x00\xff\n")

    assert server.asked[0].body == b"\x00\xff\n"


def test_arguments_reach_the_server(run):
    *_, server = run("set", "a/b", "v", "--ttl", "2", "--if-revision", "7", "--w", "all")
    asked = server.asked[0]

    assert asked.target.startswith("/kv/a%2Fb?ttl=2.0&w=all&")
    assert asked.headers["if-match"] == '"7"'
    *_, server = run("set", "k", "v", "--if-absent")
    assert server.asked[0].headers["if-none-match"] == "*"
    *_, server = run("get", "k", "--consistency", "local", answers=[Told(200, b"")])
    assert "consistency=local" in server.asked[0].target


def test_json_output(run):
    assert run("set", "k", "v", "--json")[1] == b'{"key":"k","revision":7}\n'
    assert b'"value":"v","version":1,"revision":7' in run("get", "k", "--json", answers=[json(RECORD)])[1]
    assert run("delete", "k", "--json", answers=[json({"deleted": 1})])[1] == b'{"key":"k","deleted":1}\n'
    page = json({"items": [RECORD, RECORD], "next": None, "revision": 9})
    assert run("list", "--json", answers=[page])[1].count(b'"key":"k"') == 2
    assert run("list", "--json", answers=[PAGE])[1] == b"[]\n"


def test_list_prints_keys_and_values_when_asked(run):
    page = json({"items": [RECORD], "next": None, "revision": 9})

    assert run("list", "k", answers=[page])[1] == b"k\n"
    assert run("list", "k", "--values", answers=[page])[1] == b"k\tv\n"
    assert "keys_only=1" in run("list", "k", answers=[page])[3].asked[0].target


def test_a_key_that_is_no_text_is_typed_as_it_is_and_shown_escaped(run):
    told, typed = {"base64": "Yf8="}, os.fsdecode(b"a\xff")
    page = json({"items": [{**RECORD, "key": told}], "next": None, "revision": 9})

    assert run("list", typed, answers=[page])[1] == b"a\\xff\n"
    assert run("list", "-0", answers=[page])[1] == b"a\xff\0"
    assert b'"key":{"base64":"Yf8="}' in run("list", "--json", answers=[page])[1]
    assert run("set", typed, "v", "--json")[1] == b'{"key":{"base64":"Yf8="},"revision":7}\n'
    assert run("set", typed, "v")[3].asked[0].target.startswith("/kv/a%FF")
    assert run("get", typed, answers=[MISSING])[2] == "raftkv: no such key: a\\xff\n"


@pytest.mark.parametrize("command", [["get", "k"], ["get", "k", "--json"], ["delete", "k"]])
def test_a_missing_key_exits_1(run, command):
    assert run(*command, answers=[MISSING])[:3] == (1, b"", "raftkv: no such key: k\n")


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (problem(412, "precondition_failed", "no", revision=9), 1, "precondition_failed"),
        (problem(413, "value_too_large", "no"), 2, "value_too_large"),
        (problem(400, "bad_request", "no"), 2, "bad_request"),
        (problem(503, "no_leader", "no"), 3, "no_leader"),
        (problem(504, "outcome_unknown", "unknown"), 4, "outcome unknown"),
        (CUT, 4, "outcome unknown"),
    ],
)
def test_every_failure_of_a_write_is_one_line_and_its_exit_status(run, answer, status, words):
    found, out, err, _ = run("set", "k", "v", answers=[answer])

    assert (found, out) == (status, b"")
    assert err.startswith("raftkv: ")
    assert words in err


@pytest.mark.parametrize("answer", [problem(504, "outcome_unknown", "unknown"), CUT])
def test_a_read_that_fails_is_unavailable_never_unknown(run, answer):
    assert run("get", "k", answers=[answer])[0] == 3


def test_nobody_there_exits_3(capfd):
    assert main.run(["get", "k", "--server", unused_url(), "--timeout", "0.2"]) == 3
    assert "refuses connections: nothing listens there" in capfd.readouterr().err


def test_every_code_of_the_contract_has_an_exit_status():
    assert set(exits._STATUS_OF_CODE) == set(Code) - {Code.OUTCOME_UNKNOWN}


@pytest.mark.parametrize(
    "arguments",
    [
        ["get"],
        ["get", "k", "--bogus"],
        ["get", "k", "--consistency", "strong"],
        ["get", "k", "--timeout", "0"],
        ["get", ""],
        ["set", "k", "v", "--if-absent", "--if-revision", "1"],
        ["nope"],
        ["get", "k", "--server", "ftp://x"],
        ["get", "k", "--config", "/nonexistent.toml"],
        ["node", "/nonexistent.toml", "--id", "n1"],
        ["up", "/nonexistent.toml"],
    ],
)
def test_wrong_usage_is_one_line_and_exits_2(capfd, arguments):
    assert main.run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_an_unknown_node_is_named_with_the_known_ones(capfd, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[[node]]\nid = "n1"\nhttp = "127.0.0.1:8001"\npeer = "127.0.0.1:9001"\n')

    assert main.run(["node", str(path), "--id", "n9"]) == 2
    assert capfd.readouterr().err == f"{path}: node: there is no node with id 'n9' (there are: n1)\n"
    assert list(tmp_path.iterdir()) == [path]


def test_servers_come_from_a_configuration_file(capfd, tmp_path):
    with FakeServer(Told(200, b"v")) as server:
        path = tmp_path / "c.toml"
        path.write_text(f'[[node]]\nid = "n1"\nhttp = "{server.url[7:]}"\npeer = "127.0.0.1:9001"\n')

        assert main.run(["--server", unused_url(), "get", "k", "--config", str(path)]) == 0
    assert capfd.readouterr().out == "v\n"


def test_servers_come_from_the_environment(capfd, monkeypatch):
    with FakeServer(Told(200, b"v")) as server:
        monkeypatch.setenv("RAFTKV_SERVERS", f"{unused_url()},{server.url}")

        assert main.run(["get", "k"]) == 0
    assert capfd.readouterr().out == "v\n"


def test_a_followed_status_is_a_line_whenever_it_changes_until_the_node_goes_away(run):
    lost = {"code": "no_leader", "detail": "the replica is away"}
    pieces = [msgspec.json.encode(one) + b"\n" for one in (STATUS, lost, {**STATUS, "leader": None, "ready": False})]
    lines = {"Content-Type": "application/x-ndjson"}
    answer = Dripping([pieces[0], b"\n", *pieces[1:], CUT], headers=lines)
    status, out, err, server = run("status", "--follow", answers=[answer])

    why = "the stream broke off: its server closed the connection in the middle of its answer"
    assert (status, err) == (3, f"raftkv: {why}\n")
    assert out.decode().splitlines() == [
        "n1  leader  term 3  leader n1  revision 9  peers 0/1  ready",
        "no status: the replica is away",
        "n1  leader  term 3  leader none  revision 9  peers 0/1  None",
    ]
    assert server.asked[0].headers["accept"] == "application/x-ndjson"
    status, out, _, _ = run("status", "--follow", "--json", answers=[Dripping(pieces, headers=lines)])
    assert (status, out) == (0, b"".join(pieces))


def test_status_shows_every_node_also_those_that_do_not_answer(run):
    status, out, err, _ = run("status", answers=[json(STATUS), PAGE])
    header, first, second = out.decode().splitlines()

    assert (status, err) == (0, "raftkv: degraded: 1 of 2 nodes answers\n")
    assert header.split() == [
        "node",
        "role",
        "term",
        "leader",
        "applied",
        "revision",
        "peers",
        "stale",
        "address",
    ]
    assert first.split()[:7] == ["n1", "leader", "3", "n1", "11+1", "9", "0/1"]
    assert "4ms" in first
    assert second.startswith("n2")
    assert "no answer" in second


def test_status_exits_3_and_says_why_when_nobody_can_serve(run):
    lost = {**STATUS, "role": "follower", "leader": None, "ready": False, "reason": "no quorum: 1 of 2", "peers": []}
    status, out, err, _ = run("status", answers=[json(lost), PAGE])

    assert (status, err) == (3, "raftkv: no quorum: 1 of 2: no writes, no linearizable reads\n")
    assert b"none" in out


def test_status_as_json(run):
    _, out, _, _ = run("status", "--json", answers=[json(STATUS), PAGE])

    assert b'"node":"n1"' in out
    assert b'"staleness_ms":4' in out


def test_the_page_of_another_server_is_no_value(run):
    page = Told(200, b"<html>welcome</html>", {"Content-Type": "text/html"})
    for arguments in (["get", "k"], ["get", "k", "--raw"], ["get", "k", "--json"]):
        status, out, err, _ = run(*arguments, answers=[page])
        assert (status, out) == (3, b"")
        assert "the server's answer is not one of raftkv" in err


@pytest.mark.parametrize(
    ("arguments", "detail", "told"),
    [
        (["get", "k", "--strict"], "sloppy: belongs elsewhere", "--sloppy/--strict: belongs elsewhere"),
        (["get", "k", "--r", "9"], "r: '9' is not a number from 1 to 3", "--r: '9' is not a number from 1 to 3"),
        (["get", "k"], "n, r, sloppy: only eventual reads", "--n, --r, --sloppy/--strict: only eventual reads"),
        (["get", "k"], "it offers eventual (?r=) and local", "it offers eventual (--r) and local"),
        (["set", "k", "v"], "Raftkv-Context: belongs elsewhere", "--context: belongs elsewhere"),
        (["set", "k", "v"], "no compare (If-Match, If-None-Match)", "no compare (--if-revision, --if-absent)"),
        (["set", "k", "v"], "w: 'x' is none", "--w: 'x' is none"),
        (["set", "k", "v"], "ring: w: is elsewhere", "ring: w: is elsewhere"),
        (["members", "add", "n", "--http", "h", "--peer", "p"], "http: 'h' is no address", "--http: 'h' is no address"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_options(run, arguments, detail, told):
    refusal = json({"status": 400, "code": "bad_request", "applied": "no", "detail": detail}, 400)

    assert run(*arguments, answers=[refusal])[:3] == (2, b"", f"raftkv: {told}\n")


FOREIGN = json({"hello": "world", "role": "butler", "members": 3})


@pytest.mark.parametrize(
    ("arguments", "exit_status"),
    [
        (["status"], 3),
        (["status", "--json"], 3),
        (["members", "list"], 3),
        (["members", "add", "n4", "--http", "h:1", "--peer", "h:2"], 4),
        (["members", "remove", "n4"], 4),
        (["repair"], 3),
    ],
)
def test_json_of_another_server_is_told_as_such_and_leaves_a_change_in_doubt(run, arguments, exit_status):
    status, _, err, _ = run(*arguments, answers=[FOREIGN])

    assert status == exit_status
    assert "the server's answer is not one of raftkv: Object missing required field" in err or "Expected" in err


def test_a_followed_stream_of_another_server_is_told_as_such(run):
    answer = Dripping([b'{"hello":"world"}\n'], headers={"Content-Type": "application/x-ndjson"})

    assert run("status", "--follow", answers=[answer])[:2] == (3, b"")


def test_a_status_of_an_older_or_a_newer_server_is_shown(run):
    older = {name: value for name, value in STATUS.items() if name not in ("ready", "reason")}
    newer = {**STATUS, "moons": [{"of": "jupiter"}], "peers": [{**STATUS["peers"][0], "mood": "fine"}]}
    lines = [run("status", answers=[json(one), PAGE])[1].splitlines()[1].split()[:7] for one in (older, newer)]

    assert lines == [[b"n1", b"leader", b"3", b"n1", b"11+1", b"9", b"0/1"]] * 2
    assert b'"moons"' in run("status", "--json", answers=[json(newer), PAGE])[1]


def test_a_defect_is_one_line_too(run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("broken\nin two lines")

    monkeypatch.setattr("raftkv.client.client.Client.set", fail)

    assert run("set", "k", "v")[:3] == (4, b"", "raftkv: RuntimeError: broken in two lines\n")


def test_a_reader_that_left_is_no_failure_worth_a_traceback():
    with FakeServer(Told(200, b"v" * 1_000_000)) as server:
        command = module("raftkv", "--server", server.url, "get", "k")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()

        assert process.wait() == 0
        assert error == b""


def test_reading_a_key_loads_nothing_of_the_server():
    code = (
        "import sys; from raftkv.cli import main;"
        "main.run(['get', 'k', '--server', '127.0.0.1:1', '--timeout', '0.05']);"
        "print([name for name in ('flask', 'gunicorn', 'lmdb', 'rich', 'pysyncobj', 'uvloop') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"


def test_the_version_is_printed(capfd):
    import raftkv

    assert main.run(["--version"]) == 0
    assert capfd.readouterr().out == f"raftkv {raftkv.__version__}\n"


def test_an_embedded_cluster_whose_ports_are_taken_leaves_nothing_behind(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(config_file, "EMBEDDED", config_file.EMBEDDED.replace("8001", str(port)))

        assert main.run(["up"]) == 2
    assert f"n1: http: cannot listen on 127.0.0.1:{port}" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
