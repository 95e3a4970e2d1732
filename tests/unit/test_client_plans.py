"""What a client decides, without a socket or a clock: a plan is told what came of its steps, and shows what is next."""

import re

import pytest

from raftkv import DefiniteError, IndefiniteError
from raftkv.client.attempts import Attempts
from raftkv.client.plans import KeyPlans
from raftkv.client.reach import UnheardError, UnopenedError
from raftkv.client.requests import CallPlans
from raftkv.client.steps import AskWhole, Wait
from tests.unit.fake_server import heard, problem

STORED = heard(201, b'{"revision": 7}')
LOST = UnheardError("closed the connection before it had answered")
REFUSED = UnopenedError("refuses connections: nothing listens there", is_refused=True)


def answered(told):
    return heard(told.status, told.body, **{name.replace("-", "_"): value for name, value in told.headers.items()})


NO_LEADER = answered(problem(503, "no_leader", "no"))
NO_KEYS = answered(problem(400, "not_supported", "no"))


class Clock:
    now_s = 0.0


def play(make, *outcomes, took_s=0.0, **choices):
    """The steps of a plan for two servers, shown shortly, with its end; ``took_s`` passes with each attempt."""
    clock, shown, left = Clock(), [], list(outcomes)
    attempts = Attempts(("http://a:1", "http://b:1"), retry=True, now_s=lambda: clock.now_s, chance=lambda: 1.0)
    plan = make(KeyPlans(CallPlans(attempts, timeout_s=5.0, **{"idempotent": True, **choices})))
    outcome = None
    try:
        while True:
            step = plan.send(outcome)
            if isinstance(step, Wait):
                shown.append(f"wait {step.wait_s:g}")
                clock.now_s += step.wait_s
                outcome = None
            else:
                assert isinstance(step, AskWhole)
                key = re.search(rb"Idempotency-Key: (\w+)", step.request, re.IGNORECASE)
                shown.append((step.host.name, step.timeout_s, key and key[1]))
                clock.now_s += took_s
                outcome = left.pop(0)
    except StopIteration as end:
        return shown, end.value
    except (DefiniteError, IndefiniteError) as error:
        return shown, error


def put(plans):
    return plans.set("k", b"v", {}, if_revision=None, if_absent=False, context="")


def get(plans):
    return plans.get("k", None, {})


def test_a_write_whose_answer_was_lost_is_sent_to_the_next_server_with_the_same_key():
    ((first, second), revision) = play(put, LOST, STORED)

    assert revision == 7
    assert (first[0], second[0]) == ("a", "b")
    assert first[2] == second[2] is not None
    assert first[1] == 2.5  # half of the time, while another server could be asked


def test_without_a_key_a_write_in_doubt_is_sent_once_and_has_all_the_time():
    ((only,), error) = play(put, LOST, idempotent=False)

    assert only == ("a", 5.0, None)
    assert isinstance(error, IndefiniteError)
    assert error.detail == f"http://a:1 {LOST}; the write may have been applied"


@pytest.mark.parametrize("failure", [REFUSED, UnheardError("did not take it", is_cut=True), NO_LEADER])
def test_without_a_key_a_write_that_no_server_can_have_is_sent_on(failure):
    steps, revision = play(put, failure, STORED, idempotent=False)

    assert [name for name, _, _ in steps] == ["a", "b"]
    assert revision == 7


def test_a_cluster_that_refuses_keys_is_asked_again_without_one_in_the_time_that_is_left():
    ((first, second), revision) = play(put, NO_KEYS, STORED, took_s=1.0)

    assert revision == 7
    assert first[2] is not None
    assert second == ("a", 4.0, None)


def test_waits_come_between_rounds_and_grow_until_the_time_is_up():
    steps, error = play(get, *[NO_LEADER] * 20, took_s=0.5)

    assert [step for step in steps if isinstance(step, str)] == ["wait 0.05", "wait 0.1", "wait 0.2", "wait 0.4"]
    assert error.code == "no_leader"
    assert sum(1 for step in steps if not isinstance(step, str)) == 9


def test_doubt_is_raised_though_the_last_attempts_failed_definitely():
    _, error = play(put, LOST, *[NO_LEADER] * 20, took_s=0.5)

    assert isinstance(error, IndefiniteError)


def test_a_read_is_never_in_doubt():
    _, error = play(get, *[LOST] * 20, took_s=1.0)

    assert isinstance(error, DefiniteError)
    assert "none of 2 servers can be reached" in error.detail


def test_a_plan_that_is_closed_in_the_middle_asks_for_nothing_more():
    attempts = Attempts(("http://a:1",), retry=True, now_s=lambda: 0.0)
    plan = put(KeyPlans(CallPlans(attempts, timeout_s=5.0, idempotent=True)))
    next(plan)
    plan.close()

    with pytest.raises(StopIteration):
        next(plan)
