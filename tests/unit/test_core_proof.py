"""Proofs of the cluster's secret: what they bind, how long they are good, and what whoever overhears one can do."""

import hashlib
import hmac

import pytest

from raftkv.core.proof import REMEMBERED_MAX, WINDOW_MS, Prover, Verdict, Verifier

KEY = b"0123456789abcdef" * 4
BODY = b'{"id":"n4"}'


class Clock:
    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> Verifier:
    return Verifier(KEY, "ours", wall_ms=clock)


def proof(clock, *, key=KEY, cluster="ours", method="POST", target="/cluster/members?timeout=1", body=BODY):
    return Prover(key, cluster, wall_ms=clock).authorization(method, target, body).encode()


def judged(verifier, shown):
    return verifier.judge(shown, "POST", b"/cluster/members?timeout=1", BODY)


def test_a_proof_is_good_for_its_request_and_once(clock, verifier):
    shown = proof(clock)

    assert judged(verifier, shown) is Verdict.GOOD
    assert judged(verifier, shown) is Verdict.USED


@pytest.mark.parametrize(
    "change",
    [
        {"key": KEY[:-1] + b"0"},
        {"cluster": "theirs"},
        {"method": "DELETE"},
        {"target": "/cluster/members"},
        {"target": "/cluster/members?timeout=2"},
        {"target": "/config?timeout=1"},
        {"body": b"{}"},
    ],
)
def test_a_proof_of_anything_else_is_wrong(clock, verifier, change):
    assert judged(verifier, proof(clock, **change)) is Verdict.WRONG


@pytest.mark.parametrize("shown", [b"", b"Raftkv", b"Bearer abc", b"Raftkv 1 abc", b"Raftkv x " + b"0" * 64])
def test_what_is_no_proof_proves_nothing(verifier, shown):
    assert judged(verifier, shown) is Verdict.MISSING


def test_time_is_part_of_what_is_proven(clock, verifier):
    scheme, at_ms, mac = proof(clock).split()

    assert judged(verifier, b" ".join((scheme, b"%d" % (int(at_ms) + 1), mac))) is Verdict.WRONG


@pytest.mark.parametrize("away_ms", [-WINDOW_MS - 1, WINDOW_MS + 1])
def test_a_proof_is_good_for_a_minute(clock, verifier, away_ms):
    shown = proof(clock)
    clock.now_ms += away_ms

    assert judged(verifier, shown) is Verdict.OUT_OF_TIME


def test_whoever_has_another_time_of_day_learns_ours_and_signs_by_it(clock, verifier):
    wrong = Clock(clock.now_ms - 86_400_000)
    prover = Prover(KEY, "ours", wall_ms=wrong)

    assert judged(verifier, prover.authorization("POST", "/cluster/members?timeout=1", BODY).encode()) is (
        Verdict.OUT_OF_TIME
    )
    assert prover.learn(verifier.challenge.decode())
    assert judged(verifier, prover.authorization("POST", "/cluster/members?timeout=1", BODY).encode()) is Verdict.GOOD
    assert not prover.learn(verifier.challenge.decode())
    assert not prover.learn("Basic realm=x")


def test_what_is_remembered_is_bounded_and_in_doubt_a_proof_is_not_taken(clock, verifier):
    for number in range(REMEMBERED_MAX):
        verifier._used[str(number)] = clock.now_ms

    assert judged(verifier, proof(clock)) is Verdict.USED
    clock.now_ms += WINDOW_MS + 1
    assert judged(verifier, proof(clock)) is Verdict.GOOD
    assert len(verifier._used) == 1


def test_a_proof_is_what_the_documents_say(clock):
    lines = b"raftkv proof\nours\nPOST\n/cluster/members?timeout=1\n" + hashlib.sha256(BODY).hexdigest().encode()
    mac = hmac.new(KEY, lines + b"\n%d" % clock.now_ms, hashlib.sha256).hexdigest()

    assert proof(clock).decode() == f"Raftkv {clock.now_ms} {mac}"
