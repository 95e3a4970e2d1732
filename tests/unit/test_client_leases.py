"""A lease as its holder has it: by a clock that is moved by hand, over servers that are told what to say, in forks."""

import os
import threading
from contextlib import suppress

import msgspec
import pytest

from raftkv import Client, DefiniteError, LeaseLost, LockHeld, LockLost
from raftkv.client.attempts import Attempts
from raftkv.client.leases import CLOCK_DRIFT_MAX, EARLY_S, HeldLease, LeaseTerm
from raftkv.client.reach import UnheardError
from raftkv.client.requests import CallPlans
from raftkv.client.steps import AskWhole
from raftkv.core.errors import UsageError
from tests.unit.fake_server import HANG, heard, json, problem

GRANTED = json({"id": 7, "ttl": 10.0}, status=201)
KEPT = json({"id": 7, "ttl": 10.0})
REVOKED = json({"deleted": 0, "revision": 4})
LOCKED = json({"name": "n", "lease": 7, "token": 31})
LOST = UnheardError("closed the connection before it had answered")


class Clock:
    now_s = 100.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def term(clock):
    return LeaseTerm(lambda: clock.now_s)


def test_a_lease_is_lost_by_the_holders_clock_before_any_node_can_have_ended_it(clock, term):
    term.lasts(sent_s=99.0, ttl_s=10.0)
    clock.now_s = 99.0 + 10.0 * (1 - CLOCK_DRIFT_MAX) - EARLY_S - 0.01
    assert not term.is_over
    assert term.left_s() == pytest.approx(0.01)

    clock.now_s += 0.02
    assert term.is_over
    assert term.left_s() == 0.0
    assert term.pause_s() is None


def test_a_lease_that_was_lost_stays_so_whatever_an_answer_says_later(clock, term):
    term.lasts(99.0, 10.0)
    clock.now_s = 108.5
    term.lasts(108.4, 10.0)

    assert term.is_over


def test_an_answer_counts_from_when_it_was_asked_for_and_never_shortens(clock, term):
    term.lasts(100.0, 10.0)
    term.lasts(95.0, 10.0)
    assert term.left_s() == pytest.approx(8.9)


def test_it_is_kept_alive_three_times_in_its_life_and_soon_again_after_a_failure(clock, term):
    term.lasts(100.0, 9.0)
    assert term.pause_s() == pytest.approx(3.0)

    clock.now_s = 103.0
    term.failed()
    assert 0 < term.pause_s() <= 1.0


def played(lease, plan, clock, *outcomes, took_s=0.0):
    """The seconds that each request of ``plan`` may take."""
    left, limits, outcome = list(outcomes), [], None
    with suppress(StopIteration):
        while True:
            step = plan.send(outcome)
            if isinstance(step, AskWhole):
                limits.append(step.timeout_s)
                clock.now_s += took_s
                outcome = left.pop(0)
            else:
                clock.now_s += step.wait_s
                outcome = None
    return limits


@pytest.fixture
def lease(clock):
    attempts = Attempts(("http://a:1",), retry=True, now_s=lambda: clock.now_s, chance=lambda: 1.0)
    calls = CallPlans(attempts, timeout_s=60.0, idempotent=True)
    made = HeldLease(calls, 10.0, now_s=lambda: clock.now_s, on_lost=None)
    played(made, made.granting(), clock, heard(201, b'{"id":7,"ttl":10.0}'), took_s=1.0)
    return made


def test_no_answer_that_comes_after_the_end_is_waited_for(clock, lease):
    clock.now_s += 5.0
    limits = played(lease, lease.keeping(), clock, LOST, LOST, LOST, took_s=2.0)

    assert limits[0] == pytest.approx(2.9)  # of the nine since it was asked for, six have passed
    assert lease.is_lost
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_lease_that_the_cluster_does_not_know_is_lost_at_once(clock, lease):
    gone = problem(404, "lease_not_found", "no")
    played(lease, lease.keeping(), clock, heard(404, gone.body, Content_Type="application/problem+json"))

    assert lease.is_lost
    assert lease.pause_s() is None


def test_a_lease_is_granted_kept_and_revoked(client, serve):
    server = serve(GRANTED, KEPT)
    with client(server).lease(10) as lease:
        assert (lease.id, lease.is_lost) == (7, False)
        assert 8 < lease.left_s() < 9
        server.answers = [REVOKED]

    asked = [(one.method, one.target.partition("?")[0]) for one in server.asked]
    assert (asked[0], asked[-1]) == (("POST", "/leases"), ("DELETE", "/leases/7"))
    assert msgspec.json.decode(server.asked[0].body) == {"ttl": 10}
    assert not lease.is_lost
    assert "revoked" in repr(lease)


def test_a_lease_is_kept_alive_in_the_background(client, serve):
    short = json({"id": 7, "ttl": 1.0})
    server = serve(json({"id": 7, "ttl": 1.0}, status=201), short)
    kept = threading.Event()
    with client(server).lease(1) as lease:
        while len(server.asked) < 6:
            kept.wait(0.02)
        assert not lease.is_lost
        server.answers = [REVOKED]

    assert {one.target.partition("?")[0] for one in server.asked[1:-1]} == {"/leases/7/keepalive"}


@pytest.mark.parametrize("answer", [HANG, problem(404, "lease_not_found", "no")], ids=["silent", "gone"])
def test_who_wants_to_know_is_told_that_a_lease_is_lost(client, serve, answer):
    told = threading.Event()
    server = serve(json({"id": 7, "ttl": 1.0}, status=201), answer)
    lease = client(server, timeout_s=20.0).lease(1, on_lost=told.set)
    lease.grant()

    assert told.wait(20)
    assert lease.is_lost


def test_a_forked_process_has_none_of_its_parents_leases_and_revokes_none(serve):
    server = serve(GRANTED, KEPT)
    with Client(server.url) as store:
        lease = store.lease(10)
        lease.grant()
        before = len(server.asked)
        child = os.fork()
        if child == 0:
            was_lost = lease.is_lost
            lease.revoke()
            os._exit(0 if was_lost else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(server.asked) == before
        assert not lease.is_lost
        server.answers = [REVOKED]
        lease.revoke()


def test_a_lock_is_held_with_a_lease_that_ends_with_it(client, serve):
    server = serve(GRANTED, LOCKED, REVOKED)
    with client(server).lock("a/b", wait=3, holder="me") as lock:
        assert (lock.token, lock.is_lost, lock.lease.id) == (31, False, 7)

    asked = [(one.method, one.target.partition("?")[0]) for one in server.asked]
    assert asked == [("POST", "/leases"), ("POST", "/locks/a%2Fb"), ("DELETE", "/leases/7")]
    assert msgspec.json.decode(server.asked[1].body) == {"lease": 7, "wait": 3, "holder": "me"}
    assert lock.token == 0


def test_a_lock_that_others_hold_is_told_with_them_and_leaves_no_lease(client, serve):
    holder = {"holder": "other", "lease": 3, "token": 30}
    server = serve(GRANTED, problem(409, "held", "no", holders=[holder]), REVOKED)
    lock = client(server).lock("n", wait=0)

    with pytest.raises(LockHeld) as failed:
        lock.acquire()
    assert [one.holder for one in failed.value.holders] == ["other"]
    assert server.asked[-1].method == "DELETE"
    assert not lock.is_lost


def test_a_lock_with_a_lease_of_somebody_else_is_let_go_without_it(client, serve):
    released = json({"name": "n", "token": 31, "revision": 5})
    server = serve(GRANTED, LOCKED, released, REVOKED)
    store = client(server)
    with store.lease(10) as lease:
        with store.semaphore("n", 3, lease=getattr(lease, "awaited", lease)) as lock:
            assert lock.token == 31
        assert server.asked[-1].target.startswith("/locks/n?token=31&")
        assert msgspec.json.decode(server.asked[1].body)["permits"] == 3


def test_leaving_the_block_of_a_lock_that_was_lost_raises(client, serve):
    server = serve(GRANTED, LOCKED, problem(404, "lease_not_found", "no"))
    lock = client(server).lock("n")
    lock.acquire()
    getattr(lock, "awaited", lock).lease._term.end()

    assert lock.is_lost
    with pytest.raises(LockLost):
        lock.__exit__(None, None, None)


def test_the_lead_is_won_proclaimed_and_shown(client, serve):
    won = json({"name": "n", "lease": 7, "token": 31})
    leader = json({"name": "n", "value": {"base64": "/w=="}, "lease": 7, "token": 31, "revision": 40})
    server = serve(GRANTED, won, json({"name": "n", "token": 31, "revision": 40}), leader, REVOKED)
    election = client(server).election("n")
    with election.campaign("first", wait=0) as lead:
        assert lead.token == 31
        assert lead.proclaim(b"\xff") == 40
        assert election.leader().value == b"\xff"

    assert msgspec.json.decode(server.asked[1].body) == {"lease": 7, "value": "first"}


def test_nobody_leads(client, serve):
    assert client(serve(problem(404, "not_found", "no"))).election("n").leader() is None


@pytest.mark.parametrize("wrong", [{"ttl": 0.5}, {"wait": -1}, {"wait": 4000}])
def test_times_that_make_no_sense_are_told_before_anything_is_sent(client, serve, wrong):
    server = serve(GRANTED)
    with pytest.raises(UsageError):
        client(server).lock("n", **wrong)
    assert server.asked == []


def test_a_lease_that_cannot_be_revoked_hides_no_failure_of_the_block(client, serve):
    server = serve(GRANTED, problem(503, "no_leader", "no"))
    lease = client(server, retry=False).lease(10)
    lease.grant()
    error = ZeroDivisionError()

    lease.__exit__(ZeroDivisionError, error, None)
    assert "could not be revoked" in error.__notes__[0]
    with pytest.raises(DefiniteError):
        client(server, retry=False).get("k")
