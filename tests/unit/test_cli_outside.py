"""What the command line does at its edges: odd keys, readers that leave, full disks, closed descriptors, mistypings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.cli import exits, main
from tests.unit.fake_server import FakeServer, Told, json, problem
from tests.unit.test_cli_commands import RECORD, STORED

FORGED = "a\nb"
STEERING = "\x1b]0;owned\x07"


def page(*keys):
    items = [{**RECORD, "key": key, "value": "v\n"} for key in keys]
    return json({"items": items, "next": None, "revision": 9})


def raftkv(server, *arguments, shell=""):
    """A real process; ``shell`` is what follows the command in a POSIX shell."""
    words = ["-P", "-m", "raftkv", *arguments, "--server", server.url, "--timeout", "5s"]
    script = f'set -o pipefail; "$0" "$@" {shell}; echo "status $?" >&2'
    return subprocess.run(["bash", "-c", script, sys.executable, *words], capture_output=True, check=False, timeout=60)


def status_of(done):
    *said, status = done.stderr.decode().splitlines()
    return int(status.removeprefix("status ")), "\n".join(said)


@pytest.mark.parametrize("key", [FORGED, STEERING, "back\\slash", "\u202egnp", "\x9b31m", "tab\there"])
def test_no_key_forges_a_line_or_steers_a_terminal(serve, capfdbinary, key):
    server = serve(page(key, "next"))
    assert main.run(["list", "--server", server.url]) == 0
    lines = capfdbinary.readouterr().out.decode().split("\n")

    assert len(lines) == 3
    assert lines[0].isprintable()
    assert lines[0] != key
    assert lines[0].encode().decode("unicode_escape") == key  # so that no two keys look the same


def test_a_zero_byte_after_each_key_leaves_keys_as_they_are(serve, capfdbinary):
    server = serve(page(FORGED, STEERING))

    assert main.run(["list", "-0", "--server", server.url]) == 0
    assert capfdbinary.readouterr().out == f"{FORGED}\0{STEERING}\0".encode()
    assert main.run(["list", "-0", "--values", "--server", server.url]) == 0
    assert capfdbinary.readouterr().out == f"{FORGED}\0v\n\0{STEERING}\0v\n\0".encode()
    assert main.run(["list", "-0", "--json", "--server", server.url]) == 2


def test_values_beside_keys_are_escaped_as_well(serve, capfdbinary):
    server = serve(page("k"))

    assert main.run(["list", "--values", "--server", server.url]) == 0
    assert capfdbinary.readouterr().out == b"k\tv\\n\n"


def test_what_a_server_says_cannot_steer_the_terminal_either(serve, capfd):
    answer = problem(400, "bad_request", "no")
    server = serve(answer._replace(body=answer.body.replace(b"it is", b"\\u001b[2J it\\n is")))

    assert main.run(["get", STEERING, "--server", server.url]) == 2
    assert capfd.readouterr().err == "raftkv: \\x1b[2J it is bad_request\n"


def test_a_reader_that_has_had_enough_is_no_failure():
    with FakeServer(page(*[f"key-{number:09}" for number in range(50_000)])) as server:
        done = raftkv(server, "list", shell="| head -1")

    assert done.stdout == b"key-000000000\n"
    assert status_of(done) == (0, "")


def test_output_that_cannot_be_written_is_told_by_the_status():
    with FakeServer(Told(200, b"v")) as server:
        assert status_of(raftkv(server, "get", "k", shell="> /dev/full")) == (
            exits.UNAVAILABLE,
            "raftkv: standard output: No space left on device",
        )
        assert status_of(raftkv(server, "get", "k", shell=">&-")) == (
            exits.UNAVAILABLE,
            "raftkv: standard output is closed",
        )


def test_a_write_that_was_done_stays_done_when_ok_cannot_be_printed():
    with FakeServer(STORED) as server:
        status, said = status_of(raftkv(server, "set", "k", "v", shell="> /dev/full"))

    assert (status, said) == (0, "raftkv: done, but standard output: No space left on device")


def test_a_value_is_not_read_from_a_standard_input_that_is_closed():
    with FakeServer(STORED) as server:
        status, said = status_of(raftkv(server, "set", "k", "-", shell="<&-"))

    assert status == exits.USAGE
    assert "standard input is closed" in said
    assert server.asked == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("stauts", "status"), ("put", "set"), ("del", "delete"), ("ls", "list"), ("help", "--help"), ("LIST", "list")],
)
def test_a_command_that_does_not_exist_is_answered_with_the_one_that_was_meant(capfd, typed, meant):
    assert main.run([typed]) == 2
    assert f"raftkv {meant}'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("typed", "seconds"), [("10", 10), ("10s", 10), ("5m", 300), ("2h", 7200), ("1.5s", 1.5), ("200ms", 0.2)]
)
def test_a_time_to_live_is_typed_as_people_say_it(serve, typed, seconds):
    server = serve(STORED)

    assert main.run(["set", "k", "v", "--ttl", typed, "--server", server.url]) == 0
    assert f"ttl={float(seconds)}&" in server.asked[0].target


@pytest.mark.parametrize("typed", ["5 minutes", "-1s", "0", "m", "1e3", "nan", "5y"])
def test_what_is_no_time_is_a_usage_error(capfd, typed):
    assert main.run(["set", "k", "v", f"--ttl={typed}"]) == 2
    assert "ttl" in capfd.readouterr().err


def test_a_defect_of_ours_is_not_taken_for_a_mistake_of_the_user(monkeypatch, capfd):
    def fail(*_, **__):
        raise ValueError("an unforeseen value")

    monkeypatch.setattr("raftkv.client.client.Client.get", fail)

    assert main.run(["get", "k"]) == exits.UNKNOWN
    assert "ValueError" in capfd.readouterr().err


def test_an_address_that_makes_no_sense_is_a_usage_error(capfd):
    assert main.run(["get", "k", "--server", "http://h:8001/kv"]) == 2
    assert main.run(["get", "k", "--cacert", os.devnull, "--server", "https://h"]) == 2
    assert "not a file of certificates" in capfd.readouterr().err


def test_more_acknowledgements_than_there_are_replicas_are_refused_in_the_words_of_the_command_line(serve, capfd):
    answer = problem(400, "bad_request", "no")
    server = serve(answer._replace(body=answer.body.replace(b"it is bad_request", b"w: '9' is none of 1 to 3")))

    assert main.run(["set", "k", "v", "--w", "9", "--server", server.url]) == 2
    assert capfd.readouterr().err == "raftkv: --w: '9' is none of 1 to 3\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["proxy", "--listen", "x"], "raftkv proxy: --listen: 'x' is not of the form host:port"),
        (["proxy", "--listen", "127.0.0.1:99999"], "raftkv proxy: --listen: port 99999 is not between 1 and 65535"),
        (["restore", "any", "--config", "conf/raft-3.toml", "--id", "n9"], "conf/raft-3.toml: node: there is no node"),
        (["node", "conf/raft-3.toml", "--id", "n9"], "conf/raft-3.toml: node: there is no node"),
    ],
)
def test_what_cannot_be_begun_as_typed_is_usage_and_no_write_in_doubt(capfd, monkeypatch, arguments, told):
    monkeypatch.chdir(Path(__file__).parents[2])
    status = main.run(arguments)

    assert status == exits.USAGE
    assert capfd.readouterr().err.startswith(told)
