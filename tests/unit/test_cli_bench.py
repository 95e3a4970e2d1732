"""``raftkv bench`` on a command line: what it prints, what it writes, how it ends."""

import asyncio
import csv
import json
import signal
import subprocess
import threading
import time

import click
import msgspec
import pytest

from raftkv.cli import exits
from raftkv.cli.kinds import Duration
from raftkv.cli.main import cli, run
from raftkv.instruments.load.dialect import RaftkvDialect
from raftkv.instruments.load.engine import Failure
from raftkv.process.command import module
from tests.unit.fake_server import FakeServer, problem, unused_url
from tests.unit.statuses import STATUS

QUICK = ("--seconds", "200ms", "--warm-up", "0", "--clients", "2", "--keys", "5")


class Register(asyncio.Protocol):
    """As much of a server as the load tester needs: PUT and GET of /kv/KEY."""

    def __init__(self, values):
        self._values = values

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        method, target, _ = data.split(b" ", 2)
        body = b"{}"
        if target.startswith(b"/status"):
            body = msgspec.json.encode({**STATUS, "n": 3, "r": 1, "w": 2})
        elif method == b"PUT":
            self._values[target] = data.partition(b"\r\n\r\n")[2]
        elif method == b"DELETE":
            del self._values[target]
        else:
            body = self._values.get(target, b"")
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def values():
    """What the register holds."""
    return {}


@pytest.fixture
def register(values):
    """The URL of one."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: Register(values), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    loop.close()


def test_a_run_is_shown_and_written_as_json_and_csv(register, tmp_path, capsys):
    files = ("--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv"))
    for ratio in ("50/50", "90/10"):
        status = run(["bench", "--server", register, "--ratio", ratio, *QUICK, *files])
        shown = capsys.readouterr()

        assert status == exits.DONE
        assert shown.err == ""
        assert shown.out.startswith("raft, 1 server (http://127.0.0.1:")
        assert "reads linearizable; writes w=majority; " + ratio in shown.out
        assert "2 clients, closed loop, 5 keys (uniform), values of 100 bytes; 0.2 s after 0 s" in shown.out
        assert {line.split()[0] for line in shown.out.splitlines()[1:4]} == {"kind", "read", "write"}
        assert "stale reads: 0 of" in shown.out

    result = json.loads((tmp_path / "a.json").read_text())
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert result["plan"]["ratio"] == {"writes": 90, "reads": 10}
    assert result["latency"]["write"]["count"] > 0
    assert result["freshness"]["stale"] == 0
    assert [row["ratio"] for row in rows] == ["50/50", "90/10"]
    assert int(rows[1]["write_count"]) == result["latency"]["write"]["count"]


def test_a_run_deletes_the_keys_that_it_wrote_and_no_others(register, values, capsys):
    values[b"/kv/bench-9"] = values[b"/kv/mine"] = b"v"

    assert run(["bench", "--server", register, *QUICK]) == exits.DONE
    assert set(values) == {b"/kv/bench-9", b"/kv/mine"}
    assert "could not be deleted" not in capsys.readouterr().out


def test_a_run_leaves_its_keys_when_told_to(register, values):
    assert run(["bench", "--server", register, *QUICK, "--keep"]) == exits.DONE
    assert set(values) == {b"/kv/bench-%d" % key for key in range(5)}


@pytest.fixture
def heeds_interrupts():
    """Children inherit it when interrupts are ignored, as in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_a_run_that_is_interrupted_deletes_its_keys_as_well(register, values):
    command = module("raftkv", "bench", "--server", register, *QUICK, "--seconds", "1m")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline_s = time.monotonic() + 30
        while len(values) < 5 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        held = len(values)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)

    assert held == 5
    assert process.returncode == 130, told
    assert values == {}


def test_what_could_not_be_deleted_is_told(register, values, capsys, monkeypatch):
    monkeypatch.setattr(RaftkvDialect, "deleted", lambda *_: Failure("no", "no_leader"))

    assert run(["bench", "--server", register, *QUICK]) == exits.DONE
    assert "5 keys (bench-...) could not be deleted and are still there" in capsys.readouterr().out


def test_an_open_loop_accounts_for_every_request_that_was_due(register, tmp_path):
    file = tmp_path / "a.json"
    status = run(["bench", "--server", register, *QUICK, "--rate", "100", "--ratio", "100/0", "--json", str(file)])
    result = json.loads(file.read_text())

    assert status == exits.DONE
    assert result["latency"]["write"]["count"] + result["unsent"] == 20


def test_servers_that_answer_nothing_good_are_unavailable(capsys):
    with FakeServer(problem(503, "no_leader", "no")) as server:
        status = run(["bench", "--server", server.url, "--no-fill", *QUICK])

    assert status == exits.UNAVAILABLE
    assert "no_leader, applied: no (first: it is no_leader)" in capsys.readouterr().out


def test_keys_that_cannot_be_filled_end_the_run_in_one_line(capsys):
    status = run(["bench", "--server", unused_url(), *QUICK, "--keys", "1"])
    shown = capsys.readouterr()

    assert status == exits.UNAVAILABLE
    assert shown.err.count("\n") == 1
    assert "unreachable" in shown.err
    assert shown.out.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--seconds", "0"),
        ("--value-bytes", "3"),
        ("--ratio", "1"),
        ("--ratio", "50/60"),
        ("--seconds", "10x"),
        ("--rate", "-5"),
        ("--clients", "0"),
        ("--etcd", "--w", "1"),
        ("--json", "no/such/folder/a.json"),
        ("--csv", "no/such/folder/a.csv"),
        ("reference4", "--out", "/dev/null/reference4"),
        ("reference4", "--seconds", "500ms"),
        ("reference4", "--seconds", "2h"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong, capsys):
    assert run(["bench", *wrong]) == exits.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def commands_of(command, *names):
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands_of(command.get_command(context, name), *names, name)


def test_every_time_that_a_command_takes_is_written_the_same_way():
    found = list(commands_of(cli))
    times = {
        (*names, option.name): option.type
        for names, command in found
        for option in command.params
        if option.name in ("seconds", "timeout", "ttl")
        or (option.name.endswith("_s") and not option.name.endswith("_per_s"))
    }

    assert {("bench", "seconds"), ("bench", "reference4", "run_s")} <= set(times)
    assert [name for name, kind in times.items() if not isinstance(kind, Duration)] == []
