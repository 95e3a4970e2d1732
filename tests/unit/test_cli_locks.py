"""``raftkv lock`` and ``elect``: what is asked of the cluster, what the command finds, and how it ends."""

import signal
import subprocess

import msgspec
import pytest

from raftkv.cli import main
from raftkv.cli.locks import grace_of
from raftkv.client.leases import CLOCK_DRIFT_MAX, EARLY_S, KEPT_IN_A_LIFE
from raftkv.process.command import module
from tests.unit.fake_server import FakeServer, json, problem

GRANTED = json({"id": 3, "ttl": 10.0}, 201)
LOCKED = json({"name": "job", "lease": 3, "token": 17})
REVOKED = json({"deleted": 0, "revision": 20})
HELD = json(
    {
        "status": 409,
        "code": "held",
        "applied": "no",
        "detail": "it is held",
        "holders": [{"holder": "web2:4711", "lease": 2, "token": 16, "left": 5.0}],
    },
    409,
)


@pytest.fixture
def run(capfd):
    def call(*arguments, answers=(GRANTED, LOCKED, REVOKED)):
        with FakeServer(*answers) as server:
            status = main.run([*arguments[:1], "--server", server.url, "--timeout", "5", *arguments[1:]])
        out, err = capfd.readouterr()
        return status, out, err, [asked for asked in server.asked if "keepalive" not in asked.target], server.url

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        ["job", "--", "sh", "-c", "echo $RAFTKV_LOCK_TOKEN; exit 7"],
        ["job", "sh", "-c", "echo $RAFTKV_LOCK_TOKEN; exit 7"],
        ["job", "--ttl", "10s", "sh", "-c", "echo $RAFTKV_LOCK_TOKEN; exit 7"],
        ["--ttl", "10", "job", "--wait=1h", "--", "sh", "-c", "echo $RAFTKV_LOCK_TOKEN; exit 7"],
    ],
)
def test_a_command_runs_under_the_lock_wherever_options_stand(run, arguments):
    status, out, err, asked, _ = run("lock", *arguments)
    leases, lock, revoked = asked

    assert (status, out, err) == (7, "17\n", "")
    assert msgspec.json.decode(leases.body) == {"ttl": 10.0}
    assert lock.target.startswith("/locks/job?")
    assert msgspec.json.decode(lock.body)["lease"] == 3
    assert msgspec.json.decode(lock.body)["wait"] == 3600.0
    assert (revoked.method, revoked.target.partition("?")[0]) == ("DELETE", "/leases/3")


def test_options_of_the_command_are_its_own(run):
    assert run("lock", "job", "echo", "--ttl", "--wait")[:2] == (0, "--ttl --wait\n")


def test_the_command_finds_the_cluster(run):
    _, out, _, _, url = run("lock", "job", "--", "sh", "-c", "echo $RAFTKV_SERVERS")

    assert out == f"{url}\n"


def test_who_holds_it_is_told_when_the_wait_is_over(run):
    status, out, err, asked, _ = run("lock", "job", "--wait", "0", "echo", "no", answers=[GRANTED, HELD, REVOKED])

    assert (status, out, err) == (1, "", "raftkv: job is held by web2:4711\n")
    assert msgspec.json.decode(asked[1].body).get("wait", 0) == 0
    assert asked[2].method == "DELETE"


def test_permits_and_holder_are_asked_for(run):
    body = msgspec.json.decode(run("lock", "job", "--permits", "3", "--holder", "me", "true")[3][1].body)

    assert (body["permits"], body["holder"]) == (3, "me")


def test_an_election_is_won_with_a_value(run):
    status, out, _, asked, _ = run("elect", "boss", "host:80", "--", "sh", "-c", "echo $RAFTKV_LOCK_TOKEN")

    assert (status, out) == (0, "17\n")
    assert asked[1].target.startswith("/elections/boss/campaign?")
    assert msgspec.json.decode(asked[1].body)["value"] == "host:80"


def test_a_leaderless_cluster_says_that_it_has_no_locks(run):
    refusal = problem(400, "not_supported", "no")

    assert run("lock", "job", "true", answers=[refusal])[:3] == (2, "", "raftkv: it is not_supported\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["lock"],
        ["lock", "job", "--ttl", "4", "--grace", "3", "--", "true"],
        ["lock", "job", "--wait", "2h", "true"],
        ["lock", "job", "--permits", "0", "true"],
        ["lock", "", "true"],
        ["elect", "boss"],
        ["lock", "job", "--bogus", "true"],
    ],
)
def test_wrong_usage_is_one_line_and_asks_nobody(run, arguments):
    status, out, err, asked, _ = run(*arguments)

    assert (status, out, asked) == (2, "", [])
    assert err.count("\n") == 1


@pytest.mark.parametrize("ttl_s", [1.0, 4.0, 10.0, 3600.0])
def test_a_life_leaves_time_for_a_keep_alive_that_fails_before_a_command_is_ended(ttl_s):
    certain_s = ttl_s * (1 - CLOCK_DRIFT_MAX) - EARLY_S

    assert certain_s - grace_of(ttl_s) - ttl_s / KEPT_IN_A_LIFE > ttl_s / 5


# -- without a command --------------------------------------------------------------------------------------------


def holding(server, *options):
    """A lock that a process of its own holds, once it has said so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it
    command = module("raftkv", "lock", "job", *options, "--server", server.url, "--timeout", "5")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    return process, process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_command_the_token_is_printed_and_the_lock_held_until_somebody_ends_it(number):
    with FakeServer(GRANTED, LOCKED, REVOKED) as server:
        process, told = holding(server)
        assert (told, process.poll()) == (b"17\n", None)
        assert server.asked[-1].method == "POST"

        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert (server.asked[-1].method, server.asked[-1].target.partition("?")[0]) == ("DELETE", "/leases/3")


def test_without_a_command_a_lock_that_is_lost_ends_it_with_doubt():
    with FakeServer(json({"id": 3, "ttl": 2.0}, 201), LOCKED, problem(404, "lease_not_found", "no")) as server:
        process, told = holding(server, "--ttl", "2", "--json")
        out, err = process.communicate(timeout=30)

    assert msgspec.json.decode(told) == {"name": "job", "lease": 3, "token": 17}
    assert (process.returncode, out, err) == (4, b"", b"raftkv: job could not be kept\n")
